import numpy as np
import pytest
from scipy.interpolate import make_lsq_spline
from scipy.optimize import minimize

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.calibration import (
    FIGURES,
    calibration_curve,
    calibration_figures,
)
from spinmark_biomarkers.evaluation.pseudo import pseudo_values
from spinmark_biomarkers.evaluation.smoothing import Spline, fit_cloglog, weighted_quantiles

from .survival_metric_cases import in_view, incidence, simulated

HORIZON = 7.0


def test_calibrated_under_the_truth_and_not_when_distorted():
    time, cause, _, _, truth = simulated(12000, 1)
    p = truth([HORIZON])[:, 0]
    found = calibration_figures(time, cause, p, HORIZON)
    assert tuple(found) == FIGURES
    assert found["observed_expected_ratio"] == pytest.approx(1, abs=0.03)
    assert found["calibration_intercept"] == pytest.approx(0, abs=0.05)
    assert found["calibration_slope"] == pytest.approx(1, abs=0.05)
    assert found["ici"] < 0.012
    assert found["e50"] < 0.012
    assert found["e90"] < 0.03
    # Twice too extreme on the scale of the link, and a hazard that is e^.4 too low.
    z = np.log(-np.log1p(-p))
    extreme = calibration_figures(
        time, cause, -np.expm1(-np.exp(z.mean() + 2 * (z - z.mean()))), HORIZON
    )
    assert extreme["calibration_slope"] == pytest.approx(0.5, abs=0.04)
    low = calibration_figures(time, cause, -np.expm1(-np.exp(z - 0.4)), HORIZON)
    assert low["calibration_intercept"] == pytest.approx(0.4, abs=0.05)
    assert low["calibration_slope"] == pytest.approx(1, abs=0.05)
    # The distance is that which was put in.
    shifted = np.abs(-np.expm1(-np.exp(z - 0.4)) - p)
    assert low["ici"] == pytest.approx(shifted.mean(), abs=0.01)
    assert low["e50"] == pytest.approx(np.median(shifted), abs=0.015)
    assert low["e90"] == pytest.approx(np.quantile(shifted, 0.9), abs=0.015)


def test_observed_over_expected_by_hand():
    time, cause, start, _, truth = simulated(300, 2, delayed=True, ties=True)
    weight = np.random.default_rng(0).random(len(time))
    p = truth([HORIZON])[:, 0]
    found = calibration_figures(time, cause, p, HORIZON, weight=weight, start=start)
    observed = incidence(time, cause, start, weight, HORIZON)
    known = np.zeros(len(time))
    for i in range(len(time)):
        if cause[i] > 0 and time[i] <= HORIZON:
            known[i] = weight[i] / in_view(time, cause, start, weight, time[i])
        elif time[i] >= HORIZON and (start[i] < HORIZON or start[i] == 0):
            known[i] = weight[i] / in_view(time, cause, start, weight, HORIZON)
    expected = observed / np.average(p, weights=known)
    assert found["observed_expected_ratio"] == pytest.approx(expected, rel=1e-10)
    found = calibration_figures(time, cause, p, HORIZON, weight=weight)
    observed = incidence(time, cause, 0 * start, weight, HORIZON)
    expected = observed / np.average(p, weights=weight)
    assert found["observed_expected_ratio"] == pytest.approx(expected, rel=1e-12)


def test_late_entry_is_no_miscalibration():
    time, cause, start, _, truth = simulated(16000, 4, delayed=True)
    p = truth([HORIZON])[:, 0]
    found = calibration_figures(time, cause, p, HORIZON, start=start)
    assert found["observed_expected_ratio"] == pytest.approx(1, abs=0.03)
    assert found["calibration_intercept"] == pytest.approx(0, abs=0.06)
    assert found["calibration_slope"] == pytest.approx(1, abs=0.06)
    assert found["ici"] < 0.015
    # Taken as if everyone had been there from the start, those lost before entry are missed.
    naive = calibration_figures(time, cause, p, HORIZON)
    assert naive["observed_expected_ratio"] < 0.9


def test_intercept_and_slope_equal_a_general_optimiser():
    time, cause, _, _, truth = simulated(500, 3)
    p = truth([HORIZON])[:, 0] ** 1.3
    weight = np.random.default_rng(0).random(500)
    found = calibration_figures(time, cause, p, HORIZON, weight=weight)
    y = pseudo_values(time, cause, [HORIZON], weight=weight)[:, 0]
    z = np.log(-np.log(1 - p))

    def error(b, slope=None):
        mean = 1 - np.exp(-np.exp(b[0] + (b[1] if slope is None else slope) * z))
        return np.average((y - mean) ** 2, weights=weight / (p * (1 - p)))

    options = {"xatol": 1e-10, "fatol": 1e-14, "maxiter": 4000}
    both = minimize(error, [0, 1], method="Nelder-Mead", options=options)
    assert found["calibration_slope"] == pytest.approx(both.x[1], abs=1e-5)
    one = minimize(error, [0], args=(1.0,), method="Nelder-Mead", options=options)
    assert found["calibration_intercept"] == pytest.approx(one.x[0], abs=1e-5)


