"""Permutations that respect who is who: whole subjects exchange values, or a subject's own rows do."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Number = TypeVar("Number", np.int64, np.float64)


def exchange(
    subjects: Ints, values: npt.NDArray[Number], rng: np.random.Generator
) -> npt.NDArray[Number]:
    """Hand each subject's block of values to another subject with as many rows.

    Args:
        subjects: Codes from 0, shape (n,).
        values: Shape (n,).
        rng: Draws the permutation.
    """
    order = np.argsort(subjects, kind="stable")
    counts = np.bincount(subjects)
    starts = np.cumsum(counts) - counts
    result = values.copy()
    for size in np.unique(counts[counts > 0]):
        members = np.flatnonzero(counts == size)
        rows = order[starts[members][:, None] + np.arange(size)]
        result[rows] = values[rows[rng.permutation(len(members))]]
    return result


def shuffle_within(
    subjects: Ints, values: npt.NDArray[Number], rng: np.random.Generator
) -> npt.NDArray[Number]:
    """Shuffle the values among each subject's own rows; arguments as for `exchange`."""
    result = values.copy()
    source = np.lexsort((rng.random(values.size), subjects))
    result[np.argsort(subjects, kind="stable")] = values[source]
    return result
