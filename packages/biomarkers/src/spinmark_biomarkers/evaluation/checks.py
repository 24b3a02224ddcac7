"""Checks of arrays with one value a row, which name the rows at fault."""

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def first_rows(bad: npt.NDArray[np.bool_]) -> str:
    """Name the first three rows at fault, and how many more there are."""
    rows = np.flatnonzero(bad)
    more = rows.size - min(3, rows.size)
    return "row " + ", ".join(map(str, rows[:3].tolist())) + (f" and {more} more" if more else "")


def row_values(
    values: npt.ArrayLike, n: int, name: str, *, low: float = -np.inf, high: float = np.inf
) -> Floats:
    """One finite number a row, within bounds, shape (n,).

    Args:
        values: What was given.
        n: Number of rows.
        name: Its name in the message.
        low: Smallest value accepted.
        high: Largest value accepted.

    Raises:
        InputError: Naming the rows at fault.
    """
    x = np.ascontiguousarray(values, dtype=np.float64)
    if x.shape != (n,):
        raise InputError(f"{name}: shape {x.shape}; accepted is ({n},), one number a row")
    bad: npt.NDArray[np.bool_] = ~(np.isfinite(x) & (x >= low) & (x <= high))
    if bad.any():
        bounds = "" if low == -np.inf and high == np.inf else f" from {low:g} to {high:g}"
        raise InputError(
            f"{name}: {x[bad][0]:g} in {first_rows(bad)}; accepted are finite numbers{bounds}"
        )
    return x


def event_values(values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Who had the event; the cause 2 of a death, taken for true, would count as one.

    Args:
        values: 0 and 1 or truth values, shape (n,).

    Raises:
        InputError: Naming the rows with another value.
    """
    given = np.asarray(values)
    bad = np.asarray(~np.isin(given, (0, 1)), dtype=np.bool_)
    if bad.any():
        raise InputError(
            f"event: {given[bad][0]} in {first_rows(bad)}; accepted are 0 and 1 or truth values (of causes, "
            "cause == 1)"
        )
    return np.asarray(given, dtype=np.bool_)


def probabilities(values: npt.ArrayLike, n: int, width: int, name: str = "predicted") -> Floats:
    """Probabilities of shape (n, width); (n,) is taken as one column.

    Args:
        values: What was given.
        n: Number of rows.
        width: Number of times.
        name: Its name in the message.

    Raises:
        InputError: For another shape or a value outside 0 to 1.
    """
    p = np.asarray(values, dtype=np.float64)
    p = p[:, None] if p.ndim == 1 else p
    if p.shape != (n, width):
        raise InputError(f"{name}: shape {p.shape}; accepted is ({n}, {width})")
    bad = np.asarray(~((p >= 0) & (p <= 1)).all(axis=1), dtype=np.bool_)
    if bad.any():
        raise InputError(
            f"{name}: a risk outside 0 to 1 in {first_rows(bad)}; accepted are probabilities"
        )
    return p


def horizon_values(horizons: npt.ArrayLike) -> Floats:
    """Horizons in years, shape (T,).

    Raises:
        InputError: For none, or one that is negative or not finite.
    """
    h = np.atleast_1d(np.asarray(horizons, dtype=np.float64))
    if h.ndim != 1 or h.size == 0 or not (np.isfinite(h) & (h >= 0)).all():
        raise InputError(f"horizons: {h.tolist()}; accepted are years, at least one, none negative")
    return h
