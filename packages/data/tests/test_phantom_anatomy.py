from dataclasses import replace

import numpy as np
import pytest

from spinmark_data.phantom.anatomy import CARTILAGES, LABELS
from spinmark_data.phantom.render import RenderedScan, render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState

DEMO = Grid(shape=(24, 64, 72), spacing_mm=(3.6, 1.125, 1.125))
FINE = Grid(shape=(48, 96, 108), spacing_mm=(1.8, 0.75, 0.75))
KNEE = JointState(
    laterality="R",
    sex=1,
    size=1.0,
    shape=(0.0,) * 6,
    fat_mm=8.0,
    medial=0.8,
    bone=0.0,
    cartilage=0.0,
    inflammation=0.0,
    hypertrophy=0.0,
    lesion_seed=3,
)


def scan(
    state: JointState, grid: Grid = DEMO, nuisance: float = 0.0, seed: int = 5
) -> RenderedScan:
    return render_scan(state, SCANNERS[0], grid, seed=seed, nuisance=nuisance)


def millilitres(made: RenderedScan, grid: Grid, *names: str) -> float:
    codes = [LABELS[name] for name in names]
    return float(np.isin(made.labels, codes).sum() * np.prod(grid.spacing_mm) / 1000)


def test_left_is_the_mirror_of_right() -> None:
    right, left = scan(KNEE), scan(replace(KNEE, laterality="L"))
    np.testing.assert_array_equal(left.labels, right.labels[::-1])
    np.testing.assert_array_equal(left.volume, right.volume[::-1])
    middle = np.array([11.5, 31.5, 35.5, 1.0])
    assert (right.affine @ middle)[0] == pytest.approx(-90.0)
    assert (left.affine @ middle)[0] == pytest.approx(90.0)


def test_fibula_is_lateral() -> None:
    where = np.argwhere(scan(KNEE).labels == LABELS["fibula"])
    assert where[:, 0].mean() < 8  # index 0 is the patient's right


def test_sizes_are_those_of_knees_and_do_not_depend_on_the_grid() -> None:
    demo, fine = scan(KNEE), scan(KNEE, FINE)
    assert 10 < millilitres(demo, DEMO, "femoral_cartilage") < 25
    assert 90 < millilitres(demo, DEMO, "femur") < 220
    for name in ("femur", "tibia", "patella", "femoral_cartilage", "medial_meniscus"):
        ratio = millilitres(demo, DEMO, name) / millilitres(fine, FINE, name)
        assert ratio == pytest.approx(1.0, abs=0.15), name
    # Two pixels of the demo grid in the loaded middle of the femur.
    assert demo.cartilage_mm["femoral_cartilage"] >= 2 * 1.125


@pytest.mark.parametrize(
    ("latent", "label"),
    [
        ("bone", "marrow_lesion"),
        ("inflammation", "fluid"),
        ("hypertrophy", "osteophyte"),
    ],
)
def test_severity_enlarges_what_it_stands_for(latent: str, label: str) -> None:
    sizes = [millilitres(scan(replace(KNEE, **{latent: s})), DEMO, label) for s in (0, 1, 2, 3)]
    assert sizes == sorted(sizes)
    assert sizes[3] > sizes[0] + 0.5


def test_cartilage_disease_thins_cartilage() -> None:
    made = [scan(replace(KNEE, cartilage=s)) for s in (0.0, 1.0, 2.0, 3.0)]
    for name in CARTILAGES:
        thickness = [one.cartilage_mm[name] for one in made]
        assert thickness == sorted(thickness, reverse=True)
    sizes = [millilitres(one, DEMO, *CARTILAGES) for one in made]
    assert sizes == sorted(sizes, reverse=True)
    loss = {
        side: made[3].cartilage_mm[f"{side}_tibial_cartilage"]
        / made[0].cartilage_mm[f"{side}_tibial_cartilage"]
        for side in ("medial", "lateral")
    }
    assert loss["medial"] < loss["lateral"]  # most of this knee's disease is medial


def test_same_seed_same_bytes() -> None:
    one, two, other = (scan(KNEE, nuisance=1.0, seed=s) for s in (7, 7, 8))
    assert one.volume.tobytes() == two.volume.tobytes()
    assert one.volume.tobytes() != other.volume.tobytes()
    assert one.volume.max() <= 4095
