"""Groups of transitions, how stable they are, and sequences of groups along a path.

Ward's agglomeration or HDBSCAN (Campello, Moulavi and Sander 2013) on the vectors of `distance`.
Both are fitted on a sample where there are many transitions; the others are assigned to the nearest
centre, or to the group of the nearest sampled transition.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Progress, subject_resamples
from spinmark_biomarkers.evaluation.clusters import jaccard_matrix

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
LOOSE = -1
METHODS = ("agglomerative", "hdbscan")


@dataclass(frozen=True, kw_only=True)
class GroupModel:
    """Fitted groups; group 0 is the largest, -1 stands for transitions in none.

    Args:
        method: "agglomerative" or "hdbscan".
        anchors: What others are compared with, shape (m, f): the centres, or the sampled vectors.
        names: Group of each anchor, shape (m,).
        k: Number of groups.
    """

    method: str
    anchors: Floats
    names: Ints
    k: int

    def assign(self, vectors: Floats) -> Ints:
        """Groups of vectors, shape (n,)."""
        return np.asarray(self.names[cKDTree(self.anchors).query(vectors)[1]], dtype=np.int64)


def _canonical(vectors: Floats) -> Floats:
    return np.asarray(vectors[np.lexsort(vectors.T[::-1])])


def _by_size(labels: Ints, vectors: Floats) -> Ints:
    """Rename groups by size, ties by their first coordinate; -1 stays."""
    names = np.unique(labels[labels != LOOSE])
    sizes = [int((labels == name).sum()) for name in names]
    firsts = [float(vectors[labels == name][:, 0].mean()) for name in names]
    order = np.lexsort((np.asarray(firsts), -np.asarray(sizes)))
    renamed = np.full(len(labels), LOOSE, dtype=np.int64)
    for new, old in enumerate(order):
        renamed[labels == names[old]] = new
    return renamed


def cut_tree(vectors: Floats, ks: Sequence[int]) -> list[Ints]:
    """Ward's groups of vectors for several numbers of groups, from one tree."""
    tree = linkage(vectors, method="ward")
    return [fcluster(tree, k, criterion="maxclust").astype(np.int64) - 1 for k in ks]


def centres_of(vectors: Floats, labels: Ints) -> Floats:
    """Mean of each group, in the order of the names."""
    return np.stack([vectors[labels == name].mean(axis=0) for name in np.unique(labels)])


def fit_groups(vectors: Floats, *, method: str, k: int) -> GroupModel:
    """Group transitions.

    Args:
        vectors: From `Measure.vectors`, shape (n, f).
        method: "agglomerative" or "hdbscan".
        k: Number of groups; HDBSCAN finds its own and may find none.

    Raises:
        InputError: The method is unknown, or there are fewer distinct transitions than groups.
    """
    if method not in METHODS:
        raise InputError(f"method: '{method}'; accepted are {' and '.join(METHODS)}")
    rows = _canonical(vectors)
    distinct = len(np.unique(rows, axis=0))
    if k < 1 or distinct < k:
        raise InputError(
            f"k: {k} with {distinct} distinct fitted transitions; accepted is 1 to as many as these"
        )
    if method == "agglomerative":
        labels = _by_size(cut_tree(rows, [k])[0], rows) if len(rows) > 1 else np.zeros(1, np.int64)
        centres = centres_of(rows, labels)
        return GroupModel(
            method=method, anchors=centres, names=np.arange(len(centres)), k=len(centres)
        )
    from sklearn.cluster import HDBSCAN

    # A group has to hold a fiftieth of the transitions to be called one.
    least = max(5, len(rows) // 50)
    if len(rows) < 2 * least:
        labels = np.full(len(rows), LOOSE, dtype=np.int64)
    else:
        with threadpool_limits(limits=1):
            found = HDBSCAN(min_cluster_size=least, copy=True, n_jobs=1).fit(rows)
        labels = _by_size(found.labels_.astype(np.int64), rows)
    return GroupModel(method=method, anchors=rows, names=labels, k=int(labels.max()) + 1)


def group_stability(
    vectors: Floats,
    model: GroupModel,
    subject_ids: npt.ArrayLike,
    *,
    draws: int,
    seed: int,
    progress: Progress | None = None,
) -> Floats:
    """Jaccard similarity of every group with its match when other subjects are drawn (Hennig 2007).

    Args:
        vectors: The vectors that the model was fitted on, shape (n, f).
        model: The model.
        subject_ids: The subject of each row, shape (n,).
        draws: Bootstrap samples.
        seed: Seed.
        progress: Called with (done, draws).

    Returns:
        Shape (draws, k). Compared on all rows, assigned by both models.
    """
    labels = model.assign(vectors)
    jaccard = np.zeros((draws, model.k))
    for draw, rows in enumerate(subject_resamples(subject_ids, draws=draws, seed=seed)):
        distinct = len(np.unique(vectors[rows], axis=0))
        again = fit_groups(vectors[rows], method=model.method, k=max(1, min(model.k, distinct)))
        other = again.assign(vectors)
        if model.k and again.k:
            both = jaccard_matrix(
                np.where(labels == LOOSE, model.k, labels),
                np.where(other == LOOSE, again.k, other),
                model.k + 1,
                again.k + 1,
            )[: model.k, : again.k]
            mine, theirs = linear_sum_assignment(both, maximize=True)
            jaccard[draw, mine] = both[mine, theirs]
        if progress is not None:
            progress(draw + 1, draws)
    return jaccard


def path_groups(joint: Ints, groups: Ints, joints: int) -> pd.DataFrame:
    """Name each joint's path by the groups that its transitions pass, in order.

    Args:
        joint: Row of the joint of each transition, in order of time within a joint, shape (n,).
        groups: Group of each transition, shape (n,).
        joints: Number of joints.

    Returns:
        A row a joint: `sequence`, such as "0>2" (two stretches in one group in succession count
        once, "-" stands for a transition in no group), and `path_group`, its rank by frequency.
    """
    steps: list[list[str]] = [[] for _ in range(joints)]
    for owner, group in zip(joint.tolist(), groups.tolist(), strict=True):
        name = "-" if group == LOOSE else str(group)
        if not steps[owner] or steps[owner][-1] != name:
            steps[owner].append(name)
    sequences = pd.Series([">".join(one) for one in steps], dtype=object)
    counts = sequences.value_counts()
    order = sorted(counts.index, key=lambda name: (-int(counts[name]), name))
    codes = {name: i for i, name in enumerate(order)}
    return pd.DataFrame(
        {"sequence": sequences, "path_group": sequences.map(codes).astype(np.int64)}
    )
