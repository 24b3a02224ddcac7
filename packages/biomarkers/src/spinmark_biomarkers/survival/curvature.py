"""Value, gradient and Hessian of the piecewise-exponential likelihood, with the frailty integrated out.

Every part of a person's likelihood is a function of few sums: the cumulative hazard T to the end of
follow-up, E before entry, and V_1, V_2 within the intervals of interval-censored events. With
G(a) = -(1/theta + D) log(1 + theta a) it is

    G(T) + log(1 + theta E) / theta

without interval-censored events, and with them, m running over the subsets of the V,

    log sum_m sign_m exp(G(T + sum of the V in m)) + log(1 + theta E) / theta

so that derivatives by the sums are short, and those of the sums by the parameters are the cells
exp(x_i beta + log_hazard_j) * years_ij: a sum of matrix products, without a loop over rows.
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from scipy import sparse

from spinmark_biomarkers.survival.data import Floats, Ints
from spinmark_biomarkers.survival.likelihoods.frailty import NO_FRAILTY


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """Hazards gathered by some rows: `x (R, p)`, `cells (R, J)` and their sum over pieces `total (R,)`."""

    x: Floats
    cells: Floats
    total: Floats

    def gradients(self) -> Floats:
        """By the parameters, of each row's total, shape (R, p + J)."""
        return np.hstack([self.x * self.total[:, None], self.cells])


def _cells(x: Floats, years: Floats, ratio: Floats, hazard: Floats) -> _Cells:
    cells = ratio[:, None] * years * hazard
    return _Cells(x=x, cells=cells, total=cells.sum(axis=1))


class _Sum:
    """Gradient and Hessian as they are gathered."""

    def __init__(self, p: int, pieces: int) -> None:
        self.p = p
        self.value = 0.0
        self.gradient = np.zeros(p + pieces)
        self.hessian = np.zeros((p + pieces, p + pieces))

    def linear(self, rows: _Cells, slope: Floats) -> None:
        """Add `sum_i slope_i total_i`."""
        p, weighted = self.p, slope * rows.total
        by_piece = slope @ rows.cells
        self.gradient += np.concatenate([weighted @ rows.x, by_piece])
        cross = rows.x.T @ (slope[:, None] * rows.cells)
        self.hessian[:p, :p] += rows.x.T @ (weighted[:, None] * rows.x)
        self.hessian[:p, p:] += cross
        self.hessian[p:, :p] += cross.T
        self.hessian[p:, p:] += np.diag(by_piece)

    def square(self, first: Floats, second: Floats, bend: Floats) -> None:
        """Add the part of the Hessian that second derivatives by two sums give."""
        found = first.T @ (bend[:, None] * second)
        self.hessian += found if first is second else found + found.T


def _grouped(values: Floats, group: Ints, size: int) -> Floats:
    """Sums of the rows of `values (n, k)` by group, shape (size, k)."""
    n = len(group)
    where = sparse.csr_matrix((np.ones(n), (group, np.arange(n))), shape=(size, n))
    return np.asarray(where @ values)


def curvature(
    d: dict[str, Any], beta: Floats, log_hazard: Floats, theta: float | None
) -> tuple[float, Floats, Floats]:
    """The weighted log-likelihood and its derivatives by (beta, log_hazard).

    Args:
        d: From `Piecewise.arrays`, without padding; at most two interval-censored events a subject
            where there is a frailty.
        beta: Log hazard ratios, (p,).
        log_hazard: Log baseline hazard a year in each piece, (J,).
        theta: Frailty variance, held fixed; None for none.

    Returns:
        Value, gradient (p + J,) and Hessian (p + J, p + J).
    """
    x, hazard = d["x"], np.exp(log_hazard)
    ratio = np.exp(x @ beta)
    out = _Sum(len(beta), len(log_hazard))
    out.gradient += np.concatenate([d["covariate_sum"], d["events"]])
    out.value += float(d["covariate_sum"] @ beta + d["events"] @ log_hazard)
    after = _cells(x, d["exposure"], ratio, hazard)
    at = d["interval_row"]
    within = _cells(x[at], d["interval_exposure"], ratio[at], hazard)
    if theta is None:
        out.linear(after, -d["row_weight"])
        out.value -= float(d["row_weight"] @ after.total)
        if len(at):
            # log(1 - exp(-v)); past 500 both slopes are zero to the last digit.
            grown = np.expm1(np.minimum(within.total, 500.0))
            weight, gradients = d["interval_weight"], within.gradients()
            out.value += float(weight @ np.log(-np.expm1(-within.total)))
            out.linear(within, weight / grown)
            out.square(gradients, gradients, -weight * (grown + 1) / grown**2)
        return out.value, out.gradient, out.hessian
    late = d["entry_row"]
    before = _cells(x[late], d["entry_exposure"], ratio[late], hazard)
    _people(d, out, after, before, within, max(theta, NO_FRAILTY))
    return out.value, out.gradient, out.hessian


