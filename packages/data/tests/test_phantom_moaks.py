"""Scores by MOAKS: exact without error, and as reliable as readers are with it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinmark_data.errors import InputError
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.moaks import (
    CARTILAGE_CUTS,
    COLUMNS,
    EFFUSION_CUTS,
    ERRORS,
    EXTRUSION_MM,
    EXTRUSIONS,
    HOFFA_CUTS,
    MARROW_CUTS,
    OSTEOPHYTE_MM,
    codes_of,
    graded,
    read_scores,
)
from spinmark_data.phantom.moaks_table import STEM, moaks_sheets, regions_of
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.regional_truth import REGIONS, regional_truth
from spinmark_data.phantom.regions import BONE, CARTILAGE, MENISCI, OSTEOPHYTES
from spinmark_data.phantom.state import LATENTS, JointState

CONFIG = PhantomConfig(subjects=8, seed=5, moaks_share=1.0)


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    """Many joints of all severities, one shape so that they are made quickly."""
    rng = np.random.default_rng(1)
    frames = []
    for joint in range(120):
        severities = rng.gamma(1.6, 0.6, size=4).clip(0, 3.5)
        state = JointState(
            laterality="R",
            sex=1,
            size=1.0,
            shape=(0.0,) * 6,
            fat_mm=8.0,
            medial=float(rng.uniform(0.2, 0.95)),
            lesion_seed=joint,
            **dict(zip(LATENTS, severities.tolist(), strict=True)),
        )
        frames.append(regional_truth(state).assign(joint=joint))
    return pd.concat(frames, ignore_index=True)


@given(
    st.floats(0, 1),
    st.sampled_from([CARTILAGE_CUTS, MARROW_CUTS, EFFUSION_CUTS, HOFFA_CUTS]),
    st.floats(0.001, 2),
)
def test_without_error_a_grade_counts_the_cut_points(
    value: float, cuts: tuple[float, ...], floor: float
) -> None:
    # A value within rounding of a cut point may fall on either side.
    if min(abs(value - cut) for cut in cuts) > 1e-9:
        found = graded(np.array([value]), cuts, np.zeros(1), 0.3, floor)
        assert found[0] == sum(value >= cut for cut in cuts)


def test_every_grade_is_the_truths_without_reader_error(truth: pd.DataFrame) -> None:
    n = truth["joint"].nunique()
    errors = np.random.default_rng(2).standard_normal((n, ERRORS))
    scores = read_scores(truth, errors, 0.0)
    assert list(scores.columns) == list(COLUMNS)
    wide = truth.set_index(["region", "joint"])

    def levels(measure: str, region: str, cuts: tuple[float, ...]) -> np.ndarray:
        return np.digitize(wide.loc[region, measure].to_numpy(float), cuts)

    for region in CARTILAGE:
        area = levels("loss_area", region, CARTILAGE_CUTS)
        full = np.minimum(levels("full_area", region, CARTILAGE_CUTS), area)
        np.testing.assert_allclose(scores[f"MCM{region}"], area + full / 10)
    for region in BONE:
        size = levels("bml_share", region, MARROW_CUTS)
        np.testing.assert_array_equal(scores[f"MBMS{region}"], size)
        assert ((scores[f"MBMN{region}"] > 0) == (size > 0)).all()
        assert ((scores[f"MBMP{region}"] == 3) == (size > 0)).all()
    for region in OSTEOPHYTES:
        size = levels("osteophyte_mm", region, OSTEOPHYTE_MM)
        np.testing.assert_array_equal(scores[f"MOS{region}"], size)
    for name, part in EXTRUSIONS.items():
        np.testing.assert_array_equal(scores[name], levels("extrusion_mm", part, EXTRUSION_MM))
    np.testing.assert_array_equal(scores["MEFFWK"], levels("effusion_share", "WK", EFFUSION_CUTS))
    np.testing.assert_array_equal(scores["MSYIC"], levels("hoffa_share", "WK", HOFFA_CUTS))
    for part in MENISCI:
        torn = wide.loc[part, "tear_mm"].to_numpy(float) >= 3.0
        morphology = scores[f"MMT{part}"].to_numpy()
        assert (morphology[torn] >= 2).all()
        assert set(morphology[~torn]) <= {0.0, 1.0, 6.0, 8.0}


def test_two_readers_agree_as_readers_do(truth: pd.DataFrame) -> None:
    kappa_of = pytest.importorskip("sklearn.metrics").cohen_kappa_score
    n = truth["joint"].nunique()
    rng = np.random.default_rng(3)
    one, other = (read_scores(truth, rng.standard_normal((n, ERRORS)), 1.0) for _ in range(2))
    sets = {
        "cartilage area": [f"MCM{region}" for region in CARTILAGE],
        "marrow size": [f"MBMS{region}" for region in BONE],
        "marrow number": [f"MBMN{region}" for region in BONE],
        "osteophytes": [f"MOS{region}" for region in OSTEOPHYTES],
        "morphology": [f"MMT{part}" for part in MENISCI],
        "extrusion": list(EXTRUSIONS),
        "effusion": ["MEFFWK"],
        "Hoffa": ["MSYIC"],
    }
    for what, names in sets.items():
        a, b = (np.floor(x[names].to_numpy()).ravel().astype(int) for x in (one, other))
        weights = None if what == "morphology" else "linear"
        kappa = kappa_of(a, b, weights=weights)
        assert 0.6 < kappa < 0.92, what
    depth = [np.round(x[sets["cartilage area"]].to_numpy() * 10).ravel() % 10 for x in (one, other)]
    assert 0.6 < kappa_of(*depth, weights="linear") < 0.92
    worse = read_scores(truth, rng.standard_normal((n, ERRORS)), 3.0)
    names = sets["osteophytes"]
    assert (worse[names] == one[names]).mean().mean() < (other[names] == one[names]).mean().mean()


def test_scores_have_labels_for_every_value(truth: pd.DataFrame) -> None:
    n = truth["joint"].nunique()
    errors = np.random.default_rng(4).standard_normal((n, ERRORS))
    scores = read_scores(truth, errors, 4.0)
    for name in COLUMNS:
        codes = codes_of(name)
        if name.startswith("MBMN"):
            assert codes is None
        else:
            assert codes is not None
            assert set(scores[name]) <= {float(code) for code in codes}
    labels = codes_of("MCMFMA")
    assert labels is not None
    assert labels[2.1] == "10-75% area, 1-10% full thickness"
    assert 1.2 not in labels  # No more can be bare than is lost.


def plan(population) -> pd.DataFrame:
    rows = []
    for joint, knee in population.joints.iterrows():
        for visit in ("V00", "V03"):
            latents = {name: float(knee[name]) + (visit == "V03") * 0.3 for name in LATENTS}
            key = {name: knee[name] for name in ("subject_id", "laterality")}
            rows.append({"joint": joint, **key, "visit": visit, **latents})
    return pd.DataFrame(rows)


@pytest.mark.slow
def test_tables_are_the_same_for_the_first_people_of_a_larger_cohort() -> None:
    made = []
    for subjects in (3, 4):
        config = CONFIG.plain(subjects=subjects)
        population = sample_population(config)
        regions = regions_of(population, plan(population), config)
        assert len(regions) == 2 * 2 * subjects * len(REGIONS)
        made.append(moaks_sheets(population, regions, config))
    for few, many in zip(*made, strict=True):
        assert few.stem == many.stem
        assert few.stem.startswith(STEM)
        ids = set(few.truth["ID"])
        first = pd.DataFrame(many.cells)
        first = first[pd.DataFrame(many.truth)["ID"].isin(ids)]
        pd.testing.assert_frame_equal(pd.DataFrame(few.cells), first.reset_index(drop=True))
        assert "2.0: 10-75% area" not in set(few.cells[f"V{few.stem[-2:]}MCMFMA"])


def test_only_a_share_of_the_knees_is_read_and_the_same_at_both_visits() -> None:
    config = CONFIG.plain(subjects=40, moaks_share=0.1)
    population = sample_population(config)
    whole = plan(population)
    regions = regions_of(population, whole, config)
    read = regions.groupby("visit")["joint"].unique()
    assert set(read["V00"]) == set(read["V03"])
    assert 2 <= len(read["V00"]) <= 18
    sheets = moaks_sheets(population, regions, config)
    assert [sheet.stem for sheet in sheets] == [f"{STEM}00", f"{STEM}03"]
    none = config.plain(moaks_share=0.0)
    empty = regions_of(population, whole, none)
    assert not len(empty)
    assert list(empty.columns) == list(regions.columns)
    assert moaks_sheets(population, empty, none) == []


def test_the_regional_truth_can_be_had_for_all_scans() -> None:
    config = CONFIG.plain(subjects=2, moaks_share=0.0, regional_truth=True)
    population = sample_population(config)
    regions = regions_of(population, plan(population), config)
    keys = ["subject_id", "laterality", "visit", "region"]
    assert len(regions) == 2 * 2 * 2 * len(REGIONS)
    assert not regions.duplicated(keys).any()
    assert moaks_sheets(population, regions, config) == []


def test_rescans_are_read_once() -> None:
    config = CONFIG.plain(subjects=2)
    population = sample_population(config)
    whole = plan(population)
    twice = pd.concat([whole, whole]).reset_index(drop=True)
    pd.testing.assert_frame_equal(
        regions_of(population, twice, config), regions_of(population, whole, config)
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("moaks_visits", ("V08",)), ("moaks_share", 1.5), ("reader_error", -1.0)],
)
def test_a_field_out_of_bounds_is_named(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        replace(CONFIG, **{field: value})
