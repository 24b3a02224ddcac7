import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import integrate
from scipy.optimize import minimize

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.survival import (
    calibration,
    concordance_forest,
    incidence_by_group,
)
from spinmark_biomarkers.survival.config import PrognoseConfig, SamplerConfig
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.diagnostics import diagnose
from spinmark_biomarkers.survival.hazards import PiecewiseHazard
from spinmark_biomarkers.survival.likelihoods import LIKELIHOODS, interval_breaks
from spinmark_biomarkers.survival.models import PiecewiseExponential
from spinmark_biomarkers.survival.prediction.follow_up import is_extrapolation
from spinmark_biomarkers.survival.prediction.incidence import incidence
from spinmark_biomarkers.survival.prognosis import METRICS, prognose
from spinmark_biomarkers.survival.store import read_prognosis, write_prognosis

SMALL = SamplerConfig(tune=400, draws=400)
YEAR = 365.25


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(5)
    s = 300
    subject = np.repeat([f"s{i:03d}" for i in range(s)], 2)
    joint = [f"{a}:{b}" for a, b in zip(subject, "RL" * s, strict=True)]
    frailty = np.repeat(rng.gamma(1 / 0.8, 0.8, s), 2)
    z, age = rng.normal(size=(2 * s, 2)), np.repeat(rng.normal(size=s), 2)
    event = rng.exponential(1 / (0.06 * frailty * np.exp(0.6 * z[:, 0] - 0.4 * z[:, 1])))
    death = np.repeat(rng.exponential(1 / (0.015 * np.exp(0.5 * age[::2]))), 2)
    time = np.minimum(np.minimum(event, death), 10.0)
    cause = np.select([event <= time, death <= time], ["event", "death"], "censored")
    outcomes = pd.DataFrame(
        {
            "joint_id": joint, "subject_id": subject, "endpoint": "replacement", "entry": 0.0,
            "lower": time * YEAR, "upper": np.where(cause == "censored", np.inf, time * YEAR),
            "cause": cause, "weight": 1.0,
        }
    )  # fmt: skip
    x = pd.DataFrame({"one": z[:, 0], "two": z[:, 1], "AGE": age}, index=joint)
    sets = pd.Series(
        np.where(np.arange(s) % 4 == 0, "test", "train"), index=[f"s{i:03d}" for i in range(s)]
    )
    return outcomes, x, sets


def simulated(seed):
    rng = np.random.default_rng(seed)
    s = 300
    frailty = np.repeat(rng.gamma(1 / 0.8, 0.8, s), 2)
    z = rng.normal(size=(2 * s, 2))
    event = rng.exponential(1 / (0.06 * frailty * np.exp(z @ [0.6, -0.4])))
    time = np.minimum(event, 10.0)
    cause = (event <= time).astype(np.int64)
    return SurvivalData(
        ids=np.arange(2 * s).astype(object),
        subject_ids=np.repeat(np.arange(s), 2).astype(str).astype(object),
        covariates=z, names=("one", "two"), lower=time,
        upper=np.where(cause == 0, np.inf, time), cause=cause, weight=np.ones(2 * s),
    )  # fmt: skip


def maximum(data, intervals=6):
    family = LIKELIHOODS["piecewise"]
    arrays = family.arrays(data, breaks=interval_breaks(data, intervals))
    p = data.covariates.shape[1]

    def negative(v):
        return -family.log_likelihood(arrays, v[:p], {"log_hazard": v[p:-1]}, np.exp(v[-1]))

    start = np.r_[np.zeros(p), np.full(intervals, -3.0), -0.5]
    best = minimize(negative, start, method="BFGS", options={"gtol": 1e-2})
    return np.r_[best.x[:p], np.exp(best.x[-1])], np.sqrt(np.diag(best.hess_inv)[:p])


def drawn(model, name):
    """Draws of a variable, the chains one after another."""
    values = model.posterior_[name].to_numpy()
    return values.reshape(-1, *values.shape[2:])


