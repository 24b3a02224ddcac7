"""Increments and subgroups of a prognosis, as `prognose` and `prognose_folds` return it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.predictions import Prediction
from spinmark_biomarkers.survival.data import DAYS_PER_YEAR, Floats, SurvivalData
from spinmark_biomarkers.survival.validation.increments import (
    HORIZONS,
    PRIMARY,
    THRESHOLDS,
    Increments,
    increments,
)
from spinmark_biomarkers.survival.validation.scores import rows_of_joints
from spinmark_biomarkers.survival.validation.subgroups import Subgroups, by_subgroup

if TYPE_CHECKING:
    from spinmark_biomarkers.survival.prognosis import Prognosis


def _predictions(
    prognosis: "Prognosis", data: SurvivalData, models: Sequence[str]
) -> tuple[dict[str, Prediction], Floats]:
    rows_of_joints(data)
    known = set(prognosis.risk.index.astype(str))
    absent = [str(i) for i in data.ids if str(i) not in known]
    if absent:
        raise InputError(
            f"prognosis: no prediction of {absent[0]}; accepted are outcomes of predicted joints"
        )
    seen = pd.Series(
        prognosis.cif["set"].to_numpy(), index=prognosis.cif["joint"].to_numpy().astype(str)
    )
    fitted = [str(i) for i in data.ids if seen[str(i)] != "test"]
    if fitted:
        raise InputError(
            f"prognosis: joint {fitted[0]} was fitted on; accepted are held-out joints"
        )
    risk = prognosis.risk.loc[pd.Index(data.ids.astype(str))]
    found = {
        name: Prediction(
            np.clip(prognosis.mean.sel(model=name, joint=data.ids).to_numpy(), 0, 1),
            risk[name].to_numpy(),
            name,
        )
        for name in models
    }
    return found, prognosis.mean["time"].to_numpy() / DAYS_PER_YEAR


def increments_of(
    prognosis: "Prognosis",
    data: SurvivalData,
    *,
    ladder: Sequence[str] | None = None,
    also: Sequence[str] = (),
    reference: str | None = None,
    horizons: Sequence[float] = HORIZONS,
    primary: Sequence[float] = PRIMARY,
    thresholds: Sequence[float] = THRESHOLDS,
    min_events: int = 0,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    progress: Callable[[int, int], None] | None = None,
) -> Increments:
    """What each model of a prognosis adds, on held-out joints.

    Args:
        prognosis: From `prognose` or `prognose_folds`.
        data: Outcomes of its held-out joints.
        ladder: Models from the lowest to the highest; the prognosis' order by default.
        also: As `increments`.
        reference: As `increments`.
        horizons: Years; those beyond the predictions are left out.
        primary: As `increments`.
        thresholds: As `increments`.
        min_events: As `increments`.
        draws: As `increments`.
        seed: As `increments`.
        level: As `increments`.
        progress: As `increments`.

    Returns:
        The gains; a horizon is an extrapolation where the prognosis says so.
    """
    names = list(prognosis.risk.columns) if ladder is None else list(ladder)
    used = list(dict.fromkeys([*names, *also, *([] if reference is None else [reference])]))
    if unknown := [name for name in used if name not in prognosis.risk.columns]:
        raise InputError(
            f"models: {unknown[0]!r}; the prognosis holds {', '.join(prognosis.risk.columns)}"
        )
    models, grid = _predictions(prognosis, data, used)
    chosen = [h for h in horizons if h <= grid[-1] + 1e-9]
    flags = prognosis.cif["extrapolated"].to_numpy().astype(bool)
    # What holds at the first predicted time no earlier than the horizon holds at the horizon.
    beyond = {float(h): bool(flags[np.searchsorted(grid, h - 1e-9)]) for h in chosen}
    late = data.start if (data.start > 0).any() else None
    return increments(
        data.time, data.cause, models, grid, data.subject_ids,
        ladder=names, also=also, reference=reference, horizons=chosen, primary=primary, extrapolated=beyond,
        thresholds=thresholds, min_events=min_events, weight=data.weight, start=late, draws=draws,
        seed=seed, level=level, progress=progress,
    )  # fmt: skip


def subgroups_of(
    prognosis: "Prognosis",
    data: SurvivalData,
    groups: pd.DataFrame,
    *,
    model: str,
    horizons: Sequence[float] = (8.0,),
    min_events: int = 10,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
    progress: Callable[[int, int], None] | None = None,
) -> Subgroups:
    """Performance and calibration of one model of a prognosis by groups of people.

    Args:
        prognosis: From `prognose` or `prognose_folds`.
        data: Outcomes of its held-out joints.
        groups: A column a variable, indexed by joint; NaN where it is not known.
        model: Its name.
        horizons: As `by_subgroup`.
        min_events: As `by_subgroup`.
        draws: As `by_subgroup`.
        seed: As `by_subgroup`.
        level: As `by_subgroup`.
        progress: As `by_subgroup`.

    Returns:
        Figures of all and of each group, and how far groups differ.
    """
    if model not in prognosis.risk.columns:
        raise InputError(f"model: {model!r}; accepted are {', '.join(prognosis.risk.columns)}")
    models, grid = _predictions(prognosis, data, [model])
    said = models[model]
    late = data.start if (data.start > 0).any() else None
    rows = groups.set_axis(groups.index.astype(str), axis=0).reindex(data.ids.astype(str))
    return by_subgroup(
        data.time, data.cause, said.risk, said.predicted, grid, data.subject_ids, rows,
        horizons=horizons, min_events=min_events, weight=data.weight, start=late, draws=draws, seed=seed,
        level=level, progress=progress,
    )  # fmt: skip
