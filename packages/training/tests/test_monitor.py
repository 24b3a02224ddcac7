import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import IntensityRule
from spinmark_models.encoders import build_encoder
from spinmark_models.health import alignment, lidar, rankme, spread, uniformity
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.config import MonitorConfig, PretrainConfig
from spinmark_training.embed import embed_rows
from spinmark_training.errors import InputError
from spinmark_training.monitor import Monitor, knn_accuracy, ridge_r2, scan_variable
from spinmark_training.probes.linear import auc, balanced_accuracy, class_scores, linear_accuracy
from spinmark_training.probes.neighbours import knn_r2
from spinmark_training.probes.targets import find_target
from spinmark_training.sources import ScanSource
from spinmark_training.views import random_views

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


@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_average_as_those_of_a_peer(k: int) -> None:
    rng = np.random.default_rng(k)
    x = rng.normal(2, 1, (120, 6))
    y = x @ rng.normal(size=6) + rng.normal(size=120)
    centre = x[:80].mean(0)
    peer = KNeighborsRegressor(k, metric="cosine").fit(x[:80] - centre, y[:80])
    residual = ((y[80:] - peer.predict(x[80:] - centre)) ** 2).sum()
    expected = 1 - residual / ((y[80:] - y[:80].mean()) ** 2).sum()
    assert knn_r2(x[:80], y[:80], x[80:], y[80:], k) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("n", "p", "classes"), [(90, 6, 2), (90, 6, 3), (40, 60, 2)])
def test_the_linear_classifier_is_that_of_a_peer(n: int, p: int, classes: int) -> None:
    rng = np.random.default_rng(n + p + classes)
    chance = np.array([0.7, 0.2, 0.1])[:classes]
    y = rng.choice(classes, n + 60, p=chance / chance.sum()).astype(float) + 3
    x = rng.normal(size=(n + 60, p)) + 0.4 * y[:, None] * rng.normal(size=p)
    mean, sd = x[:n].mean(0), x[:n].std(0)
    a, b = (x[:n] - mean) / sd, (x[n:] - mean) / sd
    weight = n / classes / np.array([(y[:n] == label).sum() for label in y[:n]])
    centred = (a - np.average(a, axis=0, weights=weight)) * np.sqrt(weight)[:, None]
    alpha = (centred**2).sum() / min(n, p)
    peer = RidgeClassifier(alpha=alpha, class_weight="balanced").fit(a, y[:n])
    labels, scores = class_scores(x[:n], y[:n], x[n:])
    theirs = peer.decision_function(b)
    np.testing.assert_allclose(scores[:, 1] if classes == 2 else scores, theirs, atol=1e-8)
    balanced, guess, area = linear_accuracy(x[:n], y[:n], x[n:], y[n:])
    said = labels[scores.argmax(1)]
    assert balanced == pytest.approx(balanced_accuracy_score(y[n:], said))
    assert guess == pytest.approx(1 / classes)
    if classes == 2:
        assert area == pytest.approx(roc_auc_score(y[n:] == 4, theirs))
    else:
        assert area is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=30))
def test_the_area_counts_pairs(cases: list[tuple[bool, int]]) -> None:
    positive = np.array([case[0] for case in cases])
    score = np.array([float(case[1]) for case in cases])
    pairs = [np.sign(a - b) / 2 + 0.5 for a in score[positive] for b in score[~positive]]
    found = auc(positive, score)
    assert math.isnan(found) if not pairs else found == pytest.approx(np.mean(pairs))


def test_a_constant_answer_gains_nothing_by_a_rare_class() -> None:
    truth = np.array([0.0] * 9 + [1.0])
    assert balanced_accuracy(truth, np.zeros(10)) == 0.5


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


