"""How much attribution lies in each labelled structure, beside the room that it takes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

OUTSIDE = "outside"
"""What bears no label."""


def structure_shares(
    attribution: npt.NDArray[np.float32], labels: npt.NDArray[Any], codes: Mapping[int, str]
) -> pd.DataFrame:
    """Compare the share of absolute attribution in each structure with its share of the volume.

    Args:
        attribution: One value a voxel `(D, H, W)`.
        labels: One code a voxel, on the same grid, 0 outside.
        codes: What codes mean.

    Returns:
        `structure`, `attribution_share`, `volume_share` and `ratio`, their quotient: 1 where attribution
        does not care for the structure. Structures without a voxel are left out.
    """
    flat = labels.reshape(-1).astype(np.int64)
    weight = np.bincount(flat, weights=np.abs(attribution.reshape(-1)).astype(np.float64))
    room = np.bincount(flat)
    there = np.flatnonzero(room)
    total = weight.sum()
    shares = weight[there] / total if total > 0 else np.full(len(there), np.nan)
    volume = room[there] / flat.size
    names = [OUTSIDE if code == 0 else codes.get(int(code), f"code_{code}") for code in there]
    return pd.DataFrame(
        {
            "structure": names,
            "attribution_share": shares,
            "volume_share": volume,
            "ratio": shares / volume,
        }
    )
