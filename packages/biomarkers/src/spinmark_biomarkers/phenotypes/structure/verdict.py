"""The verdict: clusters, a continuum, or none, with its reasons.

Three questions, asked in this order; each has a level of 5 %.

1. *More than one Gaussian?* The moments against the matched null, and SigClust; Bonferroni over the
   two. Where neither speaks against it the verdict is "none".
2. *Found again?* The numbers of clusters with a prediction strength of at least 0.8.
3. *A valley on the borders?* For each of these numbers, the weakest border of every cluster, together;
   Bonferroni over the numbers. The largest that passes makes the verdict "clusters", else it is
   "continuum".

Consensus, gap, mixtures and silhouette are in the table beside them and decide nothing: each of them
answers how many, given that there are some.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.evaluation.bootstrap import Progress
from spinmark_biomarkers.phenotypes.structure.borders import Borders, border_test
from spinmark_biomarkers.phenotypes.structure.consensus import Consensus, consensus
from spinmark_biomarkers.phenotypes.structure.criteria import Mixture, mixtures, silhouettes
from spinmark_biomarkers.phenotypes.structure.gap import Gap, gap_statistic
from spinmark_biomarkers.phenotypes.structure.inputs import (
    Space,
    check_count,
    check_enough,
    check_ks,
    check_rows,
    varying,
)
from spinmark_biomarkers.phenotypes.structure.prediction import (
    STRONG,
    PredictionStrength,
    prediction_strengths,
)
from spinmark_biomarkers.phenotypes.structure.shape import Departure, departure_from_gaussian
from spinmark_biomarkers.phenotypes.structure.sigclust import SigClust, sigclust

Floats = npt.NDArray[np.float64]
ALPHA = 0.05
VERDICTS = ("clusters", "continuum", "none")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Whether there are clusters, and how many.

    Args:
        verdict: "clusters", "continuum" or "none".
        reasons: Sentences.
        k: The number of clusters; where the verdict is not "clusters", a number by convention.
        k_chosen: How it was chosen.
        shape: Departure from a single Gaussian; none where nothing varies, as all that follow.
        sigclust: The best cut in two.
        strength: Prediction strength of every k.
        borders: Valleys, for every k that is found again.
        consensus: Consensus of every k; none where only the verdict was asked for, as all that follow.
        gap: Gap statistic.
        mixtures: Gaussian mixtures of 1 and of every k.
        silhouette: Of every k.
    """

    verdict: str
    reasons: tuple[str, ...]
    k: int
    k_chosen: str
    shape: Departure | None = None
    sigclust: SigClust | None = None
    strength: PredictionStrength | None = None
    borders: tuple[Borders, ...] = ()
    consensus: Consensus | None = None
    gap: Gap | None = None
    mixtures: tuple[Mixture, ...] = ()
    silhouette: tuple[float, ...] = ()

    def table(self) -> list[dict[str, Any]]:
        """Return a row for every k: each criterion that was computed, by name."""
        if self.strength is None:
            return []
        rows = []
        borders = {found.k: found for found in self.borders}
        fitted = {found.k: found for found in self.mixtures}
        for place, k in enumerate(self.strength.ks):
            row: dict[str, Any] = {
                "k": k,
                "prediction_strength": float(self.strength.strength[place]),
                "strength_excess": float(self.strength.excess[place])
                if len(self.strength.null)
                else None,
                "borders_z": borders[k].z if k in borders else None,
                "borders_p": borders[k].p if k in borders else None,
            }
            if self.consensus is not None:
                row["pac"] = float(self.consensus.pac[place])
                row["pac_excess"] = (
                    float(self.consensus.excess[place]) if len(self.consensus.null_pac) else None
                )
            if self.gap is not None:
                row["gap"] = float(self.gap.gap[k - 1])
            if k in fitted:
                row["bic"], row["icl"] = fitted[k].bic, fitted[k].icl
            if self.silhouette:
                score = self.silhouette[place]
                row["silhouette"] = score if np.isfinite(score) else None
            rows.append(row)
        return rows

    def votes(self) -> dict[str, int]:
        """Return the number of clusters that each criterion alone would pick."""
        votes: dict[str, int] = {}
        if self.strength is not None:
            found = self.strength.reproducible
            votes["prediction strength"] = max(found) if found else 1
        if self.consensus is not None and self.strength is not None:
            votes["smallest PAC"] = self.consensus.ks[int(self.consensus.pac.argmin())]
            if len(self.consensus.null_pac):
                votes["PAC against its null"] = self.consensus.ks[
                    int(self.consensus.excess.argmax())
                ]
        if self.gap is not None:
            votes["gap"] = self.gap.k
        if self.mixtures:
            votes["BIC"] = min(self.mixtures, key=lambda one: one.bic).k
            votes["ICL"] = min(self.mixtures, key=lambda one: one.icl).k
        if self.silhouette and self.strength is not None and np.isfinite(self.silhouette).any():
            votes["silhouette"] = self.strength.ks[int(np.nanargmax(self.silhouette))]
        return votes

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for JSON."""
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "k": self.k,
            "k_chosen": self.k_chosen,
            "table": self.table(),
            "votes": self.votes(),
            "shape": None if self.shape is None else self.shape.to_dict(),
            "sigclust": None if self.sigclust is None else self.sigclust.to_dict(),
            "strength": None if self.strength is None else self.strength.to_dict(),
            "borders": [found.to_dict() for found in self.borders],
            "consensus": None if self.consensus is None else self.consensus.to_dict(),
            "gap": None if self.gap is None else self.gap.to_dict(),
            "mixtures": [found.to_dict() for found in self.mixtures],
        }


def judge(
    z: npt.ArrayLike,
    subjects: npt.ArrayLike,
    ks: Sequence[int] = range(2, 9),
    *,
    method: str = "kmeans",
    criteria: bool = True,
    shape_draws: int = 199,
    sigclust_draws: int = 100,
    splits: int = 10,
    resamples: int = 100,
    null_draws: int = 19,
    seed: int,
    progress: Progress | None = None,
) -> Judgement:
    """Judge whether rows hold clusters, a continuum or neither.

    Args:
        z: Rows, principal components as a rule, shape (n, component).
        subjects: The subject of each, shape (n,).
        ks: Numbers of clusters that are considered.
        method: Clusterer behind prediction strength, consensus and silhouette, a name of
            `clusterers.registry.METHODS`. Borders and SigClust are defined by k-means.
        criteria: Also compute what has no voice: consensus, the nulls of prediction strength and
            consensus, gap, mixtures, silhouette. They take most of the time.
        shape_draws: Draws from the matched null for the moments.
        sigclust_draws: The same for SigClust.
        splits: Halvings for prediction strength.
        resamples: Shares of the subjects for consensus.
        null_draws: Draws from the matched null for prediction strength and consensus.
        seed: Seed of everything random.
        progress: Called with (done, total).

    Raises:
        InputError: As `inputs.check_rows` and `inputs.check_enough`; or a setting is out of range.
    """
    found_ks = check_ks(ks)
    check_count("null_draws", null_draws, 0)
    check_count("splits", splits, 1)
    space = varying(check_rows(z, subjects))
    if space.z.shape[1] == 0:
        return Judgement(
            verdict="none",
            reasons=("all rows are equal, so there is nothing that could form groups",),
            k=1,
            k_chosen="nothing varies",
        )
    check_enough(space, found_ks)
    steps = _Steps(progress, 8 + null_draws if criteria else 4)
    # One thread, in which sums have one order; loops of small fits are slower on many.
    with threadpool_limits(limits=1):
        shape = departure_from_gaussian(space.z, space.subjects, draws=shape_draws, seed=seed)
        steps.one()
        cut = sigclust(space.z, space.subjects, draws=sigclust_draws, seed=seed)
        steps.one()
        strength = prediction_strengths(
            space.z,
            space.subjects,
            found_ks,
            method=method,
            splits=splits,
            null=null_draws if criteria else 0,
            seed=seed,
            progress=lambda done, total: steps.one(),
        )
        borders = tuple(
            border_test(space.z, space.subjects, k, seed=seed) for k in strength.reproducible
        )
        steps.one()
        extra: dict[str, Any] = {}
        if criteria:
            extra = _extra(space, found_ks, method, resamples, null_draws, seed, steps)
    verdict, reasons, k, how = _decide(found_ks, shape, cut, strength, borders)
    return Judgement(
        verdict=verdict,
        reasons=tuple(reasons),
        k=k,
        k_chosen=how,
        shape=shape,
        sigclust=cut,
        strength=strength,
        borders=borders,
        **extra,
    )


class _Steps:
    """Counts what is done of a judgement."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def one(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _extra(
    space: Space,
    ks: tuple[int, ...],
    method: str,
    resamples: int,
    null_draws: int,
    seed: int,
    steps: _Steps,
) -> dict[str, Any]:
    z, subjects = space.z, space.subjects
    extra: dict[str, Any] = {
        "consensus": consensus(
            z, subjects, ks, method=method, resamples=resamples, null=null_draws, seed=seed
        )
    }
    steps.one()
    extra["gap"] = gap_statistic(z, subjects, ks, seed=seed)
    steps.one()
    extra["mixtures"] = tuple(mixtures(z, subjects, ks, seed=seed))
    steps.one()
    scores = silhouettes(z, subjects, ks, method=method, seed=seed)
    extra["silhouette"] = tuple(float(score) for score in scores)
    steps.one()
    return extra


