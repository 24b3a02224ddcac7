"""Cause-specific hazards integrated into cumulative incidence and time lost.

Over a step from u to v in which the cumulative hazards grow by r_1, ..., r_K, together by R, a share

    S(u) (1 - exp(-R)) r_k / R

of those who started leaves by cause k, S being the survival of all causes. That is exact where the
hazards are constant over the step or jump together, as those of pieces and of Breslow do between their
knots. Elsewhere (a frailty, another family) the steps are also halved, and Richardson's extrapolation
of the two answers removes the leading error. Either way the causes and the survival add to 1.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spinmark_biomarkers.survival.data import Floats, Ints
from spinmark_biomarkers.survival.hazards import Hazard


def integration_grid(
    hazards: Sequence[Hazard], times: Floats, landmark: float
) -> tuple[Floats, Ints, bool]:
    """Times at which the hazards are evaluated.

    Args:
        hazards: One a cause.
        times: Years from the origin at which an answer is wanted, not before the landmark, shape (T,).
        landmark: Where the integration starts, years.

    Returns:
        Increasing years from the landmark on, shape (G,); where the times are among them, shape (T,);
        and whether every second one is the middle of a step that is to be extrapolated.
    """
    last = float(times.max())
    step = min(h.longest_step for h in hazards)
    halved = bool(np.isfinite(step))
    wanted = [np.array([landmark]), times, *(h.knots for h in hazards)]
    if halved:
        wanted.append(np.arange(landmark, last, step))
    grid = np.unique(np.concatenate(wanted))
    grid = grid[(grid >= landmark) & (grid <= last)]
    at = np.searchsorted(grid, times)
    if not halved or len(grid) < 2:
        return grid, at, False
    # Neighbouring times may be so near that the middle equals one of them: hence `at` from before.
    fine = np.empty(2 * len(grid) - 1)
    fine[::2] = grid
    fine[1::2] = (grid[:-1] + grid[1:]) / 2
    return fine, 2 * at, True


def _accumulate(cumulative: Any, grid: Any, stride: int, at: Any, share: Any, lost: Any) -> None:
    causes, draws, rows, _ = cumulative.shape
    steps = (len(grid) - 1) // stride
    gone, area = np.empty(causes), np.empty(causes)
    for d in range(draws):
        for i in range(rows):
            gone[:] = 0.0
            area[:] = 0.0
            alive, t = 1.0, 0
            for g in range(0, steps * stride + 1, stride):
                while t < len(at) and at[t] == g:
                    for k in range(causes):
                        share[k, d, i, t] = gone[k]
                        lost[k, d, i, t] = area[k]
                    t += 1
                if t == len(at):
                    break
                width = grid[g + stride] - grid[g]
                total = 0.0
                for k in range(causes):
                    total += cumulative[k, d, i, g + stride] - cumulative[k, d, i, g]
                leaving = -np.expm1(-total)
                # Shares, per unit of hazard, of those who leave and of the step that they lose.
                if total > 1e-5:
                    per = 1.0 / total
                    left, early = alive * leaving * per, alive * (1 - leaving * per) * per * width
                else:
                    left, early = alive * (1 - total / 2), alive * (0.5 - total / 6) * width
                for k in range(causes):
                    r = cumulative[k, d, i, g + stride] - cumulative[k, d, i, g]
                    area[k] += width * gone[k] + early * r
                    gone[k] += left * r
                alive -= alive * leaving


@functools.cache
def _kernel() -> Callable[..., None]:
    import numba

    compiled: Callable[..., None] = numba.njit(cache=True, error_model="numpy")(_accumulate)
    return compiled


def integrate(hazards: Sequence[Hazard], times: Floats, landmark: float) -> tuple[Floats, Floats]:
    """Incidence and time lost of rows free of every cause at the landmark.

    Args:
        hazards: One a cause, of the same draws and rows.
        times: Increasing years from the origin, not before the landmark, shape (T,).
        landmark: Years from the origin.

    Returns:
        Probability that the cause ends it between the landmark and each time, and its integral over
        time, years; each of shape (K, D, n, T).
    """
    grid, at, halved = integration_grid(hazards, times, landmark)
    cumulative = np.stack([h.cumulative(grid) for h in hazards])
    shape = (*cumulative.shape[:-1], len(times))
    share, lost = np.empty(shape), np.empty(shape)
    _kernel()(cumulative, grid, 1, at, share, lost)
    if halved:
        whole, area = np.empty(shape), np.empty(shape)
        _kernel()(cumulative, grid, 2, at, whole, area)
        share, lost = (4 * share - whole) / 3, (4 * lost - area) / 3
    return share, lost
