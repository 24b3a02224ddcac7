import numpy as np
import pandas as pd
import pytest

from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.design import Design
from spinmark_biomarkers.survival.hazards import PiecewiseHazard
from spinmark_biomarkers.survival.models import Cox, PiecewiseExponential
from spinmark_biomarkers.survival.prediction.explain import explain
from spinmark_biomarkers.survival.prediction.incidence import incidence
from spinmark_biomarkers.survival.prediction.predictor import Given, RiskPredictor

SMALL = SamplerConfig(tune=300, draws=300)
THETA, BETA, RATE, DEATH = 0.8, np.array([0.7, -0.4]), 0.05, 0.02


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(4)
    n = 500
    subject = np.repeat([f"{1000001 + k}" for k in range(n)], 2)
    joints = np.array([f"{s}:{side}" for s, side in zip(subject, "LR" * n, strict=True)], object)
    w = np.repeat(rng.gamma(1 / THETA, THETA, n), 2)
    x = rng.normal(size=(2 * n, 2))
    event = rng.exponential(1 / (w * RATE * np.exp(x @ BETA)))
    death = np.repeat(rng.exponential(1 / DEATH, n), 2)
    time = np.minimum(np.minimum(event, death), 10.0)
    cause = np.select([event <= time, death <= time], [1, 2], 0)
    data = SurvivalData(
        ids=joints, subject_ids=subject.astype(object), covariates=x, names=("one", "two"),
        lower=time, upper=np.where(cause == 0, np.inf, time), cause=cause.astype(np.int64),
        weight=np.ones(2 * n),
    )  # fmt: skip
    frame = pd.DataFrame(x, index=joints, columns=["one", "two"])
    blocks = {"one": "clinical", "two": "embedding"}
    empty = pd.DataFrame(index=joints)
    designs = {
        "event": Design(frame=frame, blocks=blocks),
        "death": Design(frame=empty, blocks={}),
    }
    return data, designs


def truth(x, theta, times, landmark=0.0):
    n = len(x)
    event = PiecewiseHazard((x @ BETA)[None], np.log([[RATE]]), np.zeros(1), np.array([theta]))
    death = PiecewiseHazard(np.zeros((1, n)), np.log([[DEATH]]), np.zeros(1), np.zeros(1))
    return incidence({"event": event, "death": death}, times, landmark=landmark)[:, 0]


@pytest.mark.slow
def test_fitted_models_recover_the_true_risk(cohort):
    data, designs = cohort
    death = PiecewiseExponential(frailty="none", sampler=SMALL).fit(
        data.deaths().with_covariates(np.zeros((500, 0)), ())
    )
    event = PiecewiseExponential(sampler=SMALL).fit(data)
    predictor = RiskPredictor(models={"event": event, "death": death}, follow_up=data)
    times = np.array([4.0, 9.0])
    for landmark in (0.0, 1.0):
        found = predictor.summary(designs, times, given=Given(landmark=landmark))
        expected = truth(data.covariates, THETA, times, landmark)
        low, high = found["quantiles"][..., 0], found["quantiles"][..., -1]
        inside = ((low <= expected) & (expected <= high)).to_numpy()
        # Joints share the draws, so this is no count of independent intervals.
        assert inside.mean() > 0.8
        assert float(np.abs(found["mean"] - expected).mean()) < 0.02
    free = data.ids[(data.lower > 3)].tolist()
    given = Given(landmark=3.0, outcomes=data)
    conditioned = predictor.summary(designs, [6.0], joints=free, given=given)["mean"]
    seen = (data.event & (data.time <= 9.0))[data.lower > 3]
    p = conditioned.sel(cause="event").isel(time=0).to_numpy()
    assert p.mean() == pytest.approx(seen.mean(), abs=0.04)
    plain = predictor.summary(designs, [6.0], joints=free, given=Given(landmark=3.0))["mean"]
    q = plain.sel(cause="event").isel(time=0).to_numpy()
    # Of the joints still free, those whose person had an event are told apart by the other joint.
    assert ((seen - p) ** 2).mean() < ((seen - q) ** 2).mean()
    parts = explain(predictor, designs, 9.0, joints=[str(data.ids[0])])
    total = parts["risk_contribution"].sum("block") + parts["reference_risk"]
    np.testing.assert_allclose(total, parts["risk"], atol=1e-12)


@pytest.mark.slow
def test_a_cox_model_predicts_beside_a_piecewise_death(cohort):
    data, designs = cohort
    death = PiecewiseExponential(frailty="none", sampler=SMALL).fit(
        data.deaths().with_covariates(np.zeros((500, 0)), ())
    )
    cox = Cox(sampler=SMALL).fit(data)
    predictor = RiskPredictor(models={"event": cox, "death": death}, follow_up=data)
    found = predictor.summary(designs, [4.0, 9.0])["mean"].sel(cause="event")
    expected = truth(data.covariates, THETA, np.array([4.0, 9.0]))[0]
    # Cox's proportional hazards are wrong here, since the frailty makes them converge; on average it fits.
    assert float(found.mean()) == pytest.approx(expected.mean(), abs=0.03)
    assert np.corrcoef(found.isel(time=1), expected[:, 1])[0, 1] > 0.95
