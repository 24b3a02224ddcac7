import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, Ridge

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.discordance import (
    GROUPS,
    residual_hazard,
    residual_pain,
    subject_folds,
)
from spinmark_biomarkers.survival.discordance_explained import (
    _ridge_path,
    explain_residual,
    within_person,
)


def knees(seed=0, people=300, *, report=2.0, signal=1.0):
    """Pain from grade, from a feature that the grade does not hold, and from how a person reports it."""
    rng = np.random.default_rng(seed)
    n = 2 * people
    subject = np.repeat([str(1000000 + i) for i in range(people)], 2)
    joint = pd.Index([f"{s}:{'RL'[i % 2]}" for i, s in enumerate(subject)])
    kl = rng.integers(0, 5, n).astype(float)
    features = rng.normal(size=(n, 6))
    person = np.repeat(rng.normal(size=people), 2)
    pain = (
        np.array([0, 0.2, 1.0, 2.5, 4.0])[kl.astype(int)] + signal * features[:, 0]
        + report * person + rng.normal(size=n)
    )  # fmt: skip
    age = np.repeat(rng.normal(size=people), 2)
    return pd.Series(pain + 0.7 * age, index=joint), kl, features, subject, age


def test_cell_means_are_those_of_training_people():
    pain, kl, _, subject, _ = knees()
    fit = np.arange(600) < 400
    found = residual_pain(pain, kl, subject, fit_rows=fit)
    means = pain[fit].groupby(kl[fit]).mean()
    np.testing.assert_allclose(found.frame["expected"], means.loc[kl].to_numpy(), rtol=1e-10)
    assert not found.cross_fitted
    assert found.pain_threshold == pytest.approx(pain[fit].median())
    error = (pain - means.loc[kl].to_numpy())[~fit]
    total = (pain - pain[fit].mean())[~fit]
    assert found.explained == pytest.approx(1 - (error**2).sum() / (total**2).sum())
    assert found.frame["z"][fit].std(ddof=0) == pytest.approx(1)
    # No test row moves what is fitted.
    other = pain.copy()
    other[~fit] += 100
    again = residual_pain(other, kl, subject, fit_rows=fit)
    np.testing.assert_array_equal(again.frame["expected"], found.frame["expected"])


def test_cross_fitting_uses_other_people_only():
    pain, kl, _, subject, _ = knees(1)
    found = residual_pain(pain, kl, subject, folds=4, seed=3)
    of = subject_folds(subject, 4, 3)
    for k in range(4):
        means = pain[of != k].groupby(kl[of != k]).mean()
        np.testing.assert_allclose(found.frame["expected"][of == k], means.loc[kl[of == k]])
    # A person's own pain does not move what is expected of the person.
    other = pain.copy()
    other.iloc[:2] += 50
    again = residual_pain(other, kl, subject, folds=4, seed=3)
    np.testing.assert_allclose(again.frame["expected"].iloc[:2], found.frame["expected"].iloc[:2])
    assert found.cross_fitted


def test_with_covariates_it_is_least_squares_on_indicators():
    pain, kl, _, subject, age = knees(2)
    frame = pd.DataFrame({"AGE": age}, index=pain.index)
    everyone = np.ones(600, dtype=bool)
    found = residual_pain(pain, kl, subject, covariates=frame, fit_rows=everyone)
    x = np.column_stack([kl[:, None] == np.arange(5), age])
    peer = LinearRegression(fit_intercept=False).fit(x, pain)
    np.testing.assert_allclose(found.frame["expected"], peer.predict(x), rtol=1e-8)
    assert abs(np.corrcoef(found.frame["residual"], age)[0, 1]) < 1e-10


def test_monotone_is_isotonic_regression():
    rng = np.random.default_rng(3)
    kl = rng.integers(0, 5, 200).astype(float)
    pain = pd.Series(np.array([1.0, 0.2, 1.5, 1.4, 3])[kl.astype(int)] + rng.normal(size=200))
    subject = np.arange(200).astype(str)
    everyone = np.ones(200, dtype=bool)
    found = residual_pain(pain, kl, subject, fit_rows=everyone, method="monotone")
    peer = IsotonicRegression().fit_transform(kl, pain)
    np.testing.assert_allclose(found.frame["expected"], peer, atol=1e-5)


