"""How far each axis survives when other subjects are drawn.

Whole subjects are drawn again, the model is refitted, and each axis is matched one to one with a new one by the
absolute correlation of their scores: the cosine of the two axes in a space in which the embeddings have unit
covariance. It does not depend on sign, order or scale.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.evaluation.bootstrap import Progress, subject_resamples
from spinmark_biomarkers.phenotypes.directions.base import Axes, Floats
from spinmark_biomarkers.phenotypes.directions.matching import match_axes

# From 0.85 two axes are fairly similar and from 0.95 they may be taken as one (Lorenzo-Seva and ten Berge
# 2006, of Tucker's congruence); below 0.70 they share less than half of their variance.
BANDS: tuple[tuple[float, str], ...] = (
    (0.70, "unstable"),
    (0.85, "doubtful"),
    (0.95, "stable"),
    (float("inf"), "highly stable"),
)


def band(similarity: float) -> str:
    """Name the band of a mean absolute correlation.

    Examples:
        >>> band(0.69), band(0.70), band(0.9), band(0.95)
        ('unstable', 'doubtful', 'stable', 'highly stable')
    """
    return next(name for limit, name in BANDS if similarity < limit)


def axis_stability(
    refit: Callable[[npt.NDArray[np.int64]], Axes],
    x: Floats,
    scores: Floats,
    subject_ids: npt.ArrayLike,
    *,
    draws: int = 50,
    seed: int,
    progress: Progress | None = None,
) -> Floats:
    """Absolute correlation of every axis with its match in each bootstrap sample.

    Args:
        refit: Fits the same model to rows (with repeats) of what it was fitted to.
        x: Rows on which axes are compared, shape (n, feature).
        scores: Their scores by the original axes, shape (n, axis).
        subject_ids: The subject of each row that `refit` takes, shape (m,).
        draws: Bootstrap samples.
        seed: Seed.
        progress: Called with (done, draws).

    Returns:
        Shape (draws, axis).
    """
    result = np.zeros((draws, scores.shape[1]))
    for draw, rows in enumerate(subject_resamples(subject_ids, draws=draws, seed=seed)):
        result[draw] = match_axes(scores, refit(rows).transform(x))[1]
        if progress is not None:
            progress(draw + 1, draws)
    return result
