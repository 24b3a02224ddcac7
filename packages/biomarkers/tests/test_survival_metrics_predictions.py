import time as clock

import numpy as np
import pandas as pd
import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.auc import cumulative_dynamic_auc
from spinmark_biomarkers.evaluation.bootstrap import subject_bootstrap
from spinmark_biomarkers.evaluation.brier import (
    brier_scores,
    integrated_brier,
    prediction_accuracy,
)
from spinmark_biomarkers.evaluation.calibration import calibration_figures
from spinmark_biomarkers.evaluation.censoring import CensoringSurvival
from spinmark_biomarkers.evaluation.concordance import (
    competing_c,
    concordance_interval,
    harrell_c,
    uno_c,
)
from spinmark_biomarkers.evaluation.decision import net_benefit
from spinmark_biomarkers.evaluation.predictions import (
    METRICS,
    Prediction,
    compare_predictions,
    evaluate_predictions,
)
from spinmark_biomarkers.evaluation.time_lost import risk_thirds, time_lost
from spinmark_biomarkers.survival import prognosis

from .survival_metric_cases import simulated

GRID = np.arange(0.0, 11.0)
DAYS = 365.25


def case(n=240, seed=1, **settings):
    time, cause, start, x, truth = simulated(n, seed, **settings)
    ids = np.array([f"S{k // 2}" for k in range(len(time))], dtype=object)
    return time, cause, start, x, truth(GRID), ids


def cell(table, metric, years=None):
    rows = table[table["metric"] == metric]
    if years is not None:
        rows = rows[np.isclose(rows["horizon_days"], years * DAYS)]
    assert len(rows) == 1, metric
    return rows.iloc[0]


@pytest.mark.parametrize("delayed", [False, True])
def test_every_figure_is_that_of_its_function(delayed):
    time, cause, start, x, p, ids = case(delayed=delayed)
    late = start if delayed else None
    weight = np.random.default_rng(0).integers(1, 4, len(time)) / 2
    both = {"weight": weight, "start": late}
    table = evaluate_predictions(
        time, cause, p, GRID, x, ids, horizons=[4, 8], draws=3, model="m", **both
    )
    assert tuple(table.columns) == METRICS == prognosis.METRICS
    assert set(table["model"]) == {"m"}
    assert set(table["n"]) == {len(time)}
    assert not table.duplicated(["metric", "horizon_days"]).any()
    assert cell(table, "c_index")["n_events"] == (cause == 1).sum()
    expected = {"c_index": harrell_c(time, cause == 1, x, **both)}
    for name, value in expected.items():
        assert cell(table, name)["value"] == pytest.approx(value, abs=1e-12)
    for h in (4.0, 8.0):
        q = p[:, int(h)]
        third = risk_thirds(q, weight=weight)
        years = []
        for k in (2, 0):
            mine = third == k
            kept = None if late is None else late[mine]
            years.append(time_lost(time[mine], cause[mine], h, weight=weight[mine], start=kept)[0])
        expected = {
            "c_uno": uno_c(time, cause == 1, x, tau=h, **both),
            "c_competing": competing_c(time, cause, x, tau=h, **both),
            "auc": cumulative_dynamic_auc(time, cause, q, [h], **both)[0],
            "auc_event_free": cumulative_dynamic_auc(
                time, cause, q, [h], controls="event_free", **both
            )[0],
            "brier": brier_scores(time, cause, q, [h], **both)[0],
            "ipa": prediction_accuracy(time, cause, q, [h], **both)[0],
            "net_benefit_at_0.1": net_benefit(time, cause, q, h, [0.1], **both)[0],
            "time_lost_high_less_low": years[0] - years[1],
            **calibration_figures(time, cause, q, h, **both),
        }
        for name, value in expected.items():
            assert cell(table, name, h)["value"] == pytest.approx(value, abs=1e-9), name
        assert cell(table, "brier", h)["n_events"] == ((cause == 1) & (time <= h)).sum()
    whole = integrated_brier(time, cause, p, GRID, **both)
    assert cell(table, "integrated_brier", 10)["value"] == pytest.approx(whole, abs=1e-12)
    # Over the whole grid the accuracy is that of the areas, not the mean of the accuracies.
    null = prediction_accuracy(time, cause, p[:, 1:], GRID[1:], **both)
    scores = brier_scores(time, cause, p, GRID, **both)
    nothing = np.append(0.0, scores[1:] / (1 - null))
    expected_ipa = 1 - np.trapezoid(scores, GRID) / np.trapezoid(nothing, GRID)
    assert cell(table, "integrated_ipa")["value"] == pytest.approx(expected_ipa, abs=1e-9)


