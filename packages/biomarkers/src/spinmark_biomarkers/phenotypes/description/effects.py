"""The effect of membership, or of an axis, on one variable: its size, its bounds and its p value."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from spinmark_biomarkers.phenotypes.description.adjustment import Confounders
from spinmark_biomarkers.phenotypes.description.contingency import (
    association,
    corrected,
    indicators,
    residual,
)
from spinmark_biomarkers.phenotypes.description.exchange import exchange
from spinmark_biomarkers.phenotypes.description.regression import (
    jackknife,
    linear,
    logistic,
    spread,
    starts_of,
)
from spinmark_biomarkers.phenotypes.description.variables import Variable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Fewer members than this give an effect, but neither interval nor p value.
FEWEST_SUBJECTS = 5
LEVEL = 0.95
NOTES = {
    "none": "no values",
    "constant": "constant",
    "few": f"fewer than {FEWEST_SUBJECTS} subjects on a side",
    "sparse": "sparse: p by permutation",
    "iteration": "model did not converge",
}
MISSING = {"effect": np.nan, "low": np.nan, "high": np.nan, "p": np.nan}


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """Whose members, or which axis: shape (n,), in the canonical order of the rows."""

    values: Floats
    groups: bool
    confounders: Confounders
    draws: int
    seed: int


def effect_of(
    variable: Variable, predictor: Predictor, rows: Ints, names: tuple[str, ...]
) -> tuple[dict[str, float], str]:
    """Effect, bounds and p value of a variable at some rows, and what must be known of them."""
    if rows.size == 0:
        return dict(MISSING), NOTES["none"]
    y, x = variable.values[rows], predictor.values[rows]
    if np.ptp(y) == 0 or np.ptp(x) == 0:
        return dict(MISSING), NOTES["constant"] if np.ptp(y) == 0 else NOTES["few"]
    codes = np.unique(predictor.confounders.subjects[rows], return_inverse=True)[1].astype(np.int64)
    starts = starts_of(codes)
    design = predictor.confounders.design(names, rows)
    own = residual(x[:, None], design)[:, 0]
    if own.std() < 1e-6:
        return dict(MISSING), "confounders say it all"
    if variable.kind == "nominal":
        found, note = _categories(y.astype(np.int64), x, design, starts, predictor)
    elif variable.kind == "binary":
        found, note = _classes(y, x, own, design, starts, codes, predictor)
    else:
        found, note = _numbers(y, x, own, design, starts, predictor.groups)
    sides = (x == 1, x == 0) if predictor.groups else (np.ones(len(x), bool),)
    if min(np.unique(codes[side]).size for side in sides) < FEWEST_SUBJECTS:
        return dict(MISSING) | {"effect": found["effect"]}, NOTES["few"]
    return found, note


def _critical(own: Floats, starts: Ints) -> float:
    """Degrees of freedom: the effective number of subjects less one."""
    share = np.add.reduceat(own**2, starts)
    return max(float(share.sum() ** 2 / (share**2).sum()) - 1, 1.0)


def _numbers(
    y: Floats, x: Floats, own: Floats, design: Floats, starts: Ints, groups: bool
) -> tuple[dict[str, float], str]:
    fit = linear(np.column_stack([x, design]), y - y.mean(), starts)
    sides = x.astype(np.int64) if groups else np.zeros(len(x), dtype=np.int64)
    of_y, of_y_without = spread(y, sides, starts)
    of_x, of_x_without = (1.0, np.ones(1)) if groups else spread(x, np.zeros_like(sides), starts)
    if of_y <= 1e-9 * max(float(np.abs(y).max()), 1e-300):
        return dict(MISSING), "no spread within groups"
    effect = float(fit.beta[0]) * of_x / of_y
    without = fit.left_out[:, 0] * of_x_without / np.where(of_y_without > 0, of_y_without, of_y)
    df = _critical(own, starts)
    error, slope_error = jackknife(effect, without), jackknife(fit.beta[0], fit.left_out[:, 0])
    reach = float(stats.t.ppf((1 + LEVEL) / 2, df)) * error
    p = 2 * float(stats.t.sf(abs(fit.beta[0]) / max(slope_error, 1e-300), df))
    return {"effect": effect, "low": effect - reach, "high": effect + reach, "p": p}, ""


def _classes(
    y: Floats,
    x: Floats,
    own: Floats,
    design: Floats,
    starts: Ints,
    codes: Ints,
    predictor: Predictor,
) -> tuple[dict[str, float], str]:
    fit = logistic(np.column_stack([x, design]), y, starts)
    effect, df = float(fit.beta[0]), _critical(own, starts)
    error, p, note = jackknife(effect, fit.left_out[:, 0]), np.nan, ""
    if _sparse(y, x, codes, predictor.groups):
        # Where a cell is all but empty, residuals there are near 0 whatever is true, and so is any
        # error made of them. The model's own error, each person counted once, is on the safe side.
        own_error = float(np.sqrt(fit.covariance[0, 0] * len(y) / len(starts)))
        error, note = max(error, own_error), NOTES["sparse"]
        if design.shape[1] == 1:
            p = _permuted(x, indicators(y.astype(np.int64)), starts, predictor)
        else:
            note = "sparse"
    if not fit.converged:
        return dict(MISSING), NOTES["iteration"]
    if not np.isfinite(p):
        p = 2 * float(stats.t.sf(abs(effect) / max(error, 1e-300), df))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, df)) * error
    ends = np.exp(np.clip([effect, effect - reach, effect + reach], -50, 50))
    return dict(zip(("effect", "low", "high"), map(float, ends), strict=True)) | {"p": p}, note


def _sparse(y: Floats, x: Floats, codes: Ints, groups: bool) -> bool:
    """Tell whether a cell of the table, or along an axis a class, holds few subjects."""
    sides = (x == 1, x == 0) if groups else (np.ones(len(x), bool),)
    cells = [side & (y == value) for side in sides for value in (0, 1)]
    return min(np.unique(codes[cell]).size for cell in cells) < FEWEST_SUBJECTS


def _categories(
    y: Ints, x: Floats, design: Floats, starts: Ints, predictor: Predictor
) -> tuple[dict[str, float], str]:
    columns = indicators(y)
    first, second = residual(x[:, None], design), residual(columns, design)
    found = association(first, second, starts, level=LEVEL)
    n, categories = len(y), columns.shape[1] + 1
    effect = corrected(found.chi2, n, 2, categories, design_effect=found.design_effect)
    p, note = found.p, ""
    counts = np.bincount(np.unique(y, return_inverse=True)[1])
    side = min(float(x.mean()), 1 - float(x.mean())) if predictor.groups else 1.0
    if design.shape[1] == 1 and counts.min() * side < FEWEST_SUBJECTS:
        p, note = _permuted(x, columns, starts, predictor), NOTES["sparse"]
    low, high = (float(min(1.0, np.sqrt(bound))) for bound in (found.low, found.high))
    return {"effect": effect, "low": low, "high": high, "p": p}, note


def _permuted(x: Floats, columns: Floats, starts: Ints, predictor: Predictor) -> float:
    """P value among whole subjects that exchange their values of x with others of as many rows."""
    centred = columns - columns.mean(axis=0)
    inverse = np.linalg.pinv(centred.T @ centred, rcond=1e-10, hermitian=True)

    def statistic(values: Floats) -> float:
        sums = centred.T @ values
        return float(sums @ inverse @ sums)

    rng = np.random.default_rng(predictor.seed)
    codes = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(x)))
    observed = statistic(x)
    # Equal tables must count as equal whatever the order of their sums.
    least = observed * (1 - 1e-9)
    drawn = sum(statistic(exchange(codes, x, rng)) >= least for _ in range(predictor.draws))
    return (1 + drawn) / (predictor.draws + 1)
