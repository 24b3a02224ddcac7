"""Coverage: counted by hand, of a posterior that is exact, and of one that is too sure."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.survival_studies import coverage_by_horizon
from spinmark_biomarkers.survival.studies.coverage import (
    COLUMNS,
    hits,
    monte_carlo_interval,
    summarise,
)


def test_hits_by_hand():
    draws = np.linspace(0, 1, 101)[:, None, None] * np.ones((101, 3, 1))
    found = hits(draws, np.array([[0.04], [0.06], [0.5]]), level=0.9)
    assert found.share == pytest.approx([2 / 3])
    assert found.bias == pytest.approx([0.5 - 0.2])
    assert found.width == pytest.approx([0.9])
    assert found.square == pytest.approx([((0.46**2 + 0.44**2) / 3)])
    with pytest.raises(InputError, match=r"accepted is \(D, n, T\)"):
        hits(draws, np.zeros((2, 1)))


def test_monte_carlo_intervals():
    wilson = binomtest(45, 50).proportion_ci(0.95, method="wilson")
    assert monte_carlo_interval([1.0] * 45 + [0.0] * 5) == pytest.approx((wilson.low, wilson.high))
    shares = np.array([0.8, 0.9, 1.0, 0.9])
    half = 3.182446305 * shares.std(ddof=1) / 2
    assert monte_carlo_interval(shares) == pytest.approx((0.9 - half, min(1.0, 0.9 + half)))
    with pytest.raises(InputError, match="cohorts: 1"):
        monte_carlo_interval([1.0])


def cohort(rng, *, sure):
    """Means of 5 units of 4 observations each, prior N(0, 1): the posterior is known."""
    truth = rng.normal(size=(5, 2))
    seen = truth + rng.normal(size=(5, 2)) / 2
    mean, sd = seen * 4 / 5, np.sqrt(1 / 5) / sure
    return hits(mean + sd * rng.normal(size=(2000, 5, 2)), truth)


def test_an_exact_posterior_covers_what_it_claims_and_a_sure_one_does_not():
    rng = np.random.default_rng(3)
    exact = summarise([cohort(rng, sure=1.0) for _ in range(150)], [4, 8])
    assert list(exact.columns) == list(COLUMNS)
    assert ((exact["low"] < 0.9) & (exact["high"] > 0.9)).all()
    assert exact["width"].to_numpy() == pytest.approx(2 * 1.645 / np.sqrt(5), rel=0.02)
    assert (exact["bias"].abs() < 0.05).all()
    sure = summarise([cohort(rng, sure=2.0) for _ in range(150)], [4, 8])
    # Half the width covers 2 Phi(1.645 / 2) - 1 = 0.589.
    assert sure["coverage"].to_numpy() == pytest.approx(2 * norm.cdf(1.645 / 2) - 1, abs=0.04)
    # Regression: seed 3.
    assert exact["coverage"].round(3).tolist() == pytest.approx([0.9, 0.9], abs=0.03)


def test_the_figure_shows_every_quantity_and_horizon():
    rng = np.random.default_rng(3)
    tables = {
        name: summarise([cohort(rng, sure=1.0) for _ in range(20)], [4, 8]) for name in ("a", "b")
    }
    figure = coverage_by_horizon(tables)
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a", "b"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["4", "8"]
    assert "20 simulated cohorts" in axes.get_title()
    with pytest.raises(InputError, match="tables: none"):
        coverage_by_horizon({})
