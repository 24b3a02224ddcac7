"""The clinical teacher as a representation: what the table alone says."""

from pathlib import Path

import xarray as xr

from spinmark_data.splits import read_split
from spinmark_training.baselines.common import chosen_sequence
from spinmark_training.embed import embeddings_dataset, folder_hash
from spinmark_training.errors import InputError
from spinmark_training.sources import CohortLike
from spinmark_training.teacher import load_teacher, teacher_latents


def teacher_embeddings(cohort: CohortLike, run: Path, *, sequence: str | None = None) -> xr.Dataset:
    """Embed every scan by what the teacher of a distilled run makes of its table row.

    Args:
        cohort: The cohort.
        run: A distilled run.
        sequence: The image sequence whose scans are embedded; none takes the only one of the cohort, or
            the default one.

    Returns:
        A dataset by the schema of embeddings; the split is that of the run.

    Raises:
        InputError: The run has no teacher, or a variable that it takes is not in the cohort.
    """
    if not (run / "teacher").is_dir():
        raise InputError(f"{run}: has no teacher; accepted is a run of `spinmark distil`")
    sequence = chosen_sequence(cohort, sequence)
    split = read_split(run)
    teacher = load_teacher(run / "teacher")
    scans = cohort.scans(sequence).reset_index(drop=True)
    return embeddings_dataset(
        teacher_latents(teacher, cohort, split, scans),
        cohort,
        split,
        sequence,
        objective="teacher",
        encoder_hash=folder_hash(run / "teacher"),
    )
