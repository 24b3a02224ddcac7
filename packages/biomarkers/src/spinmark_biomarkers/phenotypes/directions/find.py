"""Find axes in embeddings, say how far to trust them, and freeze them.

No function here takes an outcome: axes are fixed, and hashed, before anyone asks what they foretell.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from spinmark_biomarkers.embeddings import check_embeddings, features_of_part, scan_frame
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.directions.archetypes import ArchetypeAxes
from spinmark_biomarkers.phenotypes.directions.assess import (
    describe_reliability,
    describe_stability,
)
from spinmark_biomarkers.phenotypes.directions.base import Axes, Floats
from spinmark_biomarkers.phenotypes.directions.config import DirectionsConfig
from spinmark_biomarkers.phenotypes.directions.frozen import axes_hashes, frozen_axes_hash
from spinmark_biomarkers.phenotypes.directions.number import choose_number
from spinmark_biomarkers.phenotypes.directions.panel import axis_panel
from spinmark_biomarkers.phenotypes.directions.registry import METHODS, make_axes
from spinmark_biomarkers.phenotypes.directions.reliable import ReliableAxes
from spinmark_biomarkers.phenotypes.directions.repeats import Repeats, choose_repeats
from spinmark_biomarkers.phenotypes.directions.stability import axis_stability
from spinmark_biomarkers.phenotypes.rows import (
    FITTED_SETS,
    ChosenRows,
    choose_rows,
    known_at,
    refuse_outcomes,
    refuse_twins,
)

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
# Starts of a refit: what is asked is whether it finds the same axes, not the last digit.
REFIT_RESTARTS = 2
LEAST_PEOPLE = 4


@dataclass(frozen=True, kw_only=True)
class Directions:
    """Frozen axes.

    Args:
        dataset: `score(scan, axis)`, `components(axis, feature)` and more, see docs/schemas.md.
        known_at: `joint_id`, `known_at`: days at which a joint's scores were known.
        facts: Number, stability, reliability, artefact panel; what `summary` returns.
    """

    dataset: xr.Dataset
    known_at: pd.DataFrame
    facts: dict[str, Any]

    def to_dataset(self) -> xr.Dataset:
        """Return the scores and axes as a dataset."""
        return self.dataset

    def summary(self) -> dict[str, Any]:
        """Return the facts, ready for JSON."""
        return self.facts

    def score_frame(self) -> pd.DataFrame:
        """Return the scores that define joints: `scan_id`, `subject_id`, `joint_id`, `visit`, `axis_0`, ..."""
        kept = np.flatnonzero(self.dataset["used"].values)
        ds = self.dataset.isel(scan=kept)
        frame = scan_frame(ds)[["scan_id", "subject_id", "joint_id", "laterality", "visit", "set"]]
        scores = np.asarray(ds["score"].values)
        for axis in range(scores.shape[1]):
            frame[f"axis_{axis}"] = scores[:, axis]
        return frame.sort_values("scan_id", ignore_index=True)


def _check_config(config: DirectionsConfig) -> None:
    least = {"bootstrap": 2, "permutations": 19, "restarts": 1, "components": 1, "null_draws": 19}
    for name, lowest in least.items():
        if getattr(config, name) < lowest:
            raise InputError(f"{name}: {getattr(config, name)}; accepted is at least {lowest}")
    if config.method not in METHODS:
        raise InputError(f"method: '{config.method}'; accepted are {', '.join(METHODS)}")
    strange = sorted(set(config.nuisance) - {"site", "scanner"})
    if strange:
        raise InputError(f"nuisance: '{strange[0]}'; accepted are site and scanner")


def find_directions(
    embeddings: xr.Dataset, config: DirectionsConfig, *, progress: Progress | None = None
) -> Directions:
    """Fit axes on training and validation subjects and score every scan.

    Args:
        embeddings: The embeddings artefact, see docs/schemas.md.
        config: Settings.
        progress: Called with (done, total).

    Returns:
        The frozen axes.

    Raises:
        InputError: Where the embeddings fail their schema, a person stands under two IDs, a setting is
            out of range, repeats are wanted and there are too few, or too few subjects can be fitted.
    """
    _check_config(config)
    whole = check_embeddings(embeddings)
    refuse_twins(whole)
    ds = features_of_part(whole, config.part)
    refuse_outcomes(ds)
    scans = scan_frame(ds)
    x = np.asarray(ds["embedding"].values, dtype=np.float64)
    chosen = choose_rows(scans, config.visits)
    _check_people(chosen, config.axes or 2)
    defining = x[chosen.rows]
    n_axes, how = choose_number(defining, chosen.codes, config)
    _check_people(chosen, n_axes)
    source = _source(x, scans, chosen, config)
    rows = chosen.rows if source is None else source.rows

    def fit(positions: npt.NDArray[np.int64] | None, restarts: int | None) -> Axes:
        """Fit to all rows, or to those that a bootstrap drew."""
        model = make_axes(config, n_axes, restarts=restarts)
        taken = rows if positions is None else rows[positions]
        if source is None or not isinstance(model, ReliableAxes):
            return model.fit(x[taken])
        units = source.units if positions is None else _copies(source.units, positions)
        nuisance = {str(name): scans[name].to_numpy()[taken] for name in config.nuisance}
        return model.fit(x[taken], groups=units, nuisance=nuisance)

    model = fit(None, None)
    scores = np.asarray(model.transform(x), dtype=np.float64)
    similarity = axis_stability(
        lambda drawn: fit(drawn, REFIT_RESTARTS),
        defining,
        scores[chosen.rows],
        scans["subject_id"].to_numpy().astype(str)[rows],
        draws=config.bootstrap,
        seed=config.seed,
        progress=progress,
    )
    may = scans["set"].isin(FITTED_SETS).to_numpy()
    logger.info("directions: %d axes (%s) on %d scans", n_axes, config.method, rows.size)
    dataset = _dataset(ds, model, scores, chosen, config)
    facts = {
        "method": config.method,
        "axes_number": n_axes,
        "axes_chosen": how,
        "scans_fitted": int(rows.size),
        "subjects_fitted": chosen.n_people,
        "repeats": None if source is None else source.kind,
        "variance_fitted": model.explained(defining),
        "variance_held_out": _held_out(model, x, chosen.used & ~may),
        "axes": _axes(model, similarity, axes_hashes(dataset)),
        "reliability": describe_reliability(
            scores, scans, may, draws=max(config.bootstrap, 200), seed=config.seed
        ),
        "artefacts": axis_panel(
            scores[chosen.rows],
            scans.iloc[chosen.rows],
            permutations=config.permutations,
            seed=config.seed,
        ),
        "config": {f.name: _plain(getattr(config, f.name)) for f in fields(DirectionsConfig)},
    }
    return Directions(dataset=dataset, known_at=known_at(scans, chosen.used), facts=facts)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _check_people(chosen: ChosenRows, n_axes: int) -> None:
    if chosen.n_people < max(LEAST_PEOPLE * n_axes, 8):
        raise InputError(
            f"embeddings: {chosen.n_people} train and val subjects for {n_axes} axes; accepted are at least "
            f"{max(LEAST_PEOPLE * n_axes, 8)}"
        )


def _source(
    x: Floats, scans: pd.DataFrame, chosen: ChosenRows, config: DirectionsConfig
) -> Repeats | None:
    """The repeats that reliable axes are fitted to; none for other axes."""
    if config.method != "reliable":
        return None
    may = scans["set"].isin(FITTED_SETS).to_numpy()
    components = min(config.components, x.shape[1])
    return choose_repeats(scans, may, chosen.used, kind=config.repeats, components=components)


def _copies(
    units: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Give each copy of a unit a number of its own: a subject drawn twice is no repeat of itself."""
    order = np.argsort(positions, kind="stable")
    sorted_ = positions[order]
    first = np.searchsorted(sorted_, sorted_)
    copy = np.empty(len(positions), dtype=np.int64)
    copy[order] = np.arange(len(positions)) - first
    return units[positions] * (int(copy.max()) + 1) + copy


