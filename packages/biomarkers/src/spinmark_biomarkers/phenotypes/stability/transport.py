"""Do the phenotypes of one cohort exist in another?

The new cohort is labelled twice: by the frozen model (its nearest centroid or largest posterior), and by
the same clusterer fitted to the new cohort alone. Where both agree, the phenotypes are there. How well the
frozen model holds together the pairs of a new cluster is the prediction strength (Tibshirani and Walther
2005), here across cohorts; pairs are of different people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.cluster import ClusterModel
from spinmark_biomarkers.phenotypes.stability.agreement import Agreement, agreement
from spinmark_biomarkers.phenotypes.stability.recipe import Recipe

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Strength that speaks for clusters (Tibshirani and Walther 2005); Jaccard at which one counts as the same.
STRONG, SAME = 0.8, 0.75
# Shares of new scans beyond the source's 99th percentile of distance that are told of, and too many for a
# verdict.
FAR, MOSTLY_FAR = 0.05, 0.5


@dataclass(frozen=True, kw_only=True)
class Transport:
    """Phenotypes of a source cohort in a new one.

    Args:
        verdict: `carries over`, `carries over in part` or `does not carry over`.
        reasons: Why, in sentences.
        agreement: Of the refit with the frozen model, on the new cohort.
        strength: For each phenotype of the frozen model its matched new cluster's prediction strength; NaN
            where no new cluster is matched or it has no pair of people.
        sizes: Shares by `source`, `frozen` (the frozen model on the new cohort) and `refit`, each of shape
            (k,).
        far: Share of new scans farther from their centre than 99 % of the source's.
        recentred: Prediction strength of the weakest phenotype once both cohorts have one mean.
        labels: Labels by the frozen model, shape (m,).
        refit: Labels by the refit in the frozen model's numbering, shape (m,).
    """

    verdict: str
    reasons: list[str]
    agreement: Agreement
    strength: Floats
    sizes: dict[str, Floats]
    far: float
    recentred: float
    labels: Ints
    refit: Ints

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""

        def plain(values: Floats) -> list[float | None]:
            return [float(v) if np.isfinite(v) else None for v in values]

        return {
            "verdict": self.verdict,
            "reasons": self.reasons,
            "agreement": self.agreement.to_dict(),
            "strength": plain(self.strength),
            "sizes": {name: plain(shares) for name, shares in self.sizes.items()},
            "far": self.far,
            "recentred_strength": plain(np.array([self.recentred]))[0],
        }


def prediction_strength(
    clusters: npt.ArrayLike, predicted: npt.ArrayLike, subject_ids: npt.ArrayLike, *, k: int
) -> Floats:
    """Share of each cluster's pairs of rows of different people that a prediction puts together.

    Args:
        clusters: Labels in 0..k-1 found in these rows, shape (n,).
        predicted: Labels from 0 of another model, shape (n,).
        subject_ids: Shape (n,).
        k: Clusters.

    Returns:
        Shape (k,); NaN for a cluster without such a pair.
    """
    a, b = np.asarray(clusters, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    people = np.unique(np.asarray(subject_ids).astype(str), return_inverse=True)[1]
    together, pairs = np.zeros(k), np.zeros(k)
    for c in range(k):
        inside = a == c
        who, said = people[inside], b[inside]
        pairs[c] = _apart(who)
        together[c] = sum(_apart(who[said == p]) for p in np.unique(said))
    return np.asarray(np.divide(together, pairs, out=np.full(k, np.nan), where=pairs > 0))


def _apart(people: npt.NDArray[np.intp]) -> float:
    """Pairs of rows of different people."""
    counts = np.bincount(people).astype(np.float64) if people.size else np.zeros(1)
    return float((counts.sum() ** 2 - (counts**2).sum()) / 2)


def transport(
    model: ClusterModel,
    source: Floats,
    x: Floats,
    subject_ids: npt.ArrayLike,
    recipe: Recipe,
    *,
    draws: int = 200,
) -> Transport:
    """Carry a fitted model over to another cohort and judge whether its phenotypes are there.

    Args:
        model: The frozen clusterer.
        source: The rows that it was fitted to, shape (n, feature).
        x: Rows of the new cohort, embedded by the same encoder, shape (m, feature).
        subject_ids: Subjects of the new rows, shape (m,).
        recipe: How the source was clustered; the new cohort is clustered alike.
        draws: Bootstrap samples of the new cohort's subjects.

    Returns:
        The comparison. Phenotypes carry over where the prediction strength of every one is at least 0.8 and its
        Jaccard similarity at least 0.75, and at most half of the new scans lie far from all centres; in
        part, where the first two hold for some, or for all but the scans are far.

    Raises:
        InputError: Features differ in number, or the new cohort has fewer than four subjects a phenotype.
    """
    k = len(model.centres)
    people = np.asarray(subject_ids).astype(str)
    if x.shape[1] != source.shape[1]:
        raise InputError(
            f"transport: {x.shape[1]} features for {source.shape[1]} of the source; accepted are embeddings of "
            "the same encoder"
        )
    if len(np.unique(people)) < 4 * k:
        raise InputError(
            f"transport: {len(np.unique(people))} subjects for {k} phenotypes; accepted are at least {4 * k}"
        )
    recipe = replace(recipe, k=k)
    labels, before = model.assign(x)[0], model.assign(source)[0]
    found = recipe.fit(x).assign(x)[0]
    both = agreement(labels, found, people, k=k, draws=draws, seed=recipe.seed)
    refit = np.array([both.names[c] for c in found], dtype=np.int64)
    strength = prediction_strength(refit, labels, people, k=k)
    sizes = {
        name: np.bincount(values, minlength=k)[:k] / len(values)
        for name, values in (("source", before), ("frozen", labels), ("refit", refit))
    }
    edge = np.quantile(_distance(model, source, before), 0.99)
    far = float((_distance(model, x, labels) > edge).mean())
    moved = model.assign(x - x.mean(axis=0) + source.mean(axis=0))[0]
    recentred = prediction_strength(refit, moved, people, k=k)
    recentred = recentred[np.isfinite(recentred)]
    weakest = float(recentred.min()) if recentred.size else float("nan")
    same = _same(both, strength)
    verdict, reasons = _judge(same, strength, sizes, far, weakest)
    return Transport(
        verdict=verdict,
        reasons=reasons,
        agreement=both,
        strength=strength,
        sizes=sizes,
        far=far,
        recentred=weakest,
        labels=labels,
        refit=refit,
    )


def _distance(model: ClusterModel, x: Floats, labels: Ints) -> Floats:
    """Distance of each row from its centre, in the space of the model's components."""
    gap = model.projection(x) - model.centres[labels]
    return np.asarray(np.linalg.norm(gap, axis=1), dtype=np.float64)


