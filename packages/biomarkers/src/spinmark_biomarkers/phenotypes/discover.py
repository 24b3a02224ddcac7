"""Find phenotypes in embeddings, say how far to trust them, and freeze them.

No function here takes an outcome: labels are fixed, and hashed, before anyone asks what they
foretell.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from spinmark_biomarkers.config import DiscoverConfig
from spinmark_biomarkers.embeddings import check_embeddings, features_of_part, scan_frame
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.cluster import fit_projection
from spinmark_biomarkers.phenotypes.clusterers.registry import METHODS, make_clusterer
from spinmark_biomarkers.phenotypes.description.members import prototypes as prototypes
from spinmark_biomarkers.phenotypes.description.panel import artefact_panel
from spinmark_biomarkers.phenotypes.freeze import freeze
from spinmark_biomarkers.phenotypes.rows import (
    choose_rows,
    known_at,
    refuse_outcomes,
    refuse_twins,
)
from spinmark_biomarkers.phenotypes.stability.recipe import Recipe
from spinmark_biomarkers.phenotypes.stability.report import stability_report
from spinmark_biomarkers.phenotypes.structure.inputs import PEOPLE_A_CLUSTER
from spinmark_biomarkers.phenotypes.structure.severity import more_than_severity
from spinmark_biomarkers.phenotypes.structure.verdict import Judgement, judge

logger = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
RECIPE = ("method", "components", "whiten", "restarts", "seed")
# What labels hang on beside `k`; frozen with them.
LABEL_SETTINGS = (*RECIPE, "options", "part", "visits")


@dataclass(frozen=True, kw_only=True)
class Phenotypes:
    """Frozen phenotypes.

    Args:
        dataset: `label(scan)`, `probability(scan, phenotype)`, `fitted(scan)`, and `noise(scan)` of a method
            that tells noise; see docs/schemas.md.
        known_at: `joint_id`, `known_at`: days at which a joint's phenotype was known.
        facts: Verdict, stability, artefact panel; what `summary` returns.
        judgement: What the verdict rests on, for its figure; none of phenotypes that were read from disk.
    """

    dataset: xr.Dataset
    known_at: pd.DataFrame
    facts: dict[str, Any]
    judgement: Judgement | None = None

    def to_dataset(self) -> xr.Dataset:
        """Return the labels as a dataset."""
        return self.dataset

    def summary(self) -> dict[str, Any]:
        """Return verdict, stability and artefact panel, ready for JSON."""
        return self.facts


def _check_config(config: DiscoverConfig) -> None:
    least = {
        "bootstrap": 1,
        "seeds": 0,
        "splits": 1,
        "resamples": 2,
        "null_draws": 0,
        "permutations": 19,
        "restarts": 1,
    }
    for name, lowest in least.items():
        if getattr(config, name) < lowest:
            raise InputError(f"{name}: {getattr(config, name)}; accepted is at least {lowest}")
    if config.k is not None and config.k < 1:
        raise InputError(f"k: {config.k}; accepted is null or a whole number of at least 1")
    if not 2 <= config.k_min <= config.k_max:
        raise InputError(
            f"k_min, k_max: {config.k_min}, {config.k_max}; accepted is 2 <= k_min <= k_max"
        )
    # Asked here as well: the verdict comes first and takes long.
    make_clusterer(config.method, k=config.k or config.k_max, options=config.options)
    if config.k is not None and METHODS[config.method].chooses_k:
        raise InputError(
            f"k: {config.k} with method {config.method}, which finds the number itself; accepted is null"
        )


def _refuse_lone(labels: npt.NDArray[np.int64], people: npt.NDArray[np.str_]) -> None:
    """Refuse a phenotype of one person: nothing could be said of it but of them."""
    for label in np.unique(labels):
        members = np.unique(people[labels == label])
        if members.size == 1:
            raise InputError(
                f"phenotype {label} of {len(np.unique(labels))}: one subject alone ({members[0]}); accepted "
                "are at least 2 in each: ask for fewer phenotypes, or leave out a scan that is like no other"
            )


def _judge(
    z: Floats, people: npt.ArrayLike, config: DiscoverConfig, progress: Progress | None = None
) -> Judgement:
    """Judge a space by the settings; a method that finds its own number is judged by k-means."""
    most = config.k_max
    if config.k is not None:
        # Where the number is given, the others are judged as far as there are people for them.
        most = min(most, len(np.unique(people)) // PEOPLE_A_CLUSTER)
    ks = set(range(config.k_min, most + 1)) | {max(config.k or 2, 2)}
    return judge(
        z,
        people,
        sorted(ks),
        method="kmeans" if METHODS[config.method].chooses_k else config.method,
        criteria=config.criteria,
        splits=config.splits,
        resamples=config.resamples,
        null_draws=config.null_draws,
        seed=config.seed,
        progress=progress,
    )


def _number(config: DiscoverConfig, judged: Judgement) -> tuple[int | None, str]:
    """Return the number of phenotypes to fit, and how it was chosen."""
    if METHODS[config.method].chooses_k:
        return config.k, f"found by {config.method}"
    return (judged.k, judged.k_chosen) if config.k is None else (config.k, "given")


def discover(
    embeddings: xr.Dataset,
    config: DiscoverConfig,
    *,
    severity: pd.Series | None = None,
    progress: Progress | None = None,
) -> Phenotypes:
    """Fit phenotypes on training and validation subjects and assign every scan.

    Args:
        embeddings: The embeddings artefact, see docs/schemas.md.
        config: Settings.
        severity: A grade of severity, indexed by scan_id (a structural one, such as Kellgren and Lawrence's,
            and no outcome); it moves no label, and asks whether phenotypes are more than severity.
        progress: Called with (done, total).

    Returns:
        The frozen phenotypes. Phenotype 0 is the largest among the fitted scans.

    Raises:
        InputError: Where the embeddings fail their schema, a person stands under two IDs, a setting is
            out of range, too few scans can be fitted, a phenotype would be one person's alone, or too
            few subjects have a severity.
    """
    _check_config(config)
    whole = check_embeddings(embeddings)
    refuse_twins(whole)
    ds = features_of_part(whole, config.part)
    refuse_outcomes(ds)
    scans = scan_frame(ds)
    x = np.asarray(ds["embedding"].values, dtype=np.float64)
    chosen = choose_rows(scans, config.visits)
    rows, people = chosen.rows, chosen.people
    most = config.k_max if config.k is None else max(config.k, 2)
    if chosen.n_people < PEOPLE_A_CLUSTER * most:
        raise InputError(
            f"embeddings: {chosen.n_people} train and val subjects for up to {most} phenotypes; "
            f"accepted are at least {PEOPLE_A_CLUSTER * most}"
        )
    steps = _Halves(progress)
    projection = fit_projection(x[rows], components=config.components, whiten=config.whiten)
    z = projection(x[rows])
    judged = _judge(z, people, config, steps.first)
    k, how = _number(config, judged)
    recipe = Recipe(k=k, **{name: getattr(config, name) for name in RECIPE}, options=config.options)
    model = recipe.fit(x[rows])
    labels, probability = model.assign(x)
    _refuse_lone(labels[rows], people)
    stable = stability_report(
        x[rows],
        scans.iloc[rows],
        recipe,
        folds=ds["fold"].values[rows] if "crossfit" in ds.attrs else None,
        bootstrap=config.bootstrap,
        seeds=config.seeds,
        permutations=config.permutations,
        progress=steps.second,
    ).to_dict()
    logger.info("discover: %d phenotypes of %d scans, %s", model.k, rows.size, judged.verdict)
    facts: dict[str, Any] = {
        "verdict": judged.verdict,
        "reasons": list(judged.reasons),
        "method": config.method,
        "k": model.k,
        "k_chosen": how,
        "scans_fitted": int(rows.size),
        "subjects_fitted": chosen.n_people,
        "structure": judged.to_dict(),
        "phenotypes": [_flat(one) for one in stable.pop("phenotypes")],
        "stability": stable,
        "artefacts": artefact_panel(
            labels[rows], scans.iloc[rows], permutations=config.permutations, seed=config.seed
        ),
        "config": {f.name: getattr(config, f.name) for f in fields(DiscoverConfig)},
    }
    if severity is not None:
        facts["severity"] = _ask_severity(
            z, labels[rows], people, scans.iloc[rows], severity, judged, config
        )
    known = known_at(scans, chosen.used)
    settings = {name: getattr(config, name) for name in LABEL_SETTINGS} | {"k": model.k}
    found = _dataset(ds, labels, probability, chosen.fitted, config)
    if hasattr(model.clusterer, "predict_noise"):
        found["noise"] = ("scan", model.clusterer.predict_noise(model.projection(x)))
    return Phenotypes(
        dataset=freeze(found, known, settings), known_at=known, facts=facts, judgement=judged
    )


class _Halves:
    """One progress in hundredths of two parts that count for themselves: judging, then stability."""

    def __init__(self, progress: Progress | None) -> None:
        self.first = self._part(progress, 0)
        self.second = self._part(progress, 100)

    @staticmethod
    def _part(progress: Progress | None, before: int) -> Progress | None:
        if progress is None:
            return None
        return lambda done, total: progress(before + 100 * done // total, 200)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A phenotype's figures, the entropy and its interval as three numbers."""
    entropy = row.get("entropy") or {}
    names = {"entropy": "value", "entropy_low": "low", "entropy_high": "high"}
    return row | {name: entropy.get(key) for name, key in names.items()}


