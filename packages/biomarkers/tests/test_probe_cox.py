"""Ridge Cox regression against its definition, against lifelines, and where there is nothing to learn."""

import numpy as np
import pandas as pd
import pytest

from spinmark_biomarkers.evaluation.concordance import harrell_c
from spinmark_biomarkers.evaluation.cox import cox_predictions, fit_cox, partial_likelihood
from spinmark_biomarkers.evaluation.spectral import subject_folds


def simulated(n=150, features=4, ties=False, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features))
    time = rng.exponential(np.exp(-x[:, 0]))
    event = time < 1.5
    time = np.minimum(time, 1.5)
    return x, np.ceil(time * 8) if ties else time, event


@pytest.mark.parametrize("ties", [False, True])
def test_partial_likelihood_is_its_definition(ties):
    x, time, event = simulated(40, ties=ties)
    risk = x @ [0.5, -1.0, 0.2, 0.0]
    expected = sum(
        risk[i] - np.log(np.exp(risk[time >= time[i]]).sum()) for i in np.flatnonzero(event)
    )
    assert partial_likelihood(risk, time, event) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_the_penalised_likelihood_is_at_its_top(ties):
    x, time, event = simulated(ties=ties)
    w = fit_cox(x, time, event, alpha=2.0)

    def objective(coef):
        return partial_likelihood(x @ coef, time, event) - coef @ coef

    slope = [(objective(w + 1e-5 * step) - objective(w - 1e-5 * step)) / 2e-5 for step in np.eye(4)]
    np.testing.assert_allclose(slope, 0, atol=1e-2)
    assert all(objective(w) >= objective(w + 0.05 * step) for step in np.eye(4))


# lifelines calls what pandas 4 will change.
@pytest.mark.filterwarnings("ignore:Starting with pandas version 4.0")
def test_it_agrees_with_lifelines():
    lifelines = pytest.importorskip("lifelines")
    x, time, event = simulated()
    frame = pd.DataFrame(x).add_prefix("x").assign(time=time, event=event)
    # Without ties; lifelines divides the likelihood by n and standardises within.
    peer = lifelines.CoxPHFitter().fit(frame, "time", "event")
    ours = fit_cox(x, time, event, alpha=1e-6)
    np.testing.assert_allclose(ours, peer.params_.to_numpy(), atol=2e-3)


def test_held_out_people_are_ranked_and_noise_is_shrunk():
    x, time, event = simulated(600, 20)
    groups = np.repeat(np.arange(200), 2)
    fit, new = slice(0, 400), slice(400, 600)
    folds = subject_folds(groups)
    said, _ = cox_predictions(x[fit], time[fit], event[fit], folds, x[new])
    best = harrell_c(time[new], event[new], x[new, 0])
    assert harrell_c(time[new], event[new], said) > best - 0.05
    rng = np.random.default_rng(9)
    _, alpha = cox_predictions(rng.normal(size=(400, 20)), time[fit], event[fit], folds, x[new])
    assert alpha >= 1000
