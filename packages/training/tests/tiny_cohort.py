"""A cohort small enough to train on in a test."""

from pathlib import Path

import numpy as np
import pandas as pd

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.splits import Split, split_hash

SEQUENCE = "SAG_3D_DESS"
GRID = (8, 16, 16)
VISITS = ("V00", "V03")


def _dictionary() -> pd.DataFrame:
    rows = [
        ("SEX", "binary", "demographic", "subjects"),
        ("SITE", "nominal", "administrative", "subjects"),
        ("AGE", "continuous", "demographic", "visits"),
        *((f"PAIN{i}", "continuous", "symptom", "joints") for i in range(6)),
        ("WORN", "ordinal", "structure", "joints"),
    ]
    frame = pd.DataFrame(rows, columns=["variable", "kind", "role", "table"])
    return frame.assign(label=frame["variable"], unit="", group="", codes="{}", source="")


def write_tiny(path: Path) -> tuple[Cohort, Split]:
    """16 subjects, two knees, two visits; a hidden severity is in the image and in the table."""
    rng = np.random.default_rng(5)
    subjects = [f"9{i:03d}" for i in range(16)]
    keys = [(s, side, v) for s in subjects for side in "RL" for v in VISITS]
    joints = pd.DataFrame(keys, columns=["subject_id", "laterality", "visit"])
    severity = rng.normal(size=(len(joints), 2))
    joints["joint_id"] = joints["subject_id"] + ":" + joints["laterality"]
    joints["days"] = np.where(joints["visit"] == "V00", 0.0, 365.25)
    pains = severity @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(len(joints), 6))
    for i in range(6):
        joints[f"PAIN{i}"] = pains[:, i]
    joints.loc[rng.choice(len(joints), 6, replace=False), "PAIN0"] = np.nan
    joints["WORN"] = np.round(severity[:, 0].clip(-2, 2) + 2)
    volume = rng.integers(200, 400, (len(joints), *GRID)).astype(np.int16)
    for row, (a, b) in enumerate(severity):
        volume[row, 2:6, 2:8, 2:8] += np.int16(300 + 100 * np.clip(a, -2, 2))
        volume[row, 2:6, 9:15, 9:15] += np.int16(300 + 100 * np.clip(b, -2, 2))
    visits = joints[["subject_id", "visit", "days"]].drop_duplicates(ignore_index=True)
    visits["AGE"] = rng.normal(60, 8, len(visits))
    write_cohort(
        path,
        volumes={
            SEQUENCE: SequenceVolumes(
                volume=volume,
                scans=joints[["subject_id", "laterality", "visit", "days"]].assign(site="A"),
                spacing_mm=(3.0, 1.0, 1.0),
            )
        },
        tables={
            "subjects": pd.DataFrame(
                {
                    "subject_id": subjects,
                    "SEX": rng.integers(1, 3, 16).astype(float),
                    "SITE": ["A", "B"] * 8,
                }
            ),
            "visits": visits,
            "joints": joints,
            "dictionary": _dictionary(),
        },
        provenance={"by": "test"},
    )
    frame = pd.DataFrame(
        {
            "subject_id": pd.Series(subjects, dtype=object),
            "set": pd.Series(["train"] * 10 + ["val"] * 3 + ["test"] * 3, dtype=object),
            "fold": [i % 4 for i in range(16)],
        }
    )
    return Cohort.open(path), Split(frame=frame, hash=split_hash(frame))
