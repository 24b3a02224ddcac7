"""How many axes exceed chance: parallel analysis (Horn 1965), with subjects exchanged as wholes.

Horn compares each eigenvalue with that of data in which nothing is shared between variables. Here each
variable hands whole subjects around by itself: what two knees of a person share within a variable stays,
so that twice as many knees are not taken for twice as many people.

The features of an embedding are an arbitrary basis, in which they may even be uncorrelated already. So each
draw turns the rows at random first and gives every feature the same variance. An axis counts where it
exceeds what as much variance without structure would give; the result does not depend on the basis.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Progress
from spinmark_biomarkers.phenotypes.directions.base import Floats, canonical, check_matrix


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """The result of a parallel analysis.

    Args:
        observed: Eigenvalues of the covariance, the largest first, shape (axis,).
        chance: Their quantile under the null, shape (axis,).
        axes: Leading eigenvalues above chance.
        draws: Draws from the null.
    """

    observed: Floats
    chance: Floats
    axes: int
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON: the axes above chance and the first few beyond."""
        shown = min(len(self.observed), self.axes + 4)
        return {
            "axes": self.axes,
            "draws": self.draws,
            "observed": [float(v) for v in self.observed[:shown]],
            "chance": [float(v) for v in self.chance[:shown]],
        }


def exchange_columns(
    values: Floats, subjects: npt.NDArray[np.int64], rng: np.random.Generator
) -> Floats:
    """Hand each subject's block of values to another with as many rows, in every column by itself.

    The rows of a block change places too: had they an order, it would tie the columns together.

    Args:
        values: Shape (n, feature).
        subjects: Whole numbers from 0, shape (n,).
        rng: Source of the exchanges.
    """
    order = np.argsort(subjects, kind="stable")
    counts = np.bincount(subjects)
    starts = np.cumsum(counts) - counts
    result = values.copy()
    for size in np.unique(counts[counts > 0]):
        members = np.flatnonzero(counts == size)
        rows = order[starts[members][:, None] + np.arange(size)]
        shape = (members.size, values.shape[1])
        to = rng.permuted(np.broadcast_to(np.arange(members.size)[:, None], shape), axis=0)
        # (block, place, column)
        blocks = np.take_along_axis(values[rows], to[:, None, :], axis=0)
        result[rows] = rng.permuted(blocks, axis=1)
    return result


def _even(centred: Floats, rng: np.random.Generator) -> Floats:
    """Turn rows at random, and let every feature have the same variance."""
    f = centred.shape[1]
    turned = centred @ np.linalg.qr(rng.normal(size=(f, f)))[0]
    size = np.sqrt((turned**2).mean(axis=0))
    return np.asarray(turned * (np.sqrt((size**2).mean()) / np.where(size > 0, size, 1.0)))


def _eigenvalues(centred: Floats, most: int) -> Floats:
    n, f = centred.shape
    gram = centred.T @ centred if f <= n else centred @ centred.T
    return np.asarray(np.linalg.eigvalsh(gram)[::-1][:most] / n, dtype=np.float64)


def parallel_analysis(
    x: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    *,
    draws: int = 50,
    quantile: float = 0.95,
    seed: int,
    progress: Progress | None = None,
) -> Parallel:
    """Count the axes that exceed chance.

    Args:
        x: Rows, shape (n, feature).
        subject_ids: Shape (n,).
        draws: Draws from the null.
        quantile: An eigenvalue counts above this quantile of its null.
        seed: Seed of the rotations and the exchanges.
        progress: Called with (done, draws).

    Returns:
        Eigenvalues, chance and the number before the first that does not exceed it, 0 included.

    Raises:
        InputError: Rows that are not finite, too few draws, or a single subject.
    """
    values = check_matrix(x)
    people = np.unique(np.asarray(subject_ids).astype(str), return_inverse=True)[1].astype(np.int64)
    if people.shape != (len(values),):
        raise InputError(
            f"subject_ids: {people.shape} for {len(values)} rows; accepted is one a row"
        )
    if people.max() < 1:
        raise InputError("subject_ids: one subject; accepted are at least two")
    if draws < 19:
        raise InputError(f"null_draws: {draws}; accepted is at least 19")
    order = canonical(values)
    # Subjects with their rows together and in one order, whatever the order that they came in.
    order = order[np.argsort(people[order], kind="stable")]
    centred, people = values[order] - values[order].mean(axis=0), people[order]
    most = min(len(values) - 1, values.shape[1])
    null = np.zeros((draws, most))
    with threadpool_limits(limits=1):
        observed = _eigenvalues(centred, most)
        for draw in range(draws):
            rng = np.random.default_rng([seed, draw])
            null[draw] = _eigenvalues(exchange_columns(_even(centred, rng), people, rng), most)
            if progress is not None:
                progress(draw + 1, draws)
    chance = np.quantile(null, quantile, axis=0)
    below = np.flatnonzero(observed <= chance)
    axes = int(below[0]) if below.size else most
    return Parallel(observed=observed, chance=chance, axes=axes, draws=draws)
