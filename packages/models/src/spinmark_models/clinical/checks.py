"""What a clinical encoder's configuration may hold."""

from spinmark_models.config import ClinicalEncoderConfig
from spinmark_models.errors import InputError

_CHOICES = {
    "numbers": ("linear", "quantile"),
    "pretext": ("hide", "vime", "scarf", "supervised"),
    "history": ("none", "gru"),
}


def check_config(config: ClinicalEncoderConfig) -> None:
    """Checks the numbers and words of a clinical encoder's configuration.

    Raises:
        InputError: One of them is impossible; the message names it and what is accepted.
    """
    for name in ("hidden", "latent", "bins", "blocks", "heads"):
        if getattr(config, name) < 1:
            raise InputError(f"clinical {name} is {getattr(config, name)}; use 1 or more.")
    if config.token_size() < 1:
        raise InputError(f"clinical token is {config.token}; use 1 or more.")
    if not 0 < config.corruption_rate() < 1:
        raise InputError(f"clinical corruption is {config.corruption}; use a number within (0, 1).")
    for name in (
        "dropout",
        "attention_dropout",
        "ffn_dropout",
        "residual_dropout",
        "group_dropout",
    ):
        if not 0 <= getattr(config, name) < 1:
            value = getattr(config, name)
            raise InputError(f"clinical {name} is {value}; use a number in [0, 1).")
    for name in ("clip", "ffn_factor", "temperature"):
        if not getattr(config, name) > 0:
            raise InputError(f"clinical {name} is {getattr(config, name)}; use a number above 0.")
    if not config.alpha >= 0:
        raise InputError(f"clinical alpha is {config.alpha}; use a number of 0 or more.")
    for name, valid in _CHOICES.items():
        if getattr(config, name) not in valid:
            value = getattr(config, name)
            raise InputError(f"clinical {name} is {value!r}; valid values are {list(valid)}.")