def _decide(
    ks: tuple[int, ...],
    shape: Departure,
    cut: SigClust,
    strength: PredictionStrength,
    borders: tuple[Borders, ...],
) -> tuple[str, list[str], int, str]:
    """Return verdict, reasons, k and how it was chosen."""
    best = ks[int(strength.strength.argmax())]
    reasons = [
        f"moments against a single Gaussian with the same covariance: p = {shape.p:.3f} (skewness up "
        f"to {shape.skewness:.2f}, excess kurtosis up to {shape.kurtosis:.2f})",
        f"SigClust, the best cut in two against that Gaussian: z = {cut.z:.1f}, p = {cut.p:.3g}",
    ]
    if min(1.0, 2 * min(shape.p, cut.p)) > ALPHA:
        reasons.append("nothing speaks against a single Gaussian")
        return "none", reasons, best, "by convention: the largest prediction strength"
    if not borders:
        top = float(strength.strength.max())
        reasons.append(
            f"no number of clusters is found again: prediction strength is {top:.2f} at most, where "
            f"{STRONG} is asked for; structure without groups"
        )
        return "continuum", reasons, best, "by convention: the largest prediction strength"
    level = ALPHA / len(borders)
    reasons.append(
        "found again in the other half of the people (prediction strength of at least "
        f"{STRONG}): k = {', '.join(str(found.k) for found in borders)}"
    )
    for found in borders:
        own = sum(one.p <= ALPHA for one in found.weakest)
        reasons.append(
            f"k = {found.k}: valleys on the weakest borders together z = {found.z:.1f}, "
            f"p = {found.p:.3g} (at most {level:.3g} is asked for); {own} of {found.k} clusters have one "
            "on their own"
        )
    passed = [found.k for found in borders if found.p <= level]
    if passed:
        return (
            "clusters",
            reasons,
            max(passed),
            "the largest that is found again and has valleys on its borders",
        )
    reasons.append("structure without valleys: where to cut is a convention")
    k = max(found.k for found in borders)
    return "continuum", reasons, k, "by convention: the largest that is found again"
