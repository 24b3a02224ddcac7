import numpy as np
import pandas as pd
import pytest
import xarray as xr

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.cox_regression import fit_cox_arrays
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.imputation import (
    FoldImputer,
    completed,
    imputation_summary,
    impute_fold,
    nelson_aalen,
)
from spinmark_biomarkers.survival.pooling import (
    Estimate,
    estimate_of_draws,
    pool,
    stack_posteriors,
)

TRUE = (0.5, 0.4, -0.3)


def cohort(seed=0, people=150):
    """`kl` of the knee and `bmi` of the person have gaps that depend on `age` and on the event."""
    rng = np.random.default_rng(seed)
    age = np.repeat(rng.normal(size=people), 2)
    bmi = 0.5 * age + np.repeat(rng.normal(size=people), 2)
    kl = 0.4 * age + 0.5 * np.repeat(rng.normal(size=people), 2) + rng.normal(size=2 * people)
    x = np.column_stack([kl, bmi, age])
    event = rng.exponential(1 / (0.06 * np.exp(x @ np.array(TRUE))))
    time = np.minimum(event, rng.uniform(2, 8, 2 * people))
    cause = (event <= time).astype(np.int64)
    ids = np.repeat([str(1000000 + i) for i in range(people)], 2)
    full = pd.DataFrame(x, columns=["kl", "bmi", "age"])
    full.index = pd.Index([f"{s}:{'RL'[i % 2]}" for i, s in enumerate(ids)])
    gaps = full.copy()
    chance = 1 / (1 + np.exp(-(-1.2 + age + 1.5 * cause)))
    gaps.loc[rng.random(2 * people) < chance, "kl"] = np.nan
    any_event = np.repeat(cause.reshape(-1, 2).max(axis=1), 2)
    who = np.repeat(rng.random(people), 2) < 1 / (1 + np.exp(-(-1.5 + age + any_event)))
    gaps.loc[who, "bmi"] = np.nan
    return full, gaps, ids, time, cause


def cox(x, time, cause, ids):
    fit = fit_cox_arrays(
        x.to_numpy(), time, cause == 1, ids, names=tuple(x.columns), ties="breslow"
    )
    return Estimate(names=fit.names, value=fit.beta, covariance=fit.covariance)


def small(**settings):
    return FoldImputer(**{"imputations": 3, "iterations": 4, **settings})


def test_observed_values_stay_and_a_person_has_one_value():
    _, gaps, ids, time, cause = cohort()
    fit = np.arange(len(ids)) < 200
    frames = impute_fold(gaps, ids, time, cause, fit, small())
    assert len(frames) == 3
    seen = gaps.notna().to_numpy()
    for frame in frames:
        assert frame.index.equals(gaps.index)
        assert np.isfinite(frame.to_numpy()).all()
        np.testing.assert_array_equal(frame.to_numpy()[seen], gaps.to_numpy()[seen])
        bmi = frame["bmi"].to_numpy().reshape(-1, 2)
        np.testing.assert_array_equal(bmi[:, 0], bmi[:, 1])
    assert not np.allclose(frames[0], frames[1])
    again = impute_fold(gaps, ids, time, cause, fit, small())
    np.testing.assert_array_equal(frames[2], again[2])


def test_what_is_of_the_person_is_found_or_told():
    _, gaps, ids, time, cause = cohort(people=40)
    assert small().fit(gaps, ids, time, cause).subject_level_ == ("bmi", "age")
    with pytest.raises(InputError, match="'kl' differs between the joints of 10000"):
        small(subject_level=["kl"]).fit(gaps, ids, time, cause)


