import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.survival_priors import prior_check
from spinmark_biomarkers.survival.models import MODELS, Cox, PiecewiseExponential, Weibull
from spinmark_biomarkers.survival.prior_predictive import prior_predictive
from spinmark_biomarkers.survival.priors import (
    R2D2,
    Columns,
    Independent,
    LevelAndShape,
    Monotone,
    Normal,
    PSpline,
    RandomWalk,
    RegularisedHorseshoe,
    ordinal_columns,
    priors_of_blocks,
)
from spinmark_biomarkers.survival.priors.base import clear
from spinmark_biomarkers.survival.priors.monotone import grade_of

from .survival_model_cases import pairs

DATA = pairs(30, 6)
BLOCKS = {f"x{k}": ("clinical" if k < 2 else "embedding") for k in range(6)}


def drawn(prior, blocks=BLOCKS, data=DATA, draws=500, **options):
    model = PiecewiseExponential(intervals=3, prior=prior, **options)
    return model.prior_draws(data, blocks, draws=draws, seed=1).squeeze("chain")


def same_law(values, law):
    # A level of 1e-3 for each of a few fixed seeds.
    assert stats.kstest(np.ravel(values), law.cdf).pvalue > 1e-3


def test_normal_scales_are_half_normal_and_shared_by_a_block():
    found = drawn(Normal(scale=0.4))
    assert found["block"].to_numpy().tolist() == ["clinical", "embedding"]
    for k in (0, 1):
        same_law(found["scale"][:, k], stats.halfnorm(scale=0.4))
    unit = found["beta"].to_numpy() / found["scale"].to_numpy()[:, [0, 0, 1, 1, 1, 1]]
    for k in range(6):
        same_law(unit[:, k], stats.norm)
    fixed = drawn(Normal(scale=0.7, learned=False))
    same_law(fixed["beta"][:, 3], stats.norm(scale=0.7))
    assert "scale" not in fixed


def test_r2d2_divides_the_explained_variation():
    found = drawn(R2D2(mean=0.4, precision=5.0, block_concentration=2.0), draws=1000)
    same_law(found["r2"], stats.beta(2.0, 3.0))
    same_law(found["share"][:, 0], stats.beta(2.0, 2.0))
    np.testing.assert_allclose(found["share"].sum("block"), 1, rtol=1e-9)
    # Given R2 the coefficients' squares add to R2 / (1 - R2) pi^2 / 6 in the mean.
    r2 = found["r2"].to_numpy()
    ratio = (found["beta"].to_numpy() ** 2).sum(axis=1) / (r2 / (1 - r2) * np.pi**2 / 6)
    assert ratio.mean() == pytest.approx(1, abs=4 * ratio.std() / np.sqrt(len(ratio)))
    within = (found["beta"].to_numpy()[:, :2] ** 2).sum(axis=1)
    held = within / (r2 / (1 - r2) * np.pi**2 / 6 * found["share"][:, 0].to_numpy())
    assert held.mean() == pytest.approx(1, abs=4 * held.std() / np.sqrt(len(held)))


def test_the_horseshoe_has_its_global_scale_and_slab():
    prior = RegularisedHorseshoe(relevant=2, slab_scale=0.5, slab_df=6)
    found = drawn(prior)
    tau0 = 2 / 4 / np.sqrt(DATA.event.sum())
    same_law(found["global_scale"], stats.halfcauchy(scale=tau0))
    same_law(found["slab"] ** 2, stats.invgamma(3, scale=3 * 0.25))
    # The slab bounds what heavy tails would make of a coefficient.
    z = found["beta"].to_numpy() / found["slab"].to_numpy()[:, None]
    assert (np.abs(z) > 5).mean() < 1e-5
    assert drawn(RegularisedHorseshoe(scale=0.01))["global_scale"].median() == pytest.approx(
        0.01, rel=0.1
    )


