import io

import numpy as np
import pandas as pd
import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.calibration import calibration_curve
from spinmark_biomarkers.evaluation.d_calibration import d_calibration
from spinmark_biomarkers.evaluation.decision import decision_curves
from spinmark_biomarkers.evaluation.predictions import evaluate_predictions
from spinmark_biomarkers.figures.survival_metrics import (
    calibration_plot,
    d_calibration_plot,
    decision_curve,
    score_over_time,
)

from .survival_metric_cases import simulated

GRID = np.arange(0.0, 11.0)


@pytest.fixture(scope="module")
def rows():
    time, cause, _, x, truth = simulated(300, 1)
    return time, cause, x, truth(GRID), np.repeat(np.arange(150), 2)


def drawn(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.tell() > 5000
    return figure.axes


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_calibration(rows):
    time, cause, _, p, ids = rows
    curves = {
        name: calibration_curve(time, cause, q, 8, ids, draws=5, points=9)
        for name, q in (("model", p[:, 8]), ("half", p[:, 8] / 2))
    }
    upper, lower = drawn(calibration_plot(curves))
    assert labels(upper) == ["model", "half", "perfect"]
    np.testing.assert_array_equal(upper.lines[0].get_ydata(), curves["model"].observed)
    assert lower.get_xlabel() == "predicted risk"
    with pytest.raises(InputError, match="none given"):
        calibration_plot({})


def test_decision(rows):
    time, cause, _, p, ids = rows
    table = decision_curves(time, cause, {"model": p[:, 8]}, 8, ids, draws=5)
    (axes,) = drawn(decision_curve(table, horizon=8))
    assert labels(axes) == ["model", "treat all", "treat none"]
    mine = table[table["model"] == "model"]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), mine["net_benefit"])


def test_scores_over_time(rows):
    time, cause, x, p, ids = rows
    flat = np.tile(p.mean(axis=0), (300, 1))
    table = pd.concat(
        evaluate_predictions(
            time,
            cause,
            q,
            GRID,
            r,
            ids,
            model=m,
            horizons=[8, 4, 6],
            metrics=("auc", "brier"),
            draws=5,
        )
        for m, q, r in (("model", p, x), ("population", flat, 0 * x))
    )
    (axes,) = drawn(score_over_time(table, "brier", reference="population"))
    assert labels(axes) == ["model", "population"]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [4, 6, 8])
    assert len(axes.collections) == 1  # one band: the reference has none
    (axes,) = drawn(score_over_time(table, "auc"))
    assert axes.get_ylabel().startswith("AUC")
    with pytest.raises(InputError, match=r"metric: 'bries'; the table holds auc,"):
        score_over_time(table, "bries")


def test_d_calibration(rows):
    time, cause, _, p, ids = rows
    found = d_calibration(time, cause, p, GRID, ids, horizon=8)
    (axes,) = drawn(d_calibration_plot(found))
    assert len(axes.patches) == 10
    assert f"{found.n_events} events" in axes.get_title()
    few = d_calibration(time[:8], cause[:8], p[:8], GRID, ids[:8], horizon=8)
    assert "too few" in drawn(d_calibration_plot(few))[0].get_title()
