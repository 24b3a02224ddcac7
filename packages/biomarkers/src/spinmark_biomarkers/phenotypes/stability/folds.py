"""One labeling from the folds of a cross-fitted run.

Each fold's scans were embedded by an encoder of its own, which never saw their subjects, in spaces that
were aligned on shared anchors. A clusterer is fitted to each fold alone and to the others without it.
Where the two label the same scans alike, the fold has the phenotypes that the others have, and its labels
get their names. A fold whose space lies elsewhere could agree by a coincidence of directions, so that
distances are looked at too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.clusters import jaccard_matrix, match_labels, renamed
from spinmark_biomarkers.phenotypes.stability.bands import category
from spinmark_biomarkers.phenotypes.stability.recipe import Recipe

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Two clusters of one labeling cannot both have a Jaccard similarity above one half with the same cluster,
# so that above it a match is the only one there can be.
UNIQUE = 0.5
# A share of a fold's scans that lie far from all centres of the others above which the spaces are not one.
STRANGE = 0.5


@dataclass(frozen=True, kw_only=True)
class FoldMatch:
    """Labels of all folds in one numbering.

    Args:
        labels: Each row's label by the fit of its own fold, in the numbering of the fit to all folds,
            shape (n,).
        quality: `fold`, `phenotype`, `jaccard` (of the fold's cluster with that of a fit to the other
            folds: over its own rows or over theirs, whichever is less), `far` (share of the fold's rows
            farther from the others' centres than 99 % of theirs), `share` (of the fold's rows with that
            label), `n`, `n_subjects`.
        pooled: Share of rows whose label is that of the fit to all folds.
    """

    labels: Ints
    quality: pd.DataFrame
    pooled: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON: by phenotype the mean and the worst fold."""
        return {
            "folds": int(self.quality["fold"].nunique()),
            "same_as_pooled": self.pooled,
            "phenotypes": [
                {
                    "phenotype": int(str(c)),
                    "jaccard": float(rows.mean()),
                    "worst": float(rows.min()),
                    "band": category(float(rows.min())),
                }
                for c, rows in self.quality.groupby("phenotype")["jaccard"]
            ],
        }


def match_folds(
    x: Floats,
    subject_ids: npt.ArrayLike,
    folds: npt.ArrayLike,
    recipe: Recipe,
    *,
    threshold: float = UNIQUE,
    progress: Callable[[int, int], None] | None = None,
) -> FoldMatch:
    """Fit each fold, match the fits with one of all folds, and label every row by its own fold.

    Args:
        x: Fitted rows of cross-fitted embeddings, shape (n, feature).
        subject_ids: Shape (n,).
        folds: The fold of each row, shape (n,); all rows of a subject in one.
        recipe: How each fold is clustered.
        threshold: Jaccard similarity that every phenotype has to exceed in every fold. Above 0.5 no other
            cluster can be meant.
        progress: Called with (done, folds + 1).

    Raises:
        InputError: Fewer than two folds, a subject in several, a fold with fewer than four subjects a
            phenotype, a fold that lies apart from the others, or a phenotype that is matched too poorly to
            be called the same.
    """
    people, where = np.asarray(subject_ids).astype(str), np.asarray(folds)
    numbers = np.unique(where)
    if not 0 <= threshold < 1:
        raise InputError(f"threshold: {threshold}; accepted is a number from 0 to below 1")
    if numbers.size < 2:
        raise InputError(f"folds: {numbers.size}; accepted are at least two")
    several = pd.DataFrame({"p": people, "f": where}).groupby("p")["f"].nunique()
    if (several > 1).any():
        raise InputError(f"folds: subject {several.idxmax()} is in several; accepted is one")
    model = recipe.fit(x)
    pooled, k = model.assign(x)[0], len(model.centres)
    labels, rows = np.zeros(len(x), np.int64), []
    for done, fold in enumerate(numbers):
        own = where == fold
        count = len(np.unique(people[own]))
        if count < 4 * k:
            raise InputError(
                f"folds: fold {fold} has {count} subjects for {k} phenotypes; accepted are at least {4 * k}"
            )
        fit, rest = recipe.fit(x[own]), recipe.fit(x[~own])
        found, others = fit.assign(x)[0], rest.assign(x)[0]
        # The fit to the other folds, in the pooled numbering, is what this fold's clusters are matched with.
        reference = renamed(others, _all_named(pooled[~own], others[~own], others, k))
        aligned = renamed(found, _all_named(reference[own], found[own], found, k))
        size = max(k, int(aligned.max()) + 1, int(reference.max()) + 1)
        similarity = np.minimum(
            *(np.diag(jaccard_matrix(reference[r], aligned[r], size, size)) for r in (own, ~own))
        )
        gaps = np.linalg.norm(rest.projection(x) - rest.centres[others], axis=1)
        far = float((gaps[own] > np.quantile(gaps[~own], 0.99)).mean())
        labels[own] = aligned[own]
        rows += [
            {
                "fold": int(fold),
                "phenotype": c,
                "jaccard": float(similarity[c]),
                "far": far,
                "share": float((aligned[own] == c).mean()),
                "n": int(own.sum()),
                "n_subjects": count,
            }
            for c in range(k)
        ]
        if progress is not None:
            progress(done + 1, numbers.size + 1)
    quality = pd.DataFrame(rows)
    away = quality.iloc[int(quality["far"].argmax())]
    if away["far"] > STRANGE:
        raise InputError(
            f"folds: {away['far']:.0%} of the scans of fold {int(away['fold'])} lie farther from the other "
            "folds' "
            f"centres than 99 % of theirs; accepted is at most {STRANGE:.0%}, so that the spaces are one"
        )
    worst = quality.iloc[int(quality["jaccard"].argmin())]
    if worst["jaccard"] <= threshold:
        raise InputError(
            f"folds: phenotype {int(worst['phenotype'])} has a Jaccard similarity of "
            f"{worst['jaccard']:.2f} with its "
            f"match in fold {int(worst['fold'])}; accepted is above {threshold:g}, below which folds do "
            "not share a "
            "labeling"
        )
    return FoldMatch(labels=labels, quality=quality, pooled=float((labels == pooled).mean()))


def _all_named(reference: Ints, labels: Ints, every: Ints, k: int) -> dict[int, int]:
    """Match labels on some rows; those that stand in other rows alone take a number that is left."""
    names = match_labels(reference, labels, by="jaccard", k=k)
    spare = [c for c in range(k) if c not in names.values()]
    for c in np.setdiff1d(every, list(names)).tolist():
        names[c] = spare.pop(0) if spare else k + max(c, len(names))
    return names
