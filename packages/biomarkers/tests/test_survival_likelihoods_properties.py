"""What must not matter: order of rows, splitting a row, how a weight is written, names; and the limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.likelihoods import LIKELIHOODS

from .survival_cases import BASELINES, BETA, BREAKS, FAMILIES, rows, split

SEEDS = st.integers(0, 10_000)
NAMES = st.sampled_from(FAMILIES)
KINDS = st.sampled_from(["right", "interval", "left"])
THETAS = st.sampled_from([0.0, 0.05, 0.7, 3.0])
FEW = settings(max_examples=25, deadline=None)


def value(name, data, theta, beta=BETA, base=None, **kwargs):
    family = LIKELIHOODS[name]
    arrays = family.arrays(data, breaks=BREAKS, **kwargs)
    return family.log_likelihood(arrays, beta, base or BASELINES.get(name, {}), theta)


def changed(data, **columns):
    names = (
        "ids", "subject_ids", "covariates", "names", "lower", "upper", "cause", "weight", "start",
    )  # fmt: skip
    return SurvivalData(**({k: getattr(data, k) for k in names} | columns))


@FEW
@given(seed=SEEDS, name=NAMES, kind=KINDS, theta=THETAS, joints=st.sampled_from([1, 2, 4]))
def test_order_of_rows_and_names_do_not_matter(seed, name, kind, theta, joints):
    data = rows(kind, n=12, joints=joints, delayed=True, seed=seed)
    weight = np.repeat(np.random.default_rng(seed).uniform(0.5, 2, 12 // joints), joints)
    data = changed(data, weight=weight)
    order = np.random.default_rng(seed).permutation(12)
    expected = value(name, data, theta)
    assert value(name, data.with_rows(order), theta) == pytest.approx(expected, rel=1e-12)
    renamed = changed(data, subject_ids=np.array([f"z{9 - int(s[1:])}" for s in data.subject_ids]))
    assert value(name, renamed, theta) == pytest.approx(expected, rel=1e-12)
    if kind == "right":
        cox = value("cox", data, None)
        assert value("cox", data.with_rows(order), None) == pytest.approx(cox, rel=1e-12)


@FEW
@given(seed=SEEDS, name=NAMES, kind=KINDS, theta=THETAS, at=st.floats(0.5, 4.0))
def test_splitting_a_row_changes_nothing(seed, name, kind, theta, at):
    data = rows(kind, n=12, delayed=True, seed=seed)
    weight = np.random.default_rng(seed).uniform(0.5, 2, 12)
    data = changed(data, weight=weight)
    pieces = split(split(data, at), at / 2)
    expected = value(name, data, theta)
    assert value(name, pieces, theta) == pytest.approx(expected, rel=1e-10, abs=1e-10)
    if kind == "right":
        assert value("cox", pieces, None) == pytest.approx(value("cox", data, None), rel=1e-10)


@FEW
@given(seed=SEEDS, name=NAMES, kind=KINDS, theta=THETAS)
def test_a_weight_of_two_is_a_person_twice(seed, name, kind, theta):
    data = rows(kind, n=12, delayed=True, seed=seed)
    double = np.repeat(np.random.default_rng(seed).integers(1, 3, 6), 2)
    index = np.concatenate([np.arange(12), np.flatnonzero(double == 2)])
    weighted = changed(data, weight=double.astype(float))
    expected = value(name, data.with_rows(index), theta)
    assert value(name, weighted, theta) == pytest.approx(expected, rel=1e-11)
    if kind == "right":
        # Efron's ties tell a weight from a repeated row; Breslow's do not.
        twice = value("cox", data.with_rows(index), None, ties="breslow")
        assert value("cox", weighted, None, ties="breslow") == pytest.approx(twice, rel=1e-11)


@FEW
@given(seed=SEEDS, name=NAMES, theta=THETAS)
def test_a_narrow_interval_is_a_density_times_its_width(seed, name, theta):
    data = rows("right", n=8, seed=seed)
    width = 1e-6
    # Not across a break, where the density jumps.
    narrow = changed(
        data, lower=data.lower - width / 2 * data.event,
        upper=np.where(data.event, data.lower + width / 2, data.upper),
    )  # fmt: skip
    expected = value(name, data, theta) + data.event.sum() * np.log(width)
    assert value(name, narrow, theta) == pytest.approx(expected, abs=2e-5)


@FEW
@given(seed=SEEDS, name=NAMES, kind=KINDS)
def test_a_vanishing_frailty_is_none(seed, name, kind):
    data = rows(kind, n=12, joints=4, delayed=True, seed=seed)
    none = value(name, data, None)
    assert value(name, data, 0.0) == none
    steps = [abs(value(name, data, theta) - none) for theta in (1e-3, 1e-5, 1e-7)]
    assert steps[2] < 1e-4
    assert steps[1] < steps[0] / 20 + 1e-9


@FEW
@given(seed=SEEDS, shift=st.floats(-3, 3), scale=st.floats(0.2, 5), theta=THETAS)
def test_moving_and_stretching_covariates_moves_the_baseline_alone(seed, shift, scale, theta):
    data = rows("interval", n=12, delayed=True, seed=seed)
    moved = changed(data, covariates=data.covariates * scale + shift)
    step = shift / scale * BETA.sum()
    shifts = {"piecewise": ("log_hazard", -step), "weibull": ("level", -step),
              "lognormal": ("level", step), "loglogistic": ("level", step)}  # fmt: skip
    for name, (parameter, by) in shifts.items():
        base = BASELINES[name] | {parameter: BASELINES[name][parameter] + by}
        found = value(name, moved, theta, BETA / scale, base)
        assert found == pytest.approx(value(name, data, theta), rel=1e-9, abs=1e-9)


@FEW
@given(seed=SEEDS, unit=st.floats(0.1, 30.0), theta=THETAS)
def test_another_unit_of_time_changes_only_the_density(seed, unit, theta):
    data = rows("interval", n=12, delayed=True, seed=seed)
    other = changed(data, lower=data.lower * unit, upper=data.upper * unit, start=data.start * unit)
    exact = (data.event & ~data.interval).sum()
    shape = np.exp(BASELINES["weibull"]["log_shape"])
    steps = {"weibull": -shape * np.log(unit), "lognormal": np.log(unit),
             "loglogistic": np.log(unit)}  # fmt: skip
    for name, by in steps.items():
        base = BASELINES[name] | {"level": BASELINES[name]["level"] + by}
        expected = value(name, data, theta) - exact * np.log(unit)
        assert value(name, other, theta, base=base) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_draws_are_worked_on_one_by_one_or_together(monkeypatch):
    from spinmark_biomarkers.survival.likelihoods import hazard_family

    data = rows("left", n=20, joints=5, delayed=True)
    draws = np.random.default_rng(0).normal(size=(7, 2))
    for name in FAMILIES:
        family = LIKELIHOODS[name]
        arrays = family.arrays(data, breaks=BREAKS)
        base = {k: np.stack([np.asarray(v)] * 7) for k, v in BASELINES[name].items()}
        theta = np.linspace(0.1, 2, 7)
        together = family.subject_log_likelihood(arrays, draws, base, theta)
        assert together.shape == (7, 4)
        for k in range(7):
            one = family.log_likelihood(arrays, draws[k], BASELINES[name], theta[k])
            assert together[k] @ arrays["weight"] == pytest.approx(one, rel=1e-12)
        with monkeypatch.context() as m:
            m.setattr(hazard_family, "_CHUNK", 1)
            np.testing.assert_allclose(
                family.subject_log_likelihood(arrays, draws, base, theta), together, rtol=1e-13
            )