def test_many_simulations_give_back_the_truth():
    found = [maximum(simulated(seed)) for seed in range(24)]
    values, errors = np.array([f[0] for f in found]), np.array([f[1] for f in found])
    standard = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(axis=0) - [0.6, -0.4, 0.8]) < 3 * standard)
    covered = np.abs(values[:, :2] - [0.6, -0.4]) < 1.96 * errors
    # 48 intervals at 95 %: fewer than 40 covering has a chance below one in a thousand.
    assert covered.sum() >= 40


def test_the_posterior_agrees_with_the_maximum_and_repeats():
    data = simulated(0)
    model = PiecewiseExponential(frailty="gamma", sampler=SMALL).fit(data)
    beta, theta = drawn(model, "beta"), drawn(model, "frailty_variance")
    best, error = maximum(data)
    assert np.all(np.abs(beta.mean(axis=0) - best[:2]) < 0.5 * error)
    np.testing.assert_allclose(beta.std(axis=0), error, rtol=0.25)
    low, high = np.quantile(theta, [0.1, 0.9])
    assert low < best[2] < high
    assert model.diagnostics_.rhat < 1.05
    again = PiecewiseExponential(frailty="gamma", sampler=SMALL).fit(data)
    xr.testing.assert_identical(model.posterior_, again.posterior_)
    without = PiecewiseExponential(sampler=SMALL, frailty="none").fit(data)
    assert np.all(np.abs(drawn(without, "beta").mean(axis=0)) < np.abs(beta.mean(axis=0)))


@pytest.fixture(scope="module")
def prognosis(cohort):
    outcomes, x, sets = cohort
    designs = {"clinical": x[["one", "AGE"]], "both": x}
    config = PrognoseConfig(sampler=SMALL, bootstrap=30, cif_draws=60)
    return prognose(outcomes, designs, sets, config)


def test_prognosis_scores_and_writes(prognosis, tmp_path):
    p = prognosis
    assert tuple(p.metrics.columns) == METRICS
    c = p.metrics[p.metrics["metric"] == "c_index"].set_index("model")["value"]
    assert c["both"] > c["clinical"] > 0.55
    assert np.isfinite(p.metrics["value"].to_numpy()).all()
    cif = p.cif["cif"]
    assert float(cif.min()) >= 0
    assert float(cif.sel(quantile=0.5).diff("time").min()) >= 0
    write_prognosis(tmp_path, p)
    back = read_prognosis(tmp_path)
    assert set(back.posteriors) == {"clinical", "both", "death"} == set(back.diagnostics)
    np.testing.assert_array_equal(back.cif["cif"], cif)
    np.testing.assert_array_equal(back.mean, p.mean)
    np.testing.assert_array_equal(back.posteriors["both"]["beta"], p.posteriors["both"]["beta"])
    pd.testing.assert_frame_equal(back.metrics, p.metrics)
    pd.testing.assert_frame_equal(back.risk, p.risk, check_names=False)
    (tmp_path / "risk.parquet").unlink()
    with pytest.raises(InputError, match=r"no risk\.parquet"):
        read_prognosis(tmp_path)


def test_death_needs_no_covariates_and_blocks_have_their_own_scale(cohort, tmp_path):
    outcomes, x, sets = cohort
    rng = np.random.default_rng(1)
    measures = x[["one", "two"]].to_numpy() @ rng.normal(size=(2, 12))
    measures[rng.random(measures.shape) < 0.05] = np.nan
    block = pd.DataFrame(measures, index=x.index).add_prefix("morphometry_")
    config = PrognoseConfig(
        sampler=SamplerConfig(tune=50, draws=50), bootstrap=10, morphometry_components=2
    )
    p = prognose(outcomes, {"morphometry": block}, sets, config)
    names = ["morphometry_pc1", "morphometry_pc2", "morphometry_missing"]
    assert p.posteriors["morphometry"]["covariate"].to_numpy().tolist() == names
    assert p.posteriors["morphometry"]["block"].to_numpy().tolist() == ["morphometry"]
    assert p.posteriors["death"].sizes["covariate"] == 0
    assert np.isfinite(p.mean).all()
    write_prognosis(tmp_path, p)
    back = read_prognosis(tmp_path)
    xr.testing.assert_equal(back.posteriors["death"]["beta"], p.posteriors["death"]["beta"])