def _ask_severity(
    z: Floats,
    labels: npt.NDArray[np.int64],
    people: npt.NDArray[np.str_],
    scans: pd.DataFrame,
    severity: pd.Series,
    judged: Judgement,
    config: DiscoverConfig,
) -> dict[str, Any]:
    """Ask whether phenotypes are more than severity, of the scans that have a grade."""
    grades = severity.reindex(scans["scan_id"]).to_numpy(np.float64)
    has = np.isfinite(grades)
    least = PEOPLE_A_CLUSTER * (config.k_max if config.k is None else max(config.k, 2))
    if (graded := len(np.unique(people[has]))) < least:
        raise InputError(
            f"severity: {graded} fitted subjects have a grade; accepted are at least {least}"
        )
    answer = more_than_severity(
        z[has],
        labels[has],
        grades[has],
        people[has],
        before=judged.verdict,
        # What has no voice in a verdict is not asked twice.
        judge=lambda left: _judge(left, people[has], replace(config, criteria=False)),
        seed=config.seed,
    )
    return {"variable": str(severity.name), "scans": int(has.sum()), **answer.to_dict()}


def _dataset(
    ds: xr.Dataset,
    labels: npt.NDArray[np.int64],
    probability: Floats,
    fitted: npt.NDArray[np.bool_],
    config: DiscoverConfig,
) -> xr.Dataset:
    attrs: dict[str, Any] = {
        "schema": "spinmark/phenotypes",
        "version": 2,
        "method": config.method,
        "k": int(probability.shape[1]),
        "visits": config.visits,
    }
    for name in ("encoder_hash", "cohort_hash", "split_hash"):
        if name in ds.attrs:
            attrs[name] = ds.attrs[name]
    return xr.Dataset(
        {
            "label": ("scan", labels),
            "probability": (("scan", "phenotype"), probability),
            "fitted": ("scan", fitted),
        },
        coords={name: ds[name] for name in ds.coords if ds[name].dims == ("scan",)},
        attrs=attrs,
    )
