"""What would upset the headline: that a model foretells more than the reference, on held-out joints.

The headline is put as one number, the hazard ratio of a standard deviation of what a model's risk says beyond
the reference's, with the reference's risk beside it. Then it is doubted: within people, over time, by those
who were lost, and by what nobody measured.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.cox_regression import CoxRegression, fit_cox_regression
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.hazards import Hazard
from spinmark_biomarkers.survival.matched import matched_concordance, matched_pairs
from spinmark_biomarkers.survival.sensitivity.e_value import hazard_ratio_e_value
from spinmark_biomarkers.survival.sensitivity.informative_censoring import delta_adjusted
from spinmark_biomarkers.survival.sensitivity.ipcw import fit_censoring, ipcw_rows, lost
from spinmark_biomarkers.survival.sensitivity.proportional_hazards import clustered_test, verdict
from spinmark_biomarkers.survival.validation.wording import block_names

logger = logging.getLogger(__name__)

COLUMNS = ("check", "model", "quantity", "value", "low", "high", "p", "sentence")
# Above this share of joints with the event a hazard ratio is no risk ratio (VanderWeele and Ding 2017).
_RARE = 0.15
_BEYOND = "what the model says beyond the reference"


def robustness(
    data: SurvivalData,
    risk: pd.DataFrame,
    *,
    reference: str,
    above: Sequence[str] | None = None,
    hazards: Mapping[str, Mapping[str, Hazard]] | None = None,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[pd.DataFrame, list[str]]:
    """Doubt what each model adds to the reference.

    Args:
        data: Outcomes of joints that no model was fitted on, one row a joint.
        risk: Log hazard ratio of these joints, a column a model.
        reference: The model that others are compared with.
        above: Models that add to it, which are doubted; all others by default. Within people all are looked at.
        hazards: Model -> cause -> a few draws of these joints' hazards; without it nothing is said of the lost.
        draws: Bootstrap draws of people.
        seed: Seed.
        level: Coverage.

    Returns:
        Rows of `COLUMNS`, and a line for each check that could not be done, with the models and the reason.
        `check` is `association`, `within people`, `proportional hazards`, `loss by covariates`,
        `loss beyond covariates` or `unmeasured confounding`; ratios stand as they are, not as logs.
    """
    rows: list[dict[str, Any]] = []
    cannot: dict[tuple[str, str], list[str]] = {}

    def tried(what: str, make: Callable[[], dict[str, Any]], model: str) -> None:
        try:
            rows.append({"check": what, "model": model, **make()})
        except InputError as error:
            cannot.setdefault((what, str(error)), []).append(model)

    for model in (str(name) for name in risk.columns):
        values = risk[model].to_numpy(dtype=float)
        base = None if model == reference else risk[reference].to_numpy(dtype=float)
        tried("within people", partial(_within, data, values, base, draws, seed, level), model)
        if base is None or (above is not None and model not in above):
            continue
        try:
            both = _both(data, values, base)
            fit = fit_cox_regression(both)
        except InputError as error:
            cannot.setdefault(("association", str(error)), []).append(model)
            continue
        rows.append({"check": "association", "model": model, **_association(fit, level)})
        tried("proportional hazards", partial(_proportional, fit), model)
        tried("loss by covariates", partial(_weighted, both, level), model)
        if hazards and model in hazards:
            tried(
                "loss beyond covariates", partial(_lost, both, hazards[model], seed, level), model
            )
        tried("unmeasured confounding", partial(_unmeasured, both, fit, level), model)
    lines = [
        f"{what} of {', '.join(map(block_names, models))}: {reason}"
        for (what, reason), models in cannot.items()
    ]
    if lines:
        logger.info("checks that could not be done: %d, such as %s", len(lines), lines[0])
    return pd.DataFrame(rows, columns=list(COLUMNS)), lines


def _both(data: SurvivalData, values: Floats, base: Floats) -> SurvivalData:
    """The reference's risk, and what the model's says beyond it, each in standard deviations."""
    if not values.std() > 0 or not base.std() > 0:
        raise InputError("risk: the same for all joints; accepted is one that varies")
    # Beyond a straight line in the reference's own risk, which a model may also sharpen or flatten.
    slope, level = np.polyfit(base, values, 1)
    rest = values - slope * base - level
    if not rest.std() > 1e-9 * max(1.0, values.std()):
        raise InputError("risk: a straight line of the reference's; nothing is added")
    x = np.column_stack([(base - base.mean()) / base.std(), rest / rest.std()])
    return data.with_covariates(x, ("the reference", _BEYOND))


def _ratio(beta: float, bounds: Floats) -> dict[str, Any]:
    return {"value": np.exp(beta), "low": np.exp(bounds[0]), "high": np.exp(bounds[1])}


def _association(fit: CoxRegression, level: float) -> dict[str, Any]:
    found = _ratio(fit.beta[1], fit.interval(level)[1])
    said = (
        f"A standard deviation of what the model says beyond the reference multiplies the hazard by "
        f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
    )
    apart = found["low"] > 1 or found["high"] < 1
    return {
        "quantity": "hazard ratio",
        **found,
        "sentence": said + ("." if apart else ": not told apart from nothing."),
    }


def _within(
    data: SurvivalData, values: Floats, base: Floats | None, draws: int, seed: int, level: float
) -> dict[str, Any]:
    pairs = matched_pairs(data)
    own = matched_concordance(pairs, values, draws=draws, seed=seed, level=level)
    said = (
        f"Of {own.n} people with an event in one knee and not in the other, the model ranks "
        f"{100 * own.value:.0f} % right ({100 * own.low:.0f} to {100 * own.high:.0f})"
    )
    if base is not None:
        gain = matched_concordance(pairs, values, against=base, draws=draws, seed=seed, level=level)
        said += (
            f"; over the reference {100 * gain.value:+.0f} points "
            f"({100 * gain.low:+.0f} to {100 * gain.high:+.0f})"
        )
    return {
        "quantity": "share of discordant pairs ranked right",
        "value": own.value,
        "low": own.low,
        "high": own.high,
        "sentence": said + ".",
    }


def _proportional(fit: CoxRegression) -> dict[str, Any]:
    table = clustered_test(fit)
    return {
        "quantity": "p of a change over time",
        "p": float(table["p"].loc["all"]),
        "sentence": verdict(table),
    }


def _weighted(data: SurvivalData, level: float) -> dict[str, Any]:
    last = float(data.time.max())
    rows = ipcw_rows(data, fit_censoring(data, end_years=last))
    found = _ratio((fit := fit_cox_regression(rows.data)).beta[1], fit.interval(level)[1])
    return {
        "quantity": "hazard ratio, weighted",
        **found,
        "sentence": f"Weighted against loss that both risks foretell: {found['value']:.2f} "
        f"({found['low']:.2f} to {found['high']:.2f}). Weights: {rows.verdict}.",
    }


def _lost(
    data: SurvivalData, hazards: Mapping[str, Hazard], seed: int, level: float
) -> dict[str, Any]:
    last = float(data.time.max())
    gone = int(lost(data, last).sum())
    found = delta_adjusted(
        data, hazards["event"], end_years=last, death=hazards.get("death"), seed=seed, level=level
    )
    zero = int(np.argmin(np.abs(found.deltas)))
    value, low, high = (float(v[zero, 1]) for v in (found.value, found.low, found.high))
    # The study is of the log hazard ratio, and the table shows the ratio.
    said = found.sentence(_BEYOND).replace("holds 0 already", "holds a ratio of 1 already")
    return {
        "quantity": f"hazard ratio, {gone} joints followed short of {last:.1f} years",
        **_ratio(value, np.array([low, high])),
        "sentence": said[:1].upper() + said[1:],
    }


def _unmeasured(data: SurvivalData, fit: CoxRegression, level: float) -> dict[str, Any]:
    ratio = _ratio(fit.beta[1], fit.interval(level)[1])
    rare = float(data.event.mean()) < _RARE
    found = hazard_ratio_e_value(ratio["value"], ratio["low"], ratio["high"], rare=rare)
    return {
        "quantity": "E-value",
        "value": found.point,
        "low": found.bound,
        "sentence": found.sentence(_BEYOND),
    }
