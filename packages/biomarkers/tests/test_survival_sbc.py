"""Ranks, bands and verdicts of calibration, and that a wrong posterior is found out."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstwobign

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.survival_studies import rank_departures
from spinmark_biomarkers.survival.studies.generative import FEWEST_EVENTS, generative_models
from spinmark_biomarkers.survival.studies.ranks import (
    ecdf_band,
    histogram,
    holm,
    rank,
    uniformity,
)
from spinmark_biomarkers.survival.studies.sbc import calibrate, replicate, thin, verdicts


class Exponential:
    """Rate ~ Gamma(2, 1), n exponential times: the posterior is Gamma(2 + n, 1 + sum), drawn exactly."""

    name = "exponential"

    def __init__(self, *, wrong: float = 1.0, n: int = 5, refuse: float = np.inf) -> None:
        self.wrong, self.n, self.refuse = wrong, n, refuse

    def prior(self, rng):
        return {"rate": rng.gamma(2.0)}

    def simulate(self, parameters, seed):
        times = np.random.default_rng(seed).exponential(1 / parameters["rate"], self.n)
        return None if times.max() > self.refuse else times

    def truth(self, parameters, data):
        rate = parameters["rate"]
        return {"rate": rate, "log-likelihood": self.n * np.log(rate) - rate * data.sum()}

    def posterior(self, data, *, seed, draws):
        # `wrong` sharpens (above 1) or flattens the likelihood.
        shape, scale = 2 + self.wrong * self.n, 1 / (1 + self.wrong * data.sum())
        rate = np.random.default_rng(seed).gamma(shape, scale, (2, draws // 2))
        like = self.n * np.log(rate) - rate * data.sum()
        return xr.Dataset(
            {"rate": (("chain", "draw"), rate), "log-likelihood": (("chain", "draw"), like)}
        )


def test_ranks_by_hand():
    assert rank(0.5, np.array([0.1, 0.9, 0.4])) == 2
    assert rank(-1.0, np.array([0.0])) == 0
    # Among equals each place has the same chance.
    tied = [rank(0.0, np.array([0.0, 0.0, -1.0]), seed=s) for s in range(600)]
    counts = np.bincount(tied, minlength=4)
    assert counts[0] == 0
    assert (np.abs(counts[1:] - 200) < 50).all()
    with pytest.raises(InputError, match="not finite beside a truth of nan"):
        rank(np.nan, np.array([0.0]))


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_holm_does_not_depend_on_order_and_never_lowers_a_p(values, random):
    adjusted = holm(values)
    assert (adjusted >= np.array(values) - 1e-15).all()
    order = list(range(len(values)))
    random.shuffle(order)
    np.testing.assert_allclose(holm([values[i] for i in order]), adjusted[order])


def test_the_histogram_counts_every_rank_once():
    counts, expected = histogram(np.arange(10), 9, 3)
    assert counts.tolist() == [3, 4, 3]
    np.testing.assert_allclose(expected, [3, 4, 3])
    with pytest.raises(InputError, match=r"ranks: 10; accepted are 0 to 9"):
        histogram([10], 9, 3)
    with pytest.raises(InputError, match="bins: 11"):
        histogram([0], 9, 11)


def test_the_chi_square_is_that_of_the_textbook():
    rng = np.random.default_rng(3)
    ranks = rng.integers(0, 64, 200)
    observed = np.bincount(ranks // 16, minlength=4)
    statistic = ((observed - 50) ** 2 / 50).sum()
    assert uniformity(ranks, 63, bins=4).p_histogram == pytest.approx(chi2.sf(statistic, 3))


def test_p_values_of_uniform_ranks_are_uniform_and_the_band_holds_its_level():
    rng = np.random.default_rng(11)
    ranks = rng.integers(0, 32, (400, 100))
    p = np.array([uniformity(row, 31).p_ecdf for row in ranks])
    # A discrete statistic: at most the level, and not far below.
    for level in (0.05, 0.2, 0.5):
        share = (p <= level).mean()
        assert level - 0.1 <= share <= level + 3 * np.sqrt(level * (1 - level) / 400), (
            level,
            share,
        )
    share, low, high = ecdf_band(100, 31)
    below = (ranks[:, :, None] < np.arange(1, 32)).mean(axis=1)
    inside = ((below >= low) & (below <= high)).all(axis=1)
    assert 0.93 <= inside.mean() <= 0.985
    # In the middle it is near Kolmogorov's band, which is wider at the ends.
    middle = 15
    half = kstwobign.ppf(0.95) / np.sqrt(100)
    assert high[middle] - share[middle] == pytest.approx(half, abs=0.025)
    assert high[0] - share[0] < half


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (lambda u: u**1.6, "posterior too high"),
        (lambda u: 1 - u**1.6, "posterior too low"),
        (
            lambda u: np.where(u < 0.5, u**1.8 * 0.5**-0.8, 1 - (1 - u) ** 1.8 * 0.5**-0.8),
            "too narrow",
        ),
        (lambda u: 0.5 + np.sign(u - 0.5) * np.abs(u - 0.5) ** 1.6 * 0.5**-0.6, "too wide"),
    ],
)
def test_departures_are_named(shape, words):
    u = np.random.default_rng(5).uniform(size=300)
    ranks = pd.DataFrame({"seed": 0, "ess": 1.0, "a": np.floor(shape(u) * 64).astype(int)})
    told = verdicts(ranks, 63)
    assert words in told["verdict"].iloc[0]
    assert told["p_holm"].iloc[0] < 1e-3


def test_draws_are_thinned_evenly_from_every_chain():
    values = np.arange(20.0).reshape(2, 10)
    assert thin(values, 4).tolist() == [0, 9, 10, 19]
    assert thin(values, 3).tolist() == [0, 9, 10]
    with pytest.raises(InputError, match="draws: 21 of 20"):
        thin(values, 21)


def test_an_exact_posterior_is_calibrated_and_figures_do_not_move():
    ranks = calibrate(Exponential(), replicates=120, draws=31, seed=0)
    told = verdicts(ranks, 31)
    assert list(told["verdict"]) == ["uniform", "uniform"]
    # Regression: seeds 0 to 119.
    assert ranks["rate"].sum() == 1831
    again = calibrate(Exponential(), replicates=2, draws=31, seed=5)
    assert again["rate"].tolist() == ranks["rate"].tolist()[5:7]


@pytest.mark.parametrize(("wrong", "words"), [(4.0, "narrow"), (0.0, "log-likelihood")])
def test_a_posterior_that_takes_the_data_too_seriously_or_not_at_all_is_found(wrong, words):
    ranks = calibrate(Exponential(wrong=wrong), replicates=120, draws=31)
    told = verdicts(ranks, 31).set_index("parameter")
    if words == "narrow":
        assert "too narrow" in told.loc["rate", "verdict"]
    else:
        # Draws from the prior are calibrated in each parameter; a quantity of data and parameter tells.
        assert told.loc["rate", "verdict"] == "uniform"
        assert told.loc["log-likelihood", "verdict"] != "uniform"


def test_refusing_data_leaves_ranks_uniform_and_too_much_refusal_is_an_error():
    picky = Exponential(refuse=2.0)
    one = replicate(picky, 7, draws=31)
    told = verdicts(calibrate(picky, replicates=120, draws=31), 31)
    assert list(told["verdict"]) == ["uniform", "uniform"]
    assert one.tries >= 1
    with pytest.raises(InputError, match="none of 200 data sets is accepted"):
        replicate(Exponential(refuse=0.0), 0)


def test_earlier_replicates_are_kept_and_new_ones_told():
    first = replicate(Exponential(), 0, draws=31)
    new = []
    table = calibrate(
        Exponential(), replicates=3, draws=31, kept=[first], progress=lambda r: new.append(r.seed)
    )
    assert new == [1, 2]
    assert table["rate"].iloc[0] == first.ranks["rate"]


def test_the_figure_marks_what_leaves_the_band():
    good = calibrate(Exponential(), replicates=60, draws=31)
    bad = calibrate(Exponential(wrong=5.0), replicates=60, draws=31)
    figure = rank_departures({"good": good, "bad": bad}, 31)
    colours = [{line.get_color() for line in axes.lines[1:]} for axes in figure.axes]
    assert colours[0] == {"#0072B2"}
    assert "#D55E00" in colours[1]
    with pytest.raises(InputError, match="of no model"):
        rank_departures({}, 31)


MODELS = sorted(generative_models())


@pytest.mark.parametrize("name", MODELS)
def test_priors_of_the_estimators_make_data_that_they_take(name):
    model = generative_models()[name]
    rng = np.random.default_rng(0)
    taken = 0
    for seed in range(12):
        parameters = model.prior(rng)
        data = model.simulate(parameters, seed)
        if data is None:
            continue
        taken += 1
        assert int(data.event.sum()) >= FEWEST_EVENTS
        truth = model.truth(parameters, data)
        assert all(np.isfinite(v) for v in truth.values())
        assert ("log-likelihood" in truth) == model.likelihood
        beta = [v for k, v in truth.items() if k.startswith("beta[")]
        np.testing.assert_array_equal(beta, parameters["beta"])
        assert data.interval.any() == (model.scenario.visits != ())
        assert (data.start > 0).any() == (model.scenario.late_entry > 0)
    assert taken >= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_generative_model_is_calibrated(name):
    # 40 truths find a gross mistake; `nox -s bench -- survival_sbc` takes 200.
    ranks = calibrate(generative_models()[name], replicates=40, draws=31, seed=1)
    told = verdicts(ranks, 31, level=0.001)
    assert set(told["verdict"]) == {"uniform"}, told[told["p_holm"] < 0.001]
