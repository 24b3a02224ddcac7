"""How far to trust axes: stability, reliability and held-out fit, as facts for JSON."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.phenotypes.directions.base import Floats
from spinmark_biomarkers.phenotypes.directions.reliability import KINDS, icc_intervals, repeated
from spinmark_biomarkers.phenotypes.directions.stability import band

# Fewer units give an interval from about -1 to 1.
FEWEST_UNITS = 5


def describe_stability(similarity: Floats) -> list[dict[str, Any]]:
    """Mean, 95 % range and band of each axis.

    Args:
        similarity: What `axis_stability` returned, shape (draws, axis).
    """
    low, high = np.quantile(similarity, [0.025, 0.975], axis=0)
    return [
        {
            "similarity": float(mean),
            "low": float(low[axis]),
            "high": float(high[axis]),
            "stability": band(float(mean)),
        }
        for axis, mean in enumerate(similarity.mean(axis=0))
    ]


def describe_reliability(
    scores: Floats, scans: pd.DataFrame, fitted: npt.NDArray[np.bool_], *, draws: int, seed: int
) -> list[dict[str, Any]]:
    """ICC(1) of each axis over rescans, visits and sides, of fitted and of held-out subjects.

    Args:
        scores: Shape (n, axis).
        scans: The scan coordinates, a row a scan.
        fitted: Which scans are of subjects that may have been fitted, shape (n,).
        draws: Bootstrap samples of subjects behind each interval.
        seed: Seed.

    Returns:
        `axis`, `kind`, `subjects` (`fitted` or `held out`), `value`, `low`, `high`, `n` (scans) and `units`,
        for every kind of which there are at least five units.
    """
    result: list[dict[str, Any]] = []
    for who, kept in (("fitted", fitted), ("held out", ~fitted)):
        own = np.flatnonzero(kept)
        for kind in KINDS:
            rows, units = repeated(scans.iloc[own], kind)
            if not units.size or int(units.max()) + 1 < FEWEST_UNITS:
                continue
            people = scans["subject_id"].to_numpy()[own[rows]]
            intervals = icc_intervals(scores[own[rows]], units, people, draws=draws, seed=seed)
            result += [
                {
                    "axis": axis,
                    "kind": kind,
                    "subjects": who,
                    **interval.to_dict(),
                    "units": int(units.max()) + 1,
                }
                for axis, interval in enumerate(intervals)
            ]
    return result
