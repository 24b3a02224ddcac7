"""The regional truth against counts on a fine label map, which shares no sampling with it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from spinmark_data.phantom.anatomy import LABELS, Knee, ellipsoid
from spinmark_data.phantom.disease import lesions
from spinmark_data.phantom.lesion_shapes import recesses, semi_axes
from spinmark_data.phantom.positioning import position
from spinmark_data.phantom.regional_surface import reference
from spinmark_data.phantom.regional_truth import BARE_MM, COLUMNS, REGIONS, regional_truth
from spinmark_data.phantom.regions import CARTILAGE, MENISCI, meniscal_part, subregion
from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState

FINE = Grid(shape=(116, 176, 176), spacing_mm=(0.8, 0.6, 0.6))
VOXEL_MM3 = float(np.prod(FINE.spacing_mm))
SICK = JointState(
    laterality="R",
    sex=1,
    size=1.0,
    shape=(0.0,) * 6,
    fat_mm=8.0,
    medial=0.75,
    bone=2.6,
    cartilage=2.3,
    inflammation=2.2,
    hypertrophy=2.5,
    lesion_seed=11,
)
HEALTHY = replace(SICK, bone=0.0, cartilage=0.0, inflammation=0.0, hypertrophy=0.0)


@pytest.fixture(scope="module")
def maps() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Labels of the sick and of the healthy knee, and the joint's coordinates of the voxels.

    Osteophytes are laid over what was there: the healthy knee shows them in the same places.
    """
    sick, healthy = (
        render_scan(state, SCANNERS[0], FINE, seed=1, nuisance=0.0).labels
        for state in (SICK, HEALTHY)
    )
    healthy[sick == LABELS["osteophyte"]] = LABELS["osteophyte"]
    # Without nuisance nothing is turned: the axes of the grid are the joint's.
    middle = position(Knee(HEALTHY, ()), 1, 0.0).offset
    axes = [
        (np.arange(n) - (n - 1) / 2) * d + c
        for n, d, c in zip(FINE.shape, FINE.spacing_mm, middle, strict=True)
    ]
    return sick, healthy, list(np.meshgrid(*axes, indexing="ij"))


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    return regional_truth(SICK).set_index("region")


def where(labels: np.ndarray, *names: str) -> np.ndarray:
    return np.isin(labels, [LABELS[name] for name in names])


def test_marrow_lesions_have_the_volume_of_their_labels(maps, truth) -> None:
    labels, _, at = maps
    marked = where(labels, "marrow_lesion")
    m, s, p = (x[marked] for x in at)
    region = np.where(s > 0, subregion("tibia", (m, s, p)), subregion("femur", (m, s, p)))
    found = {name: int((region == name).sum()) * VOXEL_MM3 for name in np.unique(region)}
    large = truth["bml_mm3"].dropna()
    assert large.sum() == pytest.approx(sum(found.values()), rel=0.05)
    for name, volume in large[large > 500].items():
        assert volume == pytest.approx(found[name], rel=0.2), name
    assert (truth["bml_number"] > 0).sum() >= 3
    assert truth.loc[truth["bml_number"] > 0, "bml_share"].min() > 0


