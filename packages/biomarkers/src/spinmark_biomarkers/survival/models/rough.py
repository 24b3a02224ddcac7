"""Rough figures of the data that guide priors and geometry, and a warning of covariates on another scale."""

import logging

import numpy as np

from spinmark_biomarkers.survival.data import Floats, SurvivalData

logger = logging.getLogger(__name__)

# A mean or a standard deviation past this is no standardised covariate's.
FAR = 5.0


def warn_of_scales(data: SurvivalData) -> None:
    """Say which covariate is far from the scale that the priors are for.

    Args:
        data: Rows to fit.
    """
    if not len(data.names):
        return
    far = np.maximum(np.abs(data.covariates.mean(axis=0)), data.covariates.std(axis=0))
    worst = int(far.argmax())
    if far[worst] > FAR:
        mean, sd = (getattr(data.covariates[:, worst], name)() for name in ("mean", "std"))
        logger.warning(
            "covariates: %r has mean %.3g and standard deviation %.3g; priors are for about 0 and 1 "
            "(standardise by the fitting rows: survival.design.prepare_design)",
            data.names[worst],
            mean,
            sd,
        )


def rough_estimate(data: SurvivalData) -> tuple[Floats, Floats]:
    """One Newton step from 0 towards the log hazard ratios of an exponential model.

    It decides how coefficients are sampled and changes no posterior.

    Args:
        data: Rows to fit.

    Returns:
        Estimates and standard errors, each of shape (p,), with a little ridge so that they exist.
    """
    x = data.covariates - data.covariates.mean(axis=0)
    expected = crude_rate(data) * np.maximum(data.time - data.start, 0.0)
    score = x.T @ (data.event - expected)
    information = (x.T * expected) @ x + 1e-3 * np.eye(x.shape[1])
    inverse = np.linalg.inv(information)
    return inverse @ score, np.sqrt(np.diag(inverse))


def crude_rate(data: SurvivalData) -> float:
    """Events a year over all rows, half an event where there is none."""
    years = float((data.lower - data.start).sum())
    return max(float(data.event.sum()), 0.5) / max(years, 1e-12)


def typical_event_time(data: SurvivalData) -> float:
    """Geometric mean of the event times, years."""
    times = data.time[data.event]
    times = times[times > 0]
    return float(np.exp(np.log(times).mean())) if times.size else 1.0
