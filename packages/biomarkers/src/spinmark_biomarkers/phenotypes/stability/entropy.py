"""How certain an assignment is: the entropy of its probabilities."""

from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Rows, subject_bootstrap

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


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


def entropy_by_phenotype(
    labels: npt.ArrayLike,
    probability: Floats,
    subject_ids: npt.ArrayLike,
    *,
    draws: int = 200,
    seed: int,
) -> list[dict[str, Any]]:
    """Mean assignment entropy of each phenotype's members, with subject-bootstrap intervals.

    Args:
        labels: Shape (n,), from 0 to k - 1.
        probability: Shape (n, k).
        subject_ids: Shape (n,).
        draws: Bootstrap samples.
        seed: Seed of the draws.

    Returns:
        A row a phenotype: `phenotype`, `entropy` (value, low, high, n), and `uncertain`, the share of members
        whose own phenotype has a probability below one half. Both None for a phenotype without members.

    Raises:
        InputError: The lengths differ.
    """
    codes = np.asarray(labels, dtype=np.int64)
    if len(codes) != len(probability):
        raise InputError(
            f"probability: {len(probability)} rows for {len(codes)} labels; accepted is one a row"
        )
    entropy = assignment_entropy(probability)
    own = probability[np.arange(len(codes)), codes] < 0.5
    told = []
    for c in range(probability.shape[1]):
        members = codes == c

        def mean(rows: Rows, members: npt.NDArray[np.bool_] = members) -> float:
            inside = rows[members[rows]]
            return float(entropy[inside].mean()) if inside.size else float("nan")

        found = members.any()
        interval = subject_bootstrap(mean, subject_ids, draws=draws, seed=seed) if found else None
        told.append(
            {
                "phenotype": c,
                "entropy": interval and {**interval.to_dict(), "n": int(members.sum())},
                "uncertain": float(own[members].mean()) if found else None,
            }
        )
    return told
