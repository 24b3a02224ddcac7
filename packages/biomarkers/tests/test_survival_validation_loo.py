"""Leaving one subject out: against closed forms, and against fits without the subject."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln, logsumexp
from sklearn.base import clone

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.models import PiecewiseExponential
from spinmark_biomarkers.survival.validation.loo import (
    compare_elpd,
    good_k,
    leave_one_subject_out,
    reloo,
)

Floats = npt.NDArray[np.float64]
SHAPE, RATE = 2.0, 20.0
YEARS = 160.0


def people(n: int = 60, seed: int = 0) -> SurvivalData:
    """Two joints a person, one constant hazard, censored at ten years."""
    rng = np.random.default_rng(seed)
    time = rng.exponential(1 / 0.08, 2 * n)
    subject = np.repeat([f"{1000000 + k}" for k in range(n)], 2).astype(object)
    seen = np.minimum(time, 10.0)
    return SurvivalData(
        ids=np.array([f"{s}:{'RL'[k % 2]}" for k, s in enumerate(subject)], dtype=object),
        subject_ids=subject,
        covariates=rng.normal(size=(2 * n, 2)),
        names=("a", "b"),
        lower=seen,
        upper=np.where(time <= 10, seen, np.inf),
        cause=(time <= 10).astype(np.int64),
        weight=np.ones(2 * n),
    )


def totals(data: SurvivalData) -> tuple[npt.NDArray[np.str_], Floats, Floats]:
    names, code = np.unique(data.subject_ids.astype(str), return_inverse=True)
    events = np.bincount(code, data.event, len(names))
    return names, events.astype(float), np.bincount(code, data.time, len(names))


def drawn(data: SurvivalData, draws: int = 4000, seed: int = 1) -> xr.DataArray:
    """Log-likelihoods of subjects under the conjugate posterior of a constant hazard."""
    names, events, years = totals(data)
    rng = np.random.default_rng(seed)
    rate = rng.gamma(SHAPE + events.sum(), 1 / (RATE + years.sum()), draws)
    values = events * np.log(rate)[:, None] - years * rate[:, None]
    return xr.DataArray(values, dims=("draw", "subject"), coords={"subject": names})


def exact(data: SurvivalData) -> Floats:
    """Closed form: the ratio of the gamma integrals with and without the subject."""
    _, events, years = totals(data)
    a, b = SHAPE + events.sum(), RATE + years.sum()
    less_a, less_b = a - events, b - years
    return np.asarray(gammaln(a) - gammaln(less_a) + less_a * np.log(less_b) - a * np.log(b))


def influenced() -> SurvivalData:
    """Everyone has the event, but for one person who is followed for very long without one."""
    data = people()
    event = np.arange(120) >= 2
    lower = np.where(event, data.lower, YEARS)
    return replace(
        data, lower=lower, upper=np.where(event, lower, np.inf), cause=event.astype(np.int64)
    )


def test_every_subject_has_the_closed_form_of_a_conjugate_model() -> None:
    data = people()
    found = leave_one_subject_out(drawn(data))
    np.testing.assert_array_equal(found.subjects, np.unique(data.subject_ids.astype(str)))
    # Monte Carlo error of 4,000 draws.
    np.testing.assert_allclose(found.elpd, exact(data), atol=0.01)
    assert found.total == pytest.approx(exact(data).sum(), abs=0.05)
    assert found.se == pytest.approx(np.sqrt(60) * exact(data).std(ddof=1), rel=0.01)
    # One free number, which the prior holds a little.
    assert 0.5 < found.p_loo < 1.5
    assert found.verdict.startswith("good: Pareto k of all 60 subjects at most 0.70")
    assert found.frame().shape == (60, 5)


def test_regression_of_the_conjugate_model() -> None:
    assert leave_one_subject_out(drawn(people())).total == pytest.approx(-223.54, abs=0.01)


def test_reloo_gives_the_closed_form_where_importance_weights_fail() -> None:
    data = influenced()
    found = leave_one_subject_out(drawn(data, draws=500))
    assert list(found.unreliable) == ["1000000"]
    assert "refit without them with reloo" in found.verdict

    def refit(kept: SurvivalData, held: SurvivalData) -> Floats:
        assert "1000000" not in set(kept.subject_ids)
        _, events, years = totals(kept)
        rng = np.random.default_rng(2)
        rate = rng.gamma(SHAPE + events.sum(), 1 / (RATE + years.sum()), 200000)
        _, d, t = totals(held)
        return np.asarray(d[0] * np.log(rate) - t[0] * rate)

    told: list[tuple[int, int]] = []
    fixed = reloo(found, data, refit, progress=lambda done, all_: told.append((done, all_)))
    assert told == [(1, 1)]
    assert fixed.verdict.startswith("good:")
    assert fixed.refitted.sum() == 1
    far = abs(found.elpd[0] - exact(data)[0])
    assert abs(fixed.elpd[0] - exact(data)[0]) < min(0.2, far)
    np.testing.assert_array_equal(fixed.elpd[1:], found.elpd[1:])
    assert reloo(found, data, refit, most=0).verdict == found.verdict


def test_many_bad_subjects_ask_for_another_model() -> None:
    values = np.random.default_rng(0).standard_cauchy((200, 30))
    found = leave_one_subject_out(values)
    assert found.verdict.startswith("bad:")
    assert "cross-validation" in found.verdict


def test_paired_differences_are_those_of_the_subjects() -> None:
    data = people()
    good = leave_one_subject_out(drawn(data))
    names, events, years = totals(data)
    poor = np.full((4000, 60), 0.5)
    worse = leave_one_subject_out(
        xr.DataArray(
            events * np.log(poor) - years * poor,
            dims=("draw", "subject"),
            coords={"subject": names},
        )
    )
    table = compare_elpd({"poor": worse, "good": good}).set_index("model")
    assert list(table.index) == ["good", "poor"]
    gap = worse.elpd - good.elpd
    assert table.loc["poor", "difference"] == pytest.approx(gap.sum())
    assert table.loc["poor", "difference_se"] == pytest.approx(np.sqrt(60) * gap.std(ddof=1))
    assert table.loc["poor", "verdict"] == "worse than good"
    assert table.loc["good", "verdict"] == "the reference"
    turned = compare_elpd({"poor": worse, "good": good}, "poor").set_index("model")
    assert turned.loc["good", "difference"] == -table.loc["poor", "difference"]
    assert turned.loc["good", "verdict"] == "better than poor"
    same = compare_elpd({"a": good, "b": good}, "a").set_index("model")
    assert same.loc["b", "verdict"].startswith("not told apart from a: a difference below 4")


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 12), st.integers(0, 1000))
def test_the_order_of_subjects_and_chains_changes_nothing(subjects: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(80, subjects))
    names = [f"s{k:02d}" for k in range(subjects)]
    first = leave_one_subject_out(values, names)
    order = rng.permutation(subjects)
    second = leave_one_subject_out(values[:, order], [names[k] for k in order])
    np.testing.assert_array_equal(first.elpd, second.elpd)
    shifted = leave_one_subject_out(values - 3.0, names)
    np.testing.assert_allclose(shifted.elpd, first.elpd - 3.0, atol=1e-9)
    chains = xr.DataArray(
        values.reshape(2, 40, subjects),
        dims=("chain", "draw", "subject"),
        coords={"subject": names},
    )
    np.testing.assert_allclose(leave_one_subject_out(chains).elpd, first.elpd, atol=1e-12)
    # What was fitted on is never foretold better when left out, but for smoothing.
    assert (first.lpd >= first.elpd - 0.1).all()


def test_the_limit_of_pareto_k_falls_with_few_draws() -> None:
    assert good_k(100) == pytest.approx(0.5)
    assert good_k(10**4) == 0.7


@pytest.mark.parametrize(
    ("values", "subjects", "words"),
    [
        (np.zeros(5), None, r"shape \(5,\); accepted is \(draw, subject\)"),
        (np.zeros((1, 5)), None, "at least 2 draws"),
        (np.zeros((3, 2)), ["a"], "1 for 2 columns"),
        (np.zeros((3, 2)), ["a", "a"], "one stands twice"),
        (np.full((3, 2), -np.inf), ["a", "b"], "not finite for a, b"),
    ],
)
def test_bad_log_likelihoods_are_refused(values: Floats, subjects: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        leave_one_subject_out(values, subjects)


def test_bad_comparisons_are_refused() -> None:
    one = leave_one_subject_out(np.random.default_rng(0).normal(size=(50, 3)))
    other = leave_one_subject_out(np.random.default_rng(0).normal(size=(50, 4)))
    with pytest.raises(InputError, match="none; accepted is at least one model"):
        compare_elpd({})
    with pytest.raises(InputError, match="of other subjects"):
        compare_elpd({"a": one, "b": other})
    with pytest.raises(InputError, match="reference: 'c'; accepted are a"):
        compare_elpd({"a": one}, "c")
    with pytest.raises(InputError, match="dimensions"):
        leave_one_subject_out(xr.DataArray(np.zeros((3, 2)), dims=("draw", "joint")))


@pytest.mark.slow
def test_a_posterior_with_frailty_leaves_out_as_refitting_does() -> None:
    data = people(8, seed=4)
    sampler = SamplerConfig(chains=2, tune=400, draws=1000, seed=3)
    breaks = np.array([0.0, 3.0, 6.0])
    model = PiecewiseExponential(breaks=breaks, frailty=True, sampler=sampler).fit(data)
    found = leave_one_subject_out(model.subject_log_likelihood(data))
    refitted = []
    for subject in found.subjects:
        mine = data.subject_ids.astype(str) == subject
        kept = clone(model).fit(data.with_rows(np.flatnonzero(~mine)))
        values = kept.subject_log_likelihood(data.with_rows(np.flatnonzero(mine))).to_numpy()
        refitted.append(float(logsumexp(values) - np.log(values.size)))
    # The prior of a refit is about another crude rate, and both are Monte Carlo.
    np.testing.assert_allclose(found.elpd, refitted, atol=0.15)
    assert found.total == pytest.approx(sum(refitted), abs=0.5)
