"""What each objective can be told, and its own value for it."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError

T = TypeVar("T")

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    # Contrastive, two views.
    "nt_xent": {"temperature": 0.1},
    "decoupled": {"temperature": 0.1, "sigma": None},
}
"""The fields that each objective uses beside `name`, `ignore_same_subject`, `terms` and `nuisance`, with its
own values. A value of None stays None unless it is given."""

COMMON = ("name", "ignore_same_subject", "terms", "nuisance")


def given(value: T | None) -> T:
    """A field of a resolved configuration, which an objective that takes it never finds None.

    Raises:
        AssertionError: The objective reads a field that its line in `DEFAULTS` lacks.
    """
    if value is None:
        raise AssertionError("an objective reads a field that DEFAULTS does not list for it")
    return value


def resolve(config: ObjectiveConfig) -> ObjectiveConfig:
    """Fill in the objective's own values, and refuse fields that it does not use.

    Args:
        config: As given; None where the objective's own value is wanted.

    Raises:
        InputError: The name is unknown, or a field is not used by this objective.
    """
    if config.name not in DEFAULTS:
        raise InputError(f"objective.name: {config.name!r}; accepted are {sorted(DEFAULTS)}")
    own = DEFAULTS[config.name]
    for field in fields(config):
        if field.name in (*COMMON, *own):
            continue
        value = getattr(config, field.name)
        if value is not None:
            raise InputError(
                f"objective.{field.name}: {value!r}; {config.name} does not use it, it takes "
                f"{', '.join(sorted(own)) or 'nothing beside its name'}"
            )
    filled = replace(config, **{k: v for k, v in own.items() if getattr(config, k) is None})
    if filled.temperature is not None and not filled.temperature > 0:
        raise InputError(
            f"objective.temperature: {filled.temperature}; accepted are numbers above 0"
        )
    return filled
