import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import IntensityRule
from spinmark_models.encoders import build_encoder
from spinmark_models.health import rankme
from spinmark_training.config import MonitorConfig, PretrainConfig
from spinmark_training.embed import embed_rows
from spinmark_training.monitor import Monitor, knn_accuracy, ridge_r2, scan_variable
from spinmark_training.sources import ScanSource

World = tuple[Cohort, Split]
RULE = IntensityRule()


@pytest.mark.parametrize(("n", "p"), [(40, 6), (12, 30)])
def test_the_ridge_probe_is_that_of_a_peer_with_the_same_penalty(n: int, p: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.normal(3, 2, (n + 25, p))
    y = x @ rng.normal(size=p) + rng.normal(size=n + 25)
    mean, sd = x[:n].mean(0), x[:n].std(0)
    a, b = (x[:n] - mean) / sd, (x[n:] - mean) / sd
    # Standardised features: the trace of their scatter is n p.
    peer = Ridge(alpha=n * p / min(n, p)).fit(a, y[:n])
    residual = ((y[n:] - peer.predict(b)) ** 2).sum()
    expected = 1 - residual / ((y[n:] - y[:n].mean()) ** 2).sum()
    assert ridge_r2(x[:n], y[:n], x[n:], y[n:]) == pytest.approx(expected, abs=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 50), st.floats(-50, 50))
def test_the_ridge_probe_knows_no_units(seed: int, factor: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(30, 5)), rng.normal(size=30)
    one = ridge_r2(x[:20], y[:20], x[20:], y[20:])
    two = ridge_r2(
        x[:20] * factor + shift,
        y[:20] * factor - shift,
        x[20:] * factor + shift,
        y[20:] * factor - shift,
    )
    assert one == pytest.approx(two, abs=1e-6)
    assert one <= 1


def test_a_target_without_variance_has_no_r2() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    assert math.isnan(ridge_r2(x[:10], np.ones(10), x[10:], np.ones(10)))
    flat = np.ones((10, 3))
    assert ridge_r2(flat, np.arange(10.0), flat, np.arange(10.0)) == pytest.approx(0)


@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_vote_as_those_of_a_peer(k: int) -> None:
    rng = np.random.default_rng(k)
    # Two classes and an odd number of neighbours: no vote is a tie.
    y = rng.integers(0, 2, 120).astype(float)
    x = rng.normal(2, 1, (120, 6)) + y[:, None] * 0.5
    centre = x[:80].mean(0)
    peer = KNeighborsClassifier(k, metric="cosine").fit(x[:80] - centre, y[:80])
    accuracy, chance = knn_accuracy(x[:80], y[:80], x[80:], y[80:], k)
    assert accuracy == peer.score(x[80:] - centre, y[80:])
    commonest = float(y[:80].mean() > 0.5)
    assert chance == (y[80:] == commonest).mean()


def test_a_tied_vote_goes_to_the_smallest_class() -> None:
    x = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, -0.1]])
    accuracy, _ = knn_accuracy(x, np.array([7.0, 3.0, 7.0, 3.0]), x, np.full(4, 3.0), k=2)
    assert accuracy == 1


def test_variables_are_looked_up_at_their_own_level(world: World) -> None:
    cohort, _ = world
    scans = cohort.scans("TINY").iloc[::-1].reset_index(drop=True)
    found = scan_variable(cohort, scans, "XRKL")
    assert found is not None
    joints = cohort.table("joints").set_index(["subject_id", "laterality", "visit"])["XRKL"]
    keys = zip(scans["subject_id"], scans["laterality"], scans["visit"], strict=True)
    assert list(found) == [joints[key] for key in keys]
    site = scan_variable(cohort, scans, "SITE")
    assert site is not None
    letters = cohort.table("subjects").set_index("subject_id")["SITE"][scans["subject_id"]]
    assert list(site) == ["AB".index(letter) for letter in letters]
    assert scan_variable(cohort, scans, "NONE") is None


def test_unknown_cells_are_no_numbers(world: World) -> None:
    cohort, _ = world
    scans = pd.DataFrame({"subject_id": ["s00", "zz"], "laterality": "L", "visit": "V00"})
    for name in ("XRKL", "SITE"):
        found = scan_variable(cohort, scans, name)
        assert found is not None
        assert list(np.isfinite(found)) == [True, False]


def first_visits(world: World, name: str) -> npt.NDArray[np.int64]:
    cohort, split = world
    scans = cohort.scans("TINY")
    chosen = scans["subject_id"].isin(split.subjects(name)) & (scans["visit"] == "V00")
    rows: npt.NDArray[np.int64] = np.flatnonzero(chosen)
    return rows


def test_a_measurement_is_its_parts_and_leaves_the_encoder_alone(
    world: World, make_config: Callable[..., PretrainConfig]
) -> None:
    cohort, split = world
    torch.manual_seed(0)
    encoder = build_encoder(make_config().encoder, (8, 16, 16)).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    figures = Monitor(cohort, split, "TINY", RULE, MonitorConfig()).measure(encoder)
    assert encoder.training
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    source = ScanSource(cohort, "TINY", split, ("train", "val"))
    fit, val = first_visits(world, "train"), first_visits(world, "val")
    x_fit = embed_rows(encoder, source, fit, RULE).astype(np.float64)
    x_val = embed_rows(encoder, source, val, RULE)
    assert figures["rankme"] == pytest.approx(rankme(torch.from_numpy(x_val)))
    x_val64 = x_val.astype(np.float64)
    for name in ("XRKL", "WOMKP"):
        y = scan_variable(cohort, source.scans, name)
        assert y is not None
        assert figures[f"r2_{name}"] == pytest.approx(ridge_r2(x_fit, y[fit], x_val64, y[val]))
    site = scan_variable(cohort, source.scans, "SITE")
    assert site is not None
    expected = knn_accuracy(x_fit, site[fit], x_val64, site[val])
    assert (figures["knn_SITE"], figures["knn_SITE_chance"]) == expected


def test_too_few_validation_scans_give_the_rank_of_training_scans_alone(
    world: World, make_config: Callable[..., PretrainConfig]
) -> None:
    cohort, split = world
    frame = split.frame.copy()
    frame.loc[(frame["set"] == "val") & (frame["subject_id"] != "s02"), "set"] = "test"
    torch.manual_seed(0)
    encoder = build_encoder(make_config().encoder, (8, 16, 16))
    monitor = Monitor(cohort, Split(frame=frame, hash=""), "TINY", RULE, MonitorConfig())
    figures = monitor.measure(encoder)
    source = ScanSource(cohort, "TINY", split)
    seen = embed_rows(encoder, source, first_visits(world, "train"), RULE)
    assert dict(figures) == {"rankme": pytest.approx(rankme(torch.from_numpy(seen)))}
