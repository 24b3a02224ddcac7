"""Every check of stability that the data at hand allow, in one call."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.stability.bootstrap import cluster_stability, jaccard_rows
from spinmark_biomarkers.phenotypes.stability.entropy import entropy_by_phenotype
from spinmark_biomarkers.phenotypes.stability.folds import FoldMatch, match_folds
from spinmark_biomarkers.phenotypes.stability.knees import Knees, knee_concordance
from spinmark_biomarkers.phenotypes.stability.labelings import (
    Labelings,
    across_encoders,
    across_seeds,
)
from spinmark_biomarkers.phenotypes.stability.recipe import Recipe
from spinmark_biomarkers.phenotypes.stability.sites import leave_one_site_out, site_frequencies

logger = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
NOT_CROSSFITTED = "the embeddings are not cross-fitted"


@dataclass(frozen=True, kw_only=True)
class StabilityReport:
    """What survives what; a part is None where it does not apply, and `skipped` says why.

    Args:
        phenotypes: A row a phenotype: bootstrap Jaccard with band, and assignment entropy.
        seeds: Other seeds of the clusterer.
        encoders: Other embeddings of the same scans.
        sites: Refits without each site, tidy rows.
        frequencies: Share of each phenotype at each site, tidy rows.
        knees: Right and left knees of the same people.
        folds: The folds of a cross-fitted run.
        skipped: By the name of a part, the reason why it is absent.
    """

    phenotypes: list[dict[str, Any]]
    seeds: Labelings | None
    encoders: Labelings | None
    sites: pd.DataFrame | None
    frequencies: pd.DataFrame | None
    knees: Knees | None
    folds: FoldMatch | None
    skipped: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return all figures for JSON; of the parts that apply."""
        told: dict[str, Any] = {"phenotypes": self.phenotypes, "skipped": self.skipped}
        for name in ("seeds", "encoders", "knees", "folds"):
            part = getattr(self, name)
            if part is not None:
                told[name] = part.to_dict()
        for name in ("sites", "frequencies"):
            frame = getattr(self, name)
            if frame is not None:
                told[name] = _records(frame)
        return told


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows = frame.astype(object).to_dict("records")
    return [
        {str(key): None if pd.isna(item) else item for key, item in row.items()} for row in rows
    ]


def stability_report(
    x: Floats,
    scans: pd.DataFrame,
    recipe: Recipe,
    *,
    encoders: Mapping[str, Floats] | None = None,
    folds: npt.ArrayLike | None = None,
    bootstrap: int = 50,
    seeds: int = 5,
    draws: int = 200,
    permutations: int = 2000,
    progress: Progress | None = None,
) -> StabilityReport:
    """Fit phenotypes and say what they survive.

    Args:
        x: The rows to be clustered, shape (n, feature).
        scans: A row a row of x: `scan_id`, `subject_id`, `laterality`, `joint_id`, `days`, `site`.
        recipe: How they are clustered.
        encoders: Other embeddings of the same rows, by name, each of shape (n, feature of its own).
        folds: The fold of each row of a cross-fitted run, shape (n,).
        bootstrap: Subject bootstrap samples in which everything is refitted.
        seeds: Further seeds of the clusterer; 0 for none.
        draws: Bootstrap samples behind the intervals of agreements, where nothing is refitted.
        permutations: Behind the p values of the two knees.
        progress: Called with (done, total).

    Returns:
        The report; a check that cannot be made is left out with its reason.

    Raises:
        InputError: Rows differ in number, or the rows cannot be clustered.
    """
    if len(scans) != len(x):
        raise InputError(f"scans: {len(scans)} rows for {len(x)} of x; accepted is one a row")
    order = np.argsort(scans["scan_id"].to_numpy().astype(str), kind="stable")
    x, scans = x[order], scans.iloc[order].reset_index(drop=True)
    people = scans["subject_id"].to_numpy().astype(str)
    model = recipe.fit(x)
    labels, probability = model.assign(x)
    # Of several visits the first stands for the joint.
    total = bootstrap + 5

    def step(done: int) -> None:
        if progress is not None:
            progress(done, total)

    jaccard = cluster_stability(
        x,
        model,
        people,
        components=recipe.components,
        whiten=recipe.whiten,
        draws=bootstrap,
        seed=recipe.seed,
        options=recipe.options,
        progress=None if progress is None else lambda done, _: step(done),
    )
    certain = entropy_by_phenotype(labels, probability, people, draws=draws, seed=recipe.seed)
    skipped: dict[str, str] = {}

    def part(name: str, needed: bool, reason: str, make: Callable[[], Any]) -> Any:
        step(min(bootstrap + 1 + len(done), total))
        done.append(name)
        if not needed:
            skipped[name] = reason
            return None
        try:
            return make()
        except InputError as error:
            skipped[name] = str(error)
            logger.warning("stability: %s left out: %s", name, error)
            return None

    done: list[str] = []
    spaces = {} if encoders is None else {"this": x} | {n: y[order] for n, y in encoders.items()}
    several = scans["site"].astype(str).nunique() > 1
    k = len(model.centres)
    report = StabilityReport(
        phenotypes=[
            {**one, "n": int((labels == c).sum()), **certain[c]}
            for c, one in enumerate(jaccard_rows(jaccard))
        ],
        seeds=part(
            "seeds",
            seeds > 0,
            "no further seed was asked for",
            lambda: across_seeds(x, people, recipe, seeds=seeds, draws=draws),
        ),
        encoders=part(
            "encoders",
            encoders is not None,
            "no other embedding was given",
            lambda: across_encoders(spaces, people, recipe, draws=draws),
        ),
        sites=part(
            "sites",
            several,
            "all scans are from one site",
            lambda: leave_one_site_out(x, labels, people, scans["site"], recipe, draws=draws),
        ),
        frequencies=site_frequencies(
            labels, people, scans["site"], k=k, draws=draws, seed=recipe.seed
        )
        if several
        else None,
        knees=part(
            "knees",
            True,
            "",
            lambda: _knees(labels, scans, permutations, draws, recipe.seed, several),
        ),
        folds=part(
            "folds",
            folds is not None,
            NOT_CROSSFITTED,
            lambda: match_folds(x, people, np.asarray(folds)[order], recipe),
        ),
        skipped=skipped,
    )
    step(total)
    return report


def _knees(
    labels: npt.NDArray[np.int64],
    scans: pd.DataFrame,
    permutations: int,
    draws: int,
    seed: int,
    several: bool,
) -> Knees:
    """The first scan of each joint stands for it."""
    first = scans.assign(row=np.arange(len(scans))).sort_values(["days", "scan_id"], kind="stable")
    rows = np.sort(first.drop_duplicates("joint_id")["row"].to_numpy())
    chosen = scans.iloc[rows]
    return knee_concordance(
        labels[rows],
        chosen["subject_id"],
        chosen["laterality"],
        strata=chosen["site"] if several else None,
        permutations=permutations,
        draws=draws,
        seed=seed,
    )
