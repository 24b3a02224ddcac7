import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.d_calibration import d_calibration

GRID = np.linspace(0, 14, 141)


def simulated(seed, n=600, *, deaths=True, wrong=False, delayed=False):
    """Knees of which half share their luck; exponential causes; the wrong model bends time."""
    rng = np.random.default_rng(seed)
    x, ids = rng.normal(size=n), np.repeat(np.arange(n // 2), 2)
    hazard, death = (0.08 * np.exp(0.7 * x))[:, None], 0.03 if deaths else 1e-9
    luck, same = rng.random(n), np.repeat(rng.random(n // 2) < 0.5, 2)
    luck[same] = np.repeat(rng.random(n // 2), 2)[same]
    event_at = -np.log(luck) / hazard[:, 0]
    death_at, end = np.repeat(rng.exponential(1 / death, n // 2), 2), rng.uniform(3, 14, n)
    time = np.minimum(np.minimum(event_at, death_at), end)
    cause = np.where(time == event_at, 1, np.where(time == death_at, 2, 0))
    both, years = hazard + death, GRID**1.5 / 3 if wrong else GRID
    curves = hazard / both * (1 - np.exp(-both * years))
    start = np.where(rng.random(n) < 0.5, rng.uniform(0, 5, n), 0.0) if delayed else np.zeros(n)
    seen = start < time
    return time[seen], cause[seen], curves[seen], ids[seen], start[seen]


def test_shares_by_hand():
    # Curves are straight: survival at time t is 1 - t / 10.
    grid = np.array([0.0, 10.0])
    curves = np.tile(grid / 10, (4, 1))
    # Events at survival .75 and .25, censored at .6 and at .2, which fill what lies below.
    found = d_calibration([2.5, 7.5, 4.0, 8.0], [1, 1, 0, 0], curves, grid, bins=4)
    low = 1 + 0.25 / 0.6 + 1  # the event at .25 closes the lowest bin from above
    expected = np.array([low, 0.25 / 0.6, 1 + 0.1 / 0.6, 0]) / 4
    np.testing.assert_allclose(found.share, expected, atol=1e-12)
    assert found.n_events == 2
    assert np.isnan(found.p_value)


def test_shares_with_deaths_by_hand():
    grid = np.array([0.0, 10.0])
    curves = np.tile(grid / 20, (5, 1))
    found = d_calibration(
        [1.0, 3.0, 5.0, 7.0, 9.0], [1, 2, 1, 1, 0], curves, grid, horizon=8, bins=4
    )
    # Events at 1/8, 5/8 and 7/8 of the incidence at the horizon; nobody is censored before them.
    np.testing.assert_allclose(found.share, np.array([1, 0, 1, 1]) / 3, atol=1e-12)


@pytest.mark.parametrize(
    ("deaths", "delayed", "horizon"),
    [(True, False, 10.0), (False, False, None), (False, True, None)],
)
def test_uniform_under_the_truth_and_powerful_against_a_wrong_model(deaths, delayed, horizon):
    def p_values(seeds, *, wrong=False, by_subject=True):
        out = []
        for seed in seeds:
            time, cause, curves, ids, start = simulated(
                seed, deaths=deaths, delayed=delayed, wrong=wrong
            )
            found = d_calibration(
                time,
                cause,
                curves,
                GRID,
                ids if by_subject else None,
                horizon=horizon,
                start=start if delayed else None,
            )
            out.append(found.p_value)
        return np.array(out)

    size = (p_values(range(150)) < 0.1).mean()
    assert 0.04 <= size <= 0.18  # .1, three standard errors about it
    assert (p_values(range(20), wrong=True) < 0.05).mean() > 0.7
    # Two knees are not two people: without their subjects the test is too ready to reject.
    assert (p_values(range(150), by_subject=False) < 0.1).mean() > size
    time, cause, curves, ids, start = simulated(1, 30000, deaths=deaths, delayed=delayed)
    late = start if delayed else None
    found = d_calibration(time, cause, curves, GRID, ids, horizon=horizon, start=late)
    np.testing.assert_allclose(found.share, 0.1, atol=0.008)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_order_repeats_and_names_do_not_matter(seed, bins):
    time, cause, curves, ids, _ = simulated(seed, 60, deaths=False)
    weight = np.random.default_rng(seed).integers(1, 3, len(time))
    k = np.repeat(np.arange(len(time)), weight)[::-1]
    one = d_calibration(time, cause, curves, GRID, ids, bins=bins, weight=weight)
    two = d_calibration(time[k], cause[k], curves[k], GRID, 1000 - ids[k], bins=bins)
    np.testing.assert_allclose(one.share, two.share, atol=1e-12)
    assert one.share.sum() == pytest.approx(1)


def test_figures_stay():
    time, cause, curves, ids, _ = simulated(3)
    found = d_calibration(time, cause, curves, GRID, ids, horizon=10.0)
    assert (found.statistic, found.p_value) == pytest.approx((10.826444757, 0.287793178), abs=1e-8)


def test_bad_input():
    time, cause, curves, ids, _ = simulated(0, 50)
    with pytest.raises(InputError, match="someone died"):
        d_calibration(time, cause, curves, GRID, ids)
    with pytest.raises(InputError, match="horizon: 99"):
        d_calibration(time, cause, curves, GRID, ids, horizon=99)
    with pytest.raises(InputError, match="bins: 1"):
        d_calibration(time, cause, curves, GRID, ids, horizon=5, bins=1)
    with pytest.raises(InputError, match="rising"):
        d_calibration(time, cause, curves, GRID[::-1], ids, horizon=5)
    with pytest.raises(InputError, match="subject_ids: shape"):
        d_calibration(time, cause, curves, GRID, ids[:3], horizon=5)
    with pytest.raises(InputError, match="given with a horizon"):
        d_calibration(time, cause, curves, GRID, ids, horizon=5, start=time / 2)
    # No events, no shares.
    none = d_calibration(time, 0 * cause, curves, GRID, ids, horizon=5.0)
    assert none.n_events == 0
    assert np.isnan(none.share).all()
