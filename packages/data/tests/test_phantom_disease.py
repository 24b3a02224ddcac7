"""Lesions: each on its own course, in place, and painted where they lie."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.phantom.anatomy import Knee
from spinmark_data.phantom.disease import TEARS, Lesion, lesions
from spinmark_data.phantom.lesion_shapes import (
    ATTRITION_MM,
    EXTRUSION_MM,
    cleft,
    dent,
    wear,
)
from spinmark_data.phantom.regions import BONE, MENISCI, OSTEOPHYTES, subregion
from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState

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
severity = st.floats(0, 3.5)
KINDS = {"marrow", "defect", "synovitis", "osteophyte", "tear", "attrition"}
WORST = {"bone": 3.5, "cartilage": 3.5, "inflammation": 3.5, "hypertrophy": 3.5}


def keyed(found: tuple[Lesion, ...]) -> dict[tuple[str, tuple[float, float, float]], Lesion]:
    return {(lesion.kind, lesion.centre): lesion for lesion in found}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.tuples(*(severity for _ in range(8))), st.floats(0, 1))
def test_no_lesion_moves_or_shrinks_as_its_latent_grows(
    seed: int, severities: tuple[float, ...], medial: float
) -> None:
    names = ("bone", "cartilage", "inflammation", "hypertrophy")
    early = dict(zip(names, severities[:4], strict=True))
    late = {name: max(early[name], severities[4 + k]) for k, name in enumerate(names)}
    joint = replace(KNEE, lesion_seed=seed, medial=medial)
    before = keyed(lesions(replace(joint, **early)))
    after = keyed(lesions(replace(joint, **late)))
    assert set(before) <= set(after)
    for place, lesion in before.items():
        assert after[place].radius >= lesion.radius
        assert after[place].depth >= lesion.depth
        assert after[place].region == lesion.region


@pytest.mark.parametrize(
    ("latent", "kinds"),
    [
        ("bone", {"marrow", "attrition"}),
        ("cartilage", {"defect", "tear"}),
        ("inflammation", {"synovitis"}),
        ("hypertrophy", {"osteophyte"}),
    ],
)
def test_each_kind_follows_its_latent_alone(latent: str, kinds: set[str]) -> None:
    made = {
        lesion.kind
        for seed in range(20)
        for lesion in lesions(replace(KNEE, lesion_seed=seed, **{latent: 3.5}))
    }
    assert made == kinds


def test_every_lesion_has_the_subregion_of_its_centre() -> None:
    for seed in range(30):
        for lesion in lesions(replace(KNEE, lesion_seed=seed, **WORST)):
            assert lesion.kind in KINDS
            accepted = {"tear": MENISCI, "osteophyte": OSTEOPHYTES, "synovitis": ("",)}
            assert lesion.region in accepted.get(lesion.kind, BONE)
            assert (lesion.form in TEARS) == (lesion.kind == "tear")
            if lesion.kind == "attrition":
                m, s, p = (np.array([x]) for x in lesion.centre)
                assert lesion.region == str(subregion("tibia", (m, s, p))[0])


def test_places_are_those_of_the_streams_that_they_had() -> None:
    # As drawn before lesions had a course of their own: one stream a kind, six numbers a lesion.
    rng = np.random.default_rng(np.random.SeedSequence([KNEE.lesion_seed, 0]))
    found = [one for one in lesions(replace(KNEE, bone=3.5)) if one.kind == "marrow"]
    assert len(found) == 6
    for lesion in found:
        u = rng.random(6)
        assert abs(lesion.centre[0]) == pytest.approx(13 + 15 * u[1])
        assert lesion.centre[2] == pytest.approx(2 + 22 * u[2])


def test_onset_and_pace_differ_between_joints() -> None:
    counts, ratios = [], []
    for seed in range(60):
        early = keyed(lesions(replace(KNEE, lesion_seed=seed, cartilage=1.2)))
        late = keyed(lesions(replace(KNEE, lesion_seed=seed, cartilage=2.4)))
        counts.append(len(early))
        ratios += [late[k].radius / one.radius for k, one in early.items() if one.kind == "defect"]
    assert np.ptp(counts) >= 3
    assert np.std(ratios) > 0.3


def test_some_defects_bare_the_bone_and_others_stay_partial() -> None:
    depths = [
        lesion.depth
        for seed in range(60)
        for lesion in lesions(replace(KNEE, lesion_seed=seed, cartilage=3.5))
        if lesion.kind == "defect"
    ]
    assert 0.3 < np.mean(np.array(depths) >= 1.0) < 0.8
    assert min(depths) < 0.7
    # The core of a full-thickness defect is bare, whatever else thins the cartilage.
    hole = Lesion(kind="defect", centre=(21.0, 4.0, 11.0), radius=6.0, depth=1.0)
    at = (np.array([21.0, 21.0 + 6.0]), np.array([4.0, 4.0]), np.array([11.0, 11.0]))
    intact = Knee(KNEE, ()).thickness("medial_tibial_cartilage", at)
    worn = Knee(KNEE, [hole]).thickness("medial_tibial_cartilage", at)
    np.testing.assert_allclose(worn, [0.0, intact[1]], atol=1e-6)


def test_attrition_is_a_shallow_dish_of_its_depth() -> None:
    lesion = Lesion(kind="attrition", centre=(21.0, 2.0, 11.0), radius=8.0, depth=0.6)
    m, p = np.array([21.0, 21.0, 25.0, 29.0, 40.0]), np.array([11.0, 15.0, 11.0, 11.0, 11.0])
    top = ATTRITION_MM * 0.6
    np.testing.assert_allclose(
        dent(m, p, [lesion]), [top, top * 0.75**2, top * 0.75**2, 0, 0], atol=1e-6
    )
    np.testing.assert_allclose(dent(m, p, [lesion, lesion]), dent(m, p, [lesion]))
    at = (m, m, p)
    lowered = Knee(KNEE, [lesion]).plateau(at) - Knee(KNEE, ()).plateau(at)
    np.testing.assert_allclose(lowered, dent(m, p, [lesion]), atol=1e-5)


@pytest.mark.parametrize("form", TEARS)
def test_a_cleft_is_a_sheet_in_the_direction_of_its_form(form: str) -> None:
    # At the outer edge of the medial meniscus outwards is medial and along the rim is backwards.
    lesion = Lesion(kind="tear", centre=(35.0, -1.5, 11.0), radius=6.0, depth=1.0, form=form)
    gap = 0.25 + 0.6
    inside = {
        "horizontal": ((3, 0, 3), (0, 3, 0)),
        "vertical": ((0, 3, 3), (3, 0, 0)),
        "radial": ((3, 3, 0), (0, 0, 3)),
        "complex": ((3, 0, 3), (2, 2, 2)),
    }[form]
    values = []
    for offset in inside:
        at = tuple(
            np.array([c + d], np.float32) for c, d in zip(lesion.centre, offset, strict=True)
        )
        values.append(float(cleft(at, lesion)[0]))  # type: ignore[arg-type]
    assert values[0] == pytest.approx(-gap, abs=1e-5)
    assert values[1] > 0


def test_tears_lie_in_menisci_at_every_stage() -> None:
    seen = 0
    for seed in range(40):
        for cartilage in (1.0, 2.0, 3.5):
            joint = replace(KNEE, lesion_seed=seed, cartilage=cartilage, medial=0.5)
            found = lesions(joint)
            knee = Knee(joint, found)
            for lesion in (one for one in found if one.kind == "tear"):
                sign = 1 if lesion.centre[0] > 0 else -1
                m, s, p = (np.array([x], np.float32) for x in lesion.centre)
                moved = m + np.float32(sign * EXTRUSION_MM * wear(joint, sign))
                assert knee.meniscus((moved, s, p), sign)[0] < 0
                seen += 1
    assert seen > 60


def test_a_tear_brightens_its_meniscus_and_attrition_sinks_the_plateau() -> None:
    joint = replace(KNEE, cartilage=2.5, bone=3.4, medial=0.9, lesion_seed=11)
    kinds = [lesion.kind for lesion in lesions(joint)]
    assert "tear" in kinds
    assert "attrition" in kinds
    with_all = render_scan(joint, SCANNERS[0], FINE, seed=1, nuisance=0.0)
    from spinmark_data.phantom import render

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            render,
            "lesions",
            lambda state: tuple(
                one for one in lesions(state) if one.kind not in ("tear", "attrition")
            ),
        )
        without = render_scan(joint, SCANNERS[0], FINE, seed=1, nuisance=0.0)
    from spinmark_data.phantom.anatomy import LABELS

    meniscus = with_all.labels == LABELS["medial_meniscus"]
    gain = with_all.volume[meniscus].astype(float) - without.volume[meniscus]
    assert (gain > 500).sum() > 50
    assert gain.min() > -300
    bone = [
        np.isin(made.labels, [LABELS["tibia"], LABELS["marrow_lesion"]])
        for made in (with_all, without)
    ]
    assert 20 < bone[1].sum() - bone[0].sum() < 2000