def test_no_test_outcome_and_no_test_row_reaches_any_imputed_value():
    _, gaps, ids, time, cause = cohort(1)
    fit = np.arange(len(ids)) < 200
    frames = impute_fold(gaps, ids, time, cause, fit, small())
    rng = np.random.default_rng(0)
    other_time, other_cause = time.copy(), cause.copy()
    other_time[~fit], other_cause[~fit] = rng.random(100) * 9, rng.integers(0, 3, 100)
    moved = impute_fold(gaps, ids, other_time, other_cause, fit, small())
    fewer = fit | (np.arange(len(ids)) < 250)
    alone = impute_fold(gaps[fewer], ids[fewer], time[fewer], cause[fewer], fit[fewer], small())
    for a, b, c in zip(frames, moved, alone, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[fit], c[fit[fewer]])
    # Training outcomes do move training values.
    other_cause = np.where(fit, 1 - cause, cause)
    changed = impute_fold(gaps, ids, time, other_cause, fit, small())
    assert not np.allclose(changed[0][fit], frames[0][fit])
    np.testing.assert_array_equal(changed[0][~fit], frames[0][~fit])


def test_the_order_of_rows_does_not_matter():
    _, gaps, ids, time, cause = cohort(2, people=60)
    fit = np.repeat(np.arange(60) % 3 > 0, 2)
    mixed = np.random.default_rng(1).permutation(120)
    one = impute_fold(gaps, ids, time, cause, fit, small())
    two = impute_fold(gaps.iloc[mixed], ids[mixed], time[mixed], cause[mixed], fit[mixed], small())
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a.iloc[mixed], b, rtol=1e-9)


def test_a_change_of_unit_changes_nothing_else_and_bounds_hold():
    _, gaps, ids, time, cause = cohort(3, people=60)
    one = small().fit(gaps, ids, time, cause).training_[0]
    two = small().fit(gaps * 100 + 7, ids, time, cause).training_[0]
    np.testing.assert_allclose(two, one * 100 + 7, rtol=1e-6, atol=1e-5)
    held = small(bounds={"kl": (-0.5, 0.5)}).fit(gaps, ids, time, cause).training_[0]
    drawn = held["kl"][gaps["kl"].isna()]
    assert drawn.between(-0.5, 0.5).all()
    assert drawn.std() > 0


def test_the_draws_have_the_conditional_distribution():
    # Without gaps that depend on anything, and with one normal predictor, it is known in closed form.
    rng = np.random.default_rng(4)
    n = 3000
    a = rng.normal(size=n)
    b = 0.8 * a + 0.6 * rng.normal(size=n)
    gaps = pd.DataFrame({"a": a, "b": b}, index=[f"j{i}" for i in range(n)])
    hole = rng.random(n) < 0.3
    gaps.loc[hole, "b"] = np.nan
    ids = np.array([f"{i:05d}" for i in range(n)])
    fit = np.arange(n) < 2000
    settings = small(imputations=20, iterations=2)
    frames = impute_fold(gaps, ids, np.ones(n), np.zeros(n, np.int64), fit, settings)
    slope, level = np.polyfit(a[fit & ~hole], b[fit & ~hole], 1)
    noise = (b - level - slope * a)[fit & ~hole].std()
    for part in (fit, ~fit):
        rest = np.concatenate([(f["b"] - level - slope * a)[hole & part] for f in frames])
        assert rest.mean() == pytest.approx(0, abs=0.04)
        assert rest.std() == pytest.approx(noise, abs=0.03)
    table = imputation_summary(gaps, frames)
    assert table.loc["b", "missing"] == hole.sum()
    assert table.loc["b", "difference"] == pytest.approx(0, abs=0.06)


def test_a_single_gap_is_drawn_in_every_imputation():
    # A bootstrap sample often misses it; it must still have a model.
    full, _, ids, time, cause = cohort(7, people=60)
    gaps = full.copy()
    gaps.iloc[5, 0] = np.nan
    drawn = [f.iloc[5, 0] for f in small(imputations=8).fit(gaps, ids, time, cause).training_]
    assert len(set(np.round(drawn, 9))) == 8
    assert np.std(drawn) > 0.2
    blind = small(imputations=8).fit(gaps[2:], ids[2:], time[2:], cause[2:])
    assert np.std([f.iloc[1, 0] for f in blind.transform(gaps[4:6], ids[4:6])]) > 0.2


