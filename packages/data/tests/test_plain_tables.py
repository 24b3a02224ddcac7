"""A clinical table of one's own."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spinmark_data.errors import InputError
from spinmark_data.ingest.own.tables import read_plain_tables
from spinmark_data.ingest.own.template import template

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
        (CSV, "variables: [a]", "variables must hold a mapping"),
        (CSV, "subject_id: {a: b}", "subject_id must hold the name of a column"),
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


ENDS = """patient,side,ended,last,clear,seen,w
p1,right,yes,900,,,
p1,left,no,1200,,30,2
p2,right,died,400,,,
p2,left,yes,800,500,,
p3,right,,,,,
p3,right,,,,,
"""
ENDPOINT = """
subject_id: patient
laterality: side
outcomes:
  replacement:
    event: ended
    codes: {yes: event, no: censored, died: death}
    time: last
    after: clear
    entry: seen
"""


def test_outcomes_of_ones_own(tmp_path: Path) -> None:
    tables = read_plain_tables(*files(tmp_path, ENDS, ENDPOINT))
    rows = tables.outcomes.set_index("joint_id")[["entry", "lower", "upper", "cause", "weight"]]
    assert rows.to_dict("index") == {
        "p1:R": {"entry": 0, "lower": 900, "upper": 900, "cause": "event", "weight": 1},
        "p1:L": {"entry": 30, "lower": 1200, "upper": np.inf, "cause": "censored", "weight": 1},
        "p2:R": {"entry": 0, "lower": 400, "upper": 400, "cause": "death", "weight": 1},
        "p2:L": {"entry": 0, "lower": 500, "upper": 800, "cause": "event", "weight": 1},
    }
    assert set(tables.outcomes["endpoint"]) == {"replacement"}
    assert tables.dictionary.empty  # Nothing that an input could be made of.
    assert tables.flow["step"].tolist() == ["in the table", "with an outcome: replacement"]
    assert tables.flow["excluded"].tolist() == [0, 1]
    # Codes are 1, 0 and 2 by default.
    numbers = ENDS.replace("yes", "1").replace("no", "0").replace("died", "2")
    plain = ENDPOINT.replace("    codes: {yes: event, no: censored, died: death}\n", "")
    again = read_plain_tables(*files(tmp_path, numbers, plain + "    weight: w\n"))
    assert again.outcomes["joint_id"].tolist() == ["p1:L"]  # Only one row has a weight.
    assert again.outcomes["weight"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("csv", "mapping", "message"),
    [
        (ENDS, ENDPOINT + "variables:\n  ended: {role: symptom, table: joints}\n",
         "'ended' is of outcomes.replacement and has the role 'symptom'"),
        (ENDS, ENDPOINT.replace("time: last", "time: gone"), "time: no column 'gone'"),
        (ENDS, ENDPOINT.replace("    event: ended\n", ""), r"lacks \['event'\]"),
        (ENDS, ENDPOINT.replace("yes: event", "yes: failure"), "codes must map cells to"),
        (ENDS, ENDPOINT.replace("after:", "since:"), r"has \['since'\]"),
        (ENDS.replace("died", "lost"), ENDPOINT, "1 cells of 'ended' are none of"),
        (ENDS.replace("800,500", "800,900"), ENDPOINT, "1 joints end before they enter"),
        (ENDS + "p1,right,yes,901,,,\n", ENDPOINT, "1 joints have rows that end differently"),
    ],
)  # fmt: skip
def test_outcomes_that_cannot_be(tmp_path: Path, csv: str, mapping: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_plain_tables(*files(tmp_path, csv, mapping))


WIDE = """patient,side,visit,gender,AGE,pain,grade,unused note,barcode,seen on
p1,right,V00,f,61,3.5,0,likes tea,0166,01/02/2004
p1,left,V00,f,61,2.5,1,likes coffee,0167,01/02/2004
p2,right,V00,m,70,1.5,2,walks: far,0168,03/02/2004
p2,left,V00,m,70,9.25,3,# none,0169,03/02/2004
"""


def test_a_template_loads_as_it_is_and_then_filled_in(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(WIDE)
    text = template(table)
    (tmp_path / "t.yaml").write_text(text)
    empty = read_plain_tables(table, tmp_path / "t.yaml")
    assert empty.dictionary["variable"].tolist() == ["AGE"]  # Known by its name.
    assert "no role" in empty.issues["reason"].iloc[-1]
    for line in text.splitlines():
        # One comment a field, on the line of the field.
        assert "#" in line or line in ("variables:",) or line.endswith(":")
    filled = text.replace("role:   ", "role: symptom")
    (tmp_path / "t.yaml").write_text(filled)
    tables = read_plain_tables(table, tmp_path / "t.yaml")
    described = tables.dictionary.set_index("variable")
    assert described["kind"].to_dict() == {
        "GENDER": "binary",
        "AGE": "continuous",
        "PAIN": "continuous",
        "GRADE": "ordinal",
    }
    assert described["table"].to_dict() == {
        "GENDER": "subjects",
        "AGE": "visits",
        "PAIN": "joints",
        "GRADE": "joints",
    }
    assert tables.subjects["GENDER"].tolist() == [0.0, 1.0]
    assert tables.joints.set_index("joint_id").loc["p2:L", "PAIN"] == 9.25
    for never in ("likes tea", "0166"):
        assert never not in text


def test_a_template_leaves_the_codes_of_known_variables_blank(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("subject_id,sex\na,f\nb,m\n")
    text = template(table)
    (tmp_path / "t.yaml").write_text(text)
    assert read_plain_tables(table, tmp_path / "t.yaml").subjects["SEX"].isna().all()
    (tmp_path / "t.yaml").write_text(text.replace("{f: , m: }", "{f: 2, m: 1}"))
    assert read_plain_tables(table, tmp_path / "t.yaml").subjects["SEX"].tolist() == [2.0, 1.0]


def test_a_template_says_what_it_cannot_guess(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("number,side,x\n1,1,no\n1,2,yes\n2,1,no\n2,2,yes\n")
    text = template(table)
    assert "# laterality: side" in text
    (tmp_path / "t.yaml").write_text(text)
    read_plain_tables(table, tmp_path / "t.yaml")
    # Filled in; YAML's own yes and no stay words.
    filled = text.replace("# laterality: ", "laterality: ").replace(
        "# laterality_codes: {cell: R, other cell: L}", "laterality_codes: {1: R, 2: L}"
    )
    filled = filled.replace("    role:   ", "    role: symptom")
    (tmp_path / "t.yaml").write_text(filled.replace("table: visits", "table: joints"))
    tables = read_plain_tables(table, tmp_path / "t.yaml")
    assert tables.joints["X"].tolist() == [1.0, 0.0, 1.0, 0.0]
    table.write_text("a,b\n")
    with pytest.raises(InputError, match="has no rows"):
        template(table)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=8),
        min_size=1, max_size=5, unique_by=lambda name: name.strip().upper(),
    ),
    st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=6),
             min_size=2, max_size=8),
)  # fmt: skip
@example(names=["0"], cells=["0{", "0{", "a\u2028b"])
def test_a_template_of_any_table_loads(tmp_path: Path, names: list[str], cells: list[str]) -> None:
    frame = pd.DataFrame({f"{name}x": [*cells] for name in names})
    frame.insert(0, "subject_id", [f"s{k}" for k in range(len(cells))])
    frame.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.yaml").write_text(template(tmp_path / "t.csv"), encoding="utf-8")
    tables = read_plain_tables(tmp_path / "t.csv", tmp_path / "t.yaml")
    assert len(tables.subjects) == len(cells)
