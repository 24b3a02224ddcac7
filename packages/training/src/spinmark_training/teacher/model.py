"""A fitted teacher: what it makes of table rows, and its files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_data.features import ClinicalTable
from spinmark_models.clinical import TabularEncoder
from spinmark_models.errors import InputError as ModelInputError
from spinmark_models.export import load_clinical, save_clinical
from spinmark_training.errors import InputError
from spinmark_training.sources import CohortLike, SplitLike
from spinmark_training.teacher.inputs import arrays_of, features_of


@dataclass(frozen=True)
class Teacher:
    """A fitted clinical encoder and what it was fitted on.

    Attributes:
        encoder: The encoder, in evaluation mode.
        subjects: The subjects whose rows it was fitted on, sorted.
        mean: Mean of each latent over those rows, `(L,)` float64.
        sd: Their standard deviation, `(L,)` float64; 1 where a latent does not vary.
        roles: Roles of the variables it takes.
    """

    encoder: TabularEncoder
    subjects: tuple[str, ...]
    mean: npt.NDArray[np.float64]
    sd: npt.NDArray[np.float64]
    roles: tuple[str, ...]

    def latents(self, table: ClinicalTable) -> npt.NDArray[np.float32]:
        """Embed rows and standardise them: `(N, L)`."""
        values, names = arrays_of(table)
        standardised = (self.encoder.embed(values, names) - self.mean) / self.sd
        return standardised.astype(np.float32)


def check_subjects(teacher: Teacher, split: SplitLike) -> None:
    """Refuse a teacher that has seen others than the training subjects of a split.

    Raises:
        InputError: It has.
    """
    frame = split.frame
    train = set(frame.loc[frame["set"] == "train", "subject_id"])
    stray = sorted(set(teacher.subjects) - train)
    if stray:
        raise InputError(
            f"teacher: fitted on subject {stray[0]}, no training subject of this split ({len(stray)} "
            "such); accepted is a teacher fitted on training subjects alone"
        )


def teacher_latents(
    teacher: Teacher, cohort: CohortLike, split: SplitLike, scans: pd.DataFrame
) -> npt.NDArray[np.float32]:
    """Return what the teacher makes of each scan's table row.

    Args:
        teacher: The teacher.
        cohort: The cohort.
        split: The split that whatever learns from the latents is fitted with.
        scans: One row a scan, in the order of the store.

    Returns:
        `(scans, L)`, standardised on the rows the teacher was fitted on.

    Raises:
        InputError: The teacher was fitted on others than training subjects, or a variable is absent.
    """
    check_subjects(teacher, split)
    try:
        return teacher.latents(features_of(cohort, scans, teacher.roles))
    except ModelInputError as error:
        raise InputError(f"teacher: {error}") from None


def save_teacher(folder: Path, teacher: Teacher, facts: dict[str, Any] | None = None) -> None:
    """Write the encoder and `teacher.json`: subjects, roles, and the standardisation of the latents.

    Args:
        folder: Made if absent.
        teacher: The teacher.
        facts: Anything else worth keeping that JSON can hold.
    """
    save_clinical(folder, teacher.encoder)
    page = {
        **(facts or {}),
        "roles": list(teacher.roles),
        "subjects": list(teacher.subjects),
        "latent_mean": teacher.mean.tolist(),
        "latent_sd": teacher.sd.tolist(),
    }
    (folder / "teacher.json").write_text(json.dumps(page, indent=2) + "\n")


def load_teacher(folder: Path) -> Teacher:
    """Read what `save_teacher` wrote.

    Raises:
        InputError: A file is absent or damaged.
    """
    try:
        page = json.loads((folder / "teacher.json").read_text())
        return Teacher(
            encoder=load_clinical(folder),
            subjects=tuple(page["subjects"]),
            mean=np.asarray(page["latent_mean"], np.float64),
            sd=np.asarray(page["latent_sd"], np.float64),
            roles=tuple(page["roles"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'teacher.json'}: {error}; make the run again with `spinmark distil`"
        ) from error
