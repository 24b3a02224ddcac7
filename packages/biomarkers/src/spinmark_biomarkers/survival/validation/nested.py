"""An honest score of a choice: the choice is made anew in each outer fold, from its other folds alone.

Choosing among settings by cross-validation and reporting the winner's score rewards luck (Varma and Simon,
BMC Bioinformatics 2006; Cawley and Talbot, JMLR 2010). Here an outer fold never meets the choice that it is
scored on. Embeddings of a cross-fitted encoder can come as one design a fold.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.concordance import harrell_c
from spinmark_biomarkers.evaluation.predictions import Prediction
from spinmark_biomarkers.evaluation.weighting import weighted_bootstrap
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.validation.folds import deal_subjects, fold_of_rows
from spinmark_biomarkers.survival.validation.learners import Learner, Predictions
from spinmark_biomarkers.survival.validation.scores import (
    COLUMNS,
    Label,
    WithinFolds,
    comparable_pairs,
    events_by,
    figures,
    on_first_rows,
    rows_of_joints,
    timeline_of,
)

Score = Literal["elpd", "c_index"]


@dataclass(frozen=True, kw_only=True)
class Nested:
    """What a nested cross-validation found.

    Args:
        predictions: `risk(row)` and `incidence(row, time)` of every row by models that did not see its
            subject, with `fold(row)`, `subject(row)`, `setting(row)` and `log_density(subject)` where there
            is one.
        choices: A row an outer fold and setting: `fold`, `setting`, `score` inside, `chosen`.
        metrics: Tidy rows of the outer scores.
    """

    predictions: xr.Dataset
    choices: pd.DataFrame
    metrics: pd.DataFrame


def _of_fold(designs: pd.DataFrame | Mapping[object, pd.DataFrame], fold: object) -> pd.DataFrame:
    if isinstance(designs, pd.DataFrame):
        return designs
    if fold not in designs:
        raise InputError(
            f"designs: none for fold {fold!r}; accepted is one design a fold: {list(map(str, designs))}"
        )
    design: pd.DataFrame = designs[fold]
    return design


def _rows_of(design: pd.DataFrame, data: SurvivalData) -> pd.DataFrame:
    design = design.set_axis(design.index.astype(str), axis=0)
    if design.index.has_duplicates:
        twice = design.index[design.index.duplicated()][0]
        raise InputError(f"designs: row {twice} twice; accepted is one row a joint")
    ids = pd.Index(data.ids.astype(str))
    absent = ids[~ids.isin(design.index)]
    if len(absent):
        raise InputError(
            f"designs: no row for {', '.join(absent[:3])}"
            + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
            + "; accepted is a row for each joint with an outcome"
        )
    found: pd.DataFrame = design.loc[ids]
    return found


def _inner(
    learner: Learner,
    data: SurvivalData,
    design: pd.DataFrame,
    fold: npt.NDArray[np.object_],
    score: Score,
) -> float:
    """Score of one setting within the people that it may be chosen on."""
    total, weight = 0.0, 0.0
    for name in sorted(set(fold.tolist()), key=str):
        held = fold == name
        kept, out = np.flatnonzero(~held), np.flatnonzero(held)
        fitted = learner.fit(data.with_rows(kept), design.iloc[kept])
        test = data.with_rows(out)
        said = fitted.predict(test, design.iloc[out], np.array([1.0]))
        if score == "elpd":
            if said.log_density is None:
                raise InputError(
                    f"score: 'elpd' of {type(learner).__name__}, which has no log density; accepted is "
                    "'c_index'"
                )
            total += float(said.log_density.sum())
            weight = 1.0
        else:
            pairs = comparable_pairs(test.time, test.event, test.weight)
            if pairs > 0:
                found = harrell_c(test.time, test.event, said.risk, weight=test.weight)
                total += found * pairs
                weight += pairs
    return total / weight if weight else float("nan")


def nested_cross_validation(
    data: SurvivalData,
    designs: "pd.DataFrame | Mapping[object, pd.DataFrame]",
    settings: Mapping[str, Learner],
    *,
    folds: "pd.Series | int" = 5,
    inner_folds: int = 4,
    score: Score = "c_index",
    horizons: Floats | tuple[float, ...] = (4.0, 8.0),
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
    progress: Callable[[int, int], None] | None = None,
) -> Nested:
    """Choose a setting inside each outer fold and score that choice on the fold.

    Args:
        data: Outcomes; one row a joint.
        designs: Raw covariates by joint, or fold -> such a frame where each fold has embeddings of its own,
            made by an encoder that did not see the fold. Inside, the people that were fitted on are then
            embedded by an encoder that saw them, which favours settings that lean on the embedding; the outer
            score stays honest.
        settings: Name -> learner, such as numbers of components, priors or families.
        folds: The outer fold of each subject, indexed by subject, or how many to deal.
        inner_folds: Folds of the choice.
        score: What the choice maximises inside: `elpd` (the log predictive density of the held-out people)
            or `c_index`.
        horizons: Years at which the outer predictions are scored.
        draws: Subject bootstrap draws.
        seed: Seed of folds and bootstrap.
        level: Coverage of the intervals.
        progress: Called with (fits done, fits in all).

    Returns:
        Predictions, every choice with its score inside, and the outer scores. C compares rows of one fold only,
        since risks of two fits have no common zero.

    Raises:
        InputError: No setting, folds or designs that do not fit the data, or a score that is not there.
    """
    if not settings:
        raise InputError("settings: none; accepted is at least one named learner")
    if score not in ("elpd", "c_index"):
        raise InputError(f"score: {score!r}; accepted are elpd, c_index")
    rows_of_joints(data)
    times = np.asarray(horizons, dtype=np.float64)
    outer = fold_of_rows(data, folds, seed)
    names = sorted(set(outer.tolist()), key=str)
    tried = len(settings) if len(settings) > 1 else 0
    steps = len(names) * (tried * inner_folds + 1)
    done = 0
    risk, incidence = np.full(len(outer), np.nan), np.full((len(outer), len(times)), np.nan)
    chosen_of = np.empty(len(outer), dtype=object)
    density: list[pd.Series] = []
    choices: list[dict[str, object]] = []
    for name in names:
        design = _rows_of(_of_fold(designs, name), data)
        held = outer == name
        kept, out = np.flatnonzero(~held), np.flatnonzero(held)
        inside, inside_design = data.with_rows(kept), design.iloc[kept]
        scores = dict.fromkeys(settings, float("nan"))
        if tried:
            dealt = deal_subjects(inside.subject_ids, inside.event, folds=inner_folds, seed=seed)
            fold = dealt.loc[inside.subject_ids.astype(str)].to_numpy(dtype=object)
            for setting, learner in settings.items():
                scores[setting] = _inner(learner, inside, inside_design, fold, score)
                done += inner_folds
                if progress is not None:
                    progress(done, steps)
        best = max(settings, key=lambda s: scores[s] if np.isfinite(scores[s]) else -np.inf)
        for setting, value in scores.items():
            choices.append(
                {"fold": name, "setting": setting, "score": value, "chosen": setting == best}
            )
        fitted = settings[best].fit(inside, inside_design)
        said: Predictions = fitted.predict(data.with_rows(out), design.iloc[out], times)
        risk[out], incidence[out], chosen_of[out] = said.risk, said.incidence, best
        if said.log_density is not None:
            density.append(said.log_density)
        done += 1
        if progress is not None:
            progress(done, steps)
    found = xr.Dataset(
        {"risk": ("row", risk), "incidence": (("row", "time"), incidence)},
        coords={
            "row": data.ids,
            "time": times,
            "fold": ("row", outer),
            "subject": ("row", data.subject_ids),
            "setting": ("row", chosen_of),
        },
    )
    if density:
        whole = pd.concat(density).sort_index()
        found["log_density"] = ("subject_id", whole.to_numpy(dtype=float))
        found = found.assign_coords(subject_id=whole.index.to_numpy(dtype=object))
    metrics = _metrics(data, found, draws=draws, seed=seed, level=level)
    return Nested(predictions=found, choices=pd.DataFrame(choices), metrics=metrics)


def _metrics(
    data: SurvivalData, found: xr.Dataset, *, draws: int, seed: int, level: float
) -> pd.DataFrame:
    line, horizons = timeline_of(data), found["time"].to_numpy()
    density = None
    if "log_density" in found:
        values = found["log_density"].to_numpy()
        density = on_first_rows(values, found["subject_id"].to_numpy(), data.subject_ids)
    made = figures(
        line,
        Prediction(np.clip(found["incidence"].to_numpy(), 0, 1), found["risk"].to_numpy()),
        horizons,
        horizons,
        groups=("auc", "brier"),
        names=("auc", "brier", "ipa"),
        density=density,
    )
    within = WithinFolds.of(
        data.time, data.event, found["risk"].to_numpy(), found["fold"].to_numpy()
    )

    def both(weight: Floats) -> Floats:
        return np.append(made(weight), within(weight))

    drawn = weighted_bootstrap(
        both, data.subject_ids, weight=data.weight, draws=draws, seed=seed
    ).intervals(level)
    rows = [
        (
            label.metric,
            "nested",
            label.days,
            i.value,
            i.low,
            i.high,
            i.n,
            events_by(line, label),
        )
        for label, i in zip([*made.labels, Label("c_index")], drawn, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))