def test_nelson_aalen_equals_lifelines():
    lifelines = pytest.importorskip("lifelines")
    rng = np.random.default_rng(5)
    start = np.round(rng.random(80), 1)
    time = start + np.ceil(rng.exponential(2, 80) * 5) / 5
    cause = rng.integers(0, 3, 80)
    for of in (1, 2):
        peer = lifelines.NelsonAalenFitter(nelson_aalen_smoothing=False).fit(
            time, cause == of, entry=start
        )
        expected = peer.cumulative_hazard_.loc[time].to_numpy()[:, 0]
        np.testing.assert_allclose(nelson_aalen(time, cause, of, start), expected, rtol=1e-10)


def test_regression_figure():
    _, gaps, ids, time, cause = cohort(6)
    frames = FoldImputer(imputations=5, iterations=5).fit(gaps, ids, time, cause).training_
    found = pool([cox(f, time, cause, ids) for f in frames])
    np.testing.assert_allclose(found.value, [0.4358, 0.2065, -0.2601], atol=0.02)


@pytest.mark.slow
def test_imputing_recovers_what_complete_cases_miss():
    runs, covered, imputed, dropped, blind = 60, np.zeros(3), [], [], []
    for seed in range(runs):
        full, gaps, ids, time, cause = cohort(5000 + seed)
        imputer = FoldImputer(imputations=5, iterations=3, seed=seed).fit(gaps, ids, time, cause)
        found = pool([cox(f, time, cause, ids) for f in imputer.training_])
        low, high = found.interval().T
        covered += (low < TRUE) & (high > TRUE)
        # Against the analysis of the same people had nothing been missing.
        whole, kept = cox(full, time, cause, ids).value, gaps.notna().all(axis=1).to_numpy()
        imputed.append(found.value - whole)
        dropped.append(cox(gaps[kept], time[kept], cause[kept], ids[kept]).value - whole)
        if seed < 20:
            frames = imputer.transform(gaps, ids)
            blind.append(np.mean([cox(f, time, cause, ids).value for f in frames], axis=0) - whole)
    error = np.std(imputed, axis=0) / np.sqrt(runs)
    # Normal linear imputation is an approximation: effects come out a little too small.
    assert (np.abs(np.mean(imputed, axis=0)) < 0.04 + 2 * error).all()
    assert np.abs(np.mean(dropped, axis=0)).max() > 0.15
    assert (covered / runs >= 0.88).all()
    # Imputed without the outcome, the covariate with most gaps loses effect.
    assert np.mean(blind, axis=0)[0] < -0.1


def test_rubins_rules_by_hand():
    made = [
        Estimate(names=("a", "b"), value=np.array(v), covariance=np.diag([0.04, 0.09]))
        for v in ([1.0, 2.0], [1.2, 2.0], [0.8, 2.0])
    ]
    found = pool(made)
    # Between 0.04, total 0.04 + 4/3 * 0.04, share 4/7.
    np.testing.assert_allclose(found.value, [1.0, 2.0])
    np.testing.assert_allclose(np.diag(found.covariance), [0.04 * 7 / 3, 0.09])
    assert found.df[0] == pytest.approx(2 * (7 / 4) ** 2)
    ratio = (4 / 3 * 0.04) / 0.04
    df = 2 * (1 + 1 / ratio) ** 2
    assert found.missing_information[0] == pytest.approx((ratio + 2 / (df + 3)) / (ratio + 1))
    assert found.missing_information[1] == 0
    few = pool(made, complete_df=20)
    lam = 4 / 7
    observed = 21 / 23 * 20 * (1 - lam)
    assert few.df[0] == pytest.approx(1 / (1 / df + 1 / observed))
    assert list(few.table().columns) == [
        "value", "se", "low", "high", "df", "missing_information"
    ]  # fmt: skip
    with pytest.raises(InputError, match="imputations: 1"):
        pool(made[:1])
    with pytest.raises(InputError, match="different quantities"):
        pool([made[0], Estimate(names=("c", "b"), value=np.zeros(2), covariance=np.eye(2))])


