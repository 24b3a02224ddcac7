"""Several named models fitted on training and validation subjects and scored on test subjects."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval, subject_bootstrap
from spinmark_biomarkers.evaluation.brier import integrated_brier, ipcw_brier
from spinmark_biomarkers.evaluation.concordance import concordance_interval
from spinmark_biomarkers.survival.config import PrognoseConfig
from spinmark_biomarkers.survival.data import DAYS_PER_YEAR, Floats, SurvivalData
from spinmark_biomarkers.survival.design import Design, Reduction, prepare_design
from spinmark_biomarkers.survival.model import PiecewiseExponentialFrailty
from spinmark_biomarkers.survival.nonparametric import aalen_johansen
from spinmark_biomarkers.survival.predict import Hazard, cumulative_incidence, is_extrapolation

logger = logging.getLogger(__name__)

QUANTILES = (0.025, 0.5, 0.975)
METRICS = ("metric", "model", "horizon_days", "value", "low", "high", "n", "n_events")
_CHUNK = 100


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
    """

    cif: xr.Dataset
    metrics: pd.DataFrame
    posteriors: dict[str, xr.Dataset]
    diagnostics: dict[str, dict[str, float | int | str]]
    risk: pd.DataFrame
    mean: xr.DataArray


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


def _reductions(config: PrognoseConfig) -> list[Reduction]:
    return [
        Reduction(
            block="embedding",
            prefix=config.embedding_prefix,
            components=config.embedding_components,
            whole=True,
        ),
        Reduction(
            block="morphometry",
            prefix=config.morphometry_prefix,
            components=config.morphometry_components,
        ),
    ]


def _hazard(model: PiecewiseExponentialFrailty, x: Floats, draws: int) -> Hazard:
    beta, log_hazard, theta = model.draws(draws)
    return Hazard(linear=beta @ x.T, log_hazard=log_hazard, breaks=model.breaks_, theta=theta)


