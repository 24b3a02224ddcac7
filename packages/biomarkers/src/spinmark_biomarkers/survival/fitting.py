"""The models of a prognosis: made from the settings, fitted to each design, once or once an imputation.

All models of a prognosis get one width and the same parts, so that they share one compiled function.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import clone

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.config import PrognoseConfig, SamplerConfig
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.design import Design, Reduction, block_of, prepare_design
from spinmark_biomarkers.survival.hazards import Hazard
from spinmark_biomarkers.survival.imputation import FoldImputer, impute_fold
from spinmark_biomarkers.survival.models import MODELS, SurvivalModel
from spinmark_biomarkers.survival.pooling import stack_posteriors
from spinmark_biomarkers.survival.priors import (
    Monotone,
    Normal,
    RegularisedHorseshoe,
    ordinal_columns,
)

logger = logging.getLogger(__name__)

# Kellgren-Lawrence has five, narrowing four.
_MOST_GRADES = 7
_WORDS = ("good", "doubtful", "bad")


def reductions(config: PrognoseConfig) -> list[Reduction]:
    """The blocks of many columns, and how many components are kept of each."""
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


def make_model(
    config: PrognoseConfig,
    blocks: Mapping[str, str],
    *,
    frailty: bool,
    width: int | None = None,
    always: tuple[str, ...] = (),
) -> SurvivalModel:
    """Make the model that the settings name.

    Args:
        config: Likelihood, baseline, priors and sampler.
        blocks: Column -> block of the design.
        frailty: Whether a person's joints share one.
        width: Columns that the covariates are padded to.
        always: Parts that are compiled in any case.

    Raises:
        InputError: For an unknown likelihood, or a prior of a block that no model can have.
    """
    present = tuple(dict.fromkeys(blocks.values()))
    of_block = {block: config.priors.get(block, config.prior) for block in present}
    sparse = [block for block, name in of_block.items() if name == RegularisedHorseshoe.name]
    columns = sum(block in sparse for block in blocks.values())
    if sparse and columns <= RegularisedHorseshoe().relevant:
        # Of so few columns none can be thought to be idle: of death's covariates, or of a grade alone.
        logger.info("prior: %d columns are too few for a horseshoe; normal instead", columns)
        of_block |= dict.fromkeys(sparse, Normal.name)
    # One name for all, so that a prior that divides its variation divides it among all blocks.
    prior: Any = (
        of_block if len(set(of_block.values())) > 1 else next(iter(of_block.values()), None)
    )
    if config.likelihood not in MODELS:
        raise InputError(f"likelihood: {config.likelihood!r}; accepted are {', '.join(MODELS)}")
    options: dict[str, Any] = {"prior": prior, "width": width, "sampler": config.sampler}
    if config.likelihood == "piecewise":
        options |= {"intervals": config.intervals, "baseline": config.baseline}
    if config.likelihood == "cox":
        # It has no frailty to switch, and no interval.
        always = tuple(part for part in always if part == "delayed")
    else:
        options["frailty"] = frailty
    kind: Any = MODELS[config.likelihood]
    made: SurvivalModel = kind(always=always, **options)
    return made


def ready_designs(
    raw: pd.DataFrame,
    fit_rows: np.ndarray,
    config: PrognoseConfig,
    outcomes: SurvivalData,
    *,
    seed: int,
) -> list[Design]:
    """Impute, standardise and reduce one model's covariates, by the fitting subjects alone.

    Args:
        raw: One row a joint, NaN where missing.
        fit_rows: Which rows are of fitting subjects, shape (n,).
        config: Reductions and the number of imputations.
        outcomes: Those of the fitting joints, which imputing these joints needs.
        seed: Seed of the imputations.

    Returns:
        One design, or one an imputation.
    """
    blocks = reductions(config)
    if not config.imputations:
        return [prepare_design(_in_steps(raw, fit_rows, config), fit_rows, reductions=blocks)]
    if config.imputations < 2:
        raise InputError(f"imputations: {config.imputations}; accepted are 0, or 2 and more")
    prefixes = tuple(reduction.prefix for reduction in blocks)
    single = [c for c in raw.columns if not str(c).startswith(prefixes)]
    known = [c for c in single if raw[c].to_numpy(dtype=float)[fit_rows].size
             and np.isfinite(raw[c].to_numpy(dtype=float)[fit_rows]).any()]  # fmt: skip
    for column in sorted(set(single) - set(known)):
        logger.warning("design: %s is missing in every fitting joint; left out", column)
    rest = raw.drop(columns=single)
    if not known or raw[known].notna().all(axis=None):
        whole = _in_steps(raw[known].join(rest), fit_rows, config)
        return [prepare_design(whole, fit_rows, reductions=blocks)] * config.imputations
    time = pd.Series(outcomes.time, index=outcomes.ids.astype(str)).reindex(raw.index)
    cause = pd.Series(outcomes.cause, index=outcomes.ids.astype(str)).reindex(raw.index)
    # A fitting joint without an outcome is fitted nowhere, and must not teach the imputation either.
    learns = fit_rows & time.notna().to_numpy()
    subjects = np.array([str(joint).rsplit(":", 1)[0] for joint in raw.index], dtype=object)
    frames = impute_fold(
        raw[known],
        subjects,
        time.fillna(0.0).to_numpy(),
        cause.fillna(0).to_numpy(dtype=np.int64),
        learns | np.isin(subjects, subjects[learns]),
        FoldImputer(imputations=config.imputations, seed=seed),
    )
    return [
        prepare_design(_in_steps(f.join(rest), fit_rows, config), fit_rows, reductions=blocks)
        for f in frames
    ]


def _in_steps(raw: pd.DataFrame, fit_rows: np.ndarray, config: PrognoseConfig) -> pd.DataFrame:
    """Code grades by their steps where the prior of their block wants them so."""
    prefixes = tuple(reduction.prefix for reduction in reductions(config))
    parts: list[pd.DataFrame | pd.Series] = []
    for name in raw.columns:
        column, text = raw[name], str(name)
        wanted = config.priors.get(block_of(text), config.prior) == Monotone.name
        if not wanted or text.startswith(prefixes) or not _is_grade(column, fit_rows):
            parts.append(column)
            continue
        missing = column.isna()
        # The same middle grade that would be taken for a plain column, and one indicator for all steps.
        middle = np.quantile(column[fit_rows].dropna(), 0.5, method="nearest")
        parts.append(ordinal_columns(column.fillna(middle)))
        if missing[fit_rows].any():
            parts.append(missing.astype(float).rename(f"{text}_missing"))
    return pd.concat(parts, axis=1) if parts else raw


def _is_grade(column: pd.Series, fit_rows: np.ndarray) -> bool:
    """Whether a column holds a few whole numbers, and more than two."""
    known = column.dropna().to_numpy(dtype=float)
    found = np.unique(column[fit_rows].dropna().to_numpy(dtype=float))
    return 2 < len(found) <= _MOST_GRADES and bool((known == np.round(known)).all())


@dataclass(frozen=True, kw_only=True)
class FittedDesign:
    """One named model, fitted once an imputation.

    Args:
        models: The fits.
        designs: The design of each, all joints.
    """

    models: Sequence[SurvivalModel]
    designs: Sequence[Design]

    def hazards(self, most: int, joints: Sequence[str] | None = None) -> list[Hazard]:
        """Draws of the hazard of joints, one object an imputation.

        Args:
            most: Draws of all imputations together, at most.
            joints: Which; all by default.
        """
        each = max(1, most // len(self.models))
        return [
            model.hazard(_values(model, design, joints), each)
            for model, design in zip(self.models, self.designs, strict=True)
        ]

    def risk(self) -> Floats:
        """Posterior mean of each joint's log hazard ratio, shape (n,)."""
        parts = [
            model.linear_predictor(_values(model, design, None))
            for model, design in zip(self.models, self.designs, strict=True)
        ]
        return np.asarray(np.mean(parts, axis=0))

    def posterior(self) -> xr.Dataset:
        """The draws; those of several imputations are stacked."""
        found = [model.posterior_ for model in self.models]
        return found[0] if len(found) == 1 else stack_posteriors(found)

    def diagnostics(self) -> dict[str, float | int | str]:
        """Those of the fit that is to be trusted least."""
        worst = max(self.models, key=_distrust)
        facts: dict[str, float | int | str] = asdict(worst.diagnostics_)
        # JSON has no infinity.
        return {
            k: v if not isinstance(v, float) or np.isfinite(v) else -1.0 for k, v in facts.items()
        }

    def log_likelihood(self, data: SurvivalData) -> xr.DataArray:
        """Each fitted person's log-likelihood under the draws: `(draw, subject)`."""
        parts = [
            model.subject_log_likelihood(_rows(model, design, data))
            for model, design in zip(self.models, self.designs, strict=True)
        ]
        return xr.concat(parts, dim="draw", join="exact")


