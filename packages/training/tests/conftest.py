"""Tiny cohorts of which every joint is a pattern of its own, and runs that fit in a second."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.splits import Split, split_hash
from spinmark_models.config import EncoderConfig, ProjectionConfig
from spinmark_training.config import (
    DataConfig,
    MonitorConfig,
    OptimConfig,
    PretrainConfig,
    TrainerConfig,
)

SEQUENCE = "TINY"
SHAPE = (8, 16, 16)
SUBJECTS = 16
VISITS = ("V00", "V01")
SETS = ("train", "train", "val", "test")  # by subject, over and over


def _scans() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "subject_id": f"s{number:02d}",
                "laterality": side,
                "visit": visit,
                "days": 365.25 * years + number,
                "site": "AB"[number // 2 % 2],
                "scale": 0.5 + 0.1 * number,
            }
            for number in range(SUBJECTS)
            for side in "LR"
            for years, visit in enumerate(VISITS)
        ]
    )


def _volumes(garbage: bool) -> npt.NDArray[np.uint16]:
    rng, noise = np.random.default_rng(5), np.random.default_rng(6)
    volumes = []
    for number in range(SUBJECTS):
        for _ in "LR":
            pattern = rng.uniform(0.1, 1, (2, 4, 4)).repeat(4, 0).repeat(4, 1).repeat(4, 2)
            for _ in VISITS:
                seen = 1000 * pattern + noise.uniform(0, 40, SHAPE)
                if garbage and SETS[number % 4] != "train":
                    seen = np.random.default_rng(number).integers(0, 65535, SHAPE).astype(float)
                volumes.append(seen.astype(np.uint16))
    return np.stack(volumes)


def _tables(scans: pd.DataFrame) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(7)
    joints = scans[["subject_id", "laterality", "visit", "days"]].copy()
    joints["XRKL"] = rng.integers(0, 5, len(joints)).astype(float)
    joints["WOMKP"] = rng.uniform(0, 20, len(joints))
    subjects = scans[["subject_id"]].drop_duplicates().assign(SITE=list("AABB") * (SUBJECTS // 4))
    return {"subjects": subjects, "joints": joints}


def _split() -> Split:
    frame = pd.DataFrame(
        {
            "subject_id": [f"s{number:02d}" for number in range(SUBJECTS)],
            "set": [SETS[number % 4] for number in range(SUBJECTS)],
            "fold": [number % 3 for number in range(SUBJECTS)],
        }
    )
    return Split(frame=frame, hash=split_hash(frame))


@pytest.fixture(scope="session")
def make_world() -> Callable[..., tuple[Cohort, Split]]:
    """Write a cohort of 16 subjects, 2 joints and 2 visits each; garbage spoils who is held out."""

    def make(folder: Path, *, garbage: bool = False) -> tuple[Cohort, Split]:
        scans = _scans()
        if garbage:
            others = [SETS[int(name[1:]) % 4] != "train" for name in scans["subject_id"]]
            scans.loc[others, "scale"] = np.nan
        volumes = SequenceVolumes(volume=_volumes(garbage), scans=scans, spacing_mm=(3.0, 1.5, 1.5))
        write_cohort(folder, volumes={SEQUENCE: volumes}, tables=_tables(scans), provenance={})
        return Cohort.open(folder), _split()

    return make


@pytest.fixture(scope="session")
def world(
    make_world: Callable[..., tuple[Cohort, Split]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Cohort, Split]:
    """The cohort and split that every test may read."""
    return make_world(tmp_path_factory.mktemp("world") / "cohort")


@pytest.fixture(scope="session")
def make_config() -> Callable[..., PretrainConfig]:
    """A configuration of 8 steps; batches of 3 subjects, so that checkpoints fall within epochs."""

    def make(*, steps: int = 8, seed: int = 0, lr: float = 3e-3) -> PretrainConfig:
        return PretrainConfig(
            seed=seed,
            data=DataConfig(sequence=SEQUENCE, subjects_per_batch=3),
            encoder=EncoderConfig(widths=(4, 8), embedding=8),
            projection=ProjectionConfig(hidden=16, out=8),
            optim=OptimConfig(steps=steps, lr=lr),
            trainer=TrainerConfig(threads=1, checkpoint_every_steps=2, log_every=2),
            monitor=MonitorConfig(every=4),
        )

    return make