def _same(both: Agreement, strength: Floats) -> list[bool]:
    return [
        bool(np.isfinite(one.value) and one.value >= SAME and strong >= STRONG)
        for one, strong in zip(both.phenotypes, strength, strict=True)
    ]


def _judge(
    same: list[bool],
    strength: Floats,
    sizes: Mapping[str, Floats],
    far: float,
    recentred: float,
) -> tuple[str, list[str]]:
    there = [c for c, yes in enumerate(same) if yes]
    verdict = "carries over in part" if there else "does not carry over"
    if all(same) and far <= MOSTLY_FAR:
        verdict = "carries over"
    finite = strength[np.isfinite(strength)]
    weakest = f"{finite.min():.2f}" if finite.size else "not defined"
    named = ", ".join(map(str, there)) or "none"
    reasons = [
        f"found again by a fit to the new cohort alone: {named} of {len(same)} phenotypes "
        f"(weakest prediction strength {weakest}; {STRONG} is asked for)"
    ]
    empty = [str(c) for c, share in enumerate(sizes["frozen"]) if share == 0]
    if empty:
        reasons.append(f"no scan of the new cohort is assigned to phenotype {', '.join(empty)}")
    if far > FAR:
        reasons.append(
            f"{far:.0%} of the new scans lie farther from their centre than 99 % of the source's: another "
            "scanner, or people unlike those of the source"
        )
    if not all(same) and recentred >= STRONG:
        reasons.append(
            f"with the means of both cohorts made equal the strength is {recentred:.2f}: they differ by a "
            "shift, "
            "as another scanner makes"
        )
    return verdict, reasons
