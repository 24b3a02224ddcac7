"""A clinical table of one's own."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spinmark_data.errors import InputError
from spinmark_data.ingest.own.csv_text import read_cells
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
        (CSV.replace("left", "port"), MAPPING, "laterality has 1 cells such as 'aaaa'; acc"),
        (CSV + "p3,right,base,0,m,4\n", MAPPING, "line 6 has 6 cells, the header 7"),
        (CSV + "p3,right,base,0,m,4,x,y\n", MAPPING, "line 6 has 8 cells, the header 7"),
        (CSV.replace("note", "sex"), MAPPING, r"\['sex'\] are the name of more than one column"),
        (CSV + '"p3,right\n', MAPPING, "cannot be read: unexpected end of data"),
        (CSV.replace("p2", "p2:R"), MAPPING, "1 values of subject_id hold ':'"),
        (CSV.replace("p2", "../p2"), MAPPING, "1 values of subject_id hold ':'"),
        (CSV.replace("p2", "p\t2"), MAPPING, "1 values of subject_id hold ':'"),
        (CSV.replace("late", "1:2"), MAPPING, "1 values of visit hold ':'"),
        ("", MAPPING, "t.csv is empty"),
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
        (ENDS.replace("800,500", "800,900"), ENDPOINT, "1 joints were last clear before"),
        (ENDS.replace("800,500", "n/a,500").replace("900", "x").replace("1200", "x")
         .replace("400", "x"), ENDPOINT, r"time: no cell of the column 'last' is a number"),
        (ENDS + "p1,right,yes,901,,,\n", ENDPOINT, "1 joints have rows that end differently"),
    ],
)  # fmt: skip
def test_outcomes_that_cannot_be(tmp_path: Path, csv: str, mapping: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_plain_tables(*files(tmp_path, csv, mapping))


def test_names_of_people_in_a_wrong_column_are_not_shown(tmp_path: Path) -> None:
    names = ["Zuzana Novak", "Jan Zuk", "Ewa Lis", "Ola Kot", "Ula Bak"]
    csv = "subject_id,laterality,AGE\n" + "".join(f"{k},{n},60\n" for k, n in enumerate(names))
    (tmp_path / "t.csv").write_text(csv)
    with pytest.raises(InputError, match="laterality has 5 cells such as") as caught:
        read_plain_tables(tmp_path / "t.csv")
    told = str(caught.value)
    assert not any(part in told for name in names for part in name.split())
    assert told.count("'aaa") <= 3


def test_a_table_that_is_not_utf8_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("subject_id,AGE\nM\u00fcller,60\n".encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8"):
        read_plain_tables(tmp_path / "t.csv")


def test_blank_lines_quotes_and_a_mark_at_the_start_are_read(tmp_path: Path) -> None:
    rows = '\ufeffsubject_id,AGE,note\n\n1,60,"a, b\nc"\n  \n2,,""\n'
    (tmp_path / "t.csv").write_text(rows, encoding="utf-8")
    tables = read_plain_tables(tmp_path / "t.csv")
    assert tables.visits["subject_id"].tolist() == ["1", "2"]
    assert tables.visits["AGE"].tolist()[0] == 60


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(st.text("ab ,\"\n'\u00e9", max_size=4), min_size=width, max_size=width),
            min_size=1, max_size=5,
        )
    )
)  # fmt: skip
def test_cells_come_back_as_they_were_written(tmp_path: Path, rows: list[list[str]]) -> None:
    path = tmp_path / "t.csv"
    frame = pd.DataFrame(rows, columns=[f"c{k}" for k in range(len(rows[0]))])
    frame.to_csv(path, index=False, quoting=1)
    header, read = read_cells(path)
    assert header == list(frame)
    assert [row for _, row in read if len(row) == 1 or "".join(row)] == [
        row for row in rows if len(row) == 1 or "".join(row)
    ]
    # One cell more or less in the last line is never guessed at.
    text = path.read_text(encoding="utf-8").removesuffix("\n")
    path.write_text(text + ',""\n', encoding="utf-8")
    with pytest.raises(InputError, match="cells, the header"):
        read_cells(path)


def test_an_outcome_needs_days_that_can_be_read_and_time_under_observation(tmp_path: Path) -> None:
    csv = (
        "subject_id,laterality,e,t,in\n1,R,1,900,\n2,R,1,n/a,\n3,R,0,0,\n4,R,1,100,100\n"
        "5,R,0,50,x\n6,,0,70,\n7,R,,,\n"
    )
    mapping = "outcomes:\n  x: {event: e, time: t, entry: in}\n"
    tables = read_plain_tables(*files(tmp_path, csv, mapping))
    assert tables.outcomes["joint_id"].tolist() == ["1:R", "6:"]
    flow = tables.flow[tables.flow["unit"] == "joints"]
    assert flow[["step", "n", "excluded"]].values.tolist() == [
        ["with an outcome: x", 4, 3],
        ["under observation: x", 2, 2],
        ["with an outcome and no side: x", 1, 0],
    ]
    told = set(tables.issues["reason"])
    assert "outcomes.x: t: 1 cells such as 'a/a' are no numbers" in told
    assert "outcomes.x: in: 1 cells such as 'a' are no numbers" in told
    assert "outcomes.x: 2 joints have no day after their entry" in told
    assert "outcomes.x: 1 of 2 outcomes have no side" in told


@pytest.mark.parametrize(
    "day", ["2001-02-03", "2001/02/03", "03.02.2001", "20010203", "3-FEB-2001", "2001-02-03 11:59"]
)
def test_a_template_shows_no_dates(tmp_path: Path, day: str) -> None:
    rows = "".join(f"{k},{word},{day}\n" for k, word in enumerate([day, day, "none", "none"]))
    (tmp_path / "t.csv").write_text(f"subject_id,seen,WOMKP\n{rows}")
    text = template(tmp_path / "t.csv")
    assert day not in text
    assert "# seen: dates" in text
    (tmp_path / "t.yaml").write_text(text)
    read_plain_tables(tmp_path / "t.csv", tmp_path / "t.yaml")


def test_a_template_shows_no_names_that_a_persons_rows_repeat(tmp_path: Path) -> None:
    people = ["Zuzana", "Jan", "Ewa"]
    rows = "".join(f"{k},{name},V0{v}\n" for k, name in enumerate(people) for v in range(4))
    (tmp_path / "t.csv").write_text(f"subject_id,who,visit\n{rows}")
    assert not any(name in template(tmp_path / "t.csv") for name in people)


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