def _held_out(model: Axes, x: Floats, rows: npt.NDArray[np.bool_]) -> float | None:
    return model.explained(x[rows]) if rows.sum() > 1 else None


def _axes(model: Axes, similarity: Floats, hashes: list[str]) -> list[dict[str, Any]]:
    stability = describe_stability(similarity)
    result = []
    for axis, (one, code) in enumerate(zip(stability, hashes, strict=True)):
        facts: dict[str, Any] = {
            "axis": axis,
            "hash": code,
            "variance_share": float(model.variance_share_[axis]),
            **one,
        }
        index = getattr(model, "stability_index_", None)
        if index is not None:
            facts["start_agreement"] = float(index[axis])
        reliability = getattr(model, "reliability_", None)
        if reliability is not None:
            facts["reliability"] = float(reliability[axis])
        result.append(facts)
    return result


def _dataset(
    ds: xr.Dataset, model: Axes, scores: Floats, chosen: ChosenRows, config: DirectionsConfig
) -> xr.Dataset:
    variables: dict[str, Any] = {
        "score": (("scan", "axis"), scores),
        "fitted": ("scan", chosen.fitted),
        "used": ("scan", chosen.used),
        "components": (("axis", "feature"), model.components_),
        "mean": ("feature", model.mean_),
    }
    if isinstance(model, ArchetypeAxes):
        variables["weight"] = (("scan", "archetype"), scores)
        variables["archetype_vector"] = (("archetype", "feature"), model.archetypes_)
        variables["projection"] = (("component", "feature"), model.projection_)
    else:
        variables["readout"] = (("axis", "feature"), model.readout_)
    attrs: dict[str, Any] = {
        "schema": "spinmark/directions",
        "version": 1,
        "method": config.method,
        "axes": scores.shape[1],
        "visits": config.visits,
        "part": config.part or "",
    }
    for name in ("encoder_hash", "cohort_hash", "split_hash"):
        if name in ds.attrs:
            attrs[name] = ds.attrs[name]
    coords: dict[Any, Any] = {n: ds[n] for n in ds.coords if ds[n].dims == ("scan",)}
    if "feature_name" in ds.variables:
        coords["feature_name"] = ("feature", np.asarray(ds["feature_name"].values).astype(object))
    made = xr.Dataset(variables, coords=coords, attrs=attrs)
    return made.assign_attrs(frozen_hash=frozen_axes_hash(made))
