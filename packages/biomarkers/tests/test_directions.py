"""All of directions in one call: planted axes, the frozen artefact, what is refused, and the figures."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from spinmark_biomarkers.embeddings import from_frame
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures import directions as figures
from spinmark_biomarkers.phenotypes.directions.config import DirectionsConfig
from spinmark_biomarkers.phenotypes.directions.find import find_directions
from spinmark_biomarkers.phenotypes.directions.matching import match_axes
from spinmark_biomarkers.phenotypes.directions.store import (
    apply_directions,
    read_directions,
    write_directions,
)

FAST = {
    **{"bootstrap": 6, "permutations": 39, "null_draws": 19, "restarts": 2, "components": 8},
    "axes": 3,
}


def cohort(n=90, seed=0, features=10, visits=2, rescans=False):
    """Three skewed, independent latents of a person, a little of its own for each side, visit and scan."""
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(rng.normal(size=(features, features)))[0][:3] * [[2.0], [1.7], [1.4]]
    rows, truth, points = [], [], []
    for s in range(n):
        person = 1.6 * rng.gamma(0.4, size=3)
        for side in "RL":
            joint = person + 0.4 * rng.normal(size=3)
            for visit in range(visits):
                state = joint + 0.2 * rng.normal(size=3)
                for rank in range(2 if rescans and side == "R" else 1):
                    points.append(state @ mixing + 0.25 * rng.normal(size=features))
                    truth.append(state)
                    rows.append(
                        {
                            "subject_id": f"S{s:03d}",
                            "laterality": side,
                            "visit": f"V0{visit}",
                            "days": 400.0 * visit + s % 7,
                            "rank": rank,
                            "site": f"site{s % 3}",
                            "scanner": "one",
                        }
                    )
    frame = pd.DataFrame(rows).join(pd.DataFrame(np.array(points)).add_prefix("f"))
    ds = from_frame(frame, fitted_subjects=[f"S{s:03d}" for s in range(2 * n // 3)])
    return ds.assign_attrs(encoder_hash="abc"), np.array(truth)


@pytest.fixture(scope="module")
def planted():
    ds, truth = cohort(n=180)
    return ds, truth, find_directions(ds, DirectionsConfig(method="ica", **FAST))


def test_planted_axes_are_found_on_people_who_were_not_fitted(planted):
    ds, truth, found = planted
    held = ds["set"].values == "test"
    _, strength = match_axes(truth[held], found.dataset["score"].values[held])
    assert strength.min() > 0.9
    facts = found.summary()
    assert facts["scans_fitted"] == 240
    assert facts["subjects_fitted"] == 120
    assert facts["variance_held_out"] > 0.85
    assert all(axis["low"] <= axis["similarity"] <= axis["high"] for axis in facts["axes"])
    assert max(axis["similarity"] for axis in facts["axes"]) > 0.85
    assert len({axis["hash"] for axis in facts["axes"]}) == 3
    assert min(axis["start_agreement"] for axis in facts["axes"]) > 0.9
    panel = {row["flag"] for row in facts["artefacts"] if row["variable"] == "scanner"}
    assert panel == {"one category"}
    kinds = {(row["kind"], row["subjects"]) for row in facts["reliability"]}
    assert kinds == {(k, s) for k in ("visits", "sides") for s in ("fitted", "held out")}
    # A person's variance is 1, a side adds .16, a visit .04 and the scan its noise.
    visits = [r["value"] for r in facts["reliability"] if r["kind"] == "visits"]
    sides = [r["value"] for r in facts["reliability"] if r["kind"] == "sides"]
    assert min(visits) > 0.8
    assert max(sides) < min(visits)
    json.dumps(facts, allow_nan=False)


def test_the_number_is_chosen_by_parallel_analysis_or_the_elbow():
    ds, _ = cohort()
    found = find_directions(ds, DirectionsConfig(method="pca", **FAST | {"axes": None}))
    assert found.facts["axes_chosen"]["how"] == "parallel analysis"
    assert found.facts["axes_number"] == found.facts["axes_chosen"]["parallel"]["axes"]
    fewer = DirectionsConfig(method="pca", **FAST | {"axes": None}, axes_max=2)
    assert "kept to 2" in find_directions(ds, fewer).facts["axes_chosen"]["how"]
    noise = ds.assign(
        embedding=(
            ds["embedding"].dims,
            np.random.default_rng(0).normal(size=ds["embedding"].shape),
        )
    )
    with pytest.raises(InputError, match="axes: null, but no axis exceeds chance"):
        find_directions(noise, DirectionsConfig(method="pca", **FAST | {"axes": None}))


def test_archetypes_are_corners_and_their_number_is_the_elbow():
    rng = np.random.default_rng(0)
    corners = np.linalg.qr(rng.normal(size=(6, 3)))[0].T * 3
    weights = rng.dirichlet(np.full(3, 0.5), size=80)
    frame = pd.DataFrame(weights @ corners + 0.05 * rng.normal(size=(80, 6))).add_prefix("f")
    frame["subject_id"] = [f"S{i // 2:02d}" for i in range(80)]
    frame["laterality"] = ["R", "L"] * 40
    ds = from_frame(frame, fitted_subjects=[f"S{i:02d}" for i in range(30)])
    config = DirectionsConfig(method="archetypes", **FAST | {"axes": None}, axes_max=5)
    found = find_directions(ds, config)
    assert found.facts["axes_number"] == 3
    share = found.dataset["weight"].values
    np.testing.assert_allclose(share.sum(axis=1), 1)
    np.testing.assert_array_equal(share, found.dataset["score"].values)
    assert match_axes(weights, share)[1].min() > 0.98
    assert found.dataset["archetype_vector"].shape == (3, 6)


@pytest.mark.parametrize(
    ("repeats", "rescans", "kind"),
    [("auto", True, "rescans"), ("auto", False, "visits"), ("sides", False, "sides")],
)
def test_reliable_axes_take_the_repeats_that_there_are(repeats, rescans, kind):
    ds, _ = cohort(rescans=rescans)
    config = DirectionsConfig(method="reliable", repeats=repeats, nuisance=("site",), **FAST)
    facts = find_directions(ds, config).facts
    assert facts["repeats"] == kind
    reliability = [axis["reliability"] for axis in facts["axes"]]
    assert reliability == sorted(reliability, reverse=True)
    assert reliability[0] > 0.5


def test_reliable_axes_without_repeats_say_what_is_needed():
    ds, _ = cohort(n=30, visits=1)
    right = ds.isel(scan=np.flatnonzero(ds["laterality"].values == "R"))
    with pytest.raises(InputError) as refused:
        find_directions(right, DirectionsConfig(method="reliable", **FAST))
    said = str(refused.value)
    assert "\n" not in said
    assert "rescans (scans of a joint at one visit): 0" in said
    assert "visits (visits of a joint): 0" in said
    assert "accepted are at least 16 with two or more scans, or fewer components" in said


def test_a_bootstrapped_person_is_no_repeat_of_itself():
    # Noise alone repeats nothing; were copies repeats, half of it would.
    ds, _ = cohort(n=60)
    rng = np.random.default_rng(0)
    noise = ds.assign(embedding=(("scan", "feature"), rng.normal(size=ds["embedding"].shape)))
    from spinmark_biomarkers.phenotypes.directions.find import _copies

    units = np.array([0, 0, 1, 1, 2])
    positions = np.array([0, 1, 4, 0, 1, 2, 3])
    copies = _copies(units, positions)
    assert copies[0] == copies[1] != copies[3] == copies[4]
    assert np.unique(copies).size == 4
    facts = find_directions(noise, DirectionsConfig(method="reliable", **FAST)).facts
    assert all(axis["reliability"] < 0.5 for axis in facts["axes"])


def test_the_order_of_rows_leaves_no_trace(planted):
    ds, _, found = planted
    order = np.random.default_rng(3).permutation(ds.sizes["scan"])
    again = find_directions(ds.isel(scan=order), DirectionsConfig(method="ica", **FAST))
    assert again.facts == found.facts
    assert again.dataset.attrs == found.dataset.attrs
    pd.testing.assert_frame_equal(again.score_frame(), found.score_frame())
    pd.testing.assert_frame_equal(again.known_at, found.known_at)
    other = find_directions(ds, DirectionsConfig(method="ica", **FAST | {"axes": 2}))
    assert other.dataset.attrs["frozen_hash"] != found.dataset.attrs["frozen_hash"]


def test_scores_are_known_on_the_day_of_the_scan_that_gave_them(planted):
    ds, _, found = planted
    assert found.known_at["known_at"].max() == 6.0
    late = find_directions(ds, DirectionsConfig(method="pca", visits="all", **FAST))
    assert late.known_at["known_at"].min() == 400.0
    assert int(late.dataset["fitted"].sum()) == 480
    frame = found.score_frame()
    assert list(frame.columns[-3:]) == ["axis_0", "axis_1", "axis_2"]
    assert set(frame["visit"]) == {"V00"}


@pytest.mark.parametrize("method", ["ica", "archetypes"])
def test_the_artefact_comes_back_and_scores_other_scans(planted, tmp_path, method):
    ds, _, found = planted
    if method != "ica":
        found = find_directions(ds, DirectionsConfig(method=method, **FAST))
    write_directions(tmp_path / "d", found)
    back = read_directions(tmp_path / "d")
    xr.testing.assert_identical(back.dataset["score"], found.dataset["score"])
    assert back.facts == found.facts
    pd.testing.assert_frame_equal(back.known_at, found.known_at)
    few = ds.isel(scan=slice(5, 25))
    np.testing.assert_allclose(
        apply_directions(back, few).values, found.dataset["score"].values[5:25], atol=1e-6
    )
    with pytest.raises(InputError, match="embeddings: of encoder other, the axes of abc"):
        apply_directions(back, few.assign_attrs(encoder_hash="other"))
    with pytest.raises(InputError, match="embeddings: 4 features; accepted are the 10"):
        apply_directions(back, few.isel(feature=slice(4)))


@pytest.mark.parametrize("changed", ["score", "components", "mean", "readout"])
def test_a_changed_axis_or_score_is_noticed(planted, tmp_path, changed):
    ds = planted[2].dataset
    broken = ds.assign({changed: ds[changed].copy(data=ds[changed].values * (1 + 1e-5))})
    write_directions(tmp_path, planted[2])
    shutil.rmtree(tmp_path / "directions.zarr")
    broken.to_zarr(tmp_path / "directions.zarr", consolidated=False, zarr_format=3)
    with pytest.raises(InputError, match="axes and scores hash to"):
        read_directions(tmp_path)


def test_what_cannot_be_read_is_refused(planted, tmp_path):
    with pytest.raises(
        InputError, match=r"no directions\.zarr; accepted is what 'spinmark directions'"
    ):
        read_directions(tmp_path)
    write_directions(tmp_path, planted[2])
    ds = planted[2].dataset.assign_attrs(version=7)
    shutil.rmtree(tmp_path / "directions.zarr")
    ds.to_zarr(tmp_path / "directions.zarr", consolidated=False, zarr_format=3)
    with pytest.raises(InputError, match="version 7; accepted is spinmark/directions version 1"):
        read_directions(tmp_path)


def test_bad_input_is_refused_in_one_line():
    ds, _ = cohort(n=12)
    holes = ds.copy(deep=True)
    holes["embedding"].values[4, 2] = np.nan
    cases = [
        (holes, {}, "embeddings: not finite at 1 scans"),
        (ds, {"axes": 11}, "8 train and val subjects for 11 axes"),
        (ds.isel(scan=slice(4)), {}, "embeddings: 1 train and val subjects"),
        (ds, {"method": "tsne"}, "method: 'tsne'; accepted are pca, ica"),
        (ds, {"axes": 0}, "axes: 0; accepted is null or at least 1"),
        (ds, {"axes": None, "axes_max": 1}, "axes_max: 1; accepted is at least 2"),
        (ds, {"bootstrap": 1}, "bootstrap: 1; accepted is at least 2"),
        (ds, {"nuisance": ("coil",)}, "nuisance: 'coil'; accepted are site and scanner"),
        (ds, {"part": "image"}, "part: 'image', but these embeddings have no parts"),
        (
            ds.assign_attrs(uses=json.dumps(["outcome:replacement"])),
            {},
            "their encoder learnt from outcome:replacement",
        ),
    ]
    for given, changes, told in cases:
        with pytest.raises(InputError) as refused:
            find_directions(given, DirectionsConfig(**FAST | {"axes": 2} | changes))
        assert told in str(refused.value)
        assert "\n" not in str(refused.value)
    line = np.outer(np.arange(float(ds.sizes["scan"])), np.ones(10))
    flat = ds.assign(embedding=(("scan", "feature"), line))
    with pytest.raises(InputError, match="axes: 2, but the fitted rows have rank 1"):
        find_directions(flat, DirectionsConfig(**FAST | {"axes": 2}))


def test_every_figure_is_drawn(planted):
    found = planted[2]
    table = pd.DataFrame(
        {
            "axis": ["axis 0"] * 3,
            "variable": ["A", "B", "C"],
            "label": ["Age", "Sex", "A label that is much longer than any figure could ever hold"],
            "kind": ["continuous", "binary", "ordinal"],
            "effect": [0.3, 2.0, np.nan],
            "low": [0.1, 1.5, np.nan],
            "high": [0.5, 3.0, np.nan],
            "q": [0.01, 0.2, np.nan],
            "used": [False, True, False],
        }
    )
    flat = figures.score_map(found)
    points = sum(len(c.get_offsets()) for c in flat.axes[2].collections)
    assert points == int(found.dataset["used"].sum())
    bars = figures.axis_stability_bars(found)
    heights = [patch.get_height() for patch in bars.axes[0].patches]
    assert heights == [row["similarity"] for row in found.facts["axes"]]
    dots = figures.reliability_dots(found)
    assert (
        sum(len(c.get_offsets()) for c in dots.axes[0].collections if c.get_label()[0] != "_") == 12
    )
    described = figures.described_axes(table)
    drawn = described.axes[0].collections[1].get_offsets()[:, 0]
    assert drawn.tolist() == [0.3]
    for figure in (
        *(flat, bars, dots, described, figures.axis_artefacts(found)),
        *(figures.loadings_map(found), figures.loadings_map(found, features=list("abcdefghij"))),
    ):
        figure.savefig(io.BytesIO(), format="png", dpi=50)
    with pytest.raises(InputError, match="axis: 7; accepted are 0 to 2"):
        figures.score_map(found, second=7)
    with pytest.raises(InputError, match="features: 2 names for 10"):
        figures.loadings_map(found, features=["a", "b"])
    with pytest.raises(InputError, match="no effect is known"):
        figures.described_axes(table.iloc[2:])
