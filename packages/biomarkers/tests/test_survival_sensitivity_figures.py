import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.survival_sensitivity import (
    censoring_weights,
    delta_adjusted_curve,
    e_value_curve,
    imputed_against_observed,
    pain_discordance,
    time_varying_effect,
)
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.discordance import residual_pain
from spinmark_biomarkers.survival.hazards import PiecewiseHazard
from spinmark_biomarkers.survival.sensitivity.e_value import risk_ratio_e_value
from spinmark_biomarkers.survival.sensitivity.informative_censoring import delta_adjusted
from spinmark_biomarkers.survival.sensitivity.ipcw import fit_censoring, ipcw_rows
from spinmark_biomarkers.survival.sensitivity.proportional_hazards import piecewise_effects


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    n = 600
    one, two = rng.normal(size=n), np.repeat(rng.normal(size=n // 2), 2)
    event = rng.exponential(1 / (0.06 * np.exp(0.25 * one + 0.8 * two)))
    left = np.repeat(rng.exponential(10, n // 2), 2) * np.exp(-0.8 * two)
    time = np.minimum(np.minimum(event, left), 10)
    cause = (event <= time).astype(np.int64)
    subject = np.repeat([str(1000000 + i) for i in range(n // 2)], 2).astype(object)
    return SurvivalData(
        ids=np.array([f"{s}:{'RL'[i % 2]}" for i, s in enumerate(subject)], dtype=object),
        subject_ids=subject, covariates=np.column_stack([one, two]), names=("one", "two"),
        lower=time, upper=np.where(cause == 0, np.inf, time), cause=cause, weight=np.ones(n),
    )  # fmt: skip


def drawn(figure, name):
    figure.savefig(io.BytesIO(), format="png", dpi=60)
    if SHOW:
        figure.savefig(f"/tmp/f_{name}.png", dpi=110)
    return [a for a in figure.axes if a.get_visible()]


SHOW = False


def test_delta(data):
    hazard = PiecewiseHazard(
        linear=np.tile(data.covariates @ [0.25, 0.8], (5, 1)),
        log_hazard=np.full((5, 1), np.log(0.06)), breaks=np.zeros(1), theta=np.zeros(5),
    )  # fmt: skip
    found = delta_adjusted(data, hazard, end_years=10.0, deltas=(-1, 0, 1))
    axes = drawn(delta_adjusted_curve(found), "delta")
    assert [a.get_title() for a in axes] == ["one", "two"]
    np.testing.assert_array_equal(axes[0].lines[0].get_ydata(), found.value[:, 0])
    tipped = replace(
        found, low=found.value - 2 * np.abs(found.deltas)[:, None], high=found.value + 1
    )
    axes = drawn(delta_adjusted_curve(tipped), "delta2")
    assert any("tips at" in t.get_text() for a in axes for t in a.texts)


def test_time_varying(data):
    found = piecewise_effects(data, "one")
    (axes,) = drawn(time_varying_effect(found), "time")
    assert len(axes.lines) == 6
    assert "events" in axes.texts[0].get_text()
    assert axes.get_ylim()[0] < found.interval.min() < found.interval.max() < axes.get_ylim()[1]


def test_weights(data):
    rows = ipcw_rows(data, fit_censoring(data, end_years=10.0))
    (axes,) = drawn(censoring_weights(rows), "weights")
    assert axes.lines[0].get_ydata()[0] == pytest.approx(
        np.median(rows.weight[rows.data.start == 0])
    )


def test_imputed():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(200, 4)), columns=["KL", "BMI", "AGE", "PAIN"])
    gaps = frame.mask(rng.random(frame.shape) < [0.3, 0.2, 0, 0.1])
    axes = drawn(imputed_against_observed(gaps, [gaps.fillna(0.5), frame]), "imputed")
    assert [a.get_title().split(":")[0] for a in axes] == ["KL", "BMI", "PAIN"]
    with pytest.raises(InputError, match="nothing was missing"):
        imputed_against_observed(frame, [frame])


def test_e_value():
    (axes,) = drawn(e_value_curve(risk_ratio_e_value(3.9, 1.8, 8.7), what="the effect"), "evalue")
    assert {t.get_text() for t in axes.texts} == {"7.26", "3.00"}
    # Every point of the curve has the estimate as its bounding factor.
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(x * y / (x + y - 1), 3.9, rtol=1e-9)
    (axes,) = drawn(e_value_curve(risk_ratio_e_value(0.5)), "evalue2")
    assert len(axes.lines) == 2


def test_pain():
    rng = np.random.default_rng(2)
    kl = rng.integers(0, 5, 600).astype(float)
    pain = pd.Series(np.clip(np.round(kl + 2 * rng.normal(size=600)), 0, None))
    found = residual_pain(pain, kl, np.repeat(np.arange(300), 2).astype(str))
    (axes,) = drawn(pain_discordance(found), "pain")
    assert sum(len(line.get_xdata()) for line in axes.lines[:4]) == 600
