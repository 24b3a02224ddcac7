"""The tables of a release, written by the test in the release's own form."""

from pathlib import Path

import pandas as pd
import pytest

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.tables import read_oai_tables
from spinmark_data.ingest.tableset import TableSet

MISSING = ".: Missing Form/Incomplete Workbook"


def write(root: Path, name: str, text: str, *, encoding: str = "ascii") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.strip("\n").replace("\n", "\r\n").encode(encoding))
    return path


def release(root: Path) -> Path:
    write(
        root,
        "General_ASCII/Enrollees.txt",
        f"""
ID|VERSION|P02HISP|P02RACE|P02SEX|V00COHORT|V00SITE
1000002|25|0: No|1: White or Caucasian|1: Male|2: Incidence|B
1000001|25|{MISSING}|3: Asian|2: Female|1: Progression|A
""",
    )
    write(
        root,
        "AllClinical_ASCII/AllClinical00.txt",
        """
ID|VERSION|V00EVDATE|V00AGE|P01BMI|V00WOMKPR|V00WOMKPL|P01KPNREV|V00NOTE|V0020MPACE
1000001|25|03/24/2004|61|.5|3| |1: Yes|Note: caf\xe9 \x85 break|1.25
1000002|25|11/02/2004|70|31.2|.A: Not Expected|12|0: No||.T: Technical Problems
""",
        encoding="latin-1",
    )
    write(
        root,
        "AllClinical_ASCII/ALLCLINICAL03.txt",
        """
id|V03FVDATE|V03BMI|V03WOMKPR|V03KRSR12
1000001|04/03/2006|26|4|0: No
1000002| |.M: Missing| |.M: Missing
""",
    )
    write(
        root,
        "AllClinical_ASCII/AllClinical05.txt",
        """
ID|V05VISDYS|V05BMI
1000001|1100|27
1000002| |30
""",
    )
    write(
        root,
        "kXR_SQ_BU00.txt",
        """
ID|SIDE|readprj|v00XRKL|V00XRJSM|V00BARCDBU
1000001|1: Right|37|4|1|016600000001
1000001|1: Right|15|2: two|1.2|016600000002
1000001|2|42|3|0|T
1000002|2|22|1|0|016600000004
1000002|1|15|1|0|016600000005
1000002|1|15|2|0|016600000006
""",
    )
    write(root, "kXR_SQ_BU_Formats.txt", "nothing to see")
    write(
        root,
        "OUTCOMES99.txt",
        """
id|VERSION|V99ERKBLRP|V99ERKRPCF|V99ERKDAYS|V99ELKBLRP|V99RNTCNT
1000001|25|0: No|3: Replacement adjudicated, confirmed|1500|1: Yes|5: 36-month
1000002|25|0: No| |.|0: No|3: 24-month
""",
    )
    # A folder of images is never searched for tables.
    write(root, "00m/0.C.2/Enrollees.txt", "not a table")
    return root


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> TableSet:
    return read_oai_tables(release(tmp_path_factory.mktemp("release")))


def cell(frame: pd.DataFrame, name: str, **key: str) -> object:
    rows = frame
    for column, value in key.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows[name].iloc[0]


def test_subjects_hold_codes_and_the_letter_of_the_site(tables: TableSet) -> None:
    assert list(tables.subjects["subject_id"]) == ["1000001", "1000002"]
    assert list(tables.subjects["SEX"]) == [2.0, 1.0]
    assert list(tables.subjects["SITE"]) == ["A", "B"]
    assert cell(tables.dictionary, "codes", variable="SEX") == '{"1": "Male", "2": "Female"}'
    assert cell(tables.dictionary, "role", variable="SITE") == "administrative"