def test_spline_follows_a_curve_and_goes_on_straight():
    rng = np.random.default_rng(4)
    width = rng.uniform(0, 6, 800)
    truth = np.exp(-width)
    pain = pd.Series(truth + 0.05 * rng.normal(size=800))
    fit = (width > 0.5) | (np.arange(800) % 2 == 0)
    found = residual_pain(pain, width, np.arange(800).astype(str), fit_rows=fit, method="spline")
    assert np.abs(found.frame["expected"] - truth).max() < 0.05


def test_groups():
    pain = pd.Series([0.0, 5, 0, 5], index=list("abcd"))
    found = residual_pain(
        pain, [0, 0, 3, 3], list("wxyz"), fit_rows=np.ones(4, dtype=bool), pain_threshold=2
    )
    assert found.frame["group"].tolist() == [
        "KL low, pain low", "KL low, pain high", "KL high, pain low", "KL high, pain high"
    ]  # fmt: skip
    assert found.counts().tolist() == [1, 1, 1, 1]
    assert found.counts().index.tolist() == list(GROUPS)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-20, 20))
def test_order_of_rows_and_units_of_pain(seed, scale, shift):
    pain, kl, features, subject, _ = knees(seed % 30, people=40)
    mixed = np.random.default_rng(seed).permutation(80)
    for method in ("means", "monotone", "spline"):
        one = residual_pain(pain, kl, subject, seed=1, method=method).frame
        two = residual_pain(
            pain.iloc[mixed] * scale + shift, kl[mixed], subject[mixed], seed=1, method=method
        ).frame
        np.testing.assert_allclose(
            one["residual"].iloc[mixed] * scale, two["residual"], atol=2e-5 * scale
        )
    one = explain_residual(pain, features, subject, draws=5)
    two = explain_residual(
        pain.iloc[mixed], features[mixed] * scale + shift, subject[mixed], draws=5
    )
    np.testing.assert_allclose(one.predicted[mixed], two.predicted, atol=1e-7)


def test_ridge_path_equals_sklearn():
    rng = np.random.default_rng(5)
    x, y, new = rng.normal(size=(40, 7)) * 3 + 1, rng.normal(size=40) + 2, rng.normal(size=(5, 7))
    mean, sd = x.mean(axis=0), x.std(axis=0)
    found = _ridge_path(x, y, new, [0.1, 10.0], True)
    for k, alpha in enumerate((0.1, 10.0)):
        peer = Ridge(alpha=alpha).fit((x - mean) / sd, y).predict((new - mean) / sd)
        np.testing.assert_allclose(found[k], peer, rtol=1e-9)
    through = _ridge_path(x, y, new, [1.0], False)[0]
    size = np.sqrt((x**2).mean(axis=0))
    peer = Ridge(alpha=1.0, fit_intercept=False).fit(x / size, y).predict(new / size)
    np.testing.assert_allclose(through, peer, rtol=1e-9)


def test_what_the_features_know_is_found_and_what_they_do_not_is_not():
    pain, kl, features, subject, _ = knees(6, people=800)
    residual = residual_pain(pain, kl, subject).frame["residual"]
    found = explain_residual(residual, features, subject, seed=1)
    # Variances: feature 1, person 4, noise 1, age .49.
    assert found.r2.value == pytest.approx(1 / 6.49, abs=0.03)
    assert found.r2.low < found.r2.value < found.r2.high
    nothing = explain_residual(residual, features[:, 1:], subject, seed=1)
    assert nothing.r2.value < 0.005
    assert len(found.alphas) == 5
    # With folds of rows and not of people, features that name the person would explain the person's part.
    names = np.repeat(np.random.default_rng(0).normal(size=(800, 40)), 2, axis=0)
    assert explain_residual(residual, names, subject, seed=1).r2.value < 0.01


def test_within_a_person_the_report_cancels():
    pain, kl, features, subject, _ = knees(7, people=800, report=6.0)
    found = within_person(pain, kl, features, subject, pain.index)
    assert found.people == 800
    # Differences of knees: the grade's part, the feature's 2, the noise's 2.
    grade = np.array([0, 0.2, 1.0, 2.5, 4.0])
    part = 2 * grade.var()
    left = part * (1 - np.corrcoef(grade, np.arange(5))[0, 1] ** 2)
    assert found.kl.value == pytest.approx((part - left) / (part + 4), abs=0.05)
    assert found.gain.value == pytest.approx(2 / (part + 4), abs=0.05)
    assert found.gain.low > 0
    assert found.features.value == pytest.approx(found.kl.value + found.gain.value)
    assert found.kl_slope.value == pytest.approx(1.03, abs=0.1)
    between = explain_residual(
        residual_pain(pain, kl, subject).frame["residual"], features, subject
    )
    assert between.r2.value < found.gain.value


