"""Find trajectories in embeddings, say how far to trust them, and freeze them.

No function here takes an outcome. A trajectory is known on the day of its last visit and not
before: a time origin earlier than `known_at` would count the time that a joint had to survive in
order to be seen (immortal time).
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import subject_bootstrap
from spinmark_biomarkers.phenotypes.stability import category
from spinmark_biomarkers.phenotypes.trajectories.config import TrajectoriesConfig
from spinmark_biomarkers.phenotypes.trajectories.direction import check_direction, choose_direction
from spinmark_biomarkers.phenotypes.trajectories.distance import fit_measure
from spinmark_biomarkers.phenotypes.trajectories.frozen import freeze_paths
from spinmark_biomarkers.phenotypes.trajectories.group import (
    METHODS,
    GroupModel,
    fit_groups,
    group_stability,
    path_groups,
)
from spinmark_biomarkers.phenotypes.trajectories.motion import (
    KINDS,
    Motion,
    Smoothed,
    choose_motion,
    noise_is_seen,
)
from spinmark_biomarkers.phenotypes.trajectories.null import Verdict, judge
from spinmark_biomarkers.phenotypes.trajectories.paths import Bools, Floats, Ints, Paths, make_paths
from spinmark_biomarkers.phenotypes.trajectories.speed import Speeds, fit_speed
from spinmark_biomarkers.phenotypes.trajectories.transitions import (
    Transitions,
    find_corners,
    make_transitions,
    smooth_paths,
)

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
STRONG = 0.8  # Prediction strength that speaks for k groups (Tibshirani and Walther 2005).


@dataclass(frozen=True, kw_only=True)
class Trajectories:
    """Frozen trajectories; the columns of the tables are in docs/schemas.md.

    Args:
        paths: A row a joint and visit.
        transitions: A row a transition.
        speeds: A row a joint.
        left_out: `joint_id`, `reason`.
        facts: Verdict, groups, noise, speed; ready for JSON.
    """

    paths: pd.DataFrame
    transitions: pd.DataFrame
    speeds: pd.DataFrame
    left_out: pd.DataFrame
    facts: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        """Return the facts."""
        return self.facts


def _check_config(config: TrajectoriesConfig, *, with_phenotypes: bool) -> list[int]:
    least = {"components": 1, "bootstrap": 1, "null_draws": 19, "sample": 100}
    for name, lowest in least.items():
        if getattr(config, name) < lowest:
            raise InputError(f"{name}: {getattr(config, name)}; accepted is at least {lowest}")
    check_direction(config.direction, with_phenotypes=with_phenotypes)
    if config.motion not in ("auto", *KINDS):
        raise InputError(f"motion: '{config.motion}'; accepted are auto, {', '.join(KINDS)}")
    if config.method not in METHODS:
        raise InputError(f"method: '{config.method}'; accepted are {' and '.join(METHODS)}")
    if config.k is not None:
        if config.k < 2:
            raise InputError(f"k: {config.k}; accepted is null or a whole number of at least 2")
        return [config.k]
    if config.k_max < 2:
        raise InputError(f"k_max: {config.k_max}; accepted is at least 2")
    return list(range(2, config.k_max + 1))


def _first_phenotype(paths: Paths, phenotypes: xr.Dataset) -> Ints:
    """Phenotype of each joint at its first visit, -1 where there is none."""
    names = ("joint_id", "days", "rank", "scan_id")
    frame = pd.DataFrame({name: np.asarray(phenotypes[name].values) for name in names})
    frame["label"] = np.asarray(phenotypes["label"].values)
    frame = frame.sort_values(["joint_id", "days", "rank", "scan_id"]).drop_duplicates("joint_id")
    labels = frame.set_index(frame["joint_id"].astype(str))["label"]
    found = labels.reindex(paths.joints["joint_id"].astype(str)).to_numpy(dtype=np.float64)
    if not np.isfinite(found).any():
        raise InputError(
            "phenotypes: hold none of these joints; accepted are those of the same cohort"
        )
    return np.where(np.isfinite(found), found, -1).astype(np.int64)


def _sample(paths: Paths, transitions: Transitions, most: int, seed: int) -> Bools:
    """Choose fitted joints, whole people, with at most so many transitions; shape (joint,)."""
    each = np.bincount(transitions.joint, minlength=len(paths.joints))
    subjects = paths.subjects
    of_person = np.bincount(subjects, weights=each * paths.fitted)
    order = np.random.default_rng([seed, 7]).permutation(len(of_person))
    chosen = np.zeros(len(of_person), dtype=bool)
    chosen[order[np.cumsum(of_person[order]) <= most]] = True
    return np.asarray(chosen[subjects] & paths.fitted)


def _choose(verdict: Verdict) -> tuple[int, str]:
    if len(verdict.ks) == 1:
        return verdict.ks[0], "given"
    strong = [k for k, s in zip(verdict.ks, verdict.strength, strict=True) if s >= STRONG]
    if strong:
        return max(strong), f"the largest with a prediction strength of at least {STRONG}"
    best = verdict.ks[int(np.argmax(verdict.excess))]
    return best, f"no k reached a prediction strength of {STRONG}; largest excess over the null"


def find_trajectories(
    embeddings: xr.Dataset,
    config: TrajectoriesConfig,
    *,
    phenotypes: xr.Dataset | None = None,
    progress: Progress | None = None,
) -> Trajectories:
    """Fit trajectories on training and validation subjects and describe every joint.

    Args:
        embeddings: The embeddings artefact, see docs/schemas.md.
        config: Settings.
        phenotypes: `label(scan)` with the scan coordinates, for a direction between phenotypes and speeds by
            phenotype.
        progress: Called with (done, total).

    Returns:
        The frozen trajectories. Group 0 is the largest.

    Raises:
        InputError: As `make_paths`; a setting out of range; too few people.
    """
    ks = _check_config(config, with_phenotypes=phenotypes is not None)
    paths = make_paths(embeddings, components=config.components, part=config.part)
    people = len(np.unique(paths.subjects[paths.fitted]))
    if people < 4 * max(ks):
        raise InputError(
            f"embeddings: {people} train and val subjects with two visits for up to {max(ks)} "
            "groups; accepted are "
            f"at least {4 * max(ks)}"
        )
    components = paths.points.shape[2]
    total = components + 2 * config.null_draws + config.bootstrap
    told = progress or (lambda done, total: None)
    motions: list[Motion] = []
    fit = paths.fitted
    for c in range(components):
        # The scatter of all joints is one of noise alone, which nothing is chosen by.
        alone = _scatter_of(paths, fit, c)
        motions.append(
            choose_motion(
                paths.points[fit][:, :, c],
                paths.years[fit],
                paths.scans[fit],
                kind=config.motion,
                scatter=alone,
            )
        )
        told(c + 1, total)
    smoothed = smooth_paths(paths, motions)
    transitions = make_transitions(paths, smoothed, find_corners(paths, motions))
    chosen = _sample(paths, transitions, config.sample, config.seed)
    used = transitions.take(np.asarray(chosen[transitions.joint]))
    measure = fit_measure(used, config.weights)
    verdict = judge(
        paths,
        chosen,
        used,
        measure,
        ks,
        draws=config.null_draws,
        seed=config.seed,
        progress=lambda done, _: told(components + done, total),
    )
    k, how = _choose(verdict)
    model = fit_groups(measure.vectors(used), method=config.method, k=k)
    jaccard = group_stability(
        measure.vectors(used),
        model,
        used.subject.astype(str),
        draws=config.bootstrap,
        seed=config.seed,
        progress=lambda done, _: told(components + 2 * config.null_draws + done, total),
    )
    groups = model.assign(measure.vectors(transitions))
    named = path_groups(transitions.joint, groups, len(paths.joints))
    phenotype = None if phenotypes is None else _first_phenotype(paths, phenotypes)
    direction = choose_direction(config.direction, paths, smoothed, phenotype=phenotype)
    speeds = fit_speed(paths, direction)
    table = _speed_table(paths, speeds, named, phenotype)
    logger.info("trajectories: %d joints, verdict %s", len(paths.joints), verdict.verdict)
    settings = {name: getattr(config, name) for name in TrajectoriesConfig.__dataclass_fields__}
    settings["weights"] = list(config.weights)
    facts = {
        "verdict": verdict.verdict,
        "reasons": verdict.reasons,
        "p": verdict.p,
        "coherence": verdict.coherence,
        "strength": {str(a): b for a, b in zip(verdict.ks, verdict.strength, strict=True)},
        "null_draws": verdict.draws,
        "k": model.k,
        "k_chosen": how if config.method == "agglomerative" else "found by HDBSCAN",
        "joints": len(paths.joints),
        "subjects": len(np.unique(paths.subjects)),
        "fitted_subjects": people,
        "left_out": {str(a): int(b) for a, b in paths.left_out["reason"].value_counts().items()},
        "visits_a_joint": {
            str(a): int(b) for a, b in paths.joints["visits"].value_counts().sort_index().items()
        },
        "noise_seen": noise_is_seen(paths.scans[fit]),
        "motion": [_motion_facts(motion) for motion in motions],
        "corners": int(len(transitions) - len(paths.joints)),
        "transitions": len(transitions),
        "groups": _group_facts(model, jaccard, transitions, groups, fit),
        "sequences": [
            {"sequence": str(name), "joints": int(count)}
            for name, count in sorted(
                named["sequence"].value_counts().items(), key=lambda row: (-row[1], row[0])
            )[:20]
        ],
        "steps": _steps(transitions, groups),
        "direction": {"name": config.direction, "vector": direction.tolist()},
        "speed": speeds.facts,
        "speed_by_phenotype": _by_phenotype(paths, table, config.seed)
        if phenotype is not None
        else [],
        "measure": asdict(measure),
        "frozen_hash": freeze_paths(table, settings),
        "config": settings,
    }
    return Trajectories(
        paths=_path_table(paths, smoothed, transitions),
        transitions=_transition_table(paths, transitions, groups),
        speeds=table,
        left_out=paths.left_out,
        facts=facts,
    )


def _scatter_of(paths: Paths, joints: Bools, component: int) -> float:
    """Share of the scatter that belongs to chosen joints, by their degrees of freedom."""
    spare = (paths.scans - 1) * paths.present
    total = int(spare.sum())
    share = float(spare[joints].sum()) / total if total else 0.0
    return float(paths.scatter[component, component]) * share


def _motion_facts(motion: Motion) -> dict[str, Any]:
    return {
        "kind": motion.kind,
        "noise_sd": float(np.sqrt(motion.noise)),
        "start_sd": float(np.sqrt(motion.start[0, 0])),
        "velocity_sd": float(np.sqrt(motion.start[1, 1])),
        "diffusion_sd_a_year": float(np.sqrt(motion.diffusion)),
        "drift": motion.drift,
    }


def _group_facts(
    model: GroupModel, jaccard: Floats, transitions: Transitions, groups: Ints, fitted: Bools
) -> list[dict[str, Any]]:
    speed = np.linalg.norm(transitions.velocity, axis=1)
    mine = fitted[transitions.joint]
    facts = []
    for group in range(model.k):
        rows = (groups == group) & mine
        low, high = np.quantile(jaccard[:, group], [0.025, 0.975])
        mean = float(jaccard[:, group].mean())
        facts.append(
            {
                "group": group,
                "n": int((groups == group).sum()),
                "joints": len(np.unique(transitions.joint[groups == group])),
                "jaccard": mean,
                "low": float(low),
                "high": float(high),
                "stability": category(mean),
                "speed": float(speed[rows].mean()) if rows.any() else None,
                "years": float(transitions.years[rows].mean()) if rows.any() else None,
                "start": transitions.start[rows].mean(axis=0).tolist() if rows.any() else None,
                "stop": transitions.stop[rows].mean(axis=0).tolist() if rows.any() else None,
            }
        )
    return facts


def _steps(transitions: Transitions, groups: Ints) -> list[dict[str, int]]:
    """How often a joint went from one group into the next."""
    follows = transitions.joint[1:] == transitions.joint[:-1]
    pairs = pd.DataFrame({"from": groups[:-1][follows], "to": groups[1:][follows]})
    counts = pairs.value_counts().sort_index()
    return [
        {"from": int(a), "to": int(b), "n": int(n)}
        for (a, b), n in zip(counts.index.tolist(), counts.tolist(), strict=True)
    ]


def _slope(products: Floats, squares: Floats, rows: Ints) -> float:
    return float(products[rows].sum() / squares[rows].sum())


def _by_phenotype(paths: Paths, table: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """Mean speed of each phenotype: changes from first to last visit, over the time they took.

    Predicted speeds are drawn towards the mean of all joints, so that their own mean would make
    phenotypes alike, and their spread would make its interval far too short.
    """
    span = np.take_along_axis(paths.years, paths.joints["visits"].to_numpy()[:, None] - 1, axis=1)
    # Weights by the square of the time: the noise of a quotient goes with its inverse.
    squares = (span[:, 0] - paths.years[:, 0]) ** 2
    products = table["quotient"].to_numpy() * squares
    rows = []
    for label in np.unique(table["phenotype"][table["phenotype"] >= 0]):
        members = (table["phenotype"] == label).to_numpy()
        interval = subject_bootstrap(
            partial(_slope, products[members], squares[members]),
            table["subject_id"].to_numpy()[members],
            seed=seed,
        )
        rows.append({"phenotype": int(label), **interval.to_dict()})
    return rows


def _speed_table(
    paths: Paths, speeds: Speeds, named: pd.DataFrame, phenotype: Ints | None
) -> pd.DataFrame:
    table = paths.joints.merge(speeds.table, on="joint_id", validate="one_to_one")
    table["sequence"], table["path_group"] = named["sequence"], named["path_group"]
    if phenotype is not None:
        table["phenotype"] = phenotype
    return table


def _numbered(name: str, values: npt.NDArray[np.float64]) -> pd.DataFrame:
    return pd.DataFrame({f"{name}_{c + 1}": values[:, c] for c in range(values.shape[1])})


def _path_table(paths: Paths, smoothed: list[Smoothed], transitions: Transitions) -> pd.DataFrame:
    joint, visit = np.nonzero(paths.present)
    corner = np.zeros(paths.present.shape, dtype=bool)
    corner[transitions.joint, transitions.first] = corner[transitions.joint, transitions.last] = (
        True
    )
    level = np.stack([one.level for one in smoothed], axis=2)
    spread = np.sqrt(np.stack([one.variance for one in smoothed], axis=2))
    frame = pd.DataFrame(
        {
            "joint_id": paths.joints["joint_id"].to_numpy()[joint],
            "visit": paths.labels[joint, visit],
            "years": paths.years[joint, visit],
            "scans": paths.scans[joint, visit],
            "corner": corner[joint, visit],
        }
    )
    parts = {"seen": paths.points, "smooth": level, "sd": spread}
    return pd.concat(
        [frame, *(_numbered(name, value[joint, visit]) for name, value in parts.items())], axis=1
    )


def _transition_table(paths: Paths, transitions: Transitions, groups: Ints) -> pd.DataFrame:
    rows, length = transitions.joint, np.linalg.norm(transitions.stop - transitions.start, axis=1)
    first = np.r_[0, np.flatnonzero(np.diff(rows)) + 1]
    place = np.arange(len(rows)) - np.repeat(first, np.diff(np.r_[first, len(rows)]))
    frame = pd.DataFrame(
        {
            "joint_id": paths.joints["joint_id"].to_numpy()[rows],
            "subject_id": paths.joints["subject_id"].to_numpy()[rows],
            "set": paths.joints["set"].to_numpy()[rows],
            "number": place,
            "start_visit": paths.labels[rows, transitions.first],
            "stop_visit": paths.labels[rows, transitions.last],
            "start_years": paths.years[rows, transitions.first],
            "years": transitions.years,
            "length": length,
            "speed": length / transitions.years,
            "group": groups,
        }
    )
    ends = {"start": transitions.start, "stop": transitions.stop}
    return pd.concat([frame, *(_numbered(name, value) for name, value in ends.items())], axis=1)
