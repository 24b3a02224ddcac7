"""Curves without a model: Aalen-Johansen cumulative incidence and numbers at risk."""

import numpy as np

from spinmark_biomarkers.survival.data import Floats, Ints


def aalen_johansen(time: Floats, cause: Ints, of: int = 1) -> tuple[Floats, Floats]:
    """Cumulative incidence of a cause with the others competing (Aalen and Johansen 1978).

    Args:
        time: Years, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        of: The cause.

    Returns:
        Distinct times with 0 first, shape (U + 1,), and the incidence at each.
    """
    times, code = np.unique(time, return_inverse=True)
    n = len(times)
    at_risk = np.bincount(code, minlength=n)[::-1].cumsum()[::-1].astype(float)
    ends = np.bincount(code, cause > 0, n)
    before = np.concatenate([[1.0], np.cumprod(1 - ends / at_risk)[:-1]])
    steps = np.cumsum(before * np.bincount(code, cause == of, n) / at_risk)
    return np.append(0.0, times), np.append(0.0, steps)


def at_risk(time: Floats, at: Floats) -> Ints:
    """Number of rows still followed and free of any end at each time, shape (T,)."""
    return np.asarray((time[:, None] >= at).sum(axis=0), dtype=np.int64)
