"""How far each phenotype survives when other subjects are drawn.

Cluster-wise Jaccard similarity under the bootstrap (Hennig 2007), with subjects as the unit and the
clusters of each sample matched one to one with the originals.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from spinmark_biomarkers.evaluation.bootstrap import Progress, subject_resamples
from spinmark_biomarkers.evaluation.clusters import jaccard_matrix
from spinmark_biomarkers.phenotypes.cluster import ClusterModel, fit_clusters
from spinmark_biomarkers.phenotypes.clusterers.registry import Option
from spinmark_biomarkers.phenotypes.stability.bands import DISSOLVED, RECOVERED, category

Floats = npt.NDArray[np.float64]


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
    options: Mapping[str, Option] | None = None,
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
        options: As the model was fitted with.
        progress: Called with (done, draws).

    Returns:
        Shape (draws, k). Similarity is taken over the distinct rows of a sample; it is 0 for a
        phenotype of which the sample holds no row, or that has no match among the new clusters.
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
                options=options,
            )
            found, _ = refit.assign(x[distinct])
            # A clusterer that chooses its own number may find more of them, or fewer.
            similarity = jaccard_matrix(labels[distinct], found, k, max(k, int(found.max()) + 1))
            left, right = linear_sum_assignment(similarity, maximize=True)
            result[draw, left] = similarity[left, right]
        if progress is not None:
            progress(draw + 1, draws)
    return result


def jaccard_rows(jaccard: Floats, *, level: float = 0.95) -> list[dict[str, Any]]:
    """Summarise the similarities of bootstrap samples by phenotype.

    Args:
        jaccard: Shape (draws, k), of `cluster_stability`.
        level: Share of the samples within `low` and `high`.

    Returns:
        A row a phenotype: `phenotype`, `jaccard` (mean), `low`, `high`, `stability` (its band), and the
        shares of samples in which it was `dissolved` (0.5 or less) and `recovered` (0.75 or more).
    """
    tail = (1 - level) / 2
    low, high = np.quantile(jaccard, [tail, 1 - tail], axis=0)
    return [
        {
            "phenotype": c,
            "jaccard": float(jaccard[:, c].mean()),
            "low": float(low[c]),
            "high": float(high[c]),
            "stability": category(float(jaccard[:, c].mean())),
            "dissolved": float((jaccard[:, c] <= DISSOLVED).mean()),
            "recovered": float((jaccard[:, c] >= RECOVERED).mean()),
        }
        for c in range(jaccard.shape[1])
    ]