def test_monotone_steps_have_one_sign_and_a_dirichlet_division():
    rng = np.random.default_rng(0)
    grade = pd.Series(rng.integers(0, 4, 60).astype(float), name="XRKL")
    coded = ordinal_columns(grade)
    names = (*coded.columns, "AGE")
    data = DATA.with_covariates(np.column_stack([coded, rng.normal(size=60)]), names)
    found = drawn(Monotone(scale=0.9, concentration=2.0), dict.fromkeys(names, "structure"), data)
    steps = found["beta"].to_numpy()[:, :3]
    assert (np.sign(steps) == np.sign(steps[:, :1])).all()
    same_law(steps.sum(axis=1), stats.norm(scale=0.9))
    for k in range(3):
        same_law(steps[:, k] / steps.sum(axis=1), stats.beta(2.0, 4.0))
    same_law(found["beta"][:, 3], stats.norm(scale=0.9))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5) | st.none(), min_size=2, max_size=30))
def test_ordinal_columns_add_up_to_the_grade(values):
    grades = pd.Series([np.nan if v is None else float(v) for v in values], name="KL")
    coded = ordinal_columns(grades, levels=range(6))
    assert list(coded.columns) == [f"KL>={k}" for k in range(1, 6)]
    np.testing.assert_array_equal(coded.sum(axis=1, skipna=False), grades)
    assert {grade_of(c) for c in coded.columns} == {"KL"}


def test_only_columns_of_a_grade_are_its_steps():
    assert grade_of("XRKL>=2") == "XRKL"
    assert grade_of("XRKL>=2_missing") is None
    assert grade_of("AGE") is None
    with pytest.raises(InputError, match="levels"):
        ordinal_columns(pd.Series([1.0, 1.0], name="KL"))
    with pytest.raises(InputError, match=r"KL: grade 7 of b; accepted are 0, 1"):
        ordinal_columns(pd.Series([0.0, 7.0], index=["a", "b"], name="KL"), levels=[0, 1])


@pytest.mark.parametrize("estimate", [3.0])
@pytest.mark.parametrize("prior", [Normal(), RegularisedHorseshoe(relevant=2), R2D2()])
def test_how_far_columns_are_centred_changes_no_prior(prior, estimate, monkeypatch):
    def told(data):
        return np.full(6, estimate), np.full(6, 0.1)

    monkeypatch.setattr("spinmark_biomarkers.survival.models.estimator.rough_estimate", told)
    found = drawn(prior)["beta"].to_numpy()[:, 4]
    monkeypatch.undo()
    other = drawn(prior, draws=501)["beta"].to_numpy()[:, 4]
    assert stats.ks_2samp(found, other).pvalue > 1e-3


def test_clear_columns_are_those_far_from_zero():
    columns = Columns(
        names=("a", "b"), block=np.zeros(2, dtype=np.int64), width=8, slots=8, events=10.0,
        estimate=np.array([0.1, 1.0]), error=np.array([0.1, 0.1]),
    )  # fmt: skip
    np.testing.assert_allclose(clear(columns), [0.004, 1], atol=1e-3)
    assert columns.padded([1.0, 2.0]).shape == (8,)


def test_splines_follow_a_line_and_add_to_one():
    breaks = np.array([0.0, 0.5, 1.5, 2.0, 4.0, 7.0])
    basis = PSpline(coefficients=7).basis(breaks)
    np.testing.assert_allclose(basis.sum(axis=1), 1)
    middle = (breaks + np.append(breaks[1:], 10.0)) / 2
    # With coefficients on a line a B-spline curve is that line.
    curve = basis @ np.arange(7.0)
    slope = np.diff(curve) / np.diff(middle)
    np.testing.assert_allclose(slope, slope[0], rtol=1e-9)


@pytest.mark.parametrize("baseline", [RandomWalk(), PSpline(), Independent()])
def test_the_baseline_is_centred_on_the_rate_that_is_given(baseline):
    found = drawn(None, baseline=baseline, prior_rate=0.2, draws=300)["log_hazard"]
    error = float(found.std()) / np.sqrt(300)
    assert float(found.mean()) == pytest.approx(np.log(0.2), abs=4 * error)


