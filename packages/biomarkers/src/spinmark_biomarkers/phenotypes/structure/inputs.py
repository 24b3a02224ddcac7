"""What every test of structure asks of its rows, checked once and put in one order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.clusterers.base import canonical_order

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PEOPLE_A_CLUSTER = 4
MOST_CLUSTERS = 127
NEGLIGIBLE = 1e-12
"""Share of the whole variance below which an axis holds rounding errors alone."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """Rows in canonical order.

    Args:
        z: Shape (n, component).
        subjects: Codes from 0, shape (n,).
        order: Where each row stood, shape (n,).
        n_subjects: Number of people.
    """

    z: Floats
    subjects: Ints
    order: Ints
    n_subjects: int


def check_ks(ks: Sequence[Any]) -> tuple[int, ...]:
    """Return numbers of clusters in ascending order.

    Raises:
        InputError: There is none, one stands twice, or one is not a whole number from 2 to 127.
    """
    for k in ks:
        whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
        if not whole or not 2 <= k <= MOST_CLUSTERS:
            raise InputError(f"k: {k}; accepted is a whole number from 2 to {MOST_CLUSTERS}")
    found = tuple(sorted(int(k) for k in ks))
    if not found or len(set(found)) < len(found):
        raise InputError(f"ks: {list(ks)}; accepted is at least one number, none of them twice")
    return found


def check_count(name: str, value: int, least: int) -> None:
    """Raise an `InputError` unless a whole number is at least so large."""
    if value < least:
        raise InputError(f"{name}: {value}; accepted is at least {least}")


def check_rows(z: npt.ArrayLike, subjects: npt.ArrayLike) -> Space:
    """Check rows and the subject of each, and sort them.

    Args:
        z: Finite numbers, shape (n, component).
        subjects: An identifier a row, shape (n,).

    Raises:
        InputError: A shape is wrong, a value is not finite, or there are fewer than two people.
    """
    rows = np.asarray(z, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise InputError(f"z: shape {rows.shape}; accepted is (row, component)")
    people = np.asarray(subjects)
    if people.shape != (len(rows),):
        raise InputError(
            f"subjects: shape {people.shape} with {len(rows)} rows; accepted is one a row"
        )
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise InputError(
            f"z: not finite in {int(bad.sum())} rows, the first {int(bad.argmax())}; "
            "accepted are finite numbers"
        )
    if people.dtype.kind not in "iu":
        people = people.astype(str)
    names, codes = np.unique(people, return_inverse=True)
    if names.size < 2:
        raise InputError(f"subjects: {names.size} person; accepted are at least 2")
    # By person first, so that equal rows of several people have one order too.
    first = np.argsort(codes, kind="stable")
    order = first[canonical_order(rows[first])]
    return Space(
        z=np.ascontiguousarray(rows[order]),
        subjects=codes[order].astype(np.int64),
        order=order,
        n_subjects=int(names.size),
    )


def check_enough(space: Space, ks: Sequence[int]) -> None:
    """Raise an `InputError` where there are too few people or distinct rows for so many clusters."""
    most = max(ks)
    least = PEOPLE_A_CLUSTER * most
    if space.n_subjects < least:
        raise InputError(
            f"subjects: {space.n_subjects} people for up to {most} clusters; accepted are at least {least}"
        )
    distinct = 1 + int((space.z[1:] != space.z[:-1]).any(axis=1).sum())
    if distinct < most:
        raise InputError(f"k: {most} with {distinct} distinct rows; accepted is at most that")


def varying(space: Space) -> Space:
    """Return the rows on their principal axes, those without variation left out.

    Returns:
        Rows of no component where nothing varies.
    """
    centred = space.z - space.z.mean(axis=0)
    scale = max(float(np.abs(space.z).max()), 1e-300)
    values, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    # An axis also counts as constant where it varies by no more than the numbers' own rounding.
    least = max(NEGLIGIBLE * float(values[-1]), (1e-13 * scale) ** 2)
    keep = np.flatnonzero(values > least)[::-1]
    axes = axes[:, keep]
    # The sign of an axis is arbitrary; fixed, so that nothing depends on the library.
    largest = np.abs(axes).argmax(axis=0) if keep.size else np.zeros(0, np.int64)
    axes = axes * np.sign(axes[largest, np.arange(keep.size)])
    return Space(
        z=np.ascontiguousarray(centred @ axes),
        subjects=space.subjects,
        order=space.order,
        n_subjects=space.n_subjects,
    )
