import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spinmark_training.checkpoint_tree import decode, encode
from spinmark_training.errors import InputError

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.complex64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    made = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    return (made * 5).to(draw(st.sampled_from(DTYPES)))


texts = st.text(st.characters(codec=None), max_size=6) | st.sampled_from(
    ["$tuple", "$", "a/b", "#2"]
)
numbers = st.integers() | st.floats() | st.booleans() | st.none()
keys = texts | st.integers() | st.booleans() | st.none() | st.tuples(st.integers(), texts)
trees = st.recursive(
    numbers | texts | tensors(),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.lists(inside, max_size=3).map(tuple)
        | st.dictionaries(keys, inside, max_size=3)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Whether two trees are equal to the bit, types and order of keys included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (one, other)]
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(*bits)
    if isinstance(one, float):
        return one.hex() == other.hex()
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@given(trees)
def test_any_tree_comes_back_to_the_bit(tree: Any) -> None:
    aside: dict[str, Tensor] = {}
    text = json.dumps(encode(tree, aside), allow_nan=False)
    assert same(decode(json.loads(text), aside), tree)


def test_subclasses_are_stored_by_their_value() -> None:
    tree = {"a": np.float64(0.1), "b": [np.int64(3), np.float32(0.5)], "c": torch.Size([2, 3])}
    stored = encode(tree, {})
    assert stored == {"a": 0.1, "b": [3, 0.5], "c": {"$tuple": [2, 3]}}
    assert type(stored["a"]) is float


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"rows": [{"x": {1, 2}}]}, r"^checkpoint\.rows\.0\.x: a set cannot"),
        ({"f": len}, r"^checkpoint\.f: a builtin_function"),
        ([b"raw"], r"^checkpoint\.0: a bytes"),
        ({"z": 1j}, r"^checkpoint\.z: a complex"),
        ({"n": np.zeros(2)}, r"^checkpoint\.n: a ndarray"),
        ({"i": 1 << 5000}, r"^checkpoint\.i: a int"),
        ({"s": torch.eye(2).to_sparse()}, r"^checkpoint\.s: a Tensor cannot"),
    ],
)
def test_what_cannot_be_stored_is_named_by_its_place(value: object, named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        encode(value, {})
    assert "accepted are dict, list" in str(caught.value)


def test_two_paths_that_read_alike_do_not_collide() -> None:
    aside: dict[str, Tensor] = {}
    tree = {"a": {"b": torch.tensor(1.0)}, "a/b": torch.tensor(2.0)}
    back = decode(encode(tree, aside), aside)
    assert (float(back["a"]["b"]), float(back["a/b"]), len(aside)) == (1.0, 2.0, 2)


def test_an_unknown_kind_of_object_is_no_value() -> None:
    with pytest.raises(KeyError):
        decode({"$call": "os.system"}, {})
    assert math.isnan(decode({"$float": "nan"}, {}))
