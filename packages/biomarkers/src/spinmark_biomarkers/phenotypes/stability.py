"""How far each phenotype survives when other subjects are drawn.

Cluster-wise Jaccard similarity under the bootstrap (Hennig 2007), with subjects as the unit and the
clusters of each sample matched one to one with the originals.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from spinmark_biomarkers.evaluation.bootstrap import Progress, subject_resamples
from spinmark_biomarkers.evaluation.clusters import jaccard_matrix
from spinmark_biomarkers.phenotypes.cluster import ClusterModel, fit_clusters

Floats = npt.NDArray[np.float64]
BANDS: tuple[tuple[float, str], ...] = (
    (0.60, "unstable"),
    (0.75, "doubtful"),
    (0.85, "stable"),
    (float("inf"), "highly stable"),
)


def category(jaccard: float) -> str:
    """Name the band of a mean Jaccard similarity.

    Examples:
        >>> category(0.59), category(0.60), category(0.80), category(0.9)
        ('unstable', 'doubtful', 'stable', 'highly stable')
    """
    return next(name for limit, name in BANDS if jaccard < limit)


def cluster_stability(
    x: Floats,
    model: ClusterModel,
    subject_ids: npt.ArrayLike,
    *,
    components: int,
    whiten: bool = False,
    restarts: int = 4,
    draws: int = 50,
    seed: int,
    progress: Progress | None = None,
) -> Floats:
    """Jaccard similarity of every phenotype with its match in each bootstrap sample.

    The projection is refitted too, since it is part of what was learnt.

    Args:
        x: The fitted rows, shape (n, feature).
        model: The clusterer fitted to them.
        subject_ids: Shape (n,).
        components: As the model was fitted with.
        whiten: As the model was fitted with.
        restarts: Starts of each refit.
        draws: Bootstrap samples.
        seed: Seed.
        progress: Called with (done, draws).

    Returns:
        Shape (draws, k). Similarity is taken over the distinct rows of a sample; it is 0 for a
        phenotype of which the sample holds no row.
    """
    labels, _ = model.assign(x)
    k = len(model.centres)
    result = np.zeros((draws, k))
    for draw, rows in enumerate(subject_resamples(subject_ids, draws=draws, seed=seed)):
        distinct = np.unique(rows)
        if distinct.size >= k:
            refit = fit_clusters(
                x[rows],
                k=min(k, len(np.unique(x[distinct], axis=0))),
                method=model.method,
                components=components,
                whiten=whiten,
                restarts=restarts,
                seed=seed + draw + 1,
            )
            found, _ = refit.assign(x[distinct])
            similarity = jaccard_matrix(labels[distinct], found, k, k)
            left, right = linear_sum_assignment(similarity, maximize=True)
            result[draw, left] = similarity[left, right]
        if progress is not None:
            progress(draw + 1, draws)
    return result


def assignment_entropy(probability: Floats) -> Floats:
    """Entropy of each row of probabilities over its largest possible value.

    Args:
        probability: Shape (n, k).

    Returns:
        Shape (n,); 0 is certain, 1 is even between all phenotypes (0 throughout for k = 1).
    """
    k = probability.shape[1]
    if k == 1:
        return np.zeros(len(probability))
    logs = np.log(np.where(probability > 0, probability, 1.0))
    return np.asarray(-(probability * logs).sum(axis=1) / np.log(k), dtype=np.float64)
