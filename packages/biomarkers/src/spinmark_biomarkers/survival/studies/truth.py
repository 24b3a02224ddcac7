"""Laws of the time to an event, known exactly: cumulative hazards, their inverses, true incidence.

Written apart from the likelihoods and the predictions, so that a study compares two derivations. With
`eta = x beta`, higher for higher risk, and a frailty `w` that multiplies the hazard:

- piecewise: hazard `exp(eta + log_hazard[j])` in piece j;
- weibull (and cox, which knows no baseline and takes this one): `H(t) = exp(level + eta) t^shape`;
- lognormal, loglogistic: `log T = level - eta + scale * eps`, `eps` standard normal or logistic, `H = -log S`.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri_exp

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats

FAMILIES = ("piecewise", "weibull", "lognormal", "loglogistic", "cox")
Frailty = Literal["none", "gamma", "lognormal"]
FRAILTIES: tuple[Frailty, ...] = ("none", "gamma", "lognormal")

# With death's survival taken at the middle of each step, the error of an incidence is below 1e-6.
_STEPS_A_YEAR = 50
_NODES = 60

DEFAULTS: dict[str, dict[str, tuple[float, ...]]] = {
    "piecewise": {"breaks": (0.0, 2.0, 5.0), "log_hazard": (-3.9, -3.4, -3.0)},
    "weibull": {"level": (-4.4,), "log_shape": (0.35,)},
    "lognormal": {"level": (3.0,), "log_scale": (0.0,)},
    "loglogistic": {"level": (2.9,), "log_scale": (-0.4,)},
    "cox": {"level": (-4.4,), "log_shape": (0.35,)},
}
"""Baselines that give between a fifth and a third of the joints an event in ten years."""

Baseline = Mapping[str, Floats]


def baseline_of(family: str, given: Mapping[str, npt.ArrayLike] | None = None) -> dict[str, Floats]:
    """Return the parameters of a baseline as arrays.

    Args:
        family: One of `FAMILIES`.
        given: The parameters; the defaults of the family where none are given.

    Raises:
        InputError: An unknown family, or other parameters than the family has.
    """
    if family not in FAMILIES:
        raise InputError(f"family: {family!r}; accepted are {', '.join(FAMILIES)}")
    chosen = DEFAULTS[family] if given is None else given
    if set(chosen) != set(DEFAULTS[family]):
        raise InputError(
            f"baseline: {sorted(chosen)} for {family}; accepted are {', '.join(DEFAULTS[family])}"
        )
    found = {name: np.atleast_1d(np.asarray(v, dtype=np.float64)) for name, v in chosen.items()}
    if family == "piecewise":
        breaks = found["breaks"]
        if (
            breaks[0] != 0
            or (np.diff(breaks) <= 0).any()
            or breaks.shape != found["log_hazard"].shape
        ):
            raise InputError(
                f"breaks: {breaks.tolist()} with {len(found['log_hazard'])} hazards; accepted are as many, "
                "increasing from 0"
            )
    return found


def cumulative_hazard(family: str, baseline: Baseline, eta: Floats, times: Floats) -> Floats:
    """Cumulative hazard at frailty 1.

    Args:
        family: One of `FAMILIES`.
        baseline: From `baseline_of`.
        eta: Log hazard ratios (AFT families: minus the shift of log time), shape (n,).
        times: Years, shape (T,).

    Returns:
        Shape (n, T).
    """
    eta, times = np.asarray(eta)[:, None], np.asarray(times)[None]
    if family == "piecewise":
        breaks, hazard = baseline["breaks"], np.exp(baseline["log_hazard"])
        at_breaks = np.concatenate([[0.0], np.cumsum(np.diff(breaks) * hazard[:-1])])
        piece = np.searchsorted(breaks, times, side="right") - 1
        return np.asarray(
            np.exp(eta) * (at_breaks[piece] + hazard[piece] * (times - breaks[piece]))
        )
    level = baseline["level"]
    if family in ("weibull", "cox"):
        return np.asarray(np.exp(level + eta) * times ** np.exp(baseline["log_shape"]))
    with np.errstate(divide="ignore"):
        eps = (np.log(times) - level + eta) / np.exp(baseline["log_scale"])
    return np.asarray(-log_ndtr(-eps) if family == "lognormal" else np.logaddexp(0.0, eps))


def time_at_hazard(family: str, baseline: Baseline, eta: Floats, total: Floats) -> Floats:
    """Time at which the cumulative hazard at frailty 1 reaches `total`; its inverse, shape (n,)."""
    if family == "piecewise":
        breaks, hazard = baseline["breaks"], np.exp(baseline["log_hazard"])
        at_breaks = np.concatenate([[0.0], np.cumsum(np.diff(breaks) * hazard[:-1])])
        left = total * np.exp(-eta)
        piece = np.searchsorted(at_breaks, left, side="right") - 1
        return np.asarray(breaks[piece] + (left - at_breaks[piece]) / hazard[piece])
    level = baseline["level"]
    # A log time beyond this is never, for whatever is followed; it must not overflow.
    if family in ("weibull", "cox"):
        log_time = (np.log(total) - level - eta) / np.exp(baseline["log_shape"])
        return np.asarray(np.exp(np.minimum(log_time, 500.0)))
    eps = -ndtri_exp(-total) if family == "lognormal" else total + np.log(-np.expm1(-total))
    return np.asarray(np.exp(np.minimum(level - eta + np.exp(baseline["log_scale"]) * eps, 500.0)))


def marginal_survival(cumulative: Floats, frailty: Frailty, spread: float) -> Floats:
    """Survival with the frailty integrated out, from cumulative hazards at frailty 1.

    Args:
        cumulative: Any shape.
        frailty: Its law: gamma of mean 1 and variance `spread`, `exp(spread * b)` with `b` standard
            normal, or none.
        spread: See `frailty`.

    Returns:
        The same shape; for the log-normal law by Gauss-Hermite quadrature.
    """
    if frailty == "none" or spread == 0:
        return np.asarray(np.exp(-cumulative))
    if frailty == "gamma":
        return np.asarray(np.exp(-np.log1p(spread * cumulative) / spread))
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    total = np.zeros_like(cumulative)
    for b, share in zip(nodes, weights / weights.sum(), strict=True):
        total += share * np.exp(-np.exp(spread * b) * cumulative)
    return total


def true_incidence(
    family: str,
    baseline: Baseline,
    eta: Floats,
    death_rate: Floats,
    times: Floats,
    *,
    frailty: Frailty = "none",
    spread: float = 0.0,
) -> tuple[Floats, Floats]:
    """True cumulative incidence of the event and of death, the frailty integrated out.

    Args:
        family: One of `FAMILIES`.
        baseline: From `baseline_of`.
        eta: Log hazard ratios, shape (n,).
        death_rate: Constant hazard of death a year, shape (n,).
        times: Years, shape (T,).
        frailty: As for `marginal_survival`.
        spread: The same.

    Returns:
        Event and death, each (n, T): probabilities of either as the first.
    """
    times = np.asarray(times, dtype=np.float64)
    last = float(times.max(initial=0.0))
    even = np.linspace(0.0, last, int(np.ceil(last * _STEPS_A_YEAR)) + 2)
    edges = np.unique(np.concatenate([even, times]))
    middle = (edges[1:] + edges[:-1]) / 2
    free = marginal_survival(cumulative_hazard(family, baseline, eta, edges), frailty, spread)
    at = np.searchsorted(edges, times)
    rate = np.asarray(death_rate)[:, None]
    steps = (free[:, :-1] - free[:, 1:]) * np.exp(-rate * middle)
    event = np.concatenate([np.zeros((len(free), 1)), np.cumsum(steps, axis=1)], axis=1)
    # Whoever is neither free and alive nor had the event has died.
    neither = free * np.exp(-rate * edges)
    return event[:, at], (1.0 - neither - event)[:, at]
