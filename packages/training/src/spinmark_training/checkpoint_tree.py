"""Nested data as JSON and tensors, exactly and without pickle: what a checkpoint is made of.

A dict, list, tuple, number, text or None stands in the JSON as itself where JSON has it. What JSON lacks
becomes an object with one key: `{"$tuple": [...]}`, `{"$float": "nan"}`, `{"$tensor": NAME}`, and
`{"$items": [[key, value], ...]}` for a dict of which a key is no text or begins with `$`.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinmark_training.errors import InputError

# Longer whole numbers take Python quadratic time to read; nothing counts that far.
_MOST_BITS = 4096
_ACCEPTED = "dict, list, tuple, number, text, None and dense tensor"


def encode(value: object, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Return a value as JSON holds it, and put its tensors aside.

    Args:
        value: Nested dicts, lists and tuples of numbers, texts, None and dense tensors. A subclass of
            one of these, and a number of NumPy, is stored by its value.
        tensors: Gets the tensors, by their path in the value.
        path: Where the value stands in a larger one.

    Raises:
        InputError: It holds something else; the message names where.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.generic):
        return encode(value.item(), tensors, path)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and value.bit_length() <= _MOST_BITS:
        return int(value)
    if isinstance(value, float):
        plain = float(value)
        return plain if math.isfinite(plain) else {"$float": repr(plain)}
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized:
        name = _free_name(path, tensors)
        tensors[name] = value.detach()
        return {"$tensor": name}
    if isinstance(value, list | tuple):
        items = [encode(item, tensors, f"{path}/{i}") for i, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        return _encode_mapping(value, tensors, path)
    raise InputError(
        f"checkpoint{path.replace('/', '.')}: a {type(value).__name__} cannot be stored; accepted are "
        f"{_ACCEPTED}"
    )


def _encode_mapping(value: Mapping[Any, object], tensors: dict[str, Tensor], path: str) -> Any:
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {str(key): encode(item, tensors, f"{path}/{key}") for key, item in value.items()}
    return {
        "$items": [
            [encode(key, tensors, path), encode(item, tensors, f"{path}/{key}")]
            for key, item in value.items()
        ]
    }


def _free_name(path: str, tensors: Mapping[str, Tensor]) -> str:
    # A key may hold a slash, so two paths may read the same.
    wanted = path.removeprefix("/") or "value"
    name, number = wanted, 1
    while name in tensors or name == "__metadata__":
        number += 1
        name = f"{wanted}#{number}"
    return name


def decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the value that `encode` was given.

    Args:
        value: What JSON held.
        tensors: The tensors, by the names that `encode` gave them.

    Raises:
        KeyError: A tensor or a kind of object is not there.
    """
    if isinstance(value, list):
        return [decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    kind = next(iter(value), "")
    if not kind.startswith("$"):
        return {key: decode(item, tensors) for key, item in value.items()}
    inside = value[kind]
    if kind == "$tensor":
        return tensors[inside]
    if kind == "$float":
        return float(inside)
    if kind == "$tuple":
        return tuple(decode(item, tensors) for item in inside)
    if kind == "$items":
        return {decode(key, tensors): decode(item, tensors) for key, item in inside}
    raise KeyError(kind)