def _incidence(event: Hazard, death: Hazard | None, times: Floats) -> tuple[Floats, Floats]:
    n = event.linear.shape[1]
    quantiles = np.empty((n, 2, len(times), len(QUANTILES)))
    mean = np.empty((n, len(times)))
    if death is None:
        death = Hazard(
            linear=np.zeros_like(event.linear), log_hazard=np.full((len(event.linear), 1), -60.0),
            breaks=np.zeros(1), theta=np.zeros(len(event.linear)),
        )  # fmt: skip
    for start in range(0, n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        part = [
            Hazard(
                linear=h.linear[:, rows], log_hazard=h.log_hazard, breaks=h.breaks, theta=h.theta
            )
            for h in (event, death)
        ]
        both = cumulative_incidence(part[0], part[1], times)
        for c in (0, 1):
            quantiles[rows, c] = np.moveaxis(np.quantile(both[c], QUANTILES, axis=0), 0, -1)
        mean[rows] = both[0].mean(axis=0)
    return quantiles, mean


def prognose(
    outcomes: pd.DataFrame,
    designs: dict[str, pd.DataFrame],
    sets: pd.Series,
    config: PrognoseConfig | None = None,
    known_at: pd.Series | None = None,
    *,
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
        progress: Called with (fits done, fits in all).

    Returns:
        Predictions for all common joints, scores on the test joints, posteriors and diagnostics.

    Raises:
        InputError: In one line for outcomes, designs or a split that cannot be used.
    """
    config = config or PrognoseConfig()
    found = predict_held_out(outcomes, designs, sets, config, known_at, progress=progress)
    metrics = score(found.test, found.population, found.prognosis, config)
    return replace(found.prognosis, metrics=metrics)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Predictions of fitted models, and the test joints that they have yet to be scored on.

    Args:
        prognosis: All but the scores.
        test: The outcomes of the test joints.
        population: Incidence among the fitted joints, the same for all: `(test joint, time)`.
    """

    prognosis: Prognosis
    test: SurvivalData
    population: Floats


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
    sets = _subject_sets(sets)
    if "endpoint" in outcomes.columns:
        chosen = outcomes[outcomes["endpoint"] == config.endpoint]
        if chosen.empty:
            found = sorted(outcomes["endpoint"].astype(str).unique())
            raise InputError(f"endpoint: {config.endpoint!r}; the outcomes table holds {found}")
        outcomes = chosen
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
    ready: dict[str, Design] = {}
    raw = {
        name: frame.set_axis(frame.index.astype(str)).loc[joints] for name, frame in designs.items()
    }
    if "death" not in raw:
        merged = pd.concat(list(raw.values()), axis=1)
        merged = merged.loc[:, ~merged.columns.duplicated()]
        raw["death"] = merged[[c for c in config.death_covariates if c in merged.columns]]
    reductions = _reductions(config)
    for name, frame in raw.items():
        ready[name] = prepare_design(frame, fit_rows, reductions=reductions)
    names = [name for name in raw if name != "death"]
    empty = pd.DataFrame(index=joints)
    test_subjects = sets.index[sets == "test"]
    fit_data = SurvivalData.from_outcomes(
        outcomes, empty, sets.index[sets != "test"], known_at=known_at, test_subjects=test_subjects
    )
    if config.case_control and np.ptp(fit_data.weight) == 0:
        raise InputError(
            "case_control: the outcomes carry no sampling weights; without them no absolute risk"
        )
    times = np.unique([*np.arange(0, max(config.horizons_years), 1.0), *config.horizons_years])
    beyond = [
        bool(t > 0)
        and is_extrapolation(
            fit_data, float(t), min_at_risk=config.min_at_risk, allow=config.allow_extrapolation
        )
        for t in times
    ]
    # One width, so that all models share one compiled function.
    width = 8 * max(1, -(-max(len(d.blocks) for d in ready.values()) // 8))
    posteriors: dict[str, xr.Dataset] = {}
    diagnostics: dict[str, dict[str, float | int | str]] = {}
    fitted: dict[str, PiecewiseExponentialFrailty] = {}
    for done, name in enumerate(["death", *names]):
        design = ready[name].frame
        rows = fit_data.with_covariates(
            design.loc[pd.Index(fit_data.ids)].to_numpy(float), tuple(design.columns)
        )
        if name == "death":
            rows = rows.deaths()
        if rows.event.any():
            model = PiecewiseExponentialFrailty(
                intervals=config.intervals,
                frailty=config.frailty and name != "death",
                width=width,
                interval_censored=bool(fit_data.interval.any()),
                sampler=config.sampler,
            ).fit(rows, ready[name].blocks)
            fitted[name], posteriors[name] = model, model.posterior_
            diagnostics[name] = asdict(model.diagnostics_)
        else:
            logger.warning("no death among the fitted subjects; death is taken not to compete")
        if progress is not None:
            progress(done + 1, len(names) + 1)
    death = None
    if "death" in fitted:
        death = _hazard(fitted["death"], ready["death"].frame.to_numpy(float), config.cif_draws)
    parts = {
        name: _incidence(
            _hazard(fitted[name], ready[name].frame.to_numpy(float), config.cif_draws), death, times
        )
        for name in names
    }
    coords = {
        "model": np.array(names, dtype=object),
        "joint": joints.to_numpy(dtype=object),
        "time": times * DAYS_PER_YEAR,
    }
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
            "version": 1,
            "endpoint": config.endpoint,
            "min_at_risk": config.min_at_risk,
        },
    )
    mean = xr.DataArray(
        np.stack([parts[m][1] for m in names]), dims=("model", "joint", "time"), coords=coords
    )
    risk = pd.DataFrame(
        {m: fitted[m].linear_predictor(ready[m].frame.to_numpy(float)) for m in names}, index=joints
    )
    test = SurvivalData.from_outcomes(
        outcomes, empty, test_subjects, known_at=known_at, require_events=False
    )
    at, population = aalen_johansen(fit_data.time, fit_data.cause)
    everyone = population[np.searchsorted(at, times, side="right") - 1]
    return HeldOut(
        prognosis=Prognosis(
            cif=cif,
            metrics=pd.DataFrame(columns=list(METRICS)),
            posteriors=posteriors,
            diagnostics=diagnostics,
            risk=risk,
            mean=mean,
        ),
        test=test,
        population=np.tile(everyone, (len(test.ids), 1)),
    )


def score(
    test: SurvivalData, population: Floats, predicted: Prognosis, config: PrognoseConfig
) -> pd.DataFrame:
    """Score predictions on joints that the models were not fitted on.

    Args:
        test: The outcomes of these joints.
        population: The same risk for all, which a prediction has to beat: `(test joint, time)`.
        predicted: Risk and mean incidence of at least these joints.
        config: Horizons, reference and bootstrap.

    Returns:
        Tidy rows, see `METRICS`.
    """
    risk, mean = predicted.risk, predicted.mean
    rows: list[tuple[str, str, float, float, float, float, int, int]] = []
    time, event, cause, ids = test.time, test.event, test.cause, test.subject_ids
    seed, draws, level = config.sampler.seed, config.bootstrap, config.level

    def add(metric: str, model: str, days: float, i: Interval, n_events: int) -> None:
        rows.append((metric, model, days, i.value, i.low, i.high, i.n, n_events))

    names = list(risk.columns)
    reference = config.reference if config.reference in names else names[0]
    last = max(config.horizons_years)
    r = risk.loc[pd.Index(test.ids)]
    for name in names:
        c = concordance_interval(time, event, r[name], ids, draws=draws, seed=seed, level=level)
        add("c_index", name, float("nan"), c, int(event.sum()))
        if name != reference:
            gain = concordance_interval(
                time, event, r[name], ids, against=r[reference], draws=draws, seed=seed, level=level
            )
            add(f"c_index_gain_over_{reference}", name, float("nan"), gain, int(event.sum()))
    grid = mean["time"].to_numpy() / DAYS_PER_YEAR
    predictions = {m: mean.sel(model=m, joint=test.ids).to_numpy() for m in names}
    predictions["population"] = population
    for name, risks in predictions.items():
        for horizon in config.horizons_years:
            column = risks[:, int(np.searchsorted(grid, horizon))]

            def brier(i: np.ndarray, p: Floats = column, h: float = horizon) -> float:
                return ipcw_brier(time[i], cause[i], p[i], h)

            at = subject_bootstrap(brier, ids, draws=draws, seed=seed, level=level)
            n_events = int((event & (time <= horizon)).sum())
            add("brier", name, horizon * DAYS_PER_YEAR, at, n_events)

        def integrated(i: np.ndarray, p: Floats = risks) -> float:
            return integrated_brier(time[i], cause[i], p[i], grid)

        whole = subject_bootstrap(integrated, ids, draws=draws, seed=seed, level=level)
        add(
            "integrated_brier",
            name,
            last * DAYS_PER_YEAR,
            whole,
            int((event & (time <= last)).sum()),
        )
    return pd.DataFrame(rows, columns=list(METRICS))
