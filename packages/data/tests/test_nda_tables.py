"""NDA packages, written by the test in their own form."""

from pathlib import Path

import pandas as pd
import pytest

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.config import OaiConfig
from spinmark_data.ingest.oai.tables import read_oai_tables


def structure(root: Path, name: str, rows: list[dict[str, str]], *, described: bool = True) -> Path:
    """Write a structure: names, descriptions, rows; every value quoted."""
    names = ["subjectkey", "src_subject_id", *rows[0]]
    names = list(dict.fromkeys(names))
    lines = [names]
    if described:
        lines.append([f"What {name} is, in words" for name in names])
    lines += [[{"subjectkey": "NDAR_INVXXXXXXXX", **row}[name] for name in names] for row in rows]
    path = root / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\r\n".join("\t".join(f'"{cell}"' for cell in line) for line in lines) + "\r\n"
    path.write_bytes(text.encode())
    return path


def person(subject: str, visit: str = "V00", **cells: str) -> dict[str, str]:
    return {
        "src_subject_id": subject,
        "visit": visit,
        "interview_date": "03/24/2004" if visit == "V00" else "04/03/2006",
        "sex": "F",
    } | cells


def package(root: Path) -> Path:
    folder = root / "Package_12"
    structure(
        folder,
        "oai_enrollee01",
        [
            person("1000001", e_cohort="1", site="A", race="White", ageyears="61"),
            person("1000002", e_cohort="2", site="B", race="Asian", ageyears="50"),
        ],
    )
    structure(
        folder,
        "oai_koos_womac01",
        [
            person("1000001", womac_pain_right="3", womac_pain_left="", koos_lkpain="86.1"),
            person("1000002", womac_pain_right="7", womac_pain_left="1", koos_lkpain="50"),
            person("1000001", "V03", womac_pain_right="4", womac_pain_left="2", koos_lkpain=""),
        ],
    )
    structure(
        folder,
        "oai_oarisk01",
        [person("1000001", bmi="-9", odd="x"), person("1000002", bmi="28.5", odd="y")],
    )
    structure(
        folder,
        "oai_kxrsemiquant01",
        [
            person("1000001", readprj="15", side="1", xrkl="2", xrjsm="1"),
            person("1000001", readprj="37", side="1", xrkl="4", xrjsm="2"),
            person("1000002", readprj="42", side="2", xrkl="0", xrjsm="0"),
        ],
    )
    rows = [
        person("1000001", "V99", rkblrp="0", rkrpcf="3", rkdays="1500", lkblrp="1", rntcnt="3"),
        person("1000002", "V99", rkblrp="0", rkrpcf="", rkdays="", lkblrp="0", rntcnt="0"),
    ]
    for row, died in zip(rows, ("", "3/24/2010"), strict=True):
        row |= {"dthdate": died, "ddcf": "2" if died else ""}
    structure(folder, "oai_outcome01", rows)
    (folder / "image03.txt").write_text("not opened here")
    (folder / "image03" / "00m").mkdir(parents=True)
    return root


def test_a_package_becomes_the_tables_of_a_cohort(tmp_path: Path) -> None:
    tables = read_oai_tables(package(tmp_path))
    subjects = tables.subjects.set_index("subject_id")
    assert list(subjects["SEX"]) == [2, 2]
    assert list(subjects["RACE"]) == [1, 3]
    assert list(subjects["SITE"]) == ["A", "B"]
    visits = tables.visits.set_index(["subject_id", "visit"])
    assert visits.loc[("1000001", "V03"), "days"] == 740
    assert visits.loc[("1000002", "V00"), "AGE"] == 50
    joints = tables.joints.set_index(["joint_id", "visit"])
    assert joints.loc[("1000001:R", "V00"), "WOMKP"] == 3
    assert joints.loc[("1000001:L", "V03"), "WOMKP"] == 2
    assert joints.loc[("1000001:L", "V00"), "KOOSKP"] == 86.1
    assert joints.loc[("1000001:R", "V00"), "XRKL"] == 2
    assert joints.loc[("1000002:L", "V00"), "XRKL"] == 0
    outcomes = tables.outcomes.set_index("joint_id")
    assert tuple(outcomes.loc["1000001:R", ["lower", "upper", "cause"]]) == (1500, 1500, "event")
    assert "1000001:L" not in outcomes.index
    assert tuple(outcomes.loc["1000002:L", ["lower", "cause"]]) == (2191, "death")


def test_blank_and_sentinels_are_missing_with_their_reason(tmp_path: Path) -> None:
    tables = read_oai_tables(package(tmp_path))
    reasons = tables.missing.set_index(["subject_id", "laterality", "visit", "variable"])["reason"]
    assert reasons["1000001", "", "V00", "BMI"] == "-9"
    assert reasons["1000001", "L", "V00", "WOMKP"] == "blank"
    kept = read_oai_tables(tmp_path, OaiConfig(sentinels={}))
    assert kept.visits.set_index(["subject_id", "visit"]).loc[("1000001", "V00"), "BMI"] == -9
    assert kept.issues["reason"].str.contains("1 values of BMI lie outside").any()


