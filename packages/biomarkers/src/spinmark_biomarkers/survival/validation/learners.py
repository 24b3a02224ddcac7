"""What can be validated: a learner is fitted on rows with raw covariates and predicts other rows.

Everything that is learnt from people (medians, scales, principal components, the baseline, death) is learnt
inside `fit`, so that a fold or a bootstrap sample goes through all of it again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.cox import fit_cox
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.design import Design, Reduction, prepare_design
from spinmark_biomarkers.survival.hazards import Hazard, PiecewiseHazard
from spinmark_biomarkers.survival.prediction.incidence import incidence_by_rows
from spinmark_biomarkers.survival.validation.loo import log_mean_exp

_CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a fitted learner says of rows.

    Args:
        risk: A higher value foretells an earlier event, shape (n,).
        incidence: Probability of the event by each time, death competing, shape (n, T).
        log_density: Log predictive density of each subject of the rows, indexed by subject; None where the
            learner has none.
    """

    risk: Floats
    incidence: Floats
    log_density: pd.Series | None = None


class Fitted(Protocol):
    """A learner that was fitted."""

    def predict(self, data: SurvivalData, design: pd.DataFrame, times: Floats) -> Predictions:
        """Predict rows.

        Args:
            data: Their outcomes, which only the log density looks at.
            design: Their raw covariates, a row each.
            times: Years, increasing, shape (T,).
        """
        ...


class Learner(Protocol):
    """Something that can be fitted again and again."""

    def fit(self, data: SurvivalData, design: pd.DataFrame) -> Fitted:
        """Fit.

        Args:
            data: Outcomes.
            design: Raw covariates, a row each.
        """
        ...


def _prepared(
    fitted: pd.DataFrame, new: pd.DataFrame, reductions: Sequence[Reduction]
) -> tuple[Design, Floats]:
    """The design learnt from the fitted rows, and the new rows in it."""
    # Rows may stand twice in a bootstrap sample, so their names are dropped.
    both = pd.concat([fitted, new[list(fitted.columns)]], ignore_index=True)
    rows = np.arange(len(both)) < len(fitted)
    design = prepare_design(both, rows, reductions=reductions)
    return design, design.frame.to_numpy(dtype=float)[len(fitted) :]


@dataclass(frozen=True)
class _Ridge:
    beta: Floats
    design: pd.DataFrame
    reductions: Sequence[Reduction]
    times: Floats
    steps: Floats
    death: Floats

    def predict(self, data: SurvivalData, design: pd.DataFrame, times: Floats) -> Predictions:
        _, x = _prepared(self.design, design, self.reductions)
        risk = np.asarray(x @ self.beta, dtype=np.float64)
        before = np.concatenate([[0.0], np.cumsum(self.steps)[:-1]])
        at = np.searchsorted(self.times, times, side="right")
        incidence = np.empty((len(risk), len(times)))
        for start in range(0, len(risk), _CHUNK):
            ratio = np.exp(risk[start : start + _CHUNK, None])
            grown = np.exp(-ratio * before - self.death) * -np.expm1(-ratio * self.steps)
            total = np.concatenate([np.zeros((len(ratio), 1)), np.cumsum(grown, axis=1)], axis=1)
            incidence[start : start + _CHUNK] = total[:, at]
        return Predictions(risk=risk, incidence=incidence)