def test_intervals_are_those_of_copied_rows():
    time, cause, _, x, p, ids = case()
    table = evaluate_predictions(time, cause, p, GRID, x, ids, horizons=[6], draws=12, seed=4)
    q = p[:, 6]
    by_hand = {
        "c_index": lambda i: harrell_c(time[i], cause[i] == 1, x[i]),
        "c_uno": lambda i: uno_c(time[i], cause[i] == 1, x[i], tau=6),
        "c_competing": lambda i: competing_c(time[i], cause[i], x[i], tau=6),
        "auc": lambda i: cumulative_dynamic_auc(time[i], cause[i], q[i], [6])[0],
        "brier": lambda i: brier_scores(time[i], cause[i], q[i], [6])[0],
        "ipa": lambda i: prediction_accuracy(time[i], cause[i], q[i], [6])[0],
        "net_benefit_at_0.2": lambda i: net_benefit(time[i], cause[i], q[i], 6, [0.2])[0],
        "calibration_slope": lambda i: calibration_figures(time[i], cause[i], q[i], 6)[
            "calibration_slope"
        ],
    }
    for name, statistic in by_hand.items():
        expected = subject_bootstrap(statistic, ids, draws=12, seed=4)
        found = cell(table, name)
        for bound in ("value", "low", "high"):
            assert found[bound] == pytest.approx(getattr(expected, bound), abs=1e-6), name


def test_gains_are_paired_and_point_upwards():
    time, cause, _, x, p, ids = case(400, 3)
    noise = np.random.default_rng(0).normal(size=len(x))
    worse = Prediction(np.clip(p * 0.4, 0, 1), x + 2 * noise, "worse")
    true = Prediction(p, x, "true")
    arguments = {"horizons": [6], "draws": 40, "seed": 2}
    table = compare_predictions(true, worse, time, cause, GRID, ids, **arguments)
    assert set(table["model"]) == {"true"}
    assert table["metric"].str.endswith("_gain_over_worse").all()
    assert not table["metric"].str.contains("slope|intercept|ratio|time_lost").any()
    for name in ("c_index", "brier", "ipa", "integrated_brier", "ici", "c_competing"):
        assert cell(table, f"{name}_gain_over_worse")["value"] > 0, name
    gain = concordance_interval(time, cause == 1, x, ids, against=x + 2 * noise, draws=40, seed=2)
    found = cell(table, "c_index_gain_over_worse")
    assert (found["value"], found["low"], found["high"]) == pytest.approx(
        (gain.value, gain.low, gain.high), abs=1e-12
    )
    back = compare_predictions(worse, true, time, cause, GRID, ids, **arguments)
    np.testing.assert_allclose(back["value"], -table["value"], atol=1e-12)
    np.testing.assert_allclose(back["low"], -table["high"], atol=1e-12)
    itself = compare_predictions(true, true, time, cause, GRID, ids, **arguments)
    np.testing.assert_array_equal(itself[["value", "low", "high"]].to_numpy(float), 0)
    # What both share cancels: a small change is told more sharply than by two figures apart.
    near = Prediction(p, x + 0.2 * noise, "near")
    paired = compare_predictions(true, near, time, cause, GRID, ids, **arguments)
    single = evaluate_predictions(time, cause, p, GRID, x, ids, **arguments)
    width = {
        name: row["high"] - row["low"]
        for name, row in (
            ("paired", cell(paired, "c_index_gain_over_near")),
            ("single", cell(single, "c_index")),
        )
    }
    assert width["paired"] < 0.5 * width["single"]


def test_rows_names_and_scale_do_not_matter():
    time, cause, _, x, p, ids = case()
    arguments = {"horizons": [6], "draws": 5, "seed": 1}
    table = evaluate_predictions(time, cause, p, GRID, x, ids, **arguments)
    order = np.random.default_rng(0).permutation(len(time))
    mixed = evaluate_predictions(
        time[order], cause[order], p[order], GRID, 3 * x[order] + 7, ids[order], **arguments
    )
    pd.testing.assert_frame_equal(table, mixed, rtol=0, atol=1e-6)
    again = evaluate_predictions(time, cause, p, GRID, x, ids, **arguments)
    pd.testing.assert_frame_equal(table, again, rtol=0, atol=0)