def test_unknown_columns_are_counted_and_a_yaml_names_them(tmp_path: Path) -> None:
    tables = read_oai_tables(package(tmp_path))
    row = tables.issues[tables.issues["source"] == "Package_12/oai_oarisk01.txt"]
    assert list(row["reason"]) == ["1 column is not in the dictionary: odd"]
    structure(tmp_path / "Package_12", "oai_mine01", [person("1000001", pain_points="2")])
    told = read_oai_tables(tmp_path).issues
    assert told["reason"].str.contains("the structure is not in oai.nda_names").any()
    names = tmp_path / "names.yaml"
    names.write_text(
        "structures: {oai_mine01: ALLCLINICAL}\n"
        "variables: {oai_mine01.pain_points: CESD}\nignored: [oai_oarisk01.odd]\n"
    )
    tables = read_oai_tables(tmp_path, OaiConfig(nda_names=names))
    assert tables.visits.set_index(["subject_id", "visit"]).loc[("1000001", "V00"), "CESD"] == 2
    assert not tables.issues["reason"].str.contains("not in").any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "holds no mapping"),
        ("names: {}", "unknown keys"),
        ("values: {SEX: {M: male}}", "must map texts to numbers"),
        ("structures: [a]", "structures must be a mapping"),
        ("{", "is no YAML"),
    ],
)
def test_a_wrong_file_of_names_is_told(tmp_path: Path, text: str, message: str) -> None:
    names = tmp_path / "names.yaml"
    names.write_text(text)
    with pytest.raises(InputError, match=message):
        read_oai_tables(package(tmp_path), OaiConfig(nda_names=names))


def test_a_package_without_descriptions_enrollees_or_outcomes(tmp_path: Path) -> None:
    rows = [person("1000001", womac_pain_right="3"), person("1000002", womac_pain_right="4")]
    structure(tmp_path, "OAI_koos_womac01", rows, described=False)
    tables = read_oai_tables(tmp_path)
    assert list(tables.subjects["subject_id"]) == ["1000001", "1000002"]
    assert len(tables.joints) == 2
    assert tables.outcomes.empty
    assert tables.issues["action"].eq("the cohort has no outcomes").any()


def test_a_package_of_images_alone_gives_no_tables(tmp_path: Path) -> None:
    (tmp_path / "image03.txt").write_text("subjectkey\tx\n")
    tables = read_oai_tables(tmp_path)
    assert tables.subjects.empty
    assert list(tables.issues["reason"]) == ["the package holds images only"]


def test_two_different_rows_of_one_person_and_visit_are_set_aside(tmp_path: Path) -> None:
    package(tmp_path)
    rows = [person("1000001", pase="10"), person("1000001", pase="11")]
    structure(tmp_path / "Package_12", "oai_pase01", [*rows, person("1000002", pase="12")])
    tables = read_oai_tables(tmp_path)
    assert tables.issues["reason"].eq("1 persons have two different rows at V00").any()
    assert list(tables.visits["PASE"].dropna()) == [12]


def test_a_lost_quote_costs_its_row_only(tmp_path: Path) -> None:
    path = package(tmp_path) / "Package_12" / "oai_oarisk01.txt"
    lines = path.read_bytes().split(b"\r\n")
    lines.insert(2, b'"NDAR_INVYYYYYYYY"\t"1000003"\t"V00"\t"03/24/2004"\t"F"\t"30')
    lines.insert(3, b'half a note"\t"z"')
    path.write_bytes(b"\r\n".join(lines))
    tables = read_oai_tables(tmp_path)
    assert list(tables.visits["BMI"].dropna()) == [28.5]
    assert tables.issues["source"].str.startswith("Package_12/oai_oarisk01.txt:").sum() == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("src_subject_id,visit\n1000001,V00", "the header holds no tab"),
        ("subjectkey\tvisit\nx\tV00", "no column src_subject_id"),
        ("src_subject_id\tBMI\tbmi\n1\t2\t3", "more than once"),
        ("src_subject_id\tvisit\nwhat it is\twhat it is\n", "the table is empty"),
        ("src_subject_id\tvisit\td\nx\tx\tx\n1\tV00\n2\tV00\n", "2 of 2 rows lack or exceed"),
    ],
)
def test_a_structure_that_cannot_be_read_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (package(tmp_path) / "Package_12" / "oai_oarisk01.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_oai_tables(tmp_path)


def test_two_files_of_one_structure_and_two_forms_are_refused(tmp_path: Path) -> None:
    package(tmp_path)
    structure(tmp_path / "copy", "OAI_oarisk01", [person("1000001", bmi="3")])
    with pytest.raises(InputError, match="are the same structure; keep one"):
        read_oai_tables(tmp_path)
    (tmp_path / "copy" / "OAI_oarisk01.txt").unlink()
    for name in ("Enrollees", "AllClinical00", "Outcomes99"):
        (tmp_path / f"{name}.txt").write_text("ID|V00AGE\r\n1000001|61\r\n")
    with pytest.raises(InputError, match="Complete Data and of an NDA package"):
        read_oai_tables(tmp_path)


def test_a_race_in_other_words_says_where_to_name_it(tmp_path: Path) -> None:
    package(tmp_path)
    rows = [person(f"10000{n:02d}", race="Somebody", ageyears="60", site="A") for n in range(1, 13)]
    structure(tmp_path / "Package_12", "oai_enrollee01", rows)
    with pytest.raises(InputError, match="12 of 12 cells of RACE are no numbers"):
        read_oai_tables(tmp_path)


def test_moaks_and_joint_space_of_a_package(tmp_path: Path) -> None:
    package(tmp_path)
    folder = tmp_path / "Package_12"
    structure(
        folder, "oai_kmrisemiquant01", [person("1000001", readprj="63A", side="2", mcmfma="2.1")]
    )
    structure(
        folder, "oai_kxrquantjsw01", [person("1000001", readprj="16", side="2", mcmjsw="4.25")]
    )
    joints = read_oai_tables(tmp_path).joints.set_index(["joint_id", "visit"])
    row = joints.loc[("1000001:L", "V00")]
    assert (row["MCMFMA"], row["MCMFMAFT"], row["MCMJSW"]) == (2, 1, 4.25)
    assert isinstance(joints, pd.DataFrame)
