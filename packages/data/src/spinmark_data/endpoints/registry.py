"""Endpoints by name, as a YAML file gives them."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from spinmark_data.definition.variables import nearest
from spinmark_data.endpoints.config import (
    EndpointConfig,
    FNIHConfig,
    IncidenceConfig,
    JSNConfig,
    JSWConfig,
    KLProgressionConfig,
    KoosPainConfig,
    ReplacementConfig,
    SymptomConfig,
)
from spinmark_data.errors import InputError

DEFINITIONS: Mapping[str, type[EndpointConfig]] = {
    "replacement": ReplacementConfig,
    "radiographic_incidence": IncidenceConfig,
    "kl_progression": KLProgressionConfig,
    "jsn_progression": JSNConfig,
    "jsw_loss": JSWConfig,
    "womac_pain_worsening": SymptomConfig,
    "koos_pain_worsening": KoosPainConfig,
    "fnih_progression": FNIHConfig,
}


def endpoint(name: str, options: Mapping[str, Any] | None = None) -> EndpointConfig:
    """An endpoint's definition.

    Args:
        name: What the outcomes call it. Without `definition` among the options, it is looked up.
        options: `definition` (a name of `DEFINITIONS`) and that definition's options.

    Raises:
        InputError: An unknown definition or option, or a value of another type; the message names the
            nearest or what is accepted.

    Examples:
        >>> endpoint("fast", {"definition": "jsw_loss", "loss_mm": 1.0}).loss_mm
        1.0
    """
    given = dict(options or {})
    kind = str(given.pop("definition", name))
    if kind not in DEFINITIONS:
        raise InputError(
            f"endpoints: no definition '{kind}'; the nearest is '{nearest(kind, DEFINITIONS)}', "
            f"and all are {sorted(DEFINITIONS)}."
        )
    chosen = DEFINITIONS[kind]
    accepted = {item.name: item.default for item in fields(chosen) if item.default is not MISSING}
    checked: dict[str, Any] = {}
    for key, value in given.items():
        if key not in accepted:
            raise InputError(
                f"endpoints.{name}: unknown option '{key}' of {kind}; "
                f"the nearest is '{nearest(key, accepted)}'."
            )
        checked[key] = _typed(f"endpoints.{name}.{key}", value, accepted[key])
    try:
        return chosen(**checked)
    except InputError as error:
        raise InputError(f"endpoints.{name}: {error}") from None


def _typed(where: str, value: object, default: object) -> object:
    """A value of the type of its default."""
    if isinstance(default, bool) or isinstance(value, bool):
        if isinstance(value, bool) and isinstance(default, bool):
            return value
    elif isinstance(default, float):
        if isinstance(value, int | float):
            return float(value)
    elif isinstance(default, tuple):
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif isinstance(value, str):
        return value
    kinds = {bool: "true or false", float: "a number", tuple: "a list of texts", str: "a text"}
    raise InputError(f"{where}={value!r}: {kinds[type(default)]} is needed.")
