"""Expected log predictive density of a person whom the model did not see, without refitting it.

A person's joints share a frailty and a life, so a person is what is left out, not a joint. Pareto-smoothed
importance sampling takes each person out of the posterior (Vehtari, Gelman and Gabry, Statistics and
Computing 2017; Vehtari et al., JMLR 2024). The Pareto k of a person says whether that worked; where it did
not, `reloo` fits again without them. Densities of a Cox model are relative to its own baseline: they compare
Cox models with one another, and have no exact refit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.special import logsumexp

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival import _compat
from spinmark_biomarkers.survival.data import Floats, SurvivalData

Refit = Callable[[SurvivalData, SurvivalData], "xr.DataArray | Floats"]

# Differences below this are small whatever their standard error says (Sivula et al., arXiv 2008.10296).
SMALL_DIFFERENCE = 4.0


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """The log predictive density of each subject, had they not been fitted on.

    Args:
        subjects: Who they are, sorted, shape (S,).
        elpd: Log predictive density of each when left out, shape (S,).
        lpd: The same by the posterior that saw them, shape (S,).
        pareto_k: Shape of the tail of the importance weights; 0 where a subject was refitted, shape (S,).
        refitted: Who was left out by fitting again, shape (S,).
        threshold: The k above which the importance weights are not to be trusted.
        draws: Posterior draws.
    """

    subjects: npt.NDArray[np.object_]
    elpd: Floats
    lpd: Floats
    pareto_k: Floats
    refitted: npt.NDArray[np.bool_]
    threshold: float
    draws: int

    @property
    def total(self) -> float:
        """Sum over the subjects; higher is better."""
        return float(self.elpd.sum())

    @property
    def se(self) -> float:
        """Standard error of the sum, by the spread over subjects; NaN for one subject."""
        return _se(self.elpd)

    @property
    def p_loo(self) -> float:
        """Effective number of parameters: how much better the people are foretold who were fitted on."""
        return float((self.lpd - self.elpd).sum())

    @property
    def unreliable(self) -> npt.NDArray[np.object_]:
        """Subjects whose importance weights are not to be trusted, the worst first."""
        bad = np.flatnonzero(~(self.pareto_k <= self.threshold))
        return self.subjects[bad[np.argsort(-self.pareto_k[bad], kind="stable")]]

    @property
    def verdict(self) -> str:
        """Whether the figure can be used, and what to do."""
        bad = self.unreliable
        n, limit = len(self.subjects), f"{self.threshold:.2f}"
        again = f" ({int(self.refitted.sum())} refitted)" if self.refitted.any() else ""
        if not len(bad):
            return f"good: Pareto k of all {n} subjects at most {limit}{again}"
        named = ", ".join(map(str, bad[:3])) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        what = f"Pareto k above {limit} for {len(bad)} of {n} subjects ({named}){again}"
        if len(bad) > max(20, 0.1 * n):
            return (
                f"bad: {what}; the model follows single people: use cross-validation, fewer covariates or a "
                "tighter prior"
            )
        return f"doubtful: {what}; refit without them with reloo"

    def frame(self) -> pd.DataFrame:
        """Tidy rows: `subject_id`, `elpd`, `lpd`, `pareto_k`, `refitted`."""
        return pd.DataFrame(
            {
                "subject_id": self.subjects,
                "elpd": self.elpd,
                "lpd": self.lpd,
                "pareto_k": self.pareto_k,
                "refitted": self.refitted,
            }
        )


def _se(values: Floats) -> float:
    n = len(values)
    return float(np.sqrt(n) * values.std(ddof=1)) if n > 1 else float("nan")


def log_mean_exp(values: Floats, axis: int = 0) -> Floats:
    """Logarithm of the mean of exponentials over an axis."""
    return np.asarray(logsumexp(values, axis=axis) - np.log(values.shape[axis]))


def _table(
    log_likelihood: "xr.DataArray | Floats", subjects: Sequence[str] | None
) -> tuple[Floats, npt.NDArray[np.object_]]:
    if isinstance(log_likelihood, xr.DataArray):
        array = log_likelihood
        if set(array.dims) - {"chain"} != {"draw", "subject"}:
            raise InputError(
                f"log_likelihood: dimensions {list(map(str, array.dims))}; accepted are draw and subject"
            )
        if subjects is None and "subject" in array.coords:
            subjects = [str(s) for s in array["subject"].to_numpy()]
        values = array.transpose(..., "subject").to_numpy().astype(np.float64)
        values = values.reshape(-1, values.shape[-1])
    else:
        values = np.asarray(log_likelihood, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 1:
        raise InputError(
            f"log_likelihood: shape {values.shape}; accepted is (draw, subject) with at least 2 draws"
        )
    names = (
        np.arange(values.shape[1]).astype(str) if subjects is None else np.asarray(subjects, str)
    )
    if len(names) != values.shape[1]:
        raise InputError(
            f"subjects: {len(names)} for {values.shape[1]} columns; accepted is one a column"
        )
    if len(set(names.tolist())) < len(names):
        raise InputError(
            "subjects: one stands twice; accepted is one column a subject, their joints added up"
        )
    bad = ~np.isfinite(values).all(axis=0)
    if bad.any():
        raise InputError(
            f"log_likelihood: not finite for {', '.join(names[bad][:3])}; accepted are finite numbers"
        )
    order = np.argsort(names, kind="stable")
    return values[:, order], names[order].astype(object)


def good_k(draws: int) -> float:
    """Largest Pareto k at which that many draws give a usable mean (Vehtari et al. 2024)."""
    return float(min(1 - 1 / np.log10(max(draws, 11)), 0.7))


def leave_one_subject_out(
    log_likelihood: "xr.DataArray | Floats", subjects: Sequence[str] | None = None
) -> LeaveOneOut:
    """Take each subject out of the posterior by importance sampling.

    Args:
        log_likelihood: Log-likelihood of each subject's rows together, `(draw, subject)` or
            `(chain, draw, subject)`.
        subjects: Names of the columns, where the array has none.

    Returns:
        The log predictive density of each subject, sorted by name, with diagnostics.

    Raises:
        InputError: For an array of another shape, a value that is not finite, or a subject named twice.
    """
    values, names = _table(log_likelihood, subjects)
    log_weights, k = _compat.psis(-values.T)
    return LeaveOneOut(
        subjects=names,
        elpd=np.asarray(logsumexp(log_weights + values.T, axis=1)),
        lpd=log_mean_exp(values),
        pareto_k=k,
        refitted=np.zeros(len(names), dtype=bool),
        threshold=good_k(len(values)),
        draws=len(values),
    )


def reloo(
    found: LeaveOneOut,
    data: SurvivalData,
    refit: Refit,
    *,
    most: int = 20,
    progress: Callable[[int, int], None] | None = None,
) -> LeaveOneOut:
    """Fit again without each subject whose importance weights are not to be trusted.

    Args:
        found: From `leave_one_subject_out`.
        data: The rows that were fitted.
        refit: Takes the rows to fit and the rows of the one left out, and returns the log-likelihood of
            the latter for each draw, such as `lambda kept, held: clone(model).fit(kept).
            subject_log_likelihood(held)`.
        most: Subjects to refit at most, the worst first.
        progress: Called with (fits done, fits in all).

    Returns:
        The same with those subjects' densities exact.
    """
    chosen = found.unreliable[:most]
    elpd, k, refitted = found.elpd.copy(), found.pareto_k.copy(), found.refitted.copy()
    ids = data.subject_ids.astype(str)
    for done, subject in enumerate(chosen):
        mine = ids == str(subject)
        if not mine.any():
            raise InputError(
                f"data: no row of subject {subject}; accepted are the rows that were fitted"
            )
        drawn = refit(data.with_rows(np.flatnonzero(~mine)), data.with_rows(np.flatnonzero(mine)))
        values = np.asarray(drawn, dtype=np.float64).ravel()
        at = int(np.flatnonzero(found.subjects.astype(str) == str(subject))[0])
        elpd[at] = float(log_mean_exp(values))
        k[at], refitted[at] = 0.0, True
        if progress is not None:
            progress(done + 1, len(chosen))
    return replace(found, elpd=elpd, pareto_k=k, refitted=refitted)


def compare_elpd(results: Mapping[str, LeaveOneOut], reference: str | None = None) -> pd.DataFrame:
    """Compare models by the paired differences of their subjects' densities.

    Args:
        results: Model -> its densities, all of the same subjects.
        reference: The model that others are compared with; the best one by default.

    Returns:
        A row a model, the best first: `model`, `elpd`, `se`, `p_loo`, `difference` from the reference and its
        `difference_se` by the spread of the subjects' own differences, `n`, `unreliable`, `verdict`.

    Raises:
        InputError: No model, models of other subjects, or an unknown reference.
    """
    if not results:
        raise InputError("results: none; accepted is at least one model")
    if reference is None:
        reference = max(results, key=lambda name: (results[name].total, name))
    if reference not in results:
        raise InputError(f"reference: {reference!r}; accepted are {', '.join(results)}")
    base = results[reference]
    rows = []
    for name, found in results.items():
        if not np.array_equal(found.subjects, base.subjects):
            raise InputError(
                f"results: {name} and {reference} are of other subjects; accepted are models of the same"
            )
        gap = found.elpd - base.elpd
        difference, se = float(gap.sum()), _se(gap)
        rows.append(
            {
                "model": name,
                "elpd": found.total,
                "se": found.se,
                "p_loo": found.p_loo,
                "difference": difference,
                "difference_se": 0.0 if name == reference else se,
                "n": len(found.subjects),
                "unreliable": len(found.unreliable),
                "verdict": _told(name, reference, difference, se),
            }
        )
    frame = pd.DataFrame(rows)
    return frame.sort_values(["elpd", "model"], ascending=[False, True], ignore_index=True)


def _told(name: str, reference: str, difference: float, se: float) -> str:
    if name == reference:
        return "the reference"
    if abs(difference) < SMALL_DIFFERENCE:
        return f"not told apart from {reference}: a difference below {SMALL_DIFFERENCE:g} is small"
    if not abs(difference) > 2 * se:
        return f"not told apart from {reference}: the difference is within two standard errors"
    return f"{'better' if difference > 0 else 'worse'} than {reference}"
