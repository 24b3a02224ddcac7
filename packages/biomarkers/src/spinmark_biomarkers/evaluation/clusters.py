"""How well clusters agree with a truth: adjusted Rand index, matched labels, the ceiling."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval, Rows, subject_bootstrap

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def _codes(values: npt.ArrayLike) -> Ints:
    return np.unique(np.asarray(values), return_inverse=True)[1].astype(np.int64)


def rand_index(
    first: npt.ArrayLike, second: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """Adjusted Rand index of two labelings (Hubert and Arabie 1985).

    Args:
        first: Labels, shape (n,).
        second: Labels, shape (n,).
        weights: How often each row counts, shape (n,); pairs of a row with itself never count, so
            that rows repeated by a bootstrap do not agree with themselves.

    Returns:
        1 for equal partitions, about 0 for independent ones.

    Raises:
        InputError: Where the lengths differ.
    """
    a, b = _codes(first), _codes(second)
    if a.shape != b.shape or a.ndim != 1:
        raise InputError(f"labels: shapes {a.shape} and {b.shape}; accepted is one length for both")
    w = np.ones(a.size) if weights is None else np.asarray(weights, dtype=np.float64)

    def pairs(codes: Ints) -> float:
        return float(((np.bincount(codes, w) ** 2 - np.bincount(codes, w**2)) / 2).sum())

    total = (w.sum() ** 2 - (w**2).sum()) / 2
    if total == 0:
        return float("nan")
    both, in_a, in_b = pairs(a * (int(b.max()) + 1) + b), pairs(a), pairs(b)
    expected = in_a * in_b / total
    largest = (in_a + in_b) / 2
    if largest == expected:
        return 1.0
    return float((both - expected) / (largest - expected))


def adjusted_rand(
    truth: npt.ArrayLike,
    labels: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    *,
    draws: int = 200,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """Adjusted Rand index with an interval from resampled subjects.

    Args:
        truth: True classes, shape (n,).
        labels: Labels, shape (n,); their numbering is of no consequence.
        subject_ids: The subject of each row, shape (n,).
        draws: Bootstrap samples.
        seed: Seed of the draws.
        level: Coverage.
    """
    a, b = _codes(truth), _codes(labels)
    n = np.asarray(subject_ids).size
    if not a.size == b.size == n:
        raise InputError(
            f"truth, labels and subject_ids: lengths {a.size}, {b.size} and {n}; accepted is one"
        )

    def statistic(rows: Rows) -> float:
        return rand_index(a, b, np.bincount(rows, minlength=n))

    return subject_bootstrap(statistic, subject_ids, draws=draws, seed=seed, level=level)


def match_labels(
    reference: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    by: Literal["overlap", "jaccard"] = "overlap",
    k: int | None = None,
) -> dict[int, int]:
    """Match labels one to one to those of a reference so that what they share is largest (Hungarian).

    Args:
        reference: Labels from 0, shape (n,).
        labels: Labels from 0, shape (n,).
        by: What is summed over the matched pairs: rows in common, or Jaccard similarity, in which a small
            cluster counts as much as a large one.
        k: Number of labels of the reference; by default one more than the largest that stands in it.

    Returns:
        For each label its reference label. Labels beyond the reference's number get fresh ones.

    Raises:
        InputError: The lengths differ, there is no row, or a label is negative.
    """
    a, b = np.asarray(reference, dtype=np.int64), np.asarray(labels, dtype=np.int64)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise InputError(
            f"labels: shapes {a.shape} and {b.shape}; accepted is one length for both, at least one row"
        )
    if min(a.min(), b.min()) < 0:
        raise InputError(f"labels: {min(a.min(), b.min())}; accepted are whole numbers from 0")
    size = max(int(a.max()) + 1, k or 0, int(b.max()) + 1)
    gain: npt.NDArray[Any]
    if by == "jaccard":
        gain = jaccard_matrix(b, a, size, size)
    else:
        gain = np.zeros((size, size), dtype=np.int64)
        np.add.at(gain, (b, a), 1)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    present = set(np.unique(b).tolist())
    return {int(r): int(c) for r, c in zip(rows, columns, strict=True) if int(r) in present}


def align_labels(
    reference: npt.ArrayLike, labels: npt.ArrayLike, *, k: int | None = None
) -> tuple[Ints, dict[int, int]]:
    """Rename labels to those of a reference, matched by Jaccard similarity.

    Args:
        reference: Labels from 0, shape (n,).
        labels: Labels from 0, shape (n,).
        k: Number of labels of the reference, see `match_labels`.

    Returns:
        The renamed labels, shape (n,), and for each old label its new one.

    Examples:
        >>> align_labels([0, 0, 1, 2], [2, 2, 0, 1])[0].tolist()
        [0, 0, 1, 2]
    """
    names = match_labels(reference, labels, by="jaccard", k=k)
    return renamed(labels, names), names


def renamed(labels: npt.ArrayLike, names: Mapping[int, int]) -> Ints:
    """Rename labels, shape (n,), by a table that holds each of them.

    Raises:
        InputError: A label is not in the table.
    """
    b = np.asarray(labels, dtype=np.int64)
    absent = sorted(set(np.unique(b).tolist()) - set(names))
    if absent:
        raise InputError(f"labels: {absent[0]} has no match; accepted are {sorted(names)}")
    table = np.zeros(max(names, default=0) + 1, dtype=np.int64)
    for old, new in names.items():
        table[old] = new
    return np.asarray(table[b], dtype=np.int64)


def jaccard_matrix(first: npt.ArrayLike, second: npt.ArrayLike, k: int, m: int) -> Floats:
    """Jaccard similarity of every cluster of one labeling with every cluster of another.

    Args:
        first: Labels in 0..k-1, shape (n,).
        second: Labels in 0..m-1, shape (n,).
        k: Clusters of the first.
        m: Clusters of the second.

    Returns:
        Shape (k, m); 0 where both clusters are empty.
    """
    table: Floats = np.zeros((k, m))
    np.add.at(table, (np.asarray(first), np.asarray(second)), 1)
    union = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table
    return np.asarray(table / np.where(union > 0, union, 1.0), dtype=np.float64)


def ceiling_labels(
    latents_fit: npt.ArrayLike,
    latents_test: npt.ArrayLike,
    *,
    method: str = "kmeans",
    k: int | None,
    options: Mapping[str, int | float | str] | None = None,
    seed: int,
) -> Ints:
    """Label held-out scans by a clusterer that was given the true latents.

    An embedding cannot be expected to lead to better labels, so these are the ones to compare with.

    Args:
        latents_fit: True latents of the fitted scans, shape (n, latent).
        latents_test: True latents of the held-out scans, shape (m, latent).
        method: As in `DiscoverConfig`.
        k: Number of clusters; of no consequence for methods that find it themselves.
        options: As in `DiscoverConfig`.
        seed: Seed of the clusterer.

    Returns:
        Shape (m,).
    """
    from spinmark_biomarkers.phenotypes.cluster import fit_clusters

    x = np.asarray(latents_fit, dtype=np.float64)
    model = fit_clusters(x, k=k, method=method, components=x.shape[1], seed=seed, options=options)
    return model.assign(np.asarray(latents_test, dtype=np.float64))[0]


def share_of_ceiling(
    truth: npt.ArrayLike,
    labels: npt.ArrayLike,
    best: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    *,
    draws: int = 200,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """Adjusted Rand index of labels over that of the best labels, on the same samples of subjects.

    Args:
        truth: True classes, shape (n,).
        labels: Labels, shape (n,).
        best: The labels to compare with (`ceiling_labels`), shape (n,).
        subject_ids: The subject of each row, shape (n,).
        draws: Bootstrap samples.
        seed: Seed of the draws.
        level: Coverage.

    Returns:
        1 where the labels do as well; not defined (NaN) where the best ones agree with nothing.
    """
    a, b, c = _codes(truth), _codes(labels), _codes(best)

    def statistic(rows: Rows) -> float:
        weights = np.bincount(rows, minlength=a.size)
        most = rand_index(a, c, weights)
        return rand_index(a, b, weights) / most if most > 0 else float("nan")

    return subject_bootstrap(statistic, subject_ids, draws=draws, seed=seed, level=level)