@pytest.mark.parametrize("family", ["weibull", "lognormal", "loglogistic"])
def test_level_and_shape_are_centred_on_the_hazard_of_the_crude_rate(family):
    narrow = LevelAndShape(level_scale=1e-6)
    model = MODELS[family](
        baseline=narrow, prior_rate=0.03, prior_time=5.0, prior=Normal(scale=1e-9)
    )
    model = model.at_prior(DATA, draws=20)
    at = model.hazard(DATA.covariates[:2]).conditional(np.array([5.0]))
    # Whatever the shape, the cumulative hazard at five years is 5 times .03.
    np.testing.assert_allclose(at, 0.15, rtol=1e-4)
    assert model.posterior_["log_shape" if family == "weibull" else "log_scale"].std() > 0.3


def test_blocks_take_priors_of_their_own():
    prior = {"embedding": "r2d2", "clinical": Normal(scale=0.2)}
    found = drawn(prior, draws=200)
    assert found["block"].to_numpy().tolist() == ["clinical"]
    assert found["share_2"].dims == ("draw", "block_2")
    assert found["block_2"].to_numpy().tolist() == ["embedding"]
    assert priors_of_blocks(prior, ("other",)) == {"other": Normal()}
    mixed = {k: ("embedding" if b == "clinical" else "clinical") for k, b in BLOCKS.items()}
    swapped = drawn(prior, mixed, draws=400)
    # Columns keep their places though the priors stand in another order.
    assert swapped["beta"][:, 3].std() < 0.25 < swapped["beta"][:, 0].std()


def test_more_blocks_than_eight_are_taken():
    blocks = {f"x{k}": f"b{k % 3}" for k in range(12)}
    data = DATA.with_covariates(np.zeros((60, 12)), tuple(blocks))
    assert drawn(None, blocks, data, draws=5).sizes["block"] == 3
    each = {name: name for name in blocks}
    assert drawn(None, each, data, draws=5).sizes["block"] == 12


def test_a_vague_prior_is_called_absurd_and_a_sane_one_is_not(tmp_path):
    sane = prior_predictive(PiecewiseExponential(), DATA, BLOCKS, draws=300)
    assert sane.attrs["verdict"].startswith("good")
    assert sane["share"].dims == ("draw", "horizon")
    assert float(sane["incidence"].diff("time").min()) >= -1e-12
    assert float(sane["observed"][-1]) == pytest.approx(DATA.event.mean(), abs=0.01)
    wild = prior_predictive(Weibull(prior=Normal(scale=10, learned=False)), DATA, draws=300)
    assert wild.attrs["verdict"].startswith("doubtful")
    # 20 is log(20) / 10 standard deviations away.
    steep = wild.attrs["absurd"]["a hazard ratio above 20 or below 1/20"]
    assert steep == pytest.approx(2 * stats.norm.sf(np.log(20) / 10), abs=0.05)
    ratios = prior_predictive(Cox(), DATA, draws=100)
    assert "incidence" not in ratios
    for k, checked in enumerate([sane, wild, ratios]):
        prior_check(checked, title="Title").savefig(tmp_path / f"{k}.png")
        assert (tmp_path / f"{k}.png").stat().st_size > 5000
    with pytest.raises(InputError, match="horizons"):
        prior_predictive(Weibull(), DATA, horizons=(8.0, 4.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(scale=0.0), r"Normal.scale: 0.0; accepted is a positive number"),
        (lambda: R2D2(mean=1.2), "between 0 and 1"),
        (lambda: RegularisedHorseshoe(slab_df=float("nan")), "slab_df"),
        (lambda: Monotone(concentration=-1), "concentration"),
        (lambda: PSpline(coefficients=3), "at least 4"),
        (lambda: Independent(scale=-1), "Independent.scale"),
        (lambda: LevelAndShape(shape_scale=0), "shape_scale"),
        (lambda: RandomWalk(step_scale=0), "step_scale"),
        (lambda: priors_of_blocks("lasso", ("a",)), "'lasso'; accepted are normal, r2d2"),
        (lambda: drawn(RegularisedHorseshoe(relevant=6)), "6 of 6 columns; accepted is below 6"),
        (lambda: drawn(None, baseline="step"), "'step'; accepted are random_walk"),
        (lambda: drawn(None, width=4), "width: 4 for 6 covariates"),
        (lambda: drawn(None, always=("x",)), "always: 'x'"),
        (lambda: drawn(None, frailty="beta"), "frailty: 'beta'; accepted are auto"),
    ],
)
def test_settings_that_cannot_be_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
