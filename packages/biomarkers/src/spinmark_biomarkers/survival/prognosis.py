"""Several named models fitted on training and validation subjects, predicted and scored on test subjects."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.predictions import METRICS
from spinmark_biomarkers.survival.config import PrognoseConfig
from spinmark_biomarkers.survival.data import DAYS_PER_YEAR, Floats, SurvivalData
from spinmark_biomarkers.survival.fitting import FittedDesign, fit_design, ready_designs
from spinmark_biomarkers.survival.hazards import Hazard, PiecewiseHazard
from spinmark_biomarkers.survival.nonparametric import aalen_johansen
from spinmark_biomarkers.survival.prediction.follow_up import extrapolated
from spinmark_biomarkers.survival.prediction.incidence import incidence_by_rows
from spinmark_biomarkers.survival.settings import check_settings
from spinmark_biomarkers.survival.validation.loo import LeaveOneOut, leave_one_subject_out

logger = logging.getLogger(__name__)

QUANTILES = (0.025, 0.5, 0.975)
# Draws with which follow-up is completed where the loss of joints is doubted.
LOST_DRAWS = 20

# Cause -> draws of its hazard.
Hazards = Mapping[str, Hazard]


@dataclass(frozen=True, kw_only=True)
class Prognosis:
    """What `prognose` returns.

    Args:
        cif: `cif(model, joint, cause, time, quantile)`; time in days, `extrapolated(time)`, `set(joint)`.
        metrics: Tidy rows: `metric`, `model`, `horizon_days`, `value`, `low`, `high`, `n`, `n_events`.
        posteriors: The draws of each model, `death` among them.
        diagnostics: R-hat, effective draws, divergences and verdict of each fit.
        risk: Posterior mean log hazard ratio, a row a joint and a column a model.
        mean: Posterior mean incidence of the event, `mean(model, joint, time)`.
        increments: Tidy rows of what each model adds to another, see `validation.increments`.
        compared: The `ladder` of models where there are increments, the `reference`, the `level` of intervals,
            the `primary_years`, and the `main_years` of pictures and sentences.
        subgroups: Tidy rows of the fullest model by groups of people, see `validation.subgroups`.
        differences: How far those groups differ.
        elpd: Density of left-out subjects by model, see `validation.loo.compare_elpd`.
        checks: Tidy rows of what would upset the headline, see `robustness`.
        told: Sentences of the headline, and of what could not be done.
    """

    cif: xr.Dataset
    metrics: pd.DataFrame
    posteriors: dict[str, xr.Dataset]
    diagnostics: dict[str, dict[str, float | int | str]]
    risk: pd.DataFrame
    mean: xr.DataArray
    increments: pd.DataFrame = field(default_factory=pd.DataFrame)
    compared: dict[str, object] = field(default_factory=dict)
    subgroups: pd.DataFrame = field(default_factory=pd.DataFrame)
    differences: pd.DataFrame = field(default_factory=pd.DataFrame)
    elpd: pd.DataFrame = field(default_factory=pd.DataFrame)
    checks: pd.DataFrame = field(default_factory=pd.DataFrame)
    told: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Predictions of fitted models, and the test joints that they have yet to be scored on.

    Args:
        prognosis: All but the scores.
        test: The outcomes of the test joints.
        population: Incidence among the fitted joints, the same for all: `(test joint, time)`.
        left_out: The density of left-out fitting subjects by model; empty for models without one.
        hazards: A few draws of the test joints' hazards by model; empty where models differ between joints.
    """

    prognosis: Prognosis
    test: SurvivalData
    population: Floats
    left_out: dict[str, LeaveOneOut] = field(default_factory=dict)
    hazards: dict[str, Hazards] = field(default_factory=dict)


def _subject_sets(sets: pd.Series) -> pd.Series:
    sets = sets.copy()
    sets.index = sets.index.astype(str)
    if sets.index.has_duplicates:
        twice = str(sets.index[sets.index.duplicated()][0])
        raise InputError(f"split: subject {twice} twice, in both fit and test; accepted is once")
    unknown = sorted(set(sets.astype(str)) - {"train", "val", "test"})
    if unknown:
        raise InputError(f"split: set {unknown[0]!r}; accepted are train, val, test")
    return sets


def _joints(designs: dict[str, pd.DataFrame]) -> pd.Index:
    if not designs:
        raise InputError("designs: none given; accepted is at least one named model")
    common: pd.Index | None = None
    for name, frame in designs.items():
        index = frame.index.astype(str)
        if index.has_duplicates:
            twice = str(index[index.duplicated()][0])
            raise InputError(f"designs: {name}: joint {twice} twice; accepted is one row a joint")
        common = index if common is None else common.intersection(index)
    assert common is not None
    if common.empty:
        raise InputError("designs: no joint is in all of them; check joint_id")
    return common.sort_values()


