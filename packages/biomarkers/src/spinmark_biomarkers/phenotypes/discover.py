"""Find phenotypes in embeddings, say how far to trust them, and freeze them.

No function here takes an outcome: labels are fixed, and hashed, before anyone asks what they
foretell.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from spinmark_biomarkers.config import DiscoverConfig
from spinmark_biomarkers.embeddings import check_embeddings, features_of_part, scan_frame
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.cluster import ClusterModel, fit_clusters, fit_projection
from spinmark_biomarkers.phenotypes.freeze import frozen_hash
from spinmark_biomarkers.phenotypes.panel import artefact_panel
from spinmark_biomarkers.phenotypes.stability import (
    assignment_entropy,
    category,
    cluster_stability,
)
from spinmark_biomarkers.phenotypes.structure import strength_against_null, valley_tests

logger = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
STRONG = 0.8  # Prediction strength that speaks for k clusters (Tibshirani and Walther 2005).
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Phenotypes:
    """Frozen phenotypes.

    Args:
        dataset: `label(scan)`, `probability(scan, phenotype)`, `fitted(scan)`, see docs/schemas.md.
        known_at: `joint_id`, `known_at`: days at which a joint's phenotype was known.
        facts: Verdict, stability, artefact panel; what `summary` returns.
    """

    dataset: xr.Dataset
    known_at: pd.DataFrame
    facts: dict[str, Any]

    def to_dataset(self) -> xr.Dataset:
        """Return the labels as a dataset."""
        return self.dataset

    def summary(self) -> dict[str, Any]:
        """Return verdict, stability and artefact panel, ready for JSON."""
        return self.facts


def _check_config(config: DiscoverConfig) -> list[int]:
    least = {"bootstrap": 1, "splits": 1, "null_draws": 19, "permutations": 19, "restarts": 1}
    for name, lowest in least.items():
        if getattr(config, name) < lowest:
            raise InputError(f"{name}: {getattr(config, name)}; accepted is at least {lowest}")
    if config.k is not None:
        if config.k < 1:
            raise InputError(f"k: {config.k}; accepted is null or a whole number of at least 1")
        return [config.k]
    if not 2 <= config.k_min <= config.k_max:
        raise InputError(
            f"k_min, k_max: {config.k_min}, {config.k_max}; accepted is 2 <= k_min <= k_max"
        )
    return list(range(config.k_min, config.k_max + 1))


def _used(scans: pd.DataFrame, visits: str) -> npt.NDArray[np.bool_]:
    """Mark the scans that define a joint's phenotype: primary, and of the visits asked for."""
    primary = (scans["rank"] == 0).to_numpy()
    if not primary.any():
        raise InputError("embeddings: no scan of rank 0; accepted is at least one")
    if visits == "all":
        return np.asarray(primary)
    days = scans[primary].groupby("visit")["days"].median()
    baseline = str(min(days.index, key=lambda visit: (days[visit], visit)))
    return np.asarray(primary & (scans["visit"] == baseline).to_numpy())


def _choose(ks: list[int], strengths: Floats, excess: Floats) -> tuple[int, str]:
    if len(ks) == 1:
        return ks[0], "given"
    strong = [k for k, strength in zip(ks, strengths, strict=True) if strength >= STRONG]
    if strong:
        return max(strong), f"the largest with a prediction strength of at least {STRONG}"
    best = ks[int(excess.argmax())]
    return best, f"no k reached a prediction strength of {STRONG}; largest excess over the null"


def _verdict(k: int, p: float, valleys: list[dict[str, float | int]]) -> tuple[str, list[str]]:
    if k == 1:
        return "none", ["one phenotype was asked for, so that nothing was tested"]
    reasons = [f"prediction strength against a single Gaussian of the same covariance: p = {p:.3f}"]
    apart = [int(v["phenotype"]) for v in valleys if v["p"] <= ALPHA]
    reasons.append(
        f"a valley (dip test on held-out subjects, Holm) separates {len(apart)} of {k} phenotypes "
        "from their nearest neighbour"
    )
    if p > ALPHA:
        return "none", [*reasons, "nothing speaks against a single Gaussian"]
    if len(apart) == k:
        return "clusters", [*reasons, "every phenotype is set apart"]
    return "continuum", [*reasons, "structure without valleys: the borders are by convention"]


def _refuse_outcomes(ds: xr.Dataset) -> None:
    """Refuse embeddings whose encoder was taught what becomes of people."""
    seen = [name for name in json.loads(ds.attrs.get("uses", "[]")) if name.startswith("outcome:")]
    if seen:
        raise InputError(
            f"embeddings: their encoder learnt from {seen[0]}, and phenotypes that know an outcome foretell "
            "it by construction; accepted are encoders that learnt from none"
        )


