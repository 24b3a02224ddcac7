"""What a model believes before it has seen an outcome (Gelman et al., Bayesian Workflow, 2020, section 2.4).

A prior that looks vague for each coefficient can still say that nearly everyone, or no one, will have the
event. The draws of the prior are carried to cumulative incidences and hazard ratios, and judged in plain words.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from sklearn.base import clone

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.hazards import PiecewiseHazard
from spinmark_biomarkers.survival.models.estimator import ONE_BLOCK, SurvivalModel
from spinmark_biomarkers.survival.nonparametric import aalen_johansen
from spinmark_biomarkers.survival.prediction.incidence import incidence

# Prior mass on something absurd that is called too much.
TOO_MUCH = 0.05
NEARLY_ALL = 0.99
NEARLY_NONE = 1e-4
STEEP = 20.0


def prior_predictive(
    model: SurvivalModel,
    data: SurvivalData,
    blocks: Mapping[str, str] | None = None,
    *,
    horizons: Sequence[float] = (4.0, 8.0, 10.0),
    draws: int = 500,
    rows: int = 100,
    seed: int = 0,
) -> xr.Dataset:
    """Draw from a model's prior what it implies for these people, and compare with what was seen.

    Death competes at the crude rate of the data.

    Args:
        model: Any estimator of `survival.models`, fitted or not; it is not changed.
        data: Rows whose covariates are used; outcomes enter through the crude rate, the breaks and the
            comparison alone.
        blocks: As for `fit`.
        horizons: Years at which the share with the event is judged, rising.
        draws: Draws from the prior.
        rows: Rows that are used, at most, evenly spaced.
        seed: Seed of the draws.

    Returns:
        `incidence(draw, time)`, the mean over people of the cumulative incidence, time in years;
        `observed(time)` after Aalen and Johansen; `share(draw, horizon)`; `hazard_ratio(draw, covariate)`
        for one unit; `block(covariate)`; attributes `verdict` (`good` or `doubtful` and why) and `absurd`
        (the prior mass of each absurdity). Without the first three for Cox, which has no prior of the baseline.

    Raises:
        InputError: For horizons that do not rise from above 0.
    """
    at = np.asarray(list(horizons), dtype=float)
    if at.size == 0 or (at <= 0).any() or (np.diff(at) <= 0).any():
        raise InputError(f"horizons: {list(horizons)}; accepted are years that rise from above 0")
    prior = clone(model).at_prior(data, blocks, draws=draws, seed=seed)
    beta = prior._draws("beta")
    with np.errstate(over="ignore"):
        ratio = np.exp(beta)
    named = [(blocks or {}).get(name, ONE_BLOCK) for name in prior.names_]
    covariates = np.array(prior.names_, dtype=object)
    found = xr.Dataset(
        {
            "hazard_ratio": (("draw", "covariate"), ratio),
            "block": ("covariate", np.array(named, dtype=object)),
        },
        coords={"covariate": covariates},
    )
    steep = float((np.abs(beta) > np.log(STEEP)).mean()) if beta.size else 0.0
    absurd = {f"a hazard ratio above {STEEP:g} or below 1/{STEEP:g}": steep}
    surprise = ""
    if "cumulative_hazard" not in prior.posterior_ and prior.family.baseline:
        times = np.unique(np.append(np.linspace(0, at[-1], 41), at))
        mean = _mean_incidence(prior, data, times, rows)
        share = mean[:, np.searchsorted(times, at)]
        known, observed = aalen_johansen(data.time, data.cause, start=data.start)
        seen = observed[np.searchsorted(known, times, side="right") - 1]
        seen = np.where(times <= known[-1], seen, np.nan)
        found = found.assign(
            incidence=(("draw", "time"), mean),
            observed=("time", seen),
            share=(("draw", "horizon"), share),
        ).assign_coords(time=times, horizon=at)
        last = f"at {at[-1]:g} years"
        absurd[f"more than {NEARLY_ALL:.0%} of all people with the event {last}"] = float(
            (share[:, -1] > NEARLY_ALL).mean()
        )
        absurd[f"fewer than 1 in {1 / NEARLY_NONE:,.0f} {last}"] = float(
            (share[:, -1] < NEARLY_NONE).mean()
        )
        surprise = _surprise(share, seen[np.searchsorted(times, at)], at)
    found.attrs["absurd"] = absurd
    found.attrs["verdict"] = _verdict(absurd, surprise)
    return found


def _mean_incidence(prior: SurvivalModel, data: SurvivalData, times: Floats, rows: int) -> Floats:
    n = len(data.ids)
    at = np.linspace(0, n - 1, min(rows, n)).round().astype(int)
    # A log hazard ratio of hundreds is a certain event all the same, and its exponential is finite.
    hazard = prior.hazard(data.covariates[at])
    hazard = hazard.with_linear(np.clip(hazard.linear, -50.0, 50.0))
    draws, size = hazard.linear.shape
    deaths = max(float((data.cause == 2).sum()), 1e-6)
    rate = deaths / float((data.lower - data.start).sum())
    death = PiecewiseHazard(
        np.zeros((draws, size)), np.full((draws, 1), np.log(rate)), np.zeros(1), np.zeros(draws)
    )
    later = times[times > 0]
    shares = incidence({"event": hazard, "death": death}, later)[0].mean(axis=1)
    return np.concatenate([np.zeros((draws, len(times) - len(later))), shares], axis=1)


def _surprise(share: Floats, seen: Floats, at: Floats) -> str:
    for k, observed in enumerate(seen):
        if np.isfinite(observed) and observed > 0:
            low, high = np.quantile(share[:, k], [0.01, 0.99])
            if not low <= observed <= high:
                return (
                    f"the incidence seen by {at[k]:g} years, {observed:.1%}, is outside the prior's "
                    f"98 % ({low:.1%} to {high:.1%})"
                )
    return ""


def _verdict(absurd: dict[str, float], surprise: str) -> str:
    much = [
        f"{mass:.0%} of the prior is on {what}" for what, mass in absurd.items() if mass > TOO_MUCH
    ]
    if surprise:
        much.append(surprise)
    if much:
        return "doubtful: " + "; ".join(much) + "; take a tighter prior or check the units"
    return "good: little of the prior is on absurd risks or hazard ratios"
