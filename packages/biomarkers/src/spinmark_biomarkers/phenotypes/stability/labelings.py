"""Several labelings of the same scans, renamed to one of them and compared: encoders, or seeds.

A phenotype that one encoder sees and others do not may be a property of that encoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import (
    Interval,
    Progress,
    Rows,
    subject_bootstrap,
)
from spinmark_biomarkers.evaluation.clusters import align_labels, rand_index
from spinmark_biomarkers.phenotypes.stability.agreement import Agreement, agreement
from spinmark_biomarkers.phenotypes.stability.recipe import Recipe

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Labelings:
    """Labelings of the same rows against one of them.

    Args:
        reference: Name of the reference.
        aligned: Every labeling in the reference's numbering, by name, each of shape (n,).
        agreements: Every other labeling's agreement with the reference, by name.
        pairs: `first`, `second`, `value`, `low`, `high`: the adjusted Rand index of every pair.
        unanimous: Share of rows to which all labelings give one label.
    """

    reference: str
    aligned: dict[str, Ints]
    agreements: dict[str, Agreement]
    pairs: pd.DataFrame
    unanimous: Interval

    def to_frame(self) -> pd.DataFrame:
        """Return tidy rows: `reference`, `labels`, and the columns of `Agreement.rows`."""
        rows = [
            {"reference": self.reference, "labels": name, **row}
            for name, one in self.agreements.items()
            for row in one.rows()
        ]
        return pd.DataFrame(rows).astype({"phenotype": "Int64"})

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "reference": self.reference,
            "agreements": {name: one.to_dict() for name, one in self.agreements.items()},
            "pairs": [
                {
                    name: None if isinstance(item, float) and not np.isfinite(item) else item
                    for name, item in row.items()
                }
                for row in self.pairs.to_dict("records")
            ],
            "unanimous": self.unanimous.to_dict(),
        }


def compare_labelings(
    labelings: Mapping[str, npt.ArrayLike],
    subject_ids: npt.ArrayLike,
    *,
    reference: str | None = None,
    k: int | None = None,
    draws: int = 200,
    seed: int,
    progress: Progress | None = None,
) -> Labelings:
    """Align labelings of the same rows to one of them and say how far they agree.

    Args:
        labelings: At least two, by name, each of shape (n,).
        subject_ids: The subject of each row, shape (n,).
        reference: The one that others are renamed to; the first by default.
        k: Number of phenotypes of the reference; by default those that stand in it.
        draws: Bootstrap samples of subjects.
        seed: Seed of the draws.
        progress: Called with (done, labelings).

    Raises:
        InputError: Fewer than two labelings, an unknown reference, or lengths that differ.
    """
    given = {name: np.asarray(labels, dtype=np.int64) for name, labels in labelings.items()}
    if len(given) < 2:
        raise InputError(f"labelings: {len(given)}; accepted are at least two of the same scans")
    first = next(iter(given)) if reference is None else reference
    if first not in given:
        raise InputError(f"reference: '{first}'; accepted are {', '.join(given)}")
    found: dict[str, Agreement] = {}
    aligned = {first: given[first]}
    for number, name in enumerate(given):
        if name != first:
            found[name] = agreement(
                given[first], given[name], subject_ids, k=k, draws=draws, seed=seed
            )
            aligned[name] = align_labels(given[first], given[name], k=k)[0]
        if progress is not None:
            progress(number + 1, len(given))
    together = np.stack(list(aligned.values()))
    same = (together == together[0]).all(axis=0)
    return Labelings(
        reference=first,
        aligned=aligned,
        agreements=found,
        pairs=_pairs(given, subject_ids, draws=draws, seed=seed),
        unanimous=subject_bootstrap(
            lambda rows: float(same[rows].mean()), subject_ids, draws=draws, seed=seed
        ),
    )


def _pairs(
    given: Mapping[str, Ints], subject_ids: npt.ArrayLike, *, draws: int, seed: int
) -> pd.DataFrame:
    rows = []
    names = list(given)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            a, b = given[first], given[second]

            def rand(rows: Rows, a: Ints = a, b: Ints = b) -> float:
                return rand_index(a, b, np.bincount(rows, minlength=a.size))

            one = subject_bootstrap(rand, subject_ids, draws=draws, seed=seed)
            rows.append(
                {
                    "first": first,
                    "second": second,
                    "value": one.value,
                    "low": one.low,
                    "high": one.high,
                }
            )
    return pd.DataFrame(rows, columns=["first", "second", "value", "low", "high"])


def across_seeds(
    x: Floats,
    subject_ids: npt.ArrayLike,
    recipe: Recipe,
    *,
    seeds: int = 5,
    draws: int = 200,
    progress: Progress | None = None,
) -> Labelings:
    """Fit the same rows again with other seeds of the clusterer.

    Args:
        x: The fitted rows, shape (n, feature).
        subject_ids: Shape (n,).
        recipe: How they were clustered; its fit is the reference, named `seed S`.
        seeds: Further seeds, counted on from the recipe's.
        draws: Bootstrap samples of subjects.
        progress: Called with (done, seeds + 1).

    Raises:
        InputError: `seeds` is below one.
    """
    if seeds < 1:
        raise InputError(f"seeds: {seeds}; accepted is a whole number of at least 1")
    labelings = {}
    for number in range(seeds + 1):
        seed = recipe.seed + number
        labelings[f"seed {seed}"] = recipe.fit(x, seed=seed).assign(x)[0]
        if progress is not None:
            progress(number + 1, seeds + 1)
    return compare_labelings(labelings, subject_ids, k=recipe.k, draws=draws, seed=recipe.seed)


def across_encoders(
    spaces: Mapping[str, Floats],
    subject_ids: npt.ArrayLike,
    recipe: Recipe,
    *,
    draws: int = 200,
    progress: Progress | None = None,
) -> Labelings:
    """Cluster several embeddings of the same scans alike and compare what is found.

    Args:
        spaces: By name, each of shape (n, feature of its own), rows in the same order; the first is the
            reference.
        subject_ids: Shape (n,).
        recipe: How each is clustered.
        draws: Bootstrap samples of subjects.
        progress: Called with (done, spaces).

    Raises:
        InputError: Fewer than two, or their rows differ in number.
    """
    labelings = {}
    for number, (name, x) in enumerate(spaces.items()):
        labelings[name] = recipe.fit(x).assign(x)[0]
        if progress is not None:
            progress(number + 1, len(spaces))
    return compare_labelings(labelings, subject_ids, k=recipe.k, draws=draws, seed=recipe.seed)