def discover(
    embeddings: xr.Dataset, config: DiscoverConfig, *, progress: Progress | None = None
) -> Phenotypes:
    """Fit phenotypes on training and validation subjects and assign every scan.

    Args:
        embeddings: The embeddings artefact, see docs/schemas.md.
        config: Settings.
        progress: Called with (done, total).

    Returns:
        The frozen phenotypes. Phenotype 0 is the largest among the fitted scans.

    Raises:
        InputError: Where the embeddings fail their schema, a setting is out of range, or too few
            scans can be fitted.
    """
    ks = _check_config(config)
    ds = features_of_part(check_embeddings(embeddings), config.part)
    _refuse_outcomes(ds)
    scans = scan_frame(ds)
    x = np.asarray(ds["embedding"].values, dtype=np.float64)
    used = _used(scans, config.visits)
    fitted = used & scans["set"].isin(["train", "val"]).to_numpy()
    # In the order of scan_id from here on: the order of the rows must not show in any figure.
    rows = np.flatnonzero(fitted)[np.argsort(scans["scan_id"].to_numpy().astype(str)[fitted])]
    people = scans["subject_id"].to_numpy().astype(str)[rows]
    codes = np.unique(people, return_inverse=True)[1].astype(np.int64)
    n_people = int(codes.max()) + 1 if codes.size else 0
    if n_people < 4 * max(ks):
        raise InputError(
            f"embeddings: {n_people} train and val subjects for up to {max(ks)} phenotypes; "
            f"accepted are at least {4 * max(ks)}"
        )
    total = config.null_draws + 1 + config.bootstrap

    def report(offset: int) -> Progress | None:
        return None if progress is None else lambda done, _: progress(offset + done, total)

    projection = fit_projection(x[rows], components=config.components, whiten=config.whiten)
    z = projection(x[rows])
    strengths, excess, p = strength_against_null(
        z,
        codes,
        ks,
        method=config.method,
        splits=config.splits,
        null=config.null_draws,
        seed=config.seed,
        progress=report(0),
    )
    k, how = _choose(ks, strengths, excess)
    model = fit_clusters(
        x[rows],
        k=k,
        method=config.method,
        components=config.components,
        whiten=config.whiten,
        restarts=config.restarts,
        seed=config.seed,
    )
    jaccard = cluster_stability(
        x[rows],
        model,
        people,
        components=config.components,
        whiten=config.whiten,
        draws=config.bootstrap,
        seed=config.seed,
        progress=report(config.null_draws + 1),
    )
    valleys = valley_tests(model.projection(x[rows]), codes, model, seed=config.seed)
    verdict, reasons = _verdict(k, p, valleys)
    logger.info("discover: %d phenotypes on %d scans, verdict %s", k, rows.size, verdict)
    labels, probability = model.assign(x)
    facts: dict[str, Any] = {
        "verdict": verdict,
        "reasons": reasons,
        "method": config.method,
        "k": k,
        "k_chosen": how,
        "scans_fitted": int(rows.size),
        "subjects_fitted": n_people,
        "null_test": {
            "p": p,
            "draws": config.null_draws,
            "strength": {str(c): float(s) for c, s in zip(ks, strengths, strict=True)},
        },
        "valleys": valleys,
        "phenotypes": _describe(model, labels, probability, rows, jaccard),
        "artefacts": artefact_panel(
            labels[rows],
            scans.iloc[rows],
            permutations=config.permutations,
            seed=config.seed,
        ),
        "config": {f.name: getattr(config, f.name) for f in fields(DiscoverConfig)},
    }
    known_at = (
        scans[used].groupby("joint_id")["days"].max().rename("known_at").astype(float).reset_index()
    )
    return Phenotypes(
        dataset=_dataset(ds, labels, probability, fitted, config),
        known_at=known_at,
        facts=facts,
    )


def _describe(
    model: ClusterModel,
    labels: npt.NDArray[np.int64],
    probability: Floats,
    rows: npt.NDArray[np.intp],
    jaccard: Floats,
) -> list[dict[str, Any]]:
    entropy = assignment_entropy(probability)
    described = []
    for c in range(len(model.centres)):
        members = labels[rows] == c
        low, high = np.quantile(jaccard[:, c], [0.025, 0.975])
        described.append(
            {
                "phenotype": c,
                "n": int(members.sum()),
                "jaccard": float(jaccard[:, c].mean()),
                "low": float(low),
                "high": float(high),
                "stability": category(float(jaccard[:, c].mean())),
                "entropy": float(entropy[rows][members].mean()) if members.any() else None,
            }
        )
    return described


def _dataset(
    ds: xr.Dataset,
    labels: npt.NDArray[np.int64],
    probability: Floats,
    fitted: npt.NDArray[np.bool_],
    config: DiscoverConfig,
) -> xr.Dataset:
    attrs: dict[str, Any] = {
        "schema": "spinmark/phenotypes",
        "version": 1,
        "method": config.method,
        "k": int(probability.shape[1]),
        "visits": config.visits,
        "frozen_hash": frozen_hash(ds["scan_id"].values, labels),
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


def prototypes(
    embeddings: xr.Dataset, phenotypes: Phenotypes, *, per: int = 3
) -> dict[int, list[str]]:
    """Return the fitted scans nearest to the mean of each phenotype, one a subject.

    Args:
        embeddings: As given to `discover`.
        phenotypes: What it returned.
        per: Scans a phenotype, at most.

    Returns:
        For each phenotype its scan_ids, the nearest first.

    Raises:
        InputError: Where the two do not hold the same scans.
    """
    ds, embeddings = phenotypes.dataset, check_embeddings(embeddings)
    ids = ds["scan_id"].values.astype(str)
    if not np.array_equal(ids, embeddings["scan_id"].values.astype(str)):
        raise InputError(
            "prototypes: embeddings and phenotypes differ in their scans; accepted equal"
        )
    x = np.asarray(embeddings["embedding"].values, dtype=np.float64)
    labels, fitted = ds["label"].values, ds["fitted"].values
    people = ds["subject_id"].values.astype(str)
    chosen: dict[int, list[str]] = {}
    for c in range(ds.sizes["phenotype"]):
        members = np.flatnonzero((labels == c) & fitted)
        chosen[c] = []
        seen: set[str] = set()
        if members.size:
            away = np.linalg.norm(x[members] - x[members].mean(axis=0), axis=1)
            for row in members[np.lexsort((ids[members], away))]:
                if len(chosen[c]) < per and people[row] not in seen:
                    seen.add(people[row])
                    chosen[c].append(str(ids[row]))
    return chosen