def _people(
    d: dict[str, Any], out: _Sum, after: _Cells, before: _Cells, within: _Cells, theta: float
) -> None:
    """Add what the frailty ties together."""
    subject, weight, size = d["subject"], d["weight"], len(d["weight"])
    entered = d["entry_subject"]
    shape = 1 / theta + d["subject_events"]
    early = np.bincount(entered, before.total, size)
    total = np.bincount(subject, after.total, size) + early
    out.value += float(d["rising"] @ np.log1p(theta * np.arange(1, len(d["rising"]) + 1)))
    out.value += float(weight @ (np.log1p(theta * early) / theta - shape * np.log1p(theta * total)))
    of_total = _grouped(after.gradients(), subject, size)
    slope, bend = -theta * shape / (1 + theta * total), theta**2 * shape / (1 + theta * total) ** 2
    if len(entered):
        of_early = _grouped(before.gradients(), entered, size)
        of_total = of_total + of_early
        out.linear(before, (weight / (1 + theta * early))[entered])
        out.square(of_early, of_early, -weight * theta / (1 + theta * early) ** 2)
    of_within = within.gradients()
    slopes_within = np.zeros(len(within.total))
    for people, places in (
        (d["single"], [d["single_interval"]]),
        (d["pair"], [d["pair_first"], d["pair_second"]]),
    ):
        if not len(people):
            continue
        sums = [total[people], *(within.total[place] for place in places)]
        chance, first, second = _differences(sums, shape[people], theta)
        out.value += float(weight[people] @ np.log(chance))
        slope[people] = first[0]
        # What G(T) alone would bend is taken over by the matrix of second derivatives.
        bend[people] = second[0, 0]
        w = weight[people]
        gradients = [of_total[people], *(of_within[place] for place in places)]
        for k, place in enumerate(places):
            slopes_within[place] += w * first[k + 1]
        for a, b in combinations_with_replacement(range(len(sums)), 2):
            if b > 0:
                out.square(gradients[a], gradients[b], w * second[a, b])
    out.linear(after, (weight * slope)[subject])
    if len(entered):
        out.linear(before, (weight * slope)[entered])
    out.linear(within, slopes_within)
    out.square(of_total, of_total, weight * bend)


def _differences(sums: list[Floats], shape: Floats, theta: float) -> tuple[Floats, Floats, Floats]:
    """First and second derivatives of log sum_m sign_m exp(G(T + V in m)) by (T, V_1, ...).

    Args:
        sums: T and one or two V, each (P,).
        shape: 1/theta + D, (P,).
        theta: Frailty variance.

    Returns:
        The sum relative to exp(G(T)), (P,), and the derivatives, (K, P) and (K, K, P), by the K sums.
    """
    k = len(sums)
    subsets = [tuple(b for b in range(k - 1) if m >> b & 1) for m in range(2 ** (k - 1))]
    ends = np.array([sums[0] + sum((sums[1 + b] for b in m), np.zeros(1)) for m in subsets])
    # Relative to exp(G(T)), which is the largest of them.
    terms = np.exp(-shape * np.log1p(theta * (ends - ends[0]) / (1 + theta * ends[0])))
    signs = np.array([(-1.0) ** len(m) for m in subsets])[:, None]
    chance = np.maximum((signs * terms).sum(axis=0), 1e-300)
    share = signs * terms / chance
    g1 = -theta * shape / (1 + theta * ends)
    g2 = theta**2 * shape / (1 + theta * ends) ** 2
    # Which ends a sum is part of: T of all.
    part = np.array(
        [[1.0] * len(subsets)] + [[float(b in m) for m in subsets] for b in range(k - 1)]
    )
    first = np.einsum("km,mp,mp->kp", part, share, g1)
    second = np.einsum("km,lm,mp,mp->klp", part, part, share, g2 + g1**2)
    return chance, first, second - first[:, None] * first[None]