def test_figures_are_drawn(prognosis, cohort, tmp_path):
    outcomes, x, sets = cohort
    test = SurvivalData.from_outcomes(outcomes, x, sets.index[sets == "test"])
    groups = pd.Series(np.where(x["one"] > 0, "high", "low"), index=x.index)
    for k, figure in enumerate(
        [
            incidence_by_group(prognosis, test, groups, model="both"),
            concordance_forest(prognosis.metrics),
            calibration(prognosis, test, model="both", horizon_years=8.0),
        ]
    ):
        figure.savefig(tmp_path / f"{k}.png")
        assert (tmp_path / f"{k}.png").stat().st_size > 5000


def test_bad_calls_are_refused(cohort):
    outcomes, x, sets = cohort
    with pytest.raises(InputError, match="endpoint: 'hip'"):
        prognose(outcomes, {"a": x}, sets, PrognoseConfig(endpoint="hip"))
    with pytest.raises(InputError, match="no absolute risk"):
        prognose(outcomes, {"a": x}, sets, PrognoseConfig(case_control=True))
    with pytest.raises(InputError, match="in no set"):
        prognose(outcomes, {"a": x}, sets.iloc[:-1])
    with pytest.raises(InputError, match="both fit and test"):
        prognose(outcomes, {"a": x}, pd.concat([sets, sets.iloc[:1]]))
    with pytest.raises(InputError, match="immortal"):
        prognose(outcomes, {"a": x}, sets, known_at=pd.Series(9.0, index=x.index))


@pytest.mark.parametrize("theta", [0.0, 0.8, 2.5])
def test_incidence_equals_numerical_integration(theta):
    breaks, rate, m = np.array([0.0, 3.0, 6.0]), np.array([0.05, 0.2, 0.1]), 0.04
    event = PiecewiseHazard(
        linear=np.array([[0.7]]), log_hazard=np.log(rate)[None], breaks=breaks,
        theta=np.array([theta]),
    )  # fmt: skip
    death = PiecewiseHazard(
        linear=np.zeros((1, 1)), log_hazard=np.log([[m]]), breaks=np.zeros(1), theta=np.zeros(1)
    )
    times = np.array([0.0, 2.0, 8.0, 10.0])
    one, two = incidence({"event": event, "death": death}, times)

    def density(t):
        a = np.exp(0.7) * (np.clip(t - breaks, 0, [3, 3, np.inf]) @ rate)
        h = np.exp(0.7) * rate[np.searchsorted(breaks, t, side="right") - 1]
        s = np.exp(-a) if theta == 0 else (1 + theta * a) ** (-1 / theta - 1)
        return h * s * np.exp(-m * t)

    for k, t in enumerate(times):
        expected, _ = integrate.quad(density, 0, t, points=[3, 6], limit=200) if t else (0.0, 0)
        assert one[0, 0, k] == pytest.approx(expected, abs=1e-6)
    neither = np.exp(-event.cumulative(times) - death.cumulative(times))
    np.testing.assert_allclose(one + two + neither, 1, atol=1e-12)


def test_chains_that_disagree_are_called_bad():
    rng = np.random.default_rng(0)
    apart = rng.normal(size=(2, 500)) + np.array([[0.0], [5.0]])
    bad = diagnose(xr.Dataset({"b": (("chain", "draw"), apart)}), 0)
    assert bad.verdict.startswith("bad")
    good = diagnose(xr.Dataset({"b": (("chain", "draw"), rng.normal(size=(2, 500)))}), 0)
    assert good.verdict.startswith("good")
    torn = diagnose(xr.Dataset({"b": (("chain", "draw"), rng.normal(size=(2, 500)))}), 200)
    assert torn.verdict.startswith("bad")


def test_a_horizon_past_the_follow_up_is_labelled_or_refused(cohort):
    outcomes, x, _ = cohort
    data = SurvivalData.from_outcomes(outcomes, x)
    assert not is_extrapolation(data, 8.0, min_at_risk=10, allow=False)
    assert is_extrapolation(data, 12.0, min_at_risk=10, allow=True)
    with pytest.raises(InputError, match="0 joints remain at risk"):
        is_extrapolation(data, 12.0, min_at_risk=10, allow=False)
