"""How fast each joint moves along a direction, and how far that can be trusted.

A difference quotient of two visits holds the noise of both. The mixed model (`mixed`) says how much
of the difference between joints is speed and how much noise, and draws each joint's speed towards
what is usual accordingly (Laird and Ware 1982): with few visits or short intervals more than with
many.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.trajectories.direction import along
from spinmark_biomarkers.phenotypes.trajectories.mixed import MixedFit, fit_mixed
from spinmark_biomarkers.phenotypes.trajectories.motion import noise_is_seen
from spinmark_biomarkers.phenotypes.trajectories.paths import Floats, Paths

# People with two joints from which on a person's part is told from a joint's.
_PAIRS = 10


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Speeds along a direction.

    Args:
        table: A row a joint: `joint_id`, `speed`, `se`, `low`, `high` (95 %), `reliability`,
            `quotient` (the naive difference quotient of first and last visit).
        fit: The mixed model.
        facts: Figures ready for JSON.
    """

    table: pd.DataFrame
    fit: MixedFit
    facts: dict[str, Any]


def fit_speed(
    paths: Paths,
    direction: npt.ArrayLike,
    *,
    covariates: Mapping[str, npt.ArrayLike] | None = None,
    reml: bool = True,
) -> Speeds:
    """Estimate the speed of every joint.

    The model is fitted on all joints: nothing in it knows an outcome, and a joint's speed is drawn
    towards the mean by how noisy visits are, which every joint tells.

    Args:
        paths: The paths.
        direction: In components, shape (component,); its length is of no consequence.
        covariates: By name a value a joint, shape (joint,); each shifts level and speed. Missing
            values are refused.
        reml: REML; maximum likelihood otherwise.

    Raises:
        InputError: A direction of another length, or a covariate with missing or constant values.
    """
    unit = along(direction)
    if unit.shape != (paths.points.shape[2],):
        raise InputError(
            f"direction: {unit.size} numbers for {paths.points.shape[2]} components; accepted is one each"
        )
    present, n = paths.present, len(paths.joints)
    joint = np.nonzero(present)[0]
    years = paths.years[present]
    y = (paths.points @ unit)[present]
    columns = _columns(covariates or {}, n)
    x = np.hstack([columns[joint], columns[joint] * years[:, None]])
    slope_x = np.hstack([np.zeros_like(columns), columns])
    subjects = paths.subjects
    joints_of = np.bincount(subjects)
    seen = noise_is_seen(paths.scans)
    paired = int((joints_of > 1).sum()) >= _PAIRS
    fit = fit_mixed(
        y,
        years,
        joint,
        subjects[joint],
        x=x,
        slope_x=slope_x,
        scans=paths.scans[present],
        scatter=float(unit @ paths.scatter @ unit),
        with_person=paired,
        correlated=seen,
        reml=reml,
    )
    last = paths.joints["visits"].to_numpy() - 1
    rows = np.arange(n)
    score = paths.points @ unit
    span = paths.years[rows, last] - paths.years[:, 0]
    se = np.sqrt(fit.slope_variance)
    table = pd.DataFrame(
        {
            "joint_id": paths.joints["joint_id"],
            "speed": fit.slopes,
            "se": se,
            "low": fit.slopes - stats.norm.ppf(0.975) * se,
            "high": fit.slopes + stats.norm.ppf(0.975) * se,
            # Where noise is told by assumptions alone, so would be what is left of it.
            "reliability": fit.reliability if seen else np.nan,
            "quotient": (score[rows, last] - score[:, 0]) / span,
        }
    )
    return Speeds(table=table, fit=fit, facts=_facts(paths, fit, columns, seen, paired))


def _columns(covariates: Mapping[str, npt.ArrayLike], n: int) -> Floats:
    """A constant and the covariates about their means, shape (joint, 1 + covariates)."""
    columns = [np.ones(n)]
    for name, given in covariates.items():
        values = np.asarray(given, dtype=np.float64)
        if values.shape != (n,) or not np.isfinite(values).all() or np.ptp(values) == 0:
            raise InputError(
                f"covariates: {name} has shape {values.shape} with "
                f"{int((~np.isfinite(values)).sum())} missing; "
                f"accepted are {n} numbers that differ"
            )
        columns.append(values - values.mean())
    return np.column_stack(columns)


def _facts(
    paths: Paths, fit: MixedFit, columns: Floats, seen: bool, paired: bool
) -> dict[str, Any]:
    at = columns.shape[1]
    value, se = float(fit.beta[at]), float(np.sqrt(fit.beta_covariance[at, at]))
    quantile = float(stats.t.ppf(0.975, max(len(np.unique(paths.subjects)) - 1, 1)))
    gaps = np.diff(paths.years, axis=1)[paths.present[:, 1:]]
    gap = float(np.median(gaps))
    speed = float(fit.person[1, 1] + fit.joint[1, 1])
    moved, noise = speed * gap**2, 2 * fit.noise
    if paths.replicates >= 10:
        known = "scans of the same day"
    elif seen:
        known = "third visits"
    elif paired:
        known = "the two joints of a person, and assumptions: two visits a joint and no rescans"
    else:
        known = "assumptions alone: two visits a joint and no rescans"
    return {
        "population": {"value": value, "low": value - quantile * se, "high": value + quantile * se},
        "speed_sd": float(np.sqrt(speed)),
        "speed_sd_of_persons": float(np.sqrt(fit.person[1, 1])) if paired else None,
        "noise_sd": float(np.sqrt(fit.noise)),
        "median_gap_years": gap,
        "noise_share_of_change": noise / (noise + moved) if seen and noise + moved > 0 else None,
        "reliability": float(fit.reliability.mean()) if seen else None,
        "noise_known_from": known,
        "converged": fit.converged,
        "joints": len(paths.joints),
        "subjects": len(np.unique(paths.subjects)),
    }