def prognose(
    outcomes: pd.DataFrame,
    designs: dict[str, pd.DataFrame],
    sets: pd.Series,
    config: PrognoseConfig | None = None,
    known_at: pd.Series | None = None,
    *,
    groups: pd.DataFrame | None = None,
    ladder: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prognosis:
    """Fit every design, predict with death competing, and score on test subjects.

    All models use the joints that every design holds, so that their figures can be compared.

    Args:
        outcomes: The outcomes table (docs/schemas.md).
        designs: Model name -> covariates indexed by joint_id, raw; a design named `death` is used for
            death alone, else `config.death_covariates` are looked up in the others.
        sets: `train`, `val` or `test`, indexed by subject_id.
        config: Settings.
        known_at: Days at which covariates were known, indexed by joint_id.
        groups: Groups of people, a column a variable, indexed by joint_id; the fullest model is scored in each.
        ladder: Models from the lowest to the highest, of which each is compared with the one below; the order
            of the designs by default.
        progress: Called with (fits done, fits in all).

    Returns:
        Predictions for all common joints, scores on the test joints, posteriors and diagnostics.

    Raises:
        InputError: In one line for outcomes, designs or a split that cannot be used.
    """
    from spinmark_biomarkers.survival.scoring import scored

    config = config or PrognoseConfig()
    found = predict_held_out(outcomes, designs, sets, config, known_at, progress=progress)
    return scored(found, config, groups=groups, ladder=ladder)


def predict_held_out(
    outcomes: pd.DataFrame,
    designs: dict[str, pd.DataFrame],
    sets: pd.Series,
    config: PrognoseConfig,
    known_at: pd.Series | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> HeldOut:
    """Fit every design and predict, without scores; see `prognose`."""
    check_settings(config)
    sets = _subject_sets(sets)
    outcomes = _of_endpoint(outcomes, config.endpoint)
    joints = _joints(designs)
    subjects = pd.Series([j.rsplit(":", 1)[0] for j in joints], index=joints)
    of = subjects.map(sets)
    if of.isna().any():
        raise InputError(
            f"split: subject {subjects[of.isna()].iloc[0]} is in no set; every subject needs one"
        )
    fit_rows = of.isin(["train", "val"]).to_numpy(bool)
    if not fit_rows.any():
        raise InputError("split: no joint of a train or val subject; nothing can be fitted")
    empty = pd.DataFrame(index=joints)
    test_subjects = sets.index[sets == "test"]
    fit_data = SurvivalData.from_outcomes(
        outcomes, empty, sets.index[sets != "test"], known_at=known_at, test_subjects=test_subjects
    )
    # Weights that differ in their last digits alone weigh nothing.
    if config.case_control and np.ptp(fit_data.weight) <= 1e-6 * fit_data.weight.max():
        raise InputError(
            "case_control: the outcomes carry no sampling weights; without them no absolute risk"
        )
    times = np.unique([*np.arange(0, max(config.horizons_years), 1.0), *config.horizons_years])
    # The years between horizons are drawn, and refused by none.
    asked, least = np.asarray(config.horizons_years, dtype=float), config.min_at_risk
    extrapolated(fit_data, asked, min_at_risk=least, allow=config.allow_extrapolation)
    beyond = extrapolated(fit_data, times, min_at_risk=least, allow=True)
    raw = {
        name: frame.set_axis(frame.index.astype(str)).loc[joints] for name, frame in designs.items()
    }
    if "death" not in raw:
        merged = pd.concat(list(raw.values()), axis=1)
        merged = merged.loc[:, ~merged.columns.duplicated()]
        raw["death"] = merged[[c for c in config.death_covariates if c in merged.columns]]
    ready = {
        name: ready_designs(frame, fit_rows, config, fit_data, seed=config.sampler.seed)
        for name, frame in raw.items()
    }
    # One width and the same parts, so that all models share one compiled function.
    width = 8 * max(1, -(-max(len(d.blocks) for parts in ready.values() for d in parts) // 8))
    always = ["frailty"]
    if fit_data.interval.any():
        always.append("interval_censored")
    if (fit_data.start > 0).any():
        always.append("delayed")
    names = [name for name in raw if name != "death"]
    fitted: dict[str, FittedDesign] = {}
    with _said_once():
        for done, name in enumerate(["death", *names]):
            if name != "death" or (fit_data.cause == 2).any():
                fitted[name] = fit_design(
                    fit_data,
                    ready[name],
                    config,
                    frailty=config.frailty and name != "death",
                    width=width,
                    always=tuple(always),
                    deaths=name == "death",
                )
            else:
                logger.warning("no death among the fitted subjects; death is taken not to compete")
            if progress is not None:
                progress(done + 1, len(names) + 1)
    coords = {
        "model": np.array(names, dtype=object),
        "joint": joints.to_numpy(dtype=object),
        "time": times * DAYS_PER_YEAR,
    }
    parts = {name: _incidence(_competing(fitted, name, config.cif_draws), times) for name in names}
    cif = xr.Dataset(
        {
            "cif": (
                ("model", "joint", "cause", "time", "quantile"),
                np.stack([parts[m][0] for m in names]),
            )
        },
        coords={
            **coords,
            "cause": np.array(["event", "death"], dtype=object),
            "quantile": list(QUANTILES),
            "extrapolated": ("time", beyond),
            "set": ("joint", of.to_numpy(dtype=object)),
        },
        attrs={
            "schema": "spinmark/prognosis",
            "version": 2,
            "endpoint": config.endpoint,
            "min_at_risk": config.min_at_risk,
        },
    )
    mean = xr.DataArray(
        np.stack([parts[m][1] for m in names]), dims=("model", "joint", "time"), coords=coords
    )
    test = SurvivalData.from_outcomes(
        outcomes, empty, test_subjects, known_at=known_at, require_events=False
    )
    late = fit_data.start if (fit_data.start > 0).any() else None
    at, population = aalen_johansen(
        fit_data.time, fit_data.cause, start=late, weight=fit_data.weight
    )
    everyone = population[np.searchsorted(at, times, side="right") - 1]
    ids = [str(i) for i in test.ids]
    return HeldOut(
        prognosis=Prognosis(
            cif=cif,
            metrics=pd.DataFrame(columns=list(METRICS)),
            posteriors={name: f.posterior() for name, f in fitted.items()},
            diagnostics={name: f.diagnostics() for name, f in fitted.items()},
            risk=pd.DataFrame({m: fitted[m].risk() for m in names}, index=joints),
            mean=mean,
        ),
        test=test,
        population=np.tile(everyone, (len(test.ids), 1)),
        left_out=_left_out(fitted, names, fit_data, config),
        hazards={m: _competing(fitted, m, LOST_DRAWS, ids)[0] for m in names} if ids else {},
    )


@contextmanager
def _said_once() -> Iterator[None]:
    """Let a warning through once, that every model of the same covariate would repeat."""
    said: set[str] = set()

    def first(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = text not in said
        said.add(text)
        return new

    of_models = logging.getLogger("spinmark_biomarkers.survival.models.estimator")
    of_models.addFilter(first)
    try:
        yield
    finally:
        of_models.removeFilter(first)


def _of_endpoint(outcomes: pd.DataFrame, endpoint: str) -> pd.DataFrame:
    if "endpoint" not in outcomes.columns:
        return outcomes
    chosen = outcomes[outcomes["endpoint"] == endpoint]
    if chosen.empty:
        found = sorted(outcomes["endpoint"].astype(str).unique())
        raise InputError(f"endpoint: {endpoint!r}; the outcomes table holds {found}")
    return chosen


def _competing(
    fitted: dict[str, FittedDesign], name: str, draws: int, joints: Sequence[str] | None = None
) -> list[dict[str, Hazard]]:
    """The event's hazard with that of death, one pair an imputation."""
    events = fitted[name].hazards(draws, joints)
    if "death" in fitted:
        deaths = fitted["death"].hazards(draws, joints)
    else:
        deaths = [PiecewiseHazard.never(*event.linear.shape) for event in events]
    return [{"event": e, "death": d} for e, d in zip(events, deaths, strict=True)]


def _incidence(imputed: Sequence[Hazards], times: Floats) -> tuple[Floats, Floats]:
    """Quantiles `(joint, cause, time, quantile)` and mean of the event `(joint, time)` over all draws."""
    n = imputed[0]["event"].linear.shape[1]
    quantiles = np.empty((n, 2, len(times), len(QUANTILES)))
    mean = np.empty((n, len(times)))
    # Pieces of rows are as long in every imputation, since their grids are.
    parts: Iterator[tuple[tuple[slice, Floats], ...]] = zip(
        *(incidence_by_rows(hazards, times) for hazards in imputed), strict=True
    )
    for every in parts:
        rows = every[0][0]
        both = np.concatenate([share for _, share in every], axis=1)
        quantiles[rows] = np.moveaxis(
            np.quantile(both, QUANTILES, axis=1), (0, 1, 2, 3), (3, 1, 0, 2)
        )
        mean[rows] = both[0].mean(axis=0)
    return quantiles, mean


def _left_out(
    fitted: dict[str, FittedDesign],
    names: Sequence[str],
    fit_data: SurvivalData,
    config: PrognoseConfig,
) -> dict[str, LeaveOneOut]:
    if config.likelihood == "cox":
        # A partial likelihood is no density of a subject's outcome.
        return {}
    return {name: leave_one_subject_out(fitted[name].log_likelihood(fit_data)) for name in names}