def test_prefixes_and_sides_become_stems(tables: TableSet) -> None:
    visits, joints = tables.visits, tables.joints
    assert cell(visits, "BMI", subject_id="1000001", visit="V00") == 0.5
    assert cell(visits, "BMI", subject_id="1000001", visit="V03") == 26
    assert cell(visits, "20MPACE", subject_id="1000001", visit="V00") == 1.25
    at = {"subject_id": "1000001", "visit": "V00"}
    assert cell(joints, "WOMKP", laterality="R", **at) == 3
    assert cell(joints, "KPNEV", laterality="R", **at) == 1
    assert pd.isna(cell(joints, "WOMKP", laterality="L", **at))
    assert set(joints["joint_id"]) == {"1000001:R", "1000001:L", "1000002:L", "1000002:R"}


def test_days_come_from_the_record_then_dates_then_the_nominal_month(tables: TableSet) -> None:
    assert cell(tables.visits, "days", subject_id="1000001", visit="V00") == 0
    assert cell(tables.visits, "days", subject_id="1000001", visit="V03") == 740
    assert cell(tables.visits, "days", subject_id="1000001", visit="V05") == 1100
    assert cell(tables.visits, "days", subject_id="1000002", visit="V05") == 36 * 30.4375
    nominal = tables.issues[tables.issues["source"] == "visit V05"]
    assert nominal["reason"].str.startswith("1 subjects have no day").all()
    assert len(nominal) == 1


def test_a_visit_without_any_value_is_no_visit_but_keeps_its_reasons(tables: TableSet) -> None:
    here = tables.visits[tables.visits["subject_id"] == "1000002"]
    assert list(here["visit"]) == ["V00", "V05"]
    reasons = tables.missing[tables.missing["subject_id"] == "1000002"]
    assert cell(reasons, "reason", visit="V03", variable="BMI") == ".M"


def test_every_reason_is_kept(tables: TableSet) -> None:
    missing = tables.missing
    assert cell(missing, "reason", subject_id="1000001", variable="HISP") == "."
    assert (
        cell(missing, "reason", subject_id="1000001", variable="WOMKP", laterality="L") == "blank"
    )
    one = {"subject_id": "1000002", "variable": "WOMKP", "laterality": "R", "visit": "V00"}
    assert cell(missing, "reason", **one) == ".A"
    assert cell(missing, "reason", subject_id="1000002", variable="20MPACE") == ".T"


def test_one_reading_a_knee_is_chosen_and_never_averaged(tables: TableSet) -> None:
    at = {"subject_id": "1000001", "visit": "V00"}
    assert cell(tables.joints, "XRKL", laterality="R", **at) == 2
    assert cell(tables.joints, "XRJSM", laterality="R", **at) == 1.2
    assert cell(tables.joints, "XRKL", laterality="L", **at) == 3
    others = tables.joints[tables.joints["subject_id"] == "1000002"]
    assert others["XRKL"].isna().all()
    reasons = " ".join(tables.issues["reason"])
    assert "2 rows contradict another row" in reasons
    assert "READPRJ other than [15, 37, 42]" in reasons
    assert "1 knees are of READPRJ 42" in reasons


def test_unknown_columns_are_counted_once_a_table(tables: TableSet) -> None:
    rows = tables.issues[tables.issues["reason"].str.contains("not in the dictionary")]
    assert rows["source"].is_unique
    assert "V00NOTE" in cell(rows, "reason", source="AllClinical_ASCII/AllClinical00.txt")  # type: ignore[operator]


def test_outcomes_and_flow(tables: TableSet) -> None:
    outcomes = tables.outcomes.set_index("joint_id")
    assert list(outcomes.index) == ["1000001:R", "1000002:R", "1000002:L"]
    assert tuple(outcomes.loc["1000001:R", ["lower", "upper", "cause"]]) == (1500, 1500, "event")
    assert cell(tables.flow, "excluded", reason="replaced before enrolment") == 1
    assert tables.enrolment is not None
    assert list(tables.enrolment["date"].dt.year) == [2004, 2004]


