"""How far two labelings of the same scans agree.

Adjusted Rand index (Hubert and Arabie 1985), adjusted mutual information (Vinh, Epps and Bailey 2010),
and, after Hungarian alignment, the share of scans with the same label and the Jaccard similarity of each
phenotype. Intervals resample whole subjects.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import adjusted_mutual_info_score

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval, Rows, subject_bootstrap
from spinmark_biomarkers.evaluation.clusters import match_labels, rand_index, renamed
from spinmark_biomarkers.phenotypes.stability.bands import category

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of a labeling with a reference.

    Args:
        rand: Adjusted Rand index: 1 for equal partitions, about 0 for independent ones.
        mutual: Adjusted mutual information, on the same scale.
        share: Share of rows with the same label after alignment.
        phenotypes: Jaccard similarity of each phenotype of the reference with its match.
        names: For each label of the other its reference label; those without a match count from k.
        subjects: Number of subjects.
    """

    rand: Interval
    mutual: Interval
    share: Interval
    phenotypes: tuple[Interval, ...]
    names: dict[int, int]
    subjects: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "ari": self.rand.to_dict(),
            "ami": self.mutual.to_dict(),
            "share": self.share.to_dict(),
            "phenotypes": [
                {
                    "phenotype": c,
                    "jaccard": one.to_dict(),
                    "band": category(one.value) if np.isfinite(one.value) else None,
                }
                for c, one in enumerate(self.phenotypes)
            ],
            "matched": {str(old): new for old, new in sorted(self.names.items())},
            "n": self.rand.n,
            "n_subjects": self.subjects,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return tidy rows: `quantity`, `phenotype` (None for the whole), `value`, `low`, `high`, `n`."""
        whole = {"ari": self.rand, "ami": self.mutual, "share": self.share}
        told = [(name, None, one) for name, one in whole.items()]
        told += [("jaccard", c, one) for c, one in enumerate(self.phenotypes)]  # type: ignore[misc]
        return [
            {
                "quantity": name,
                "phenotype": c,
                "value": one.value,
                "low": one.low,
                "high": one.high,
                "n": one.n,
                "n_subjects": self.subjects,
            }
            for name, c, one in told
        ]


def agreement(
    reference: npt.ArrayLike,
    labels: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    *,
    k: int | None = None,
    names: Mapping[int, int] | None = None,
    draws: int = 200,
    seed: int,
) -> Agreement:
    """Compare a labeling with a reference.

    Args:
        reference: Labels from 0, shape (n,).
        labels: Labels from 0, shape (n,).
        subject_ids: The subject of each row, shape (n,).
        k: Number of phenotypes of the reference; by default those that stand in it.
        names: Reference label for each of the others, where they were matched on other rows; by default
            they are matched on these, by Jaccard similarity.
        draws: Bootstrap samples. The matching is that of all rows in each of them.
        seed: Seed of the draws.

    Raises:
        InputError: The lengths differ, a label is negative or has no match.
    """
    a, b = np.asarray(reference, dtype=np.int64), np.asarray(labels, dtype=np.int64)
    people = np.asarray(subject_ids)
    if not a.shape == b.shape == people.shape or a.ndim != 1:
        raise InputError(
            f"labels and subject_ids: shapes {a.shape}, {b.shape} and {people.shape}; accepted is one length"
        )
    table = match_labels(a, b, by="jaccard", k=k) if names is None else dict(names)
    aligned = renamed(b, table)
    number = max(int(a.max()) + 1, k or 0)

    def rand(rows: Rows) -> float:
        return rand_index(a, b, np.bincount(rows, minlength=a.size))

    def share(rows: Rows) -> float:
        return float((a[rows] == aligned[rows]).mean())

    def jaccard(c: int, rows: Rows) -> float:
        one, two = a[rows] == c, aligned[rows] == c
        union = int((one | two).sum())
        return float((one & two).sum() / union) if union else float("nan")

    return Agreement(
        rand=subject_bootstrap(rand, people, draws=draws, seed=seed),
        mutual=_mutual(a, b, people, draws=draws, seed=seed),
        share=subject_bootstrap(share, people, draws=draws, seed=seed),
        phenotypes=tuple(
            subject_bootstrap(partial(jaccard, c), people, draws=draws, seed=seed)
            for c in range(number)
        ),
        names=table,
        subjects=len(np.unique(people.astype(str))),
    )


def _mutual(a: Ints, b: Ints, people: npt.NDArray[Any], *, draws: int, seed: int) -> Interval:
    """Adjusted mutual information with an interval moved by the bias of its draws.

    A row that is drawn twice shares information with itself, which the correction for chance does not know
    of. It lifts all draws alike, most where rows are few; the Rand index leaves out such pairs.
    """
    drawn: list[float] = []

    def statistic(rows: Rows) -> float:
        drawn.append(float(adjusted_mutual_info_score(a[rows], b[rows])))
        return drawn[-1]

    found = subject_bootstrap(statistic, people, draws=draws, seed=seed)
    bias = float(np.mean(drawn[1:])) - found.value
    return Interval(
        value=found.value,
        low=min(found.low - bias, 1.0),
        high=min(found.high - bias, 1.0),
        n=found.n,
    )
