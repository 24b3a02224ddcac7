"""Every place of a knee lies in one subregion, and the borders lie where anatomy has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinmark_data.phantom.regions import (
    BONE,
    CARTILAGE,
    MENISCI,
    meniscal_part,
    subregion,
)

millimetres = st.floats(-80, 80)


def place(m: float, s: float, p: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array(m), np.array(s), np.array(p)


@pytest.mark.parametrize(
    ("bone", "at", "name"),
    [
        ("femur", (20, -30, -20), "FMA"),
        ("femur", (-20, -3, 8), "FLC"),
        ("femur", (20, -24, 34), "FMP"),
        ("tibia", (20, 3, 0), "TMA"),
        ("tibia", (-20, 3, 11), "TLC"),
        ("tibia", (20, 3, 25), "TMP"),
        ("tibia", (0, 0, 11), "SS"),
        ("patella", (-1, -31, -29), "PM"),
        ("patella", (-12, -31, -29), "PL"),
    ],
)
def test_known_places(bone: str, at: tuple[float, float, float], name: str) -> None:
    assert str(subregion(bone, place(*at))) == name


def test_known_parts_of_the_menisci() -> None:
    assert str(meniscal_part(place(35, 0, 11))) == "MB"
    assert str(meniscal_part(place(-20, 0, 30))) == "LP"
    assert str(meniscal_part(place(20, 0, -7))) == "MA"


@given(millimetres, millimetres, millimetres)
def test_every_place_has_one_name_and_its_mirror_has_the_other_sides(
    m: float, s: float, p: float
) -> None:
    here, mirrored = place(m, s, p), place(-m, s, p)
    for bone in ("femur", "tibia"):
        name = str(subregion(bone, here, subspinous=False))
        assert name in CARTILAGE
        # The lateral condyle lies further to the front: only the tibia is symmetric.
        if m > 0:
            other = str(subregion(bone, mirrored, subspinous=False))
            assert other[:2] == name[0] + "L"
            assert other[2] == name[2] or bone == "femur"
    assert str(subregion("tibia", here)) in BONE
    assert str(meniscal_part(here)) in MENISCI


def test_arrays_keep_their_shape_and_other_bones_are_refused() -> None:
    at = (np.linspace(-40, 40, 5)[:, None], np.zeros(1), np.linspace(-10, 30, 7))
    assert subregion("femur", at).shape == (5, 7)
    with pytest.raises(ValueError, match="accepted are femur, tibia, patella"):
        subregion("fibula", at)