def test_which_knee_comes_first_does_not_matter():
    pain, kl, features, subject, _ = knees(8, people=60)
    swapped = pd.Index([j.replace(":R", ":x").replace(":L", ":A") for j in pain.index])
    one = within_person(pain, kl, features, subject, pain.index, draws=10)
    two = within_person(pain, kl, features, subject, swapped, draws=10)
    for name in ("kl_slope", "kl", "features", "gain"):
        a, b = getattr(one, name), getattr(two, name)
        np.testing.assert_allclose([a.value, a.low, a.high], [b.value, b.low, b.high], rtol=1e-9)
    mixed = np.random.default_rng(1).permutation(120)
    again = within_person(
        pain.iloc[mixed], kl[mixed], features[mixed], subject[mixed], pain.index[mixed], draws=10
    )
    assert again.gain.value == pytest.approx(one.gain.value, rel=1e-9)


def test_does_the_residual_foretell_the_event():
    pain, kl, _, subject, age = knees(9, people=500)
    rng = np.random.default_rng(109)
    found = residual_pain(
        pain, kl, subject, covariates=pd.DataFrame({"AGE": age}, index=pain.index)
    )
    column = found.column()
    event = rng.exponential(1 / (0.05 * np.exp(0.5 * kl + 0.4 * column.to_numpy())))
    time = np.minimum(event, 8.0)
    cause = (event <= 8).astype(np.int64)
    data = SurvivalData(
        ids=pain.index.to_numpy(object), subject_ids=subject.astype(object),
        covariates=np.column_stack([kl, age]), names=("KL", "AGE"), lower=time,
        upper=np.where(cause == 1, time, np.inf), cause=cause, weight=np.ones(1000),
    )  # fmt: skip
    foretold = residual_hazard(data, column.iloc[::-1])
    assert foretold.low < np.exp(0.4) < foretold.high
    assert foretold.p < 1e-6
    assert foretold.likelihood_ratio > 20
    assert foretold.events == cause.sum()
    noise = pd.Series(rng.normal(size=1000), index=pain.index, name="noise")
    assert residual_hazard(data, noise).low < 1 < residual_hazard(data, noise).high
    with pytest.raises(InputError, match="PAIN_beyond_KL: missing for 1000000:R"):
        residual_hazard(data, column.iloc[1:])


def test_regression_figure():
    pain, kl, features, subject, _ = knees(10, people=100)
    residual = residual_pain(pain, kl, subject).frame["residual"]
    found = explain_residual(residual, features, subject)
    assert found.r2.value == pytest.approx(0.159190, abs=1e-4)


def test_what_is_refused():
    pain, kl, features, subject, _ = knees(people=10)
    with pytest.raises(InputError, match="accepted are means, monotone, spline"):
        residual_pain(pain, kl, subject, method="loess")
    with pytest.raises(InputError, match="pain: missing for 1000000:R"):
        residual_pain(pain.where(np.arange(20) > 0), kl, subject)
    with pytest.raises(InputError, match="kl: missing for 1000000:L"):
        residual_pain(pain, np.where(np.arange(20) == 1, np.nan, kl), subject)
    with pytest.raises(InputError, match="subject 1000000 in both fit and test"):
        residual_pain(pain, kl, subject, fit_rows=np.arange(20) % 2 == 0)
    with pytest.raises(InputError, match="fit_rows: none"):
        residual_pain(pain, kl, subject, fit_rows=np.zeros(20, dtype=bool))
    with pytest.raises(InputError, match="folds: 11 for 10 subjects"):
        explain_residual(pain, features, subject, folds=11)
    with pytest.raises(InputError, match="features: missing"):
        explain_residual(pain, features * np.nan, subject)
    with pytest.raises(InputError, match="more than two rows of a"):
        within_person([1, 2, 3], [1, 2, 3], np.eye(3), list("aaa"), list("xyz"))
