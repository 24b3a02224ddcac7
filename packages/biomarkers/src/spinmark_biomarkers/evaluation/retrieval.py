"""From a scan to its row of the table and back: how often the right one is among the nearest.

Both sides are vectors of the same joints in one space. A query ranks the whole gallery by cosine; the
rank of its own partner is 1 at best, and ties share their places. What a guess would give is known in
closed form. The two knees of a person have much of a row in common, so that a joint's strongest rival is
often the other knee.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.neighbours import unit_rows
from spinmark_biomarkers.evaluation.subject_scores import per_subject

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
KS = (1, 5, 10)


def partner_ranks(
    queries: npt.ArrayLike, gallery: npt.ArrayLike, strata: npt.ArrayLike | None = None
) -> tuple[Floats, Ints]:
    """Rank each query's own partner among the gallery by cosine.

    Args:
        queries: Shape (n, D).
        gallery: Shape (n, D); row i is the partner of query i.
        strata: Shape (n,); a query then searches the rows of its own stratum alone.

    Returns:
        Ranks from 1, ties sharing the middle of their places, and the size of the gallery that each
        query searched, both of shape (n,).

    Raises:
        InputError: Shapes that differ, fewer than two rows, or a value that is not finite.
    """
    q, g = np.asarray(queries, dtype=np.float64), np.asarray(gallery, dtype=np.float64)
    if q.shape != g.shape or q.ndim != 2 or len(q) < 2:
        raise InputError(
            f"retrieval: shapes {q.shape} and {g.shape}; accepted is one (joint, D), at least two joints"
        )
    if not (np.isfinite(q).all() and np.isfinite(g).all()):
        raise InputError("retrieval: a vector is not finite; accepted are finite numbers")
    similarity = unit_rows(q) @ unit_rows(g).T
    own = np.diagonal(similarity)[:, None]
    # What rounding makes of equal vectors is a tie.
    above, tied = similarity > own + 1e-12, np.abs(similarity - own) <= 1e-12
    size = np.full(len(q), len(q), dtype=np.int64)
    if strata is not None:
        names = np.asarray(strata).astype(str)
        if names.shape != (len(q),):
            raise InputError(f"strata: shape {names.shape}; accepted is ({len(q)},)")
        same = names[:, None] == names
        above, tied, size = above & same, tied & same, same.sum(axis=1)
    return above.sum(axis=1) + (tied.sum(axis=1) + 1) / 2, size


def chance(size: Ints, metric: str) -> float:
    """Return what a random ranking gives, on average over queries.

    Args:
        size: The size of each query's gallery, shape (n,).
        metric: `recall_at_K`, `mean_reciprocal_rank` or `median_rank`.
    """
    if metric == "mean_reciprocal_rank":
        harmonic = np.cumsum(1 / np.arange(1, int(size.max()) + 1))
        return float((harmonic[size - 1] / size).mean())
    if metric == "median_rank":
        return float(np.median((size + 1) / 2))
    k = int(metric.removeprefix("recall_at_"))
    return float((np.minimum(k, size) / size).mean())


@dataclass(frozen=True)
class QueryMean:
    """The mean of something over queries, by how often each subject counts; the gallery stands.

    Args:
        total: Sums by subject, shape (subject, run).
        count: Queries by subject, shape (subject,).
    """

    total: Floats
    count: Floats

    def __call__(self, weights: Floats) -> Floats:
        """The mean for counts (b, subject): (b, run, 1)."""
        return np.asarray((weights @ self.total / (weights @ self.count)[:, None])[:, :, None])


@dataclass(frozen=True)
class QueryMedian:
    """The median rank over queries, by how often each subject counts.

    Args:
        ranks: Shape (run, query).
        subject: Codes, shape (query,).
    """

    ranks: Floats
    subject: Ints

    def __call__(self, weights: Floats) -> Floats:
        """The median for counts (b, subject): (b, run, 1)."""
        found = np.empty((len(weights), len(self.ranks), 1))
        for run, ranks in enumerate(self.ranks):
            order = np.argsort(ranks, kind="stable")
            reached = np.cumsum(weights[:, self.subject[order]], axis=1)
            half = reached[:, -1:] / 2
            # Halfway between the two middle ones where the number is even.
            low, high = (reached < half).sum(axis=1), (reached <= half).sum(axis=1)
            high = np.minimum(high, len(order) - 1)
            found[:, run, 0] = (ranks[order][low] + ranks[order][high]) / 2
        return found


def retrieval_metrics(
    ranks: Floats, subject: Ints, subjects: int, *, ks: Sequence[int] = KS
) -> dict[str, QueryMean | QueryMedian]:
    """Return the metrics of one direction by name.

    Args:
        ranks: Ranks of the partners, shape (run, query).
        subject: Codes, shape (query,).
        subjects: Number of subjects in all.
        ks: Places of the recalls.
    """

    def mean(values: Floats) -> QueryMean:
        ones = np.ones(len(subject))
        return QueryMean(
            per_subject(values.T, subject, subjects), per_subject(ones, subject, subjects)
        )

    found: dict[str, QueryMean | QueryMedian] = {
        f"recall_at_{k}": mean((ranks <= k).astype(np.float64)) for k in ks
    }
    found["mean_reciprocal_rank"] = mean(1 / ranks)
    found["median_rank"] = QueryMedian(ranks, subject)
    return found
