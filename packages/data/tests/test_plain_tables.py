"""A clinical table of one's own."""

from pathlib import Path

import pandas as pd
import pytest

from spinmark_data.errors import InputError
from spinmark_data.ingest.plain_tables import read_plain_tables

CSV = """patient,side,timepoint,day,sex,pain,note
p1,right,base,0,f,3,x
p1,left,base,0,f,,y
p1,right,late,700,f,none,z
p2,right,base,0,m,many,
"""
MAPPING = """
subject_id: patient
laterality: side
visit: timepoint
days: day
variables:
  sex: {role: demographic, kind: binary, table: subjects, codes: {m: 1, f: 2}}
  pain: {variable: WOMKP, codes: {none: 0}}
"""


def files(folder: Path, csv: str = CSV, mapping: str = MAPPING) -> tuple[Path, Path]:
    (folder / "t.csv").write_text(csv)
    (folder / "m.yaml").write_text(mapping)
    return folder / "t.csv", folder / "m.yaml"


def test_a_mapped_table(tmp_path: Path) -> None:
    tables = read_plain_tables(*files(tmp_path))
    assert dict(zip(tables.subjects["subject_id"], tables.subjects["SEX"], strict=True)) == {
        "p1": 2.0,
        "p2": 1.0,
    }
    joints = tables.joints.set_index(["joint_id", "visit"])
    assert joints.loc[("p1:R", "base"), "WOMKP"] == 3
    assert joints.loc[("p1:R", "late"), "WOMKP"] == 0
    assert joints.loc[("p1:R", "late"), "days"] == 700
    reasons = tables.missing.set_index(["subject_id", "laterality"])["reason"]
    assert reasons["p1", "L"] == "blank"
    assert reasons["p2", "R"] == "unreadable"
    roles = tables.dictionary.set_index("variable")["role"]
    assert dict(roles) == {"SEX": "demographic", "WOMKP": "symptom"}
    assert list(tables.issues["kind"]) == ["quarantined", "refused"]
    assert tables.outcomes.empty


def test_parquet_and_known_names_without_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frame = {"subject_id": ["a", "b"], "AGE": [60.0, None], "SITE": ["A", "B"], "other": [1, 2]}
    pd.DataFrame(frame).to_parquet(path)
    tables = read_plain_tables(path)
    assert list(tables.visits["AGE"].isna()) == [False, True]
    assert list(tables.visits["days"]) == [0, 0]
    assert list(tables.subjects["SITE"]) == ["A", "B"]
    assert tables.joints.empty


@pytest.mark.parametrize(
    ("csv", "mapping", "message"),
    [
        (CSV, "subjectid: patient", r"unknown keys \['subjectid'\]"),
        (CSV, "subject_id: id", "no column 'id' for subject_id"),
        (CSV, "a: [", "is not YAML"),
        (CSV, "- a", "holds no mapping"),
        (CSV, MAPPING.replace("demographic", "demografic"), "role is 'demografic'; accepted"),
        (CSV, MAPPING + "  gone: {}", r"no columns \['gone'\]"),
        (CSV, MAPPING.replace("WOMKP", "KRS12, role: symptom"), "but KRS12 is 'outcome'"),
        (CSV.replace("left", "port"), MAPPING, r"laterality holds \['port'\]"),
        (CSV + "p2,right,base,0,m,4,\np2,right,base,0,m,5,\n", MAPPING, "with different values"),
        (CSV.splitlines()[0] + "\n", MAPPING, "has no rows"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, csv: str, mapping: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_plain_tables(*files(tmp_path, csv, mapping))


def test_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_plain_tables(tmp_path / "no.csv")
