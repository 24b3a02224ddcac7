"""How much of a phantom's true movement trajectories hold, on people whom nothing was fitted on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import (
    paired_subject_bootstrap,
    subject_bootstrap,
)
from spinmark_biomarkers.evaluation.probes import fit_ridge
from spinmark_biomarkers.phenotypes.trajectories.mixed import fit_mixed

if TYPE_CHECKING:
    from spinmark_biomarkers.phenotypes.trajectories.find import Trajectories

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Third visits from which on noise is told from movement without assumptions.
_THIRD_VISITS = 10
# People with two joints from which on a person's part is told from a joint's.
_PAIRS = 10


def trajectory_scores(
    found: "Trajectories",
    truth: pd.DataFrame,
    latents: Sequence[str],
    *,
    on: str,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Compare trajectories with the movement of the true latents between the same visits.

    Args:
        found: The trajectories.
        truth: `truth/scans.parquet`.
        latents: Names of the latents.
        on: The set that is scored.
        draws: Bootstrap samples.
        seed: Seed of the draws.

    Returns:
        `speed_correlation`: of the estimated speed with the length of the true movement a year, by
        the mixed model (`model`), by the difference quotient of first and last visit (`quotient`),
        and their difference. `direction_balanced_accuracy`: the latent that moved most, named from
        latents that are read off the components by a ridge fitted on training joints; `chance`
        beside it.

    Raises:
        InputError: Visits without truth, or no joint in the set.
    """
    rows = _joined(found, truth, latents)
    joints = found.speeds.reset_index(drop=True)
    joint = pd.Index(joints["joint_id"]).get_indexer(pd.Index(rows["joint_id"])).astype(np.int64)
    years = rows["years"].to_numpy(dtype=np.float64)
    true = rows[list(latents)].to_numpy(dtype=np.float64)
    rates = _slopes(true, years, joint, len(joints))
    held = (joints["set"] == on).to_numpy()
    if not held.any():
        raise InputError(
            f"set {on}: no joint of two visits is in it; the sets are train, val, test"
        )
    people = joints["subject_id"].to_numpy(dtype=object)
    speed = np.linalg.norm(rates, axis=1)[held]
    given = {
        name: joints[column].to_numpy(dtype=np.float64)[held]
        for name, column in (("model", "speed"), ("quotient", "quotient"))
    }
    seen = rows[[name for name in rows.columns if name.startswith("seen_")]].to_numpy(np.float64)
    fit = (joints["set"] == "train").to_numpy()[joint]
    read = np.column_stack(
        [
            fit_ridge(seen[fit], true[fit, c], people[joint][fit]).predict(seen)
            for c in range(true.shape[1])
        ]
    )
    moved = {
        "model": _model_speeds(read, years, joint, people),
        "quotient": _quotients(read, years, joint, len(joints)),
    }
    most = rates.argmax(axis=1)[held]
    named = {name: value.argmax(axis=1)[held] for name, value in moved.items()}

    def correlation(name: str) -> Any:
        return lambda chosen: _pearson(given[name][chosen], speed[chosen])

    def accuracy(name: str) -> Any:
        return lambda chosen: balanced_accuracy(most[chosen], named[name][chosen])

    scores: dict[str, Any] = {"joints": int(held.sum()), "chance": 1 / true.shape[1]}
    for key, statistic in (
        ("speed_correlation", correlation),
        ("direction_balanced_accuracy", accuracy),
    ):
        scores[key] = {
            name: subject_bootstrap(statistic(name), people[held], draws=draws, seed=seed).to_dict()
            for name in ("model", "quotient")
        }
        scores[key]["model - quotient"] = paired_subject_bootstrap(
            statistic("model"), statistic("quotient"), people[held], draws=draws, seed=seed
        ).to_dict()
    return scores


def _joined(found: "Trajectories", truth: pd.DataFrame, latents: Sequence[str]) -> pd.DataFrame:
    """The visits of paths with their true latents, in the order of joints and time."""
    keys = ["subject_id", "laterality", "visit"]
    whose = found.speeds[["joint_id", "subject_id", "laterality"]]
    rows = found.paths.merge(whose, on="joint_id", validate="many_to_one")
    once = truth.drop_duplicates(keys)[[*keys, *latents]]
    rows = rows.merge(once, on=keys, how="left", validate="many_to_one")
    lost = rows[latents[0]].isna()
    if lost.any():
        first = rows.loc[lost, ["joint_id", "visit"]].iloc[0]
        raise InputError(
            f"truth: {int(lost.sum())} visits have none, such as {first['joint_id']} at "
            f"{first['visit']}; give the truth of the phantom that the cohort came from"
        )
    return rows.sort_values(["joint_id", "years"]).reset_index(drop=True)


def _slopes(values: Floats, years: Floats, joint: Ints, n: int) -> Floats:
    """Least-squares slope of each joint, shape (joint, column)."""
    counts = np.bincount(joint, minlength=n)
    centred = years - (np.bincount(joint, years, n) / counts)[joint]
    sums = np.zeros((n, values.shape[1]))
    np.add.at(sums, joint, centred[:, None] * values)
    return np.asarray(sums / np.bincount(joint, centred**2, n)[:, None])


def _quotients(values: Floats, years: Floats, joint: Ints, n: int) -> Floats:
    """Difference quotient of first and last visit, shape (joint, column); rows in order of time."""
    first = np.searchsorted(joint, np.arange(n))
    last = np.searchsorted(joint, np.arange(n), side="right") - 1
    return np.asarray((values[last] - values[first]) / (years[last] - years[first])[:, None])


def _model_speeds(
    values: Floats, years: Floats, joint: Ints, people: npt.NDArray[np.object_]
) -> Floats:
    """Speeds of each column by the mixed model, shape (joint, column)."""
    person = np.unique(people.astype(str), return_inverse=True)[1].astype(np.int64)[joint]
    seen = int((np.bincount(joint) >= 3).sum()) >= _THIRD_VISITS
    owner = np.zeros(len(people), dtype=np.int64)
    owner[joint] = person
    paired = int((np.bincount(owner) > 1).sum()) >= _PAIRS
    fits = [
        fit_mixed(column, years, joint, person, with_person=paired, correlated=seen)
        for column in values.T
    ]
    return np.column_stack([fit.slopes for fit in fits])


def _pearson(a: Floats, b: Floats) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def balanced_accuracy(truth: npt.ArrayLike, named: npt.ArrayLike) -> float:
    """Mean over the true classes of the share that is named right."""
    true, said = np.asarray(truth), np.asarray(named)
    return float(np.mean([(said[true == one] == one).mean() for one in np.unique(true)]))
