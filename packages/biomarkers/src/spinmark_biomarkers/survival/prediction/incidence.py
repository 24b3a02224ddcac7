"""Absolute risk with all causes competing: cumulative incidence and expected time lost, for every draw.

Both may start at a landmark: the risk of a joint that is free of the event, of a person who is alive, so
many years after the origin (van Houwelingen and Putter, Dynamic Prediction in Clinical Survival Analysis,
2012). With a frailty, having come so far without an event is itself news, and enters.

There is no function for the risk of one cause alone. One minus its survival would be the risk in a world
where nobody dies, and is too high in this one.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats
from spinmark_biomarkers.survival.hazards import Hazard, check_times
from spinmark_biomarkers.survival.prediction.integration import integrate, integration_grid

# Numbers of one cause that a part of the rows may take, about 16 MB.
_MOST = 2_000_000

Hazards = Mapping[str, Hazard]


def check_causes(hazards: Hazards) -> None:
    """Refuse hazards that cannot compete.

    Args:
        hazards: Cause -> draws.

    Raises:
        InputError: If there is one cause alone, or the draws or rows of two causes differ.
    """
    if len(hazards) < 2:
        raise InputError(
            f"hazards: {list(hazards)} alone; accepted is an event with every cause that competes, such as "
            "death (PiecewiseHazard.never where nobody died): one cause alone gives no absolute risk"
        )
    shapes = {name: h.linear.shape for name, h in hazards.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(
            f"hazards: (draws, rows) of {shapes}; accepted are the same for all causes"
        )


def _landmark(value: float) -> float:
    return float(check_times(np.array([value]), "landmark")[0])


def _chunks(
    hazards: Hazards, times: Floats, landmark: float
) -> Iterator[tuple[slice, Floats, Floats]]:
    check_causes(hazards)
    t = check_times(times)
    if (np.diff(t) <= 0).any():
        raise InputError(f"times: {t.tolist()}; accepted are rising years")
    start = _landmark(landmark)
    parts = list(hazards.values())
    draws, n = parts[0].linear.shape
    grid, _, _ = integration_grid(parts, start + t, start)
    size = max(1, _MOST // (draws * len(grid)))
    for first in range(0, n, size):
        rows = slice(first, min(first + size, n))
        share, lost = integrate([h.rows(rows) for h in parts], start + t, start)
        yield rows, share, lost


def incidence_by_rows(
    hazards: Hazards, times: Floats, *, landmark: float = 0.0
) -> Iterator[tuple[slice, Floats]]:
    """Cumulative incidence of a few rows at a time, so that memory stays bounded.

    Args:
        hazards: Cause -> draws of its hazard, all causes that compete.
        times: Rising years after the landmark, shape (T,).
        landmark: Years from the origin at which the joint is free of every cause.

    Yields:
        The rows, and their incidence of each cause, shape (K, D, rows, T).

    Raises:
        InputError: For one cause alone, causes that do not fit, or times that do not rise.
    """
    for rows, share, _ in _chunks(hazards, times, landmark):
        yield rows, share


def incidence(hazards: Hazards, times: Floats, *, landmark: float = 0.0) -> Floats:
    """Probability that each cause comes first, within each time after the landmark.

    Args:
        hazards: Cause -> draws of its hazard, all causes that compete.
        times: Rising years after the landmark, shape (T,).
        landmark: Years from the origin at which the joint is free of every cause.

    Returns:
        Shape (K, D, n, T), causes in the order given; with the chance of none of them they add to 1. Exact
        for piecewise hazards without frailty and for Breslow's; within about 1e-6 otherwise.

    Raises:
        InputError: For one cause alone, causes that do not fit, or times that do not rise.
    """
    parts = [share for _, share in incidence_by_rows(hazards, times, landmark=landmark)]
    return np.concatenate(parts, axis=2)


def time_lost(hazards: Hazards, horizon: float, *, landmark: float = 0.0) -> Floats:
    """Years lost to each cause before a horizon: the integral of its incidence (Andersen 2013).

    What is left of the horizon is the expected time free of all causes (restricted mean).

    Args:
        hazards: Cause -> draws of its hazard, all causes that compete.
        horizon: Years after the landmark.
        landmark: Years from the origin at which the joint is free of every cause.

    Returns:
        Shape (K, D, n), years; exact as `incidence` is, within about 1e-5 years otherwise.

    Raises:
        InputError: For one cause alone, causes that do not fit, or a horizon that is not positive.
    """
    if not horizon > 0:
        raise InputError(f"horizon: {horizon}; accepted are positive years")
    chunks = _chunks(hazards, np.array([horizon]), landmark)
    return np.concatenate([lost[..., 0] for _, _, lost in chunks], axis=2)


def time_free(hazards: Hazards, horizon: float, *, landmark: float = 0.0) -> Floats:
    """Expected years free of every cause before a horizon (restricted mean), shape (D, n).

    Args:
        hazards: Cause -> draws of its hazard, all causes that compete.
        horizon: Years after the landmark.
        landmark: Years from the origin at which the joint is free of every cause.
    """
    return np.asarray(horizon - time_lost(hazards, horizon, landmark=landmark).sum(axis=0))
