"""Which modes of bone shape a cohort's knees are scored by, decided before anything is measured.

Each joint of a training subject is learnt from once, at its first visit, so that a joint with many
visits weighs no more than another. Modes that were fitted stand in the cohort, and visits that come
later are scored by them; other modes come only where they are asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.cohort.manifest import digest
from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.labels.store import LabelSet
from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.shape import LEAST_KNEES, SHAPE_VERSION
from spinmark_data.morphometry.shape_store import ShapeModes, kept_record, read_modes

# Settings that say which modes are fitted, and not what a shape field is.
_CHOICE = ("modes", "bones", "training_scans")
# Of the measures, those that do not touch the fields.
_APART = ("workers", "shape_modes", "shape_bones", "central_share", "anterior_deg", "posterior_deg")


@dataclass(frozen=True, kw_only=True)
class Training:
    """Whom modes of shape may be learnt from.

    Args:
        split: The hash of the split.
        subjects: Its training subjects.
        scans: The scan_id of its training scans, where it goes forward in time; else all of theirs.
    """

    split: str
    subjects: frozenset[str]
    scans: frozenset[str] | None = None


@dataclass(frozen=True, kw_only=True)
class ShapePlan:
    """What is done for shape scores, known before anything is measured.

    Args:
        bones: Whose fields are needed.
        modes: The modes that stand; None if they are to be fitted.
        training: Whom they are fitted on.
        modes_asked: How many modes of each bone.
        origin: What the record will say of where they came from.
    """

    bones: tuple[str, ...] = ()
    modes: ShapeModes | None = None
    training: Training | None = None
    modes_asked: int = 0
    origin: Mapping[str, Any]


def plan_shapes(
    cohort: Cohort,
    sequence: str,
    config: MorphometryConfig,
    training: Training | None = None,
    *,
    refit: bool = False,
) -> ShapePlan:
    """Decide which modes a cohort's knees are scored by.

    Args:
        cohort: The cohort.
        sequence: Whose label maps are measured.
        config: Settings.
        training: Of a split; None takes the modes that stand, if any.
        refit: Whether to fit anew though modes of this split and these settings stand.

    Raises:
        InputError: `refit` without a split, modes that stand were fitted with other settings, their
            files are damaged, or the training subjects have too few label maps.
    """
    if refit and training is None:
        raise InputError("--refit fits shapes on training subjects; it needs --split.")
    if config.shape_modes == 0:
        return ShapePlan(origin={})
    settings = _settings(sequence, config, training)
    record = kept_record(cohort)
    if record is not None and not refit and _stands(record, settings, training):
        kept = read_modes(cohort, record)
        return ShapePlan(bones=tuple(kept.models), modes=kept, origin=record)
    if training is None:
        return ShapePlan(origin={})
    labels = LabelSet.open(cohort, config.labels)
    rows = cohort.scans(sequence).iloc[labels.indices(sequence)].reset_index(drop=True)
    joints = len(first_visits(rows, training, np.ones(len(rows), bool)))
    check_enough(dict.fromkeys(config.shape_bones, joints), config.shape_modes)
    origin = {
        "version": SHAPE_VERSION,
        "split": training.split,
        "settings": settings,
        "cohort": cohort.hash,
        "labels": labels.hash,
    }
    return ShapePlan(
        bones=tuple(config.shape_bones),
        training=training,
        modes_asked=config.shape_modes,
        origin=origin,
    )


def _settings(
    sequence: str, config: MorphometryConfig, training: Training | None
) -> dict[str, Any]:
    # A subclass may have options of its own.
    names = [field.name for field in fields(MorphometryConfig) if field.name not in _APART]
    scans = training.scans if training is not None else None
    return {
        **{name: getattr(config, name) for name in names},
        "sequence": sequence,
        "modes": config.shape_modes,
        "bones": list(config.shape_bones),
        "training_scans": "" if scans is None else digest(sorted(scans)),
    }


def _stands(
    record: Mapping[str, Any], settings: Mapping[str, Any], training: Training | None
) -> bool:
    """Whether modes that stand are those asked for.

    Raises:
        InputError: No split says what to fit anew, and they were fitted with other settings.
    """
    before = record["settings"]
    differ = [name for name in settings if before.get(name) != settings[name]]
    same = record["version"] == SHAPE_VERSION
    if training is not None:
        return same and record["split"] == training.split and not differ
    # The label maps are those of the measures now; how many modes there are is a matter of the fit.
    wrong = [name for name in differ if name not in _CHOICE]
    if not same:
        raise InputError(
            f"The shape modes of this cohort are of version {record['version']}, now "
            f"{SHAPE_VERSION}; give --split to fit anew, or --shape_modes 0 for no shape scores."
        )
    if wrong:
        raise InputError(
            f"The shape modes of this cohort were fitted with {wrong[0]}={before.get(wrong[0])!r}, now "
            f"{settings[wrong[0]]!r}; give the same, --split to fit anew, or --shape_modes 0 for no "
            "shape scores."
        )
    return True


def check_enough(counts: Mapping[str, int], modes: int) -> int:
    """The least knees of training subjects that a bone needs.

    Raises:
        InputError: No bone has them.
    """
    least = max(LEAST_KNEES, modes + 1)
    if max(counts.values()) < least:
        told = ", ".join(f"{bone} {count}" for bone, count in counts.items())
        raise InputError(
            f"Too few knees of training subjects hold a bone and both tibial cartilages ({told}); "
            f"{least} are needed for {modes} modes of shape: label more, or give fewer --shape_modes."
        )
    return least


def first_visits(
    rows: pd.DataFrame, training: Training, known: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Places of the first known scan of each joint that may be learnt from, ascending."""
    allowed = rows["subject_id"].astype(str).isin(training.subjects).to_numpy() & known
    if training.scans is not None:
        allowed &= rows["scan_id"].astype(str).isin(training.scans).to_numpy()
    keys = ["subject_id", "laterality", "days", "visit"]
    ordered = rows.loc[allowed, keys].assign(place=np.flatnonzero(allowed))
    ordered = ordered.sort_values(keys, kind="stable", na_position="last")
    first = ordered.drop_duplicates(["subject_id", "laterality"])
    return np.sort(first["place"].to_numpy(np.int64))
