"""The teacher as a representation: its own vectors of all scans, none of them without a teacher."""

from pathlib import Path

import numpy as np
import pytest

from spinmark_models.config import ClinicalEncoderConfig
from spinmark_training.baselines import teacher_embeddings
from spinmark_training.config import TeacherConfig
from spinmark_training.errors import InputError
from spinmark_training.teacher import fit_teacher, save_teacher, teacher_latents

from .tiny_cohort import SEQUENCE, write_tiny


def test_the_teachers_own_vectors_of_every_scan(tmp_path: Path) -> None:
    cohort, split = write_tiny(tmp_path / "cohort")
    config = TeacherConfig(
        encoder=ClinicalEncoderConfig(hidden=16, latent=4, token=4), steps=5, rows=32
    )
    scans = cohort.scans(SEQUENCE).reset_index(drop=True)
    teacher = fit_teacher(cohort, split, SEQUENCE, config, 0)
    run = tmp_path / "run"
    save_teacher(run / "teacher", teacher)
    split.frame.to_parquet(run / "split.parquet", index=False)
    found = teacher_embeddings(cohort, run)
    assert found.attrs["objective"] == "teacher"
    assert found.attrs["split_hash"] == split.hash
    assert list(found["scan_id"].values) == scans["scan_id"].tolist()
    expected = teacher_latents(teacher, cohort, split, scans)
    assert np.allclose(found["embedding"].values, expected, atol=1e-6)
    train = found["set"].values == "train"
    assert set(found["subject_id"].values[train]) == set(split.subjects("train"))


def test_a_run_without_a_teacher_is_refused(tmp_path: Path) -> None:
    cohort, _ = write_tiny(tmp_path / "cohort")
    with pytest.raises(InputError, match="has no teacher; accepted is a run of `spinmark distil`"):
        teacher_embeddings(cohort, tmp_path)
