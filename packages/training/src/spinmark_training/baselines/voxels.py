"""Principal components of the voxels."""

import logging
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import xarray as xr

from spinmark_models.config import IntensityRule
from spinmark_training.baselines.common import chosen_sequence, identity_hash
from spinmark_training.embed import embeddings_dataset
from spinmark_training.errors import InputError
from spinmark_training.sources import CohortLike, ScanSource, SplitLike
from spinmark_training.views import plain_views

logger = logging.getLogger(__name__)

_SCANS = 64  # read at a time
_VOXELS = 8192  # multiplied at a time in double precision
# Beyond the rank of the centred scans an axis is rounding error; float32 intensities end about here.
_RANK = 1e-10

Matrix = npt.NDArray[np.float32]


def _flat(source: ScanSource, rows: npt.NDArray[np.int64], rule: IntensityRule) -> Matrix:
    """Scans as rows of voxels, `(n, V)`, by the intensity rule."""
    flat = np.empty((len(rows), int(np.prod(source.shape))), np.float32)
    for start in range(0, len(rows), _SCANS):
        part = plain_views(source, rows[start : start + _SCANS], rule).numpy()
        flat[start : start + len(part)] = part.reshape(len(part), -1)
    return flat


def principal_axes(x: Matrix, components: int) -> tuple[Matrix, Matrix]:
    """Find the leading principal axes of rows that are far longer than they are many.

    Exact, by the eigenvectors of the rows' inner products, which are summed in double precision.

    Args:
        x: `(n, V)`.
        components: Most axes to return; there are never more than `n - 1`.

    Returns:
        The mean `(V,)` and the axes `(k, V)` of unit length, by falling variance. The largest entry of
        each is positive, which settles the sign.
    """
    n, voxels = x.shape
    mean = x.mean(axis=0, dtype=np.float64)
    gram = np.zeros((n, n))
    for start in range(0, voxels, _VOXELS):
        part = x[:, start : start + _VOXELS] - mean[start : start + _VOXELS]
        gram += part @ part.T
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1], vectors[:, ::-1]
    count = min(components, n - 1, int((values > _RANK * max(values[0], 0.0)).sum()))
    weights = vectors[:, :count] / np.sqrt(values[:count])
    axes = np.empty((count, voxels), np.float32)
    for start in range(0, voxels, _VOXELS):
        part = x[:, start : start + _VOXELS] - mean[start : start + _VOXELS]
        axes[:, start : start + _VOXELS] = weights.T @ part
    if count:
        largest = np.abs(axes).argmax(axis=1)
        axes *= np.where(axes[np.arange(count), largest] < 0, np.float32(-1), np.float32(1))[
            :, None
        ]
    return mean.astype(np.float32), axes


def voxel_pca(
    cohort: CohortLike, split: SplitLike, *, components: int, sequence: str | None = None
) -> xr.Dataset:
    """Embed every scan by principal components of its voxels, fitted on training scans only.

    The intensities pass the same rule as those that an encoder sees.

    Args:
        cohort: The cohort.
        split: The split.
        components: Length of the embedding; less where the training scans span fewer directions.
        sequence: The image sequence; none takes the only one of the cohort, or the default one.

    Returns:
        A dataset by the schema of embeddings.

    Raises:
        InputError: No such sequence, no training scans to tell apart, or fewer than one component.
    """
    if components < 1:
        raise InputError(f"voxel_pca: {components} components; accepted are 1 or more")
    sequence = chosen_sequence(cohort, sequence)
    rule = IntensityRule()
    train = ScanSource(cohort, sequence, split, ("train",))
    mean, axes = principal_axes(_flat(train, train.rows, rule), components)
    if not len(axes):
        raise InputError(
            f"voxel_pca: {len(train.rows)} training scan(s) of {sequence}, all alike; accepted are 2 or "
            "more that differ"
        )
    if len(axes) < components:
        logger.warning(
            "voxel_pca: %d training scans span %d components, fewer than the %d asked for",
            *(len(train.rows), len(axes), components),
        )
    every = ScanSource(cohort, sequence, None)
    vectors = np.empty((len(every.rows), len(axes)), np.float32)
    for start in range(0, len(every.rows), _SCANS):
        part = _flat(every, every.rows[start : start + _SCANS], rule)
        vectors[start : start + len(part)] = (part - mean) @ axes.T
    # The axes follow from these; their own bytes would follow from the machine's rounding as well.
    identity = [components, sequence, asdict(rule), cohort.hash, split.hash]
    return embeddings_dataset(
        vectors,
        cohort,
        split,
        sequence,
        objective="voxel_pca",
        encoder_hash=identity_hash(identity),
    )