def posterior(mean, seed, names=("a", "b")):
    rng = np.random.default_rng(seed)
    beta = np.asarray(mean) + 0.2 * rng.normal(size=(2, 4000, 2))
    return xr.Dataset(
        {
            "beta": (("chain", "draw", "covariate"), beta),
            "scale": (("chain", "draw"), beta[..., 0]),
        },
        coords={"covariate": np.array(names, dtype=object), "chain": [0, 1]},
    )


def test_stacked_draws_agree_with_rubins_rules():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(60, 2)) * 0.15
    parts = [posterior(m, k) for k, m in enumerate(means)]
    stacked = stack_posteriors(parts)
    assert stacked.sizes["chain"] == 120
    assert stacked["imputation"].to_numpy().tolist() == np.repeat(np.arange(60), 2).tolist()
    found, mixed = pool([estimate_of_draws(p) for p in parts]), estimate_of_draws(stacked)
    assert mixed.names == ("a", "b")
    np.testing.assert_allclose(mixed.value, found.value, atol=1e-12)
    np.testing.assert_allclose(mixed.covariance, found.covariance, rtol=0.05, atol=2e-4)
    with pytest.raises(InputError, match="labels of 'covariate' differ in number 1"):
        stack_posteriors([parts[0], posterior([0, 0], 1, ("a", "c"))])
    with pytest.raises(InputError, match="draw has 4000 and"):
        stack_posteriors([parts[0], parts[1].isel(draw=slice(9))])
    with pytest.raises(InputError, match="'scale' is not in all"):
        stack_posteriors([parts[0], parts[1].drop_vars("scale")])
    with pytest.raises(InputError, match="none"):
        stack_posteriors([])


def test_completed_matches_by_joint():
    full, _, ids, time, cause = cohort(people=10)
    data = SurvivalData(
        ids=full.index.to_numpy(object), subject_ids=ids.astype(object),
        covariates=np.zeros((20, 1)), names=("none",), lower=time,
        upper=np.where(cause == 1, time, np.inf), cause=cause, weight=np.ones(20),
    )  # fmt: skip
    (found,) = completed(data, [full.iloc[::-1]])
    np.testing.assert_array_equal(found.covariates, full.to_numpy())
    assert found.names == ("kl", "bmi", "age")


def test_what_is_refused():
    _, gaps, ids, time, cause = cohort(people=20)
    with pytest.raises(InputError, match="imputations: 1"):
        FoldImputer(imputations=1).fit(gaps, ids, time, cause)
    with pytest.raises(InputError, match="'kl' is missing in every training row"):
        small().fit(gaps.assign(kl=np.nan), ids, time, cause)
    with pytest.raises(InputError, match="column 'weight'"):
        small(bounds={"weight": (0, 1)}).fit(gaps, ids, time, cause)
    with pytest.raises(InputError, match="accepted are numbers"):
        small().fit(gaps.assign(kl="2"), ids, time, cause)
    with pytest.raises(InputError, match="in both fit and test"):
        impute_fold(gaps, ids, time, cause, np.arange(40) % 2 == 0, small())
    with pytest.raises(InputError, match="joint 1000000:R twice"):
        small().fit(gaps.iloc[[0, 0]], ids[[0, 0]], time[[0, 0]], cause[[0, 0]])
    fitted = small().fit(gaps, ids, time, cause)
    with pytest.raises(InputError, match="accepted are"):
        fitted.transform(gaps[["kl"]], ids)
