# STAND-IN, not the original. The first conftest.py of this folder was overwritten by mistake at 05:21
# before it was ever committed, and could not be recovered. This `world` was worked out from what the tests
# ask of it. Its owner: please put your own version back, or adopt this one and delete this note.
"""A tiny cohort and its split."""

import numpy as np
import pandas as pd
import pytest

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.splits import Split, split_hash


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Split]:
    """12 subjects (8 of them training), two joints, two visits, grid 8 x 16 x 16."""
    rng = np.random.default_rng(0)
    subjects = [f"s{i:02d}" for i in range(12)]
    keys = [(s, side, v) for s in subjects for side in "RL" for v in ("V00", "V01")]
    scans = pd.DataFrame(keys, columns=["subject_id", "laterality", "visit"])
    scans["days"] = np.where(scans["visit"] == "V00", 0.0, 365.25)
    scans["scale"] = rng.uniform(0.5, 2.0, len(scans))
    scans["offset"] = rng.uniform(0.0, 5.0, len(scans))
    volume = rng.integers(1, 1000, (len(scans), 8, 16, 16)).astype(np.uint16)
    path = tmp_path_factory.mktemp("world") / "cohort"
    sequence = SequenceVolumes(volume=volume, scans=scans, spacing_mm=(3.0, 1.5, 1.5))
    write_cohort(path, volumes={"TINY": sequence}, tables={}, provenance={"by": "test"})
    frame = pd.DataFrame(
        {
            "subject_id": subjects,
            "set": ["train"] * 8 + ["val"] * 2 + ["test"] * 2,
            "fold": [i % 4 for i in range(12)],
        }
    )
    return Cohort.open(path), Split(frame=frame, hash=split_hash(frame))