def test_the_spline_is_a_natural_cubic_one():
    rng = np.random.default_rng(0)
    x = rng.random(400)
    spline = Spline.of(x, np.ones(400))
    assert len(spline.knots) == 5
    at = np.linspace(0, 1, 2001)
    basis = spline.basis(at)
    assert basis.shape == (2001, 5)
    bends = np.diff(basis[:, 2:], 2, axis=0)
    outside = (at[1:-1] < spline.knots[0] - 1e-3) | (at[1:-1] > spline.knots[-1] + 1e-3)
    np.testing.assert_allclose(bends[outside], 0, atol=1e-12)
    # Between the knots it spans what a B-spline with its end conditions can be: fits agree.
    inner = spline.knots[1:-1]
    full = make_lsq_spline(
        at,
        basis @ [0.1, 1, 2, -1, 0.5],
        np.r_[[0] * 4, spline.knots[0], inner, spline.knots[-1], [1] * 4],
        3,
    )
    np.testing.assert_allclose(full(at), basis @ [0.1, 1, 2, -1, 0.5], atol=1e-8)


def test_few_distinct_predictions_make_a_simpler_curve():
    time, cause, _, x, _ = simulated(600, 5)
    two = np.where(x > 0, 0.5, 0.2)
    found = calibration_figures(time, cause, two, HORIZON)
    observed = [pseudo_values(time, cause, [HORIZON])[two == k, 0].mean() for k in (0.2, 0.5)]
    far = np.abs(np.array(observed) - [0.2, 0.5])
    share = np.mean(two == 0.5)
    assert found["ici"] == pytest.approx(far @ [1 - share, share], abs=1e-10)
    same = calibration_figures(time, cause, np.full(600, 0.3), HORIZON)
    assert np.isnan(same["calibration_slope"])
    assert same["ici"] == pytest.approx(abs(same["observed_expected_ratio"] - 1) * 0.3, abs=1e-10)
    none = calibration_figures(time, cause, np.zeros(600), HORIZON)
    assert np.isnan(none["observed_expected_ratio"])


def test_weights_are_repeats_and_order_does_not_matter():
    time, cause, start, _, truth = simulated(250, 6, delayed=True)
    p, weight = truth([HORIZON])[:, 0], np.random.default_rng(1).integers(0, 4, len(time))
    k = np.repeat(np.arange(len(time)), weight)[::-1]
    found = calibration_figures(time, cause, p, HORIZON, weight=weight, start=start)
    again = calibration_figures(time[k], cause[k], p[k], HORIZON, start=start[k])
    for name in FIGURES:
        assert found[name] == pytest.approx(again[name], abs=1e-6)


def test_weighted_quantiles_are_those_of_repeats():
    rng = np.random.default_rng(2)
    x, weight = rng.normal(size=50), rng.integers(0, 5, 50)
    shares = [0.0, 0.1, 0.5, 0.9, 1.0]
    expected = np.quantile(np.repeat(x, weight), shares, method="inverted_cdf")
    np.testing.assert_array_equal(weighted_quantiles(x, weight.astype(float), shares), expected)


def test_the_curve_and_its_band():
    time, cause, _, _, truth = simulated(1500, 7, pairs=False)
    p = truth([HORIZON])[:, 0]
    ids = np.repeat(np.arange(750), 2)
    curve = calibration_curve(time, cause, p, HORIZON, ids, draws=60, seed=1)
    assert (curve.low <= curve.high).all()
    assert ((curve.observed >= 0) & (curve.observed <= 1)).all()
    inside = (curve.low <= curve.predicted) & (curve.predicted <= curve.high)
    assert inside.mean() > 0.8
    distorted = calibration_curve(time, cause, p / 2, HORIZON, ids, draws=60, seed=1)
    inside = (distorted.low <= distorted.predicted) & (distorted.predicted <= distorted.high)
    assert inside.mean() < 0.3
    assert (curve.sample == p).all()


def test_the_link_is_fitted_exactly_where_it_holds():
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(200), rng.normal(size=200)])
    y = 1 - np.exp(-np.exp(x @ [-1.0, 0.7] + 0.2))
    found = fit_cloglog(x, np.full(200, 0.2), y, np.ones(200))
    np.testing.assert_allclose(found, [-1.0, 0.7], atol=1e-9)


def test_figures_stay():
    time, cause, _, _, truth = simulated(300, 11)
    found = calibration_figures(time, cause, truth([HORIZON])[:, 0], HORIZON)
    expected = [1.0246539, 0.0361746, 1.0607892, 0.0458976, 0.0406601, 0.0943150]
    np.testing.assert_allclose(list(found.values()), expected, atol=2e-6)


def test_bad_input():
    with pytest.raises(InputError, match="outside 0 to 1 in row 1"):
        calibration_figures([1, 2], [1, 0], [0.2, 1.2], 1.5)
    found = calibration_figures([1, 2, 3], [1, 0, 0], [0.2, 0.3, 0.4], 9.0)
    assert np.isnan(list(found.values())).all()