def test_horizons_between_times_of_the_grid_and_beyond_the_follow_up():
    time, cause, _, x, p, ids = case()
    line = np.arange(0.0, 21.0)
    straight = np.tile(line / 40, (len(time), 1))
    arguments = {"metrics": ("brier", "calibration"), "draws": 2}
    table = evaluate_predictions(
        time, cause, straight, line, x, ids, horizons=[6.5, 20], **arguments
    )
    expected = brier_scores(time, cause, np.full((len(time), 1), 6.5 / 40), [6.5])[0]
    assert cell(table, "brier", 6.5)["value"] == pytest.approx(expected)
    late = table[np.isclose(table["horizon_days"], 20 * DAYS)]
    assert late[["value", "low", "high"]].isna().all(axis=None)
    with pytest.raises(InputError, match=r"horizons: 12 years; accepted is from 0 to 10"):
        evaluate_predictions(time, cause, p, GRID, x, ids, horizons=[12])


def test_a_model_of_censoring_enters_brier_and_auc():
    time, cause, _, x, p, ids = case(600, 5)
    stays = np.where(time <= 3, 1.0, np.clip((14 - time) / 11, 0.05, 1))
    at = np.where(GRID <= 3, 1.0, (14 - GRID) / 11)
    model = CensoringSurvival(stays, GRID, np.tile(at, (len(time), 1)))
    arguments = {"horizons": [8], "draws": 2}
    known = evaluate_predictions(
        time, cause, p, GRID, x, ids, censoring_survival=model, **arguments
    )
    plain = evaluate_predictions(time, cause, p, GRID, x, ids, **arguments)
    for name in ("brier", "auc", "integrated_brier"):
        a, b = (cell(t, name)["value"] for t in (known, plain))
        assert a != b
        assert a == pytest.approx(b, abs=0.03)


def test_two_hundred_draws_of_nine_thousand_rows_take_seconds():
    time, cause, _, x, p, ids = case(9000, 2)
    arguments = {"horizons": [4, 8], "thresholds": (0.1,)}
    evaluate_predictions(
        time[:99], cause[:99], p[:99], GRID, x[:99], ids[:99], draws=1, **arguments
    )
    begun = clock.process_time()
    evaluate_predictions(time, cause, p, GRID, x, ids, draws=20, **arguments)
    assert clock.process_time() - begun < 3  # 200 draws: under 30 s of one core


@pytest.mark.slow
def test_intervals_cover_the_figure_of_a_large_cohort():
    names = ("c_index", "auc", "brier", "observed_expected_ratio", "net_benefit_at_0.2")
    time, cause, _, x, p, ids = case(60000, 0)
    arguments = {
        "horizons": [6],
        "metrics": ("concordance", "auc", "brier", "calibration", "net_benefit"),
    }
    large = evaluate_predictions(time, cause, p, GRID, x, ids, draws=1, **arguments)
    inside = dict.fromkeys(names, 0)
    runs = 100
    for seed in range(1, runs + 1):
        time, cause, _, x, p, ids = case(500, seed)
        table = evaluate_predictions(time, cause, p, GRID, x, ids, draws=60, level=0.9, **arguments)
        for name in names:
            row = cell(table, name)
            inside[name] += row["low"] <= cell(large, name)["value"] <= row["high"]
    for name in names:  # .9, three standard errors about it
        assert 0.81 <= inside[name] / runs <= 0.98, (name, inside[name] / runs)


def test_bad_input():
    time, cause, _, x, p, ids = case()
    with pytest.raises(InputError, match="metrics: 'c'"):
        evaluate_predictions(time, cause, p, GRID, x, ids, horizons=[4], metrics=("c",))
    with pytest.raises(InputError, match="shape"):
        evaluate_predictions(time, cause, p[:, :3], GRID, x, ids, horizons=[4])
    with pytest.raises(InputError, match="risk of model: nan in row 0"):
        evaluate_predictions(time, cause, p, GRID, x * np.nan, ids, horizons=[4])
    with pytest.raises(InputError, match="draws: 0"):
        evaluate_predictions(time, cause, p, GRID, x, ids, horizons=[4], draws=0)
    with pytest.raises(InputError, match="weight: -1"):
        evaluate_predictions(time, cause, p, GRID, x, ids, horizons=[4], weight=0 * x - 1)
    with pytest.raises(InputError, match="grid"):
        evaluate_predictions(time, cause, p, GRID[::-1], x, ids, horizons=[4])
    with pytest.raises(InputError, match=r"horizons: 0 years; accepted are years above 0"):
        evaluate_predictions(time, cause, p, GRID, x, ids, horizons=[0, 4])
    with pytest.raises(InputError, match=rf"subject_ids: 7 for {len(time)} rows"):
        evaluate_predictions(time, cause, p, GRID, x, ids[:7], horizons=[4])
    with pytest.raises(InputError, match=r"model: the incidence falls with time in row 0, 1"):
        evaluate_predictions(time, cause, p[:, ::-1], GRID, x, ids, horizons=[4])