@dataclass(frozen=True, kw_only=True)
class RidgeCox:
    """Cox regression with a ridge penalty: fast, without frailty, for choosing and for the bootstrap.

    The baseline is Breslow's; death competes with the same hazard for all (Nelson-Aalen). Events within an
    interval are placed in its middle.

    Args:
        alpha: Penalty `alpha / 2 |beta|^2` on standardised covariates.
        reductions: Blocks that become principal components.
    """

    alpha: float = 1.0
    reductions: Sequence[Reduction] = ()

    def fit(self, data: SurvivalData, design: pd.DataFrame) -> Fitted:
        """Fit.

        Args:
            data: Outcomes, all of one weight and without delayed entry.
            design: Raw covariates, a row each.

        Raises:
            InputError: No event, weights that differ, or delayed entry.
        """
        if not self.alpha > 0:
            raise InputError(f"alpha: {self.alpha}; accepted is a number above 0")
        if not data.event.any():
            raise InputError(f"outcomes: no event among {len(data.ids)} fitted rows")
        if np.ptp(data.weight) > 0 or np.any(data.start > 0):
            raise InputError(
                "outcomes: sampling weights or delayed entry; RidgeCox accepts neither: use a Bayesian model"
            )
        prepared, _ = _prepared(design, design.iloc[:0], self.reductions)
        x = prepared.frame.to_numpy(dtype=float)
        time, event = data.time, data.event
        beta = fit_cox(x, time, event, alpha=self.alpha) if x.shape[1] else np.zeros(0)
        times, code = np.unique(time, return_inverse=True)
        ratio = np.bincount(code, np.exp(x @ beta), len(times))[::-1].cumsum()[::-1]
        number = np.bincount(code, minlength=len(times))[::-1].cumsum()[::-1]
        steps = np.bincount(code, event, len(times)) / ratio
        death = np.bincount(code, data.cause == 2, len(times)) / number
        return _Ridge(
            beta=beta,
            design=design,
            reductions=self.reductions,
            times=times,
            steps=steps,
            death=np.concatenate([[0.0], np.cumsum(death)[:-1]]),
        )


def _nobody_dies(event: Hazard) -> Hazard:
    return PiecewiseHazard(
        linear=np.zeros_like(event.linear),
        log_hazard=np.full((len(event.linear), 1), -60.0),
        breaks=np.zeros(1),
        theta=np.zeros(len(event.linear)),
    )


@dataclass(frozen=True)
class _Drawn:
    event: Any
    death: Any | None
    design: pd.DataFrame
    reductions: Sequence[Reduction]
    death_covariates: tuple[str, ...]
    draws: int

    def predict(self, data: SurvivalData, design: pd.DataFrame, times: Floats) -> Predictions:
        ready, x = _prepared(self.design, design, self.reductions)
        names = tuple(ready.frame.columns)
        event = self.event.hazard(x, self.draws)
        death = _nobody_dies(event)
        if self.death is not None:
            columns = [names.index(c) for c in self.death_covariates]
            death = self.death.hazard(x[:, columns], self.draws)
        incidence = np.empty((len(x), len(times)))
        for rows, both in incidence_by_rows({"event": event, "death": death}, times):
            incidence[rows] = both[0].mean(axis=0)
        # A partial likelihood has no density of people who were not fitted on.
        density = None
        if self.event.family.name != "cox":
            drawn = self.event.subject_log_likelihood(data.with_covariates(x, names))
            density = pd.Series(
                log_mean_exp(drawn.to_numpy(), axis=drawn.dims.index("draw")),
                index=drawn["subject"].to_numpy().astype(str),
            )
        risk = np.asarray(self.event.linear_predictor(x), dtype=np.float64)
        return Predictions(risk=risk, incidence=incidence, log_density=density)


@dataclass(frozen=True, kw_only=True)
class BayesianLearner:
    """Any estimator of `survival.models`, with its design and a model of death.

    Args:
        make: Makes the event's estimator, such as `lambda: PiecewiseExponential(intervals=6)`.
        make_death: Makes that of death, which has no frailty; without one death does not compete.
        reductions: Blocks that become principal components.
        death_covariates: Columns of the prepared design that the model of death takes; those that are not
            there are left out.
        draws: Posterior draws that incidences use.
    """

    make: Callable[[], Any]
    make_death: Callable[[], Any] | None = None
    reductions: Sequence[Reduction] = ()
    death_covariates: tuple[str, ...] = ("AGE", "SEX", "BMI")
    draws: int = 200

    def fit(self, data: SurvivalData, design: pd.DataFrame) -> Fitted:
        """Fit.

        Args:
            data: Outcomes.
            design: Raw covariates, a row each.
        """
        ready, _ = _prepared(design, design.iloc[:0], self.reductions)
        x, names = ready.frame.to_numpy(dtype=float), tuple(ready.frame.columns)
        event = self.make().fit(data.with_covariates(x, names), ready.blocks)
        death, used = None, tuple(c for c in self.death_covariates if c in names)
        if self.make_death is not None and (data.cause == 2).any():
            columns = x[:, [names.index(c) for c in used]]
            death = self.make_death().fit(data.with_covariates(columns, used).deaths())
        return _Drawn(
            event=event,
            death=death,
            design=design,
            reductions=self.reductions,
            death_covariates=used if death is not None else (),
            draws=self.draws,
        )