def cartilage_counts(labels: np.ndarray, at: list[np.ndarray]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for bone, names in (
        ("femur", ("femoral_cartilage",)),
        ("tibia", ("medial_tibial_cartilage", "lateral_tibial_cartilage")),
        ("patella", ("patellar_cartilage",)),
    ):
        here = where(labels, *names)
        m, s, p = (x[here] for x in at)
        names_here, times = np.unique(
            subregion(bone, (m, s, p), subspinous=False), return_counts=True
        )
        counts |= dict(zip(names_here.tolist(), times.tolist(), strict=True))
    return counts


def test_cartilage_has_lost_what_its_labels_lost(maps, truth) -> None:
    labels, before, at = maps
    now, then = cartilage_counts(labels, at), cartilage_counts(before, at)
    for name in CARTILAGE:
        lost = 1 - now[name] / then[name]
        assert truth.loc[name, "thickness_loss"] == pytest.approx(lost, abs=0.09), name
    assert truth["thickness_loss"].max() > 0.3


def test_bare_bone_is_where_no_cartilage_is_labelled(maps, truth) -> None:
    labels, before, at = maps
    cartilages = ("medial_tibial_cartilage", "lateral_tibial_cartilage")
    covered, was = (where(x, *cartilages).any(axis=1) for x in (labels, before))
    m, p = at[0][:, 0], at[2][:, 0]
    region = subregion("tibia", (m, m, p), subspinous=False)
    total = 0.0
    for name in ("TMA", "TMC", "TMP", "TLA", "TLC", "TLP"):
        here = was & (region == name)
        bare = float((here & ~covered).sum() / here.sum())
        # A voxel shows no cartilage a little before the last of it is gone.
        assert truth.loc[name, "full_area"] == pytest.approx(bare, abs=0.08), name
        total += truth.loc[name, "full_area"]
    assert total > 0.05
    assert (truth["full_area"].dropna() <= truth["loss_area"].dropna()).all()


def test_menisci_have_shrunk_and_moved_as_their_labels(maps, truth) -> None:
    labels, before, at = maps
    counts = []
    for made in (labels, before):
        here = where(made, "medial_meniscus", "lateral_meniscus")
        part = meniscal_part(tuple(x[here] for x in at))
        counts.append({name: int((part == name).sum()) for name in MENISCI})
    for name in MENISCI:
        lost = 1 - counts[0][name] / counts[1][name]
        # What thinner cartilage no longer hides counts for the label and not for the truth.
        assert truth.loc[name, "macerated"] == pytest.approx(max(0.0, lost), abs=0.12), name
    assert truth["macerated"].max() > 0.25
    flat = (np.abs(at[2] - 11) < 0.4) & (np.abs(at[1] + 0.5) < 8)
    for name, sign, side in (("MB", 1, "medial"), ("LB", -1, "lateral")):
        out = (sign * at[0])[where(labels, f"{side}_meniscus") & flat].max()
        edge = (sign * at[0])[where(before, "tibia") & flat].max()
        assert truth.loc[name, "extrusion_mm"] == pytest.approx(max(0.0, out - edge), abs=1.0)
    assert truth.loc["MB", "extrusion_mm"] > truth.loc["LB", "extrusion_mm"]
    assert truth.loc[["MA", "MB", "MP"], "tear"].sum() == len(
        {one.region for one in lesions(SICK) if one.kind == "tear" and one.region[0] == "M"}
    )


def test_osteophytes_stand_out_as_far_as_their_labels(maps, truth) -> None:
    labels, before, at = maps
    bones = where(before, "femur", "tibia", "patella")
    away = ndimage.distance_transform_edt(~bones, sampling=FINE.spacing_mm)
    marked = where(labels, "osteophyte")
    compared = 0
    for lesion in (one for one in lesions(SICK) if one.kind == "osteophyte" and one.radius > 3):
        place = tuple(np.asarray(x, np.float32) for x in at)
        spot = marked & (ellipsoid(place, lesion.centre, semi_axes(lesion)) < 0)
        if spot.any():
            found = truth.loc[lesion.region, "osteophyte_mm"]
            assert found == pytest.approx(away[spot].max(), abs=1.0), lesion.region
            compared += 1
    assert compared >= 4


def test_fluid_in_the_recesses_has_the_volume_of_its_label(maps, truth) -> None:
    labels, _, at = maps
    within = np.zeros(labels.shape, bool)
    for centre, semi in recesses(SICK.inflammation):
        within |= ellipsoid(tuple(np.asarray(x, np.float32) for x in at), centre, semi) < 0
    hidden = where(labels, "femur", "tibia", "patella", "femoral_cartilage", "patellar_cartilage")
    hidden |= where(labels, "marrow_lesion")
    volume = float((within & ~hidden).sum() * VOXEL_MM3 / 1000)
    assert truth.loc["WK", "effusion_ml"] == pytest.approx(volume, rel=0.1)
    assert 0.05 < truth.loc["WK", "effusion_share"] < 1
    assert 0 < truth.loc["WK", "hoffa_share"] < 1


def test_attrition_is_the_plateaus_fall(truth) -> None:
    joint = replace(SICK, bone=3.4)
    found = regional_truth(joint).set_index("region")["attrition_mm"]
    grid = np.meshgrid(np.linspace(-38, 38, 300), np.linspace(-10, 32, 200), indexing="ij")
    m, p = (x.astype(np.float32) for x in grid)
    fall = Knee(joint, lesions(joint)).plateau((m, m, p)) - Knee(joint, ()).plateau((m, m, p))
    region = subregion("tibia", (m, m, p), subspinous=False)
    assert found.max() > 0.5
    for name in ("TMA", "TMC", "TMP", "TLA", "TLC", "TLP"):
        assert found[name] == pytest.approx(float(fall[region == name].max()), abs=0.25)


def test_a_healthy_joint_has_lost_nothing() -> None:
    truth = regional_truth(HEALTHY)
    assert list(truth["region"]) == list(REGIONS)
    assert list(truth.columns) == ["region", *COLUMNS]
    for name in ("thickness_loss", "loss_area", "full_area", "bml_mm3", "tear", "osteophyte_mm"):
        assert (truth[name].dropna() == 0).all(), name
    assert (truth["macerated"].dropna() == 0).all()
    assert truth["hoffa_share"].dropna().tolist() == [0.0]


def test_sizes_scale_with_the_patient_and_shares_do_not() -> None:
    small, large = (regional_truth(replace(SICK, size=size)) for size in (1.0, 1.1))
    for name, power in (("bml_mm3", 3), ("cartilage_mm2", 2), ("osteophyte_mm", 1)):
        np.testing.assert_allclose(large[name], small[name] * 1.1**power, rtol=1e-5)
    for name in ("thickness_loss", "bml_share", "full_area", "effusion_share", "macerated"):
        np.testing.assert_allclose(large[name], small[name])


def test_every_subregion_has_cartilage_and_marrow_to_lose() -> None:
    for seed in range(4):
        shape = tuple(np.clip(np.random.default_rng(seed).normal(size=12), -2.5, 2.5).tolist())
        healthy = reference(replace(HEALTHY, shape=shape))
        area: dict[str, float] = {}
        for surface in healthy.surfaces:
            assert surface.thickness.min() > BARE_MM
            for name in np.unique(surface.region):
                here = surface.region == name
                area[str(name)] = area.get(str(name), 0.0) + float(surface.area[here].sum())
        assert set(area) == set(CARTILAGE)
        assert min(area.values()) > 100
        assert min(healthy.bone_mm3.values()) > 500
