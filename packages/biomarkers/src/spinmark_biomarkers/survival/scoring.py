"""A prognosis scored on joints that its models were not fitted on, the increments first of all."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.predictions import METRICS, evaluate_predictions
from spinmark_biomarkers.survival.config import PrognoseConfig
from spinmark_biomarkers.survival.data import DAYS_PER_YEAR, Floats, SurvivalData
from spinmark_biomarkers.survival.prognosis import HeldOut, Prognosis
from spinmark_biomarkers.survival.robustness import robustness
from spinmark_biomarkers.survival.settings import main_years, primary_years
from spinmark_biomarkers.survival.validation.increments import Increments
from spinmark_biomarkers.survival.validation.loo import compare_elpd
from spinmark_biomarkers.survival.validation.of_prognosis import increments_of, subgroups_of

logger = logging.getLogger(__name__)

POPULATION = "population"
T = TypeVar("T")


def chosen_reference(names: Sequence[str], config: PrognoseConfig) -> str:
    """The model that others are compared with: the one named, else the first."""
    return config.reference if config.reference in names else names[0]


def adding(names: Sequence[str], reference: str, ladder: Sequence[str] | None = None) -> list[str]:
    """The models that hold the reference and more: above it on the ladder, or named so."""
    order = list(names if ladder is None else ladder)
    above = order[order.index(reference) + 1 :] if reference in order else []
    return [
        name for name in names if name in above or set(name.split("_")) > set(reference.split("_"))
    ]


def fullest(names: Sequence[str]) -> str:
    """The model of the most blocks, the last of them."""
    return max(names, key=lambda name: (name.count("_"), names.index(name)))


def scored(
    held: HeldOut,
    config: PrognoseConfig,
    *,
    groups: pd.DataFrame | None = None,
    ladder: Sequence[str] | None = None,
) -> Prognosis:
    """Score predictions on joints that the models were not fitted on.

    Args:
        held: Predictions and the outcomes of those joints.
        config: Horizons, reference, thresholds and bootstrap.
        groups: Groups of people, a column a variable, indexed by joint_id.
        ladder: As in `prognose`.

    Returns:
        The prognosis with scores, increments, subgroups and checks. What too few joints or events forbid is
        left empty, and `told` says so.

    Raises:
        InputError: For a ladder of models that are not there.
    """
    found, test = held.prognosis, held.test
    names = [str(name) for name in found.risk.columns]
    reference = chosen_reference(names, config)
    above = adding(names, reference, ladder)
    told: list[str] = []
    metrics = _metrics(held, config)
    compared: dict[str, object] = {
        "reference": reference,
        "level": config.level,
        "primary_years": primary_years(config),
        "main_years": main_years(config),
    }
    done = replace(found, metrics=metrics, compared=compared)
    if held.left_out:
        done = replace(done, elpd=compare_elpd(held.left_out, reference))
    if len(names) > 1:
        gains = _tried(
            told, "increments", lambda: _increments(done, test, config, reference, ladder)
        )
        if gains is not None:
            told.extend(_few(gains.table, config.min_events))
            compared = compared | {"ladder": list(gains.ladder)}
            done = replace(done, increments=gains.table, compared=compared)
            told = [*_headline(gains, config, above), *told]
    if groups is not None and len(groups.columns):
        sub = _tried(
            told,
            "subgroups",
            lambda: subgroups_of(
                done, test, groups, model=fullest(names), horizons=[main_years(config)],
                min_events=config.min_events, draws=config.bootstrap, seed=config.sampler.seed,
                level=config.level,
            ),
        )  # fmt: skip
        if sub is not None:
            done = replace(done, subgroups=sub.table, differences=sub.differences)
    checks, cannot = robustness(
        test,
        found.risk.loc[pd.Index(test.ids.astype(str))],
        reference=reference,
        above=above,
        hazards=held.hazards,
        draws=config.bootstrap,
        seed=config.sampler.seed,
        level=config.level,
    )
    return replace(done, checks=checks, told=(*told, *cannot))


def _headline(gains: Increments, config: PrognoseConfig, above: Sequence[str]) -> list[str]:
    # What a block alone adds to the reference is the plainest of these sentences, and comes first.
    held = set(gains.reference.split("_"))
    pure = [name for name in above if held < set(name.split("_"))]
    return [
        line
        for models in (pure, [name for name in above if name not in pure])
        for line in gains.headline(main_years(config), models=models)
    ]


def _few(table: pd.DataFrame, least: int) -> list[str]:
    """A line of the horizons that fewer events fall within."""
    at = (
        table.dropna(subset=["horizon_days"])
        .groupby("horizon_days", as_index=False)["n_events"]
        .max()
    )
    years = [
        f"{days / DAYS_PER_YEAR:g} ({int(count)})"
        for days, count in at.to_numpy(dtype=float)
        if count < least
    ]
    if not years:
        return []
    return [
        f"Fewer than {least} events by these years: {', '.join(years)}. Intervals there are too short, and no "
        "model is called better or worse."
    ]


def _increments(
    done: Prognosis,
    test: SurvivalData,
    config: PrognoseConfig,
    reference: str,
    ladder: Sequence[str] | None,
) -> Increments:
    names = [str(name) for name in done.risk.columns]
    return increments_of(
        done, test, ladder=ladder, also=names, reference=reference,
        horizons=config.horizons_years, primary=primary_years(config), thresholds=config.thresholds,
        min_events=config.min_events, draws=config.bootstrap, seed=config.sampler.seed, level=config.level,
    )  # fmt: skip


def _tried(told: list[str], what: str, make: Callable[[], T]) -> T | None:
    """Do what the number of events may forbid; the reason is told in its place."""
    try:
        return make()
    except InputError as error:
        logger.warning("%s left out: %s", what, error)
        told.append(f"{what} left out: {error}")
        return None


def _metrics(held: HeldOut, config: PrognoseConfig) -> pd.DataFrame:
    test, found = held.test, held.prognosis
    if not len(test.ids):
        return pd.DataFrame(columns=list(METRICS))
    grid = found.mean["time"].to_numpy() / DAYS_PER_YEAR
    late = test.start if (test.start > 0).any() else None
    joints = pd.Index(test.ids.astype(str))

    def rows(predicted: Floats, risk: Floats, name: str, *groups: str) -> pd.DataFrame:
        options: dict[str, Any] = {"metrics": groups} if groups else {}
        return evaluate_predictions(
            test.time, test.cause, np.clip(predicted, 0, 1), grid, risk, test.subject_ids,
            horizons=config.horizons_years, model=name, weight=test.weight, start=late,
            reference=held.population[0], thresholds=config.thresholds, draws=config.bootstrap,
            seed=config.sampler.seed, level=config.level, **options,
        )  # fmt: skip

    parts = [
        rows(found.mean.sel(model=name, joint=test.ids).to_numpy(),
             found.risk.loc[joints, name].to_numpy(dtype=float), str(name))
        for name in found.risk.columns
    ]  # fmt: skip
    parts.append(rows(held.population, np.zeros(len(test.ids)), POPULATION, "brier"))
    return pd.concat(parts, ignore_index=True)