def test_text_and_two_values_are_classes_and_grades_are_numbers(world: World) -> None:
    cohort, _ = world
    scans = cohort.scans("TINY")
    found = {name: find_target(cohort, scans, name) for name in ("XRKL", "WOMKP", "SITE")}
    kinds = {name: target.classes for name, target in found.items() if target is not None}
    assert kinds == {"XRKL": False, "WOMKP": False, "SITE": True}
    assert find_target(cohort, scans, "NONE") is None


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
        known = (x_fit, y[fit], x_val64, y[val])
        assert figures[f"r2_{name}"] == pytest.approx(ridge_r2(*known))
        assert figures[f"knn_r2_{name}"] == pytest.approx(knn_r2(*known))
    site = scan_variable(cohort, source.scans, "SITE")
    assert site is not None
    expected = knn_accuracy(x_fit, site[fit], x_val64, site[val])
    assert (figures["knn_SITE"], figures["knn_SITE_chance"]) == expected
    # All training subjects of this cohort are of one site: there is no line to draw.
    assert not {"linear_SITE", "auc_SITE"} & set(figures)
    assert figures["embedding_sd_val"] == pytest.approx(float(spread(torch.from_numpy(x_val))))
    # No views can be drawn: what needs them is not measured.
    assert not {"lidar", "alignment_val", "uniformity_val"} & set(figures)


def test_classes_are_probed_by_a_linear_classifier_too(
    world: World, make_config: Callable[..., PretrainConfig]
) -> None:
    cohort, split = world
    frame = split.frame.assign(set=["train", "val"] * (len(split.frame) // 2))
    split = Split(frame=frame, hash="")
    torch.manual_seed(0)
    encoder = build_encoder(make_config().encoder, (8, 16, 16))
    figures = Monitor(cohort, split, "TINY", RULE, MonitorConfig(variables=())).measure(encoder)
    source = ScanSource(cohort, "TINY", split, ("train", "val"))
    parts = []
    site = scan_variable(cohort, source.scans, "SITE")
    assert site is not None
    for name in ("train", "val"):
        rows = first_visits((cohort, split), name)
        parts += [embed_rows(encoder, source, rows, RULE).astype(np.float64), site[rows]]
    expected = linear_accuracy(*parts)
    found = (figures["linear_SITE"], figures["linear_SITE_chance"], figures["auc_SITE"])
    assert found == pytest.approx(expected)
    assert expected[1] == 0.5


def draw(source: ScanSource, rows: npt.NDArray[np.int64], part: int) -> torch.Tensor:
    return random_views(source, rows, AugmentConfig(), RULE, key=(5, part))


def test_views_are_measured_on_validation_joints_and_alike_each_time(
    world: World, make_config: Callable[..., PretrainConfig]
) -> None:
    cohort, split = world
    torch.manual_seed(0)
    encoder = build_encoder(make_config().encoder, (8, 16, 16)).train()
    config = MonitorConfig(variables=(), leakage=None, lidar_scans=8, lidar_views=5)
    monitor = Monitor(cohort, split, "TINY", RULE, config, draw=draw)
    state = torch.get_rng_state()
    figures = monitor.measure(encoder)
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.training
    assert dict(monitor.measure(encoder)) == dict(figures)
    assert set(figures) == {
        "rankme",
        "embedding_sd_val",
        "lidar",
        "alignment_val",
        "uniformity_val",
    }
    source = ScanSource(cohort, "TINY", split, ("val",))
    rows = first_visits(world, "val")[:8]
    views = torch.cat(
        [
            draw(source, np.repeat(rows[:4], 5), 0),
            draw(source, np.repeat(rows[4:], 5), 1),
        ]
    )
    with torch.inference_mode():
        x = encoder.eval()(views).embedding.double().reshape(8, 5, -1)
    assert figures["lidar"] == pytest.approx(lidar(x), rel=1e-4)
    assert figures["alignment_val"] == pytest.approx(float(alignment(x[:, 0], x[:, 1])), rel=1e-4)
    assert figures["uniformity_val"] == pytest.approx(float(uniformity(x[:, 0])), rel=1e-4)


def test_one_view_gives_no_lidar(world: World) -> None:
    cohort, split = world
    with pytest.raises(InputError, match=r"monitor\.lidar_views: 1"):
        Monitor(cohort, split, "TINY", RULE, MonitorConfig(lidar_views=1))


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
    assert dict(figures) == {
        "rankme": pytest.approx(rankme(torch.from_numpy(seen))),
        "embedding_sd_val": pytest.approx(float(spread(torch.from_numpy(seen)))),
    }
