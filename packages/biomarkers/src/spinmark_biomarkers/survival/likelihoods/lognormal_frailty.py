"""A log-normal frailty by adaptive Gauss-Hermite quadrature: the slow reference for the gamma one.

The joints of a person share w = exp(sigma b) with b standard normal. The median of w is 1, its mean
exp(sigma^2 / 2), so that a baseline is not comparable with that of a gamma frailty without this factor. The
integrand is concave in b on the log scale: Newton steps find its mode, and Hermite nodes are laid around it
by its curvature (Pinheiro and Bates, Journal of Computational and Graphical Statistics 1995). With late
entry the likelihood is conditioned on every joint being free of the event at its entry, as for the gamma
frailty.
"""

from typing import Any

import numpy as np
from scipy import special

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats
from spinmark_biomarkers.survival.likelihoods.arithmetic import NumpyArithmetic
from spinmark_biomarkers.survival.likelihoods.hazard_family import HazardFamily

NODES = 40
_STEPS = 60


def lognormal_subject_log_likelihood(
    family: HazardFamily,
    arrays: dict[str, Any],
    beta: Floats,
    baseline: dict[str, Any],
    sigma: float,
    *,
    nodes: int = NODES,
) -> Floats:
    """Each person's log-likelihood with a shared log-normal frailty, not weighted.

    Args:
        family: Any family but Cox.
        arrays: From `family.arrays`.
        beta: Log hazard ratios, (p,).
        baseline: The parameters named by `family.baseline`.
        sigma: Standard deviation of the log frailty, positive.
        nodes: Number of quadrature nodes.

    Returns:
        Shape (S,), the subjects in the order of `data.subjects`.

    Raises:
        InputError: If sigma is not positive.
    """
    if not sigma > 0:
        raise InputError(f"sigma: {sigma}; accepted is a positive number")
    m, d = NumpyArithmetic(), arrays
    log_hazard, rows = family.row_parts(d, np.asarray(beta, dtype=np.float64), baseline)
    like, subject = d["weight"], d["subject"]
    after = m.total(rows.cumulative, subject, like)
    before = np.zeros_like(after)
    if rows.before is not None:
        before = m.total(rows.before, d["entry_subject"], like)
    width, owner = np.empty(0), np.empty(0, dtype=np.int64)
    if rows.width is not None:
        width, owner = rows.width, subject[d["interval_row"]]
    value = m.total(log_hazard, subject[d["event_row"]], like)
    events = d["subject_events"]
    value = value + _log_integral(events, before + after, width, owner, sigma, nodes)
    none = np.zeros_like(events)
    empty = np.empty(0), np.empty(0, dtype=np.int64)
    return np.asarray(value - _log_integral(none, before, *empty, sigma, nodes))


def lognormal_log_likelihood(
    family: HazardFamily,
    arrays: dict[str, Any],
    beta: Floats,
    baseline: dict[str, Any],
    sigma: float,
    *,
    nodes: int = NODES,
) -> float:
    """The sum over people, weighted; arguments as in `lognormal_subject_log_likelihood`."""
    each = lognormal_subject_log_likelihood(family, arrays, beta, baseline, sigma, nodes=nodes)
    return float(each @ arrays["weight"])


def _log_integral(
    events: Floats, hazard: Floats, width: Floats, owner: Any, sigma: float, nodes: int
) -> Floats:
    """Return log E[w^D exp(-w A) prod (1 - exp(-w V))] over w, (S,)."""
    n = len(events)

    def at(b: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the log integrand and its first two derivatives at b (S, ...)."""
        w = np.exp(sigma * b)
        t = np.maximum(width[:, None] * w[owner], 1e-300)
        share = t / np.maximum(np.expm1(np.minimum(t, 700.0)), 1e-300)
        curve = share * (1 - t - share)

        def summed(v: Floats) -> Floats:
            found = np.zeros((n, b.shape[1]))
            np.add.at(found, owner, v)
            return found

        d, a = events[:, None], hazard[:, None]
        value = -0.5 * b * b + sigma * b * d - w * a + summed(np.log(-np.expm1(-t)))
        slope = -b + sigma * (d - w * a + summed(share))
        return value, slope, -1 - sigma**2 * (w * a - summed(curve))

    mode = np.zeros((n, 1))
    for _ in range(_STEPS):
        _, slope, bend = at(mode)
        # A step of at most 1 / sigma keeps exp within reach; concavity does the rest.
        step = np.clip(-slope / bend, -1 / sigma, 1 / sigma)
        mode = mode + step
        if np.abs(step).max(initial=0) < 1e-10:
            break
    spread = np.sqrt(-1 / at(mode)[2])
    x, weight = special.roots_hermite(nodes)
    b = mode + np.sqrt(2.0) * spread * x
    log_terms = at(b)[0] + x * x + np.log(weight)
    return np.asarray(special.logsumexp(log_terms, axis=1) + np.log(spread[:, 0] / np.sqrt(np.pi)))
