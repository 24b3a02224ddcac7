"""Sizes of bodies against closed forms; the phantom's knees and two real ones against each other."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.anatomy_report.__main__ import BEGIN, END, _around_the_tables
from spinmark_data.anatomy_report.aligned import Aligned, align
from spinmark_data.anatomy_report.compare import KINDS, compare, counts, markdown
from spinmark_data.anatomy_report.measures import (
    bone_near_the_joint,
    measure_anatomy,
    meniscus_sizes,
    notch_mm,
    patella_sizes,
    tibia_sizes,
    trochlea,
)
from spinmark_data.anatomy_report.picture import draw, plane
from spinmark_data.anatomy_report.population import healthy_knees, label_map
from spinmark_data.anatomy_report.shapes import chord_mm, extent_mm, fit_circle, groove, quantiles
from spinmark_data.errors import InputError
from spinmark_data.labels.names import KNEE
from spinmark_data.labels.read import read_label_map
from spinmark_data.morphometry.frame import KneeFrame
from spinmark_data.morphometry.joint import Joint
from spinmark_data.phantom.state import Grid

DATA = Path(__file__).parents[4] / "shared" / "data" / "knee-labels"
CODES = {"femur": 5, "tibia": 6, "patella": 7, "medial_meniscus": 10}
STEP = 0.8


def blank() -> Aligned:
    shape = (130, 150, 155)
    first = (-51.6, -67.6, -71.6)
    return Aligned(labels=np.zeros(shape, np.uint8), first_mm=first, step_mm=STEP, codes=CODES)


def grids(knee: Aligned) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    m, s, p = np.ix_(*(knee.places(i) for i in range(3)))
    return m, s, p


def test_extent_and_chord_of_a_ball_and_a_box() -> None:
    at = np.ix_(*(np.arange(-30, 30, 0.5),) * 3)
    ball = (at[0] ** 2 + at[1] ** 2 + at[2] ** 2) < 20.0**2
    box = (np.abs(at[0]) < 12) & (np.abs(at[1]) < 7) & (np.abs(at[2]) < 9)
    for axis in range(3):
        assert extent_mm(ball, axis, 0.5) == pytest.approx(40.0, abs=1.0)
        # Mean chord of a ball over the lines of one direction that meet it: 4 r / 3.
        assert chord_mm(ball, axis, 0.5) == pytest.approx(80.0 / 3, rel=0.01)
        assert extent_mm(box, axis, 0.5) == pytest.approx((24, 14, 18)[axis], abs=0.6)
        assert chord_mm(box, axis, 0.5) == extent_mm(box, axis, 0.5)
    assert np.isnan(extent_mm(np.zeros((3, 3), bool), 0, 1.0))
    assert np.isnan(chord_mm(np.zeros((3, 3), bool), 0, 1.0))


@given(
    st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    st.floats(5, 40),
    st.floats(60, 360),
    st.integers(0, 1000),
)
def test_a_circle_is_found_from_any_arc_of_it(
    centre: tuple[float, float], radius: float, arc: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    angle = np.deg2rad(np.linspace(0, arc, 60))
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius + centre
    found, size = fit_circle(points, rng.uniform(0.1, 1, 60))
    assert size == pytest.approx(radius, rel=1e-6)
    np.testing.assert_allclose(found, centre, atol=1e-4)


@given(st.floats(0.5, 12), st.floats(0, 6), st.floats(8, 20))
def test_a_groove_has_its_depth_and_angle(depth: float, tilt: float, half: float) -> None:
    tilt = min(tilt, 0.9 * depth)
    places = np.linspace(-30, 30, 601)
    ridge, bottom = np.array([-half, half]), 40.0
    heights = np.array([bottom - depth - tilt, bottom, bottom - depth + tilt])
    profile = np.interp(places, [ridge[0], 0, ridge[1]], heights)
    profile += np.where(np.abs(places) > half, 3.0 * (np.abs(places) - half), 0)
    found, angle = groove(profile, places)
    assert found == pytest.approx(depth, rel=0.03, abs=0.02)
    exact = sum(np.arctan2(half, depth + sign * tilt) for sign in (1, -1))
    assert angle == pytest.approx(np.rad2deg(exact), abs=2.0)


def test_no_groove_where_there_is_one_ridge_only() -> None:
    places = np.linspace(-10, 10, 41)
    assert groove(places**2, places) == (0.0, 180.0)
    assert np.isnan(groove(np.full(41, np.nan), places)[0])


@given(st.integers(0, 1000), st.integers(5, 60))
@settings(max_examples=30)
def test_quantiles_are_those_of_repeated_values(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    values, weights = rng.normal(size=n), rng.integers(1, 6, n)
    repeated = np.repeat(values, weights)
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    exact = np.quantile(repeated, shares, method="inverted_cdf")
    found = quantiles(np.append(values, np.nan), np.append(weights, 3.0), shares)
    np.testing.assert_array_equal(found, exact)
    assert np.isnan(quantiles(np.full(3, np.nan), np.ones(3), shares)).all()


def test_a_turned_box_is_aligned_again() -> None:
    shape, spacing = (90, 150, 150), np.array([1.4, 0.8, 0.8])
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1.4, 0, 0], [0, 0, 0.8], [0, -0.8, 0]])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    turn = np.linalg.qr(np.array([[1, 0.2, 0.1], [0.1, -0.2, 1.0], [-0.2, -1.0, 0.1]]))[0]
    axes = turn.T * np.sign(np.diag(turn @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])))[:, None]
    origin = np.array([3.0, -4.0, 5.0])
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    own = (points - origin) @ axes.T
    half = np.array([20.0, 12.0, 16.0])
    labels = (np.abs(own) < half).all(axis=-1).astype(np.uint8) * 5
    joint = Joint(labels=labels, affine=affine, codes=CODES)
    aligned = align(joint, KneeFrame(origin=origin, axes=axes))
    for axis in range(3):
        found = extent_mm(aligned.mask("femur"), axis, STEP)
        assert found == pytest.approx(2 * half[axis], abs=2 * spacing.max())
        hit = aligned.mask("femur").any(axis=tuple(i for i in range(3) if i != axis))
        assert aligned.places(axis)[hit].mean() == pytest.approx(0.0, abs=0.5)
    assert not aligned.mask("tibia").any()


def test_bone_near_the_joint_is_cut_at_its_distance() -> None:
    knee = blank()
    m, s, p = grids(knee)
    disc = m**2 + p**2 < 20.0**2
    knee.labels[disc & (s < -10)] = 5
    knee.labels[disc & (s > 5)] = 6
    found = bone_near_the_joint(knee)
    for bone, height in (("FEMUR", 35.0), ("TIBIA", 25.0)):
        # A cylinder that ends in one face at the joint and goes on beyond the cut.
        assert found[f"VOL_{bone}_NEAR"] == pytest.approx(np.pi * 400 * height, rel=0.02)
        area = 2 * np.pi * 20 * height + np.pi * 400
        assert found[f"SAB_{bone}_NEAR"] == pytest.approx(area, rel=0.03)


def test_a_box_for_a_tibia_and_an_ellipsoid_for_a_patella() -> None:
    knee = blank()
    m, s, p = grids(knee)
    knee.labels[(np.abs(m) < 36) & (s > 0) & (p > -20) & (p < 28)] = 6
    knee.labels[(np.abs(m) < 6) & (s > -9) & (s <= 0) & (np.abs(p) < 4)] = 6
    found = tibia_sizes(knee)
    assert found["WID_TIBIA"] == pytest.approx(72, abs=STEP)
    assert found["DEP_MT"] == found["DEP_LT"] == pytest.approx(48, abs=STEP)
    assert found["HGT_SPINES"] == pytest.approx(9, abs=STEP)
    assert found["WID_TIBIA_SHAFT"] == pytest.approx(72, abs=STEP)
    knee.labels[(m / 22) ** 2 + ((s + 35) / 20) ** 2 + ((p + 45) / 11) ** 2 < 1] = 7
    found = patella_sizes(knee)
    sizes = ("WID_PATELLA", "HGT_PATELLA", "DEP_PATELLA", "POS_PATELLA")
    for name, size in zip(sizes, (44, 40, 22, 35), strict=True):
        assert found[name] == pytest.approx(size, abs=2 * STEP)
    assert patella_sizes(blank()) == {}


def test_two_boxes_leave_a_notch_and_a_wedge_is_a_trochlea() -> None:
    knee = blank()
    m, s, p = grids(knee)
    knee.labels[(np.abs(m) > 7) & (np.abs(m) < 40) & (s < 0) & (p > 0) & (p < 30)] = 5
    assert notch_mm(knee, -20.0, 15.0) == pytest.approx(14, abs=STEP)
    # Two planes that meet 6 mm deep in the middle, with ridges at 18 mm.
    front = -30.0 + 6.0 * (1 - np.minimum(np.abs(m), 18) / 18) + 2.0 * np.maximum(np.abs(m) - 18, 0)
    knee.labels[(s < -20) & (p > front) & (p < 0) & (np.abs(m) < 40)] = 5
    depth, angle = trochlea(knee)
    assert depth == pytest.approx(6.0, abs=STEP)
    assert angle == pytest.approx(2 * np.rad2deg(np.arctan2(18, 6)), abs=8)
    assert notch_mm(blank(), -20.0, 15.0) == 0.0


def test_half_a_ring_for_a_meniscus() -> None:
    knee = blank()
    m, s, p = grids(knee)
    rho = np.hypot(m - 20, p)
    knee.labels[(rho > 9) & (rho < 18) & (np.abs(s) < 3) & (m > 20)] = 10
    found = meniscus_sizes(knee, "medial")
    assert found["LEN_MENISCUS_MEDIAL"] == pytest.approx(36, abs=2 * STEP)
    assert found["HGT_MENISCUS_MEDIAL"] == pytest.approx(6, abs=STEP)
    line = np.linspace(-6, 6, 1001)
    width = np.mean(np.sqrt(18**2 - line**2) - np.sqrt(9**2 - line**2))
    assert found["WID_MENISCUS_MEDIAL"] == pytest.approx(width, abs=STEP)
    assert meniscus_sizes(knee, "lateral") == {}


def test_verdicts_are_by_rank() -> None:
    population = pd.DataFrame({"WID_TIBIA": np.arange(101.0), "sex": 1, "HGT_SPINES": np.nan})
    table = compare(population, {"a": {"WID_TIBIA": 50.0}, "b": {"WID_TIBIA": 99.0}, "c": {}})
    (row,) = table.to_dict("records")
    assert (row["low"], row["high"]) == (2.5, 97.5)
    assert row["a_percentile"] == pytest.approx(50.0)
    assert (row["a_verdict"], row["b_verdict"], row["c_verdict"]) == ("compatible", "outside", "")
    assert counts(table, "a") == (1, 1)
    assert counts(table, "c") == (0, 0)
    text = markdown(table, ("a", "b", "c"))
    assert "**99.0 (99) outside**" in text
    assert "not labelled" in text
    with pytest.raises(InputError, match="5 phantoms; at least 20"):
        compare(population.head(5), {})


def test_every_measure_of_a_phantom_is_of_a_kind_and_it_can_be_drawn(tmp_path: Path) -> None:
    states = healthy_knees(3, 2)
    assert len({state.lesion_seed for state in states}) == 3
    joint = label_map(states[0], Grid(shape=(56, 96, 96), spacing_mm=(2.0, 1.45, 1.45)))
    found = measure_anatomy(joint)
    assert {name.split("_")[0] for name in found} == set(KINDS)
    assert all(np.isfinite(value) for value in found.values())
    assert 70 < found["WID_TIBIA"] / states[0].size < 85
    frame = KneeFrame(origin=np.zeros(3), axes=np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]))
    turned = align(joint, frame)
    assert plane(turned, 2, 0.0).shape == turned.labels.shape[1::-1]
    draw({"one": turned}, tmp_path / "knee.png")
    assert (tmp_path / "knee.png").read_bytes()[:4] == b"\x89PNG"


def test_a_page_needs_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before {BEGIN} old {END} after")
    assert _around_the_tables(page) == (f"before {BEGIN}\n", f"{END} after")
    page.write_text(f"before {BEGIN}")
    with pytest.raises(InputError, match="lacks the marks"):
        _around_the_tables(page)


# Both real knees lie within these bounds, and no phantom may leave them.
BOUNDS = {
    "WID_TIBIA": (60, 95),
    "WID_FEMUR": (65, 100),
    "VOL_FEMORAL_CARTILAGE": (6_000, 28_000),
    "TAB_F": (3_800, 9_500),
    "TAB_MT": (700, 1_700),
    "TAB_LT": (650, 1_700),
    "THC_MF_C": (1.2, 3.2),
    "THC_MT": (1.0, 2.9),
    "RAD_MF": (17, 32),
    "RAD_LF": (14, 25),
    "WID_PATELLA": (34, 58),
}


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="real label maps are not beside the checkout")
def test_real_knees_and_phantoms_lie_within_the_same_bounds() -> None:
    knees = [
        Joint.of(read.labels, read.affine, KNEE)
        for name in ("knee_a_label.nrrd", "knee_b_label.nrrd")
        for read in [read_label_map(DATA / name)]
    ]
    knees += [label_map(state) for state in healthy_knees(6, 11)]
    for joint in knees:
        found = measure_anatomy(joint)
        for name, (low, high) in BOUNDS.items():
            assert low < found[name] < high, name
