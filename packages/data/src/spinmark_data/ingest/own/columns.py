"""The YAML that says what the columns of a clinical table are: its reading and its checks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.dictionary import VARIABLES
from spinmark_data.ingest.tableset import KINDS, ROLES

KEY_NAMES = ("subject_id", "laterality", "visit", "days")
_TOP = (*KEY_NAMES, "laterality_codes", "variables", "outcomes")
_FIELDS = ("variable", "label", "unit", "kind", "role", "group", "table", "codes")
LEVELS = ("subjects", "visits", "joints")
_DEFAULTS = {"unit": "", "kind": "continuous", "group": "", "role": "", "table": ""}


def read_mapping(path: Path | None) -> dict[str, Any]:
    """Read the YAML; nothing for None.

    Raises:
        InputError: It is absent, no YAML mapping, or holds a key that is not known.
    """
    if path is None:
        return {}
    try:
        # Everything stays text: YAML would turn a code such as `no` or `007` into something else.
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; it should be a YAML mapping.") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no mapping; accepted keys are {list(_TOP)}.")
    if unknown := [key for key in found if key not in _TOP]:
        raise InputError(f"{path}: unknown keys {unknown}; accepted are {list(_TOP)}.")
    given = {key: value for key, value in found.items() if value != ""}
    for key, value in given.items():
        if isinstance(value, dict) == (key in KEY_NAMES):
            what = "the name of a column" if key in KEY_NAMES else "a mapping"
            raise InputError(f"{path}: {key} must hold {what}.")
    return given


def variable_row(column: str, given: object, source: Path) -> dict[str, Any]:
    """One row of the dictionary, its codes as a mapping from cell to number under `read`.

    Args:
        column: Name of the column.
        given: What the YAML says of it; a field left blank counts as not given.
        source: The YAML, for errors.

    Returns:
        The row; its `role` is empty where nobody has given one yet, and the column is left out.

    Raises:
        InputError: A field that is not known, or a value that is not accepted.
    """
    given = {} if given == "" else given
    if not isinstance(given, Mapping):
        raise InputError(f"{source}: variables.{column} must hold some of {list(_FIELDS)}.")
    if unknown := [key for key in given if key not in _FIELDS]:
        raise InputError(f"{source}: variables.{column} has {unknown}; accepted: {list(_FIELDS)}.")
    given = {key: value for key, value in given.items() if value != ""}
    name = str(given.get("variable", column)).upper()
    known = VARIABLES.get(name)
    row: dict[str, Any] = {"variable": name, "source": column}
    for key in ("label", "unit", "kind", "role", "group", "table"):
        fallback = getattr(known, key) if known else _DEFAULTS.get(key, column)
        row[key] = str(given.get(key, fallback))
    for key, accepted in (("kind", KINDS), ("role", ("", *ROLES)), ("table", LEVELS)):
        if row[key] not in accepted and not (key == "table" and not row["role"]):
            raise InputError(
                f"{source}: variables.{column}.{key} is '{row[key]}'; accepted: "
                f"{[name for name in accepted if name]}."
            )
    # Nothing renamed into another role: what is known as an outcome stays one.
    if known and known.role in ("outcome", "administrative") and row["role"] != known.role:
        raise InputError(
            f"{source}: variables.{column}.role is '{row['role']}', but {name} is '{known.role}'."
        )
    codes = given.get("codes", {})
    if not isinstance(codes, Mapping):
        raise InputError(f"{source}: variables.{column}.codes must map a cell to a number.")
    try:
        row["read"] = {str(cell): float(code) for cell, code in codes.items() if code != ""}
    except (TypeError, ValueError):
        raise InputError(f"{source}: variables.{column}.codes must map to numbers.") from None
    row["codes"] = json.dumps({f"{code:g}": cell for cell, code in row["read"].items()})
    return row
