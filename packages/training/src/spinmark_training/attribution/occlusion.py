"""Occlusion: how much a score falls when parts of the input are put back to the baseline.

It takes no gradient and no path, so it checks integrated gradients from outside. The two agree exactly
where the score is a sum of one term a part; where parts work together they may differ.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor

from spinmark_training.attribution.path import Score
from spinmark_training.errors import InputError

Vector = npt.NDArray[np.float64]
# 5 ms a box at the demo's grid make 40 s.
MOST_BOXES = 8192


@torch.no_grad()
def occlusion(
    score: Score, input_: Tensor, baseline: Tensor, parts: Tensor, *, batch_size: int = 8
) -> Vector:
    """Hide each part of an input.

    Args:
        score: From inputs `(B, ...)` to one score each `(B,)`.
        input_: The input, without an axis for a batch.
        baseline: What hidden numbers become, in the same shape.
        parts: The part that each number belongs to, from 0; its shape broadcasts to the input's.
        batch_size: Hidden parts at a time.

    Returns:
        The score of the input minus that without the part, `(number of parts,)`.
    """
    count = int(parts.max()) + 1
    whole = float(score(input_[None])[0])
    found: list[float] = []
    for start in range(0, count, batch_size):
        hidden = torch.stack(
            [
                torch.where(parts == part, baseline, input_)
                for part in range(start, min(start + batch_size, count))
            ]
        )
        found += score(hidden).tolist()
    return whole - np.array(found)


def sums(values: npt.NDArray[Any], parts: npt.NDArray[np.int64]) -> Vector:
    """Add up values by the part they belong to: `(number of parts,)`."""
    added = np.bincount(parts.reshape(-1), weights=values.reshape(-1).astype(np.float64))
    return added.astype(np.float64)


def boxes(shape: tuple[int, int, int], box: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    """Cut a grid into boxes: the number of each voxel's box, in the shape of the grid.

    Args:
        shape: Grid (z, y, x).
        box: Voxels of a box along each axis; those at the far ends may be smaller.

    Raises:
        InputError: A size below 1, or too many boxes to hide them one by one.
    """
    if min(box) < 1:
        raise InputError(f"box: {box}; accepted are three numbers of 1 and more")
    counts = [-(-n // b) for n, b in zip(shape, box, strict=True)]
    if (total := int(np.prod(counts))) > MOST_BOXES:
        raise InputError(
            f"box: {box} cuts a grid of {shape} into {total} boxes; accepted are boxes so large that "
            f"there are {MOST_BOXES} at most"
        )
    z, y, x = (np.arange(n) // b for n, b in zip(shape, box, strict=True))
    numbers: npt.NDArray[np.int64] = (z[:, None, None] * counts[1] + y[:, None]) * counts[2] + x
    return numbers.astype(np.int64)


def rank_correlation(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return Spearman's rank correlation; no number of fewer than three values, or of equal ones."""
    if a.size < 3:
        return float("nan")
    ranks = [rankdata(v.reshape(-1)) for v in (a, b)]
    centred = [r - r.mean() for r in ranks]
    scale = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum() / scale) if scale > 0 else float("nan")