def test_a_self_reported_replacement_is_an_outcome(tables: TableSet) -> None:
    assert cell(tables.dictionary, "role", variable="KRS12") == "outcome"


def test_two_tables_of_one_visit_are_refused(tmp_path: Path) -> None:
    release(tmp_path)
    write(tmp_path, "copy/allclinical00.TXT", "ID|V00AGE\n1|2")
    with pytest.raises(InputError, match=r"allclinical00.TXT .*same table of the same visit"):
        read_oai_tables(tmp_path)


@pytest.mark.parametrize("name", ["Enrollees", "AllClinical00", "Outcomes99"])
def test_a_missing_table_is_named(tmp_path: Path, name: str) -> None:
    release(tmp_path)
    for path in tmp_path.rglob("*.txt"):
        if path.stem.casefold() == name.casefold() and "00m" not in path.parts:
            path.unlink()
    with pytest.raises(InputError, match=rf"No table {name}.txt was found in"):
        read_oai_tables(tmp_path)


def test_another_delimiter_is_named(tmp_path: Path) -> None:
    release(tmp_path)
    write(tmp_path, "AllClinical_ASCII/AllClinical05.txt", "ID,V05BMI,V05AGE\n1000001,27,3")
    with pytest.raises(InputError, match=r"AllClinical05.txt: the header holds commas; .*'\|'"):
        read_oai_tables(tmp_path)


def test_a_folder_without_any_table_names_both_forms(tmp_path: Path) -> None:
    write(tmp_path, "notes.txt", "nothing")
    with pytest.raises(InputError, match=r"No table Enrollees.txt .* oai_enrollee01.txt"):
        read_oai_tables(tmp_path)


def test_a_shifted_row_is_set_aside_and_a_shifted_table_refused(tmp_path: Path) -> None:
    release(tmp_path)
    name = "AllClinical_ASCII/AllClinical05.txt"
    write(tmp_path, name, "ID|V05VISDYS|V05BMI\n1000001|1100|27\n1000002|1101|x|30")
    found = read_oai_tables(tmp_path)
    assert "the row has 4 cells where the header names 3 columns" in set(found.issues["reason"])
    assert list(found.visits.loc[found.visits["visit"] == "V05", "subject_id"]) == ["1000001"]
    write(tmp_path, name, "ID|V05VISDYS|V05BMI\n1000001|1100|1|27\n1000002|1101|x|30")
    with pytest.raises(InputError, match=r"2 of 2 rows .*\(line 2 has 4\)"):
        read_oai_tables(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ID|v05BMI|V05BMI\n1000001|1|2", "more than once when case is ignored"),
        ("NAME|V05BMI\n1000001|1", "no id column"),
        ("ID|V05BMI\n1000001|1\n1000001|2", "lines 2 and 3 have the same id"),
        ("ID|V05BMI\n", "the table is empty"),
    ],
)
def test_a_table_that_cannot_be_joined_is_refused(tmp_path: Path, text: str, message: str) -> None:
    release(tmp_path)
    write(tmp_path, "AllClinical_ASCII/AllClinical05.txt", text)
    with pytest.raises(InputError, match=message):
        read_oai_tables(tmp_path)


def test_a_value_met_twice_is_kept_from_the_first_table_and_reported(tmp_path: Path) -> None:
    release(tmp_path)
    write(tmp_path, "SubjectChar00.txt", "ID|V00AGE\n1000001|61\n1000002|71")
    found = read_oai_tables(tmp_path)
    assert cell(found.visits, "AGE", subject_id="1000002", visit="V00") == 71
    assert found.issues["reason"].str.contains("V00AGE differs from SubjectChar00.txt in 1").any()


def test_reading_is_deterministic(tmp_path: Path, tables: TableSet) -> None:
    again = read_oai_tables(release(tmp_path))
    for name, frame in tables.tables().items():
        pd.testing.assert_frame_equal(frame, again.tables()[name])
