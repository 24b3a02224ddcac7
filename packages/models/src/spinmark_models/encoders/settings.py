"""What each encoder can be told, its own value for it, and which values make sense."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from spinmark_models.config import EncoderConfig, Shape3
from spinmark_models.errors import InputError

T = TypeVar("T")

_ONE: Shape3 = (1, 1, 1)
_TWO: Shape3 = (2, 2, 2)
_IN_PLANE: Shape3 = (1, 2, 2)
_NORM: dict[str, Any] = {"norm": "group", "groups": 8}
_STAGES: tuple[int, ...] = (64, 128, 256, 512)


def _resnet(*depths: int) -> dict[str, Any]:
    return {
        **_NORM,
        "widths": _STAGES,
        "depths": depths,
        "stem_kernel": (7, 7, 7),
        "stem_stride": _TWO,
        "stem_pool": _TWO,
        "strides": (_ONE, _TWO, _TWO, _TWO),
        "embedding": None,
    }


DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "residual3d": {
        **_NORM,
        "widths": (16, 32, 64, 128),
        "patch": (2, 4, 4),
        "stem_kernel": (1, 3, 3),
        "embedding": 128,
    },
    "resnet10": _resnet(1, 1, 1, 1),
    "resnet18": _resnet(2, 2, 2, 2),
    "resnet34": _resnet(3, 4, 6, 3),
    "resnet50": _resnet(3, 4, 6, 3),
    "resenc": {
        **_NORM,
        "norm": "instance",
        "widths": (32, 64, 128, 256, 320, 320),
        "depths": (1, 3, 4, 6, 6, 6),
        "kernels": None,
        "strides": None,
        "embedding": None,
    },
    "vit3d": {
        "norm": "layer",
        "patch": (8, 16, 16),
        "width": 384,
        "depth": 12,
        "heads": 6,
        "mlp_ratio": 4.0,
        "levels": None,
        "positions": "sincos",
        "pool": "mean",
        "embedding": None,
    },
    "slices": {
        **_NORM,
        "widths": _STAGES,
        "depths": (2, 2, 2, 2),
        "stem_kernel": (1, 7, 7),
        "stem_stride": _IN_PLANE,
        "stem_pool": _IN_PLANE,
        "strides": (_ONE, _IN_PLANE, _IN_PLANE, _IN_PLANE),
        "attention": 128,
        "embedding": None,
    },
    "densenet121": {
        **_NORM,
        "stem_stride": _TWO,
        "stem_pool": _TWO,
        "strides": (_ONE, _TWO, _TWO, _TWO),
        "embedding": 1024,
    },
}
"""The fields that each encoder takes, beside `name` and `in_channels`, and its values for them.

