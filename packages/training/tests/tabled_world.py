"""A cohort small enough to train on that has every kind of table: grades, scores, names, outcomes."""

from pathlib import Path

import numpy as np
import pandas as pd

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.splits import Split, split_hash

SEQUENCE = "SAG_3D_DESS"
GRID = (8, 16, 16)
SUBJECTS = 12
VISITS = ("V00", "V01", "V03")
SETS = ("train", "train", "train", "train", "val", "test")  # by subject, over and over


def _dictionary() -> pd.DataFrame:
    rows = [
        ("SEX", "binary", "demographic", "subjects"),
        ("RACE", "nominal", "demographic", "subjects"),
        ("SITE", "nominal", "administrative", "subjects"),
        ("AGE", "continuous", "demographic", "visits"),
        ("WOMKP", "continuous", "symptom", "joints"),
        ("FUNC", "ordinal", "function", "joints"),
        ("XRKL", "ordinal", "structure", "joints"),
        ("XRPROSTH", "binary", "outcome", "joints"),
    ]
    frame = pd.DataFrame(rows, columns=["variable", "kind", "role", "table"])
    return frame.assign(label=frame["variable"], unit="", group="", codes="{}", source="")


def _outcomes(joints: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for number, (subject, side) in enumerate(
        joints[["subject_id", "laterality"]].drop_duplicates().itertuples(index=False)
    ):
        cause = ("event", "censored", "event", "censored", "death")[number % 5]
        lower = 900.0 + 37 * number
        upper = {"event": lower + 2 * number, "death": lower, "censored": np.inf}[cause]
        rows.append((f"{subject}:{side}", subject, side, 0.0, lower, upper, cause))
    columns = ["joint_id", "subject_id", "laterality", "entry", "lower", "upper", "cause"]
    return pd.DataFrame(rows, columns=columns).assign(endpoint="replacement", weight=1.0)


def write_tabled(path: Path, *, spoil: bool = False) -> tuple[Cohort, Split]:
    """12 subjects, two knees, three visits; `spoil` replaces all that is known of who is held out."""
    rng = np.random.default_rng(11)
    subjects = [f"s{i:02d}" for i in range(SUBJECTS)]
    sets = [SETS[i % len(SETS)] for i in range(SUBJECTS)]
    keys = [(s, side, v) for s in subjects for side in "LR" for v in VISITS]
    joints = pd.DataFrame(keys, columns=["subject_id", "laterality", "visit"])
    joints["joint_id"] = joints["subject_id"] + ":" + joints["laterality"]
    joints["days"] = 365.25 * joints["visit"].str[1:].astype(float) + rng.uniform(
        0, 30, len(joints)
    )
    joints["WOMKP"] = rng.uniform(0, 20, len(joints))
    joints["FUNC"] = rng.integers(0, 4, len(joints)).astype(float)
    joints["XRKL"] = rng.integers(0, 5, len(joints)).astype(float)
    joints["XRPROSTH"] = 0.0
    joints.loc[rng.choice(len(joints), 8, replace=False), ["WOMKP", "XRKL"]] = np.nan
    visits = joints[["subject_id", "visit"]].drop_duplicates(ignore_index=True)
    visits["days"] = 0.0
    visits["AGE"] = rng.normal(60, 8, len(visits))
    people = pd.DataFrame(
        {
            "subject_id": subjects,
            "SEX": rng.integers(1, 3, SUBJECTS).astype(float),
            "RACE": rng.integers(0, 3, SUBJECTS).astype(float),
            "SITE": [("A", "B", "C")[i % 3] for i in range(SUBJECTS)],
        }
    )
    outcomes = _outcomes(joints)
    if spoil:
        held_out = {s for s, name in zip(subjects, sets, strict=True) if name != "train"}
        joints.loc[joints["subject_id"].isin(held_out), ["WOMKP", "FUNC", "XRKL"]] = -1e6
        visits.loc[visits["subject_id"].isin(held_out), "AGE"] = 1e6
        people.loc[people["subject_id"].isin(held_out), ["SEX", "RACE"]] = 77.0
        people.loc[people["subject_id"].isin(held_out), "SITE"] = "0"
        others = outcomes["subject_id"].isin(held_out)
        outcomes.loc[others, ["lower", "upper"]] = 1e6
    volume = rng.integers(200, 400, (len(joints), *GRID)).astype(np.int16)
    patterns = rng.integers(100, 900, (len(joints) // len(VISITS), 2, 4, 4)).astype(np.int16)
    volume += patterns.repeat(4, 1).repeat(4, 2).repeat(4, 3).repeat(len(VISITS), 0)
    write_cohort(
        path,
        volumes={
            SEQUENCE: SequenceVolumes(
                volume=volume,
                scans=joints[["subject_id", "laterality", "visit", "days"]].assign(site="A"),
                spacing_mm=(3.0, 1.5, 1.5),
            )
        },
        tables={
            "subjects": people,
            "visits": visits,
            "joints": joints,
            "dictionary": _dictionary(),
            "outcomes": outcomes,
        },
        provenance={"by": "test"},
    )
    frame = pd.DataFrame(
        {"subject_id": subjects, "set": sets, "fold": [i % 3 for i in range(SUBJECTS)]}
    )
    return Cohort.open(path), Split(frame=frame, hash=split_hash(frame))