def fit_design(
    data: SurvivalData,
    designs: Sequence[Design],
    config: PrognoseConfig,
    *,
    frailty: bool,
    width: int,
    always: tuple[str, ...],
    deaths: bool = False,
) -> FittedDesign:
    """Fit one named model to its designs.

    Args:
        data: Outcomes of the fitting joints.
        designs: One, or one an imputation.
        config: Settings.
        frailty: Whether a person's joints share one.
        width: Columns that the covariates are padded to.
        always: Parts that are compiled in any case.
        deaths: Fit death, once a person, instead of the event.
    """
    models: list[SurvivalModel] = []
    for k, design in enumerate(designs):
        if k and design is designs[k - 1]:
            models.append(models[-1])
            continue
        model = make_model(config, design.blocks, frailty=frailty, width=width, always=always)
        joined = _joined(data, design)
        rows = joined.deaths() if deaths else joined
        model.fit(rows, design.blocks)
        if config.retry and model.diagnostics_.word != "good":
            model = _again(model, rows, design.blocks, config.sampler)
        models.append(model)
    return FittedDesign(models=tuple(models), designs=tuple(designs))


def _again(
    model: SurvivalModel, rows: SurvivalData, blocks: Mapping[str, str], sampler: SamplerConfig
) -> SurvivalModel:
    """Draw once more, more carefully; of the two, the fit that is to be trusted more."""
    logger.info("drawn once more, with smaller steps: %s", model.diagnostics_.verdict)
    careful = replace(
        sampler,
        target_accept=max(sampler.target_accept, 0.99),
        tune=2 * sampler.tune,
        draws=2 * sampler.draws,
    )
    again: SurvivalModel = clone(model).set_params(sampler=careful)
    again.fit(rows, blocks)
    if _distrust(again) > _distrust(model):
        return model
    # Judged on all of its draws; as many are kept as of any other fit.
    again.posterior_ = again.posterior_.isel(draw=slice(None, None, 2))
    return again


def _distrust(model: SurvivalModel) -> tuple[int, float]:
    found = model.diagnostics_
    return _WORDS.index(found.word), found.rhat


def _joined(
    data: SurvivalData, design: Design, names: tuple[str, ...] | None = None
) -> SurvivalData:
    frame = design.frame if names is None else design.frame[list(names)]
    x = frame.loc[pd.Index(data.ids.astype(str))].to_numpy(dtype=float)
    return data.with_covariates(x, tuple(str(c) for c in frame.columns))


def _rows(model: SurvivalModel, design: Design, data: SurvivalData) -> SurvivalData:
    return _joined(data, design, model.names_)


def _values(model: SurvivalModel, design: Design, joints: Sequence[str] | None) -> Floats:
    frame = design.frame[list(model.names_)]
    chosen = frame if joints is None else frame.loc[pd.Index([str(j) for j in joints])]
    return np.asarray(chosen.to_numpy(dtype=float))