None stands for a value that follows from other fields: `kernels` are (3, 3, 3) a stage, `strides`
(1, 1, 1) and then (2, 2, 2) a stage, `levels` each quarter of `depth`, `embedding` the channels of
the last map.
"""


def given(value: T | None) -> T:
    """A field of a resolved configuration, which an encoder that takes it never finds None.

    Raises:
        AssertionError: The encoder reads a field that its line in `DEFAULTS` lacks.
    """
    if value is None:
        raise AssertionError("an encoder reads a field that DEFAULTS does not list for it")
    return value


def as_tuples(value: Any) -> Any:
    """Lists, such as a JSON page holds, as tuples, inner ones too; anything else as it is."""
    return tuple(as_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def resolve(config: EncoderConfig) -> EncoderConfig:
    """Fills in the encoder's own values, and refuses what makes no sense.

    Args:
        config: As given; None where the encoder's own value is wanted.

    Returns:
        A configuration in which each field that the encoder uses has a value, and no other.

    Raises:
        InputError: The name is unknown, a field is not used by this encoder, or a value is
            impossible.
    """
    if config.name not in DEFAULTS:
        raise InputError(f"Unknown encoder {config.name!r}. Valid encoders are {sorted(DEFAULTS)}.")
    config = replace(config, **{f.name: as_tuples(getattr(config, f.name)) for f in fields(config)})
    own = DEFAULTS[config.name]
    takes = ["name", "in_channels", *own]
    for field in fields(config):
        value = getattr(config, field.name)
        if value is not None and field.name not in takes:
            raise InputError(
                f"encoder {field.name} is {value!r}, which {config.name} does not use; it takes "
                f"{sorted(takes)}."
            )
    filled = replace(config, **{k: v for k, v in own.items() if getattr(config, k) is None})
    _check_numbers(filled)
    derived = {k: _derived(filled, k) for k in own if getattr(filled, k) is None}
    filled = replace(filled, **derived)
    _check_choices(filled)
    _check_stages(filled)
    return filled


def _derived(config: EncoderConfig, name: str) -> Any:
    if name == "kernels":
        return ((3, 3, 3),) * len(given(config.widths))
    if name == "strides":
        return (_ONE, *(_TWO,) * (len(given(config.widths)) - 1))
    if name == "levels":
        depth = given(config.depth)
        return tuple(sorted({-(-depth * i // 4) for i in (1, 2, 3, 4)}))
    if config.width is not None:
        return config.width
    return given(config.widths)[-1] * (4 if config.name == "resnet50" else 1)


def _flat(value: Any) -> tuple[Any, ...]:
    if isinstance(value, tuple | list):
        return tuple(v for part in value for v in _flat(part))
    return (value,)


def _check_numbers(config: EncoderConfig) -> None:
    for f in fields(config):
        value = getattr(config, f.name)
        if value is None or isinstance(value, str):
            continue
        if value == () or any(v < 1 for v in _flat(value) if f.name != "mlp_ratio"):
            raise InputError(f"encoder {f.name} is {value}; every number must be 1 or more.")
    if config.mlp_ratio is not None and not config.mlp_ratio > 0:
        raise InputError(f"encoder mlp_ratio is {config.mlp_ratio}; use a number above 0.")
    for name in ("patch", "stem_kernel", "stem_stride", "stem_pool"):
        value = getattr(config, name)
        if value is not None and len(value) != 3:
            raise InputError(f"encoder {name} is {value}; use three numbers (z, y, x).")
    for name in ("stem_kernel", "kernels"):
        value = getattr(config, name)
        if value is not None and any(k % 2 == 0 for k in _flat(value)):
            raise InputError(f"encoder {name} is {value}; use odd numbers.")


def _check_choices(config: EncoderConfig) -> None:
    norms = ["layer"] if config.name == "vit3d" else ["batch", "group", "instance"]
    choices = {"norm": norms, "positions": ["learned", "sincos"], "pool": ["mean", "token"]}
    for name, valid in choices.items():
        value = getattr(config, name)
        if value is not None and value not in valid:
            raise InputError(
                f"Unknown encoder {name} {value!r}. Valid values of {config.name} are {valid}."
            )
    if config.name != "vit3d":
        return
    width, heads, depth = given(config.width), given(config.heads), given(config.depth)
    if width % heads:
        raise InputError(f"encoder width is {width}, which {heads} heads do not divide.")
    if config.positions == "sincos" and width % 6:
        raise InputError(f"encoder width is {width}; positions 'sincos' need a multiple of 6.")
    levels = given(config.levels)
    if list(levels) != sorted(set(levels)) or levels[-1] > depth:
        raise InputError(f"encoder levels are {levels}; use rising numbers from 1 to {depth}.")


def _check_stages(config: EncoderConfig) -> None:
    stages = 4 if config.widths is None else len(config.widths)
    for name in ("depths", "kernels", "strides"):
        value = getattr(config, name)
        if value is not None and len(value) != stages:
            raise InputError(
                f"encoder {name} is {value}; use one for each of {stages} stages"
                + (f" of widths {config.widths}." if config.widths else ".")
            )
    for name in ("kernels", "strides"):
        if any(len(_flat(v)) != 3 for v in getattr(config, name) or ()):
            raise InputError(
                f"encoder {name} is {getattr(config, name)}; use three numbers (z, y, x) a stage."
            )
    for name in ("stem_kernel", "stem_stride", "stem_pool", "strides"):
        value = getattr(config, name)
        if config.name == "slices" and set(_flat(value)[::3]) != {1}:
            raise InputError(f"encoder {name} is {value}; slices takes 1 along z.")
    if config.name == "densenet121" and given(config.strides)[0] != _ONE:
        raise InputError(
            f"encoder strides are {config.strides}; the first of densenet121 is (1, 1, 1)."
        )
