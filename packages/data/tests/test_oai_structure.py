"""Readings of films and MR images: projects, two grades in a cell, prostheses, whole tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.config import OaiConfig
from spinmark_data.ingest.oai.moaks import moaks_variables, split_grades
from spinmark_data.ingest.oai.tables import read_oai_tables
from spinmark_data.ingest.tableset import TableSet


def release(root: Path, **tables: str) -> Path:
    """A release of three persons with these tables beside the required ones."""
    whole = {
        "Enrollees": "ID|P02SEX\n1000001|1: Male\n1000002|2: Female\n1000003|2: Female",
        "AllClinical00": "ID|V00AGE|V00EVDATE\n1000001|61|03/24/2004\n1000002|62|03/24/2004",
        "AllClinical01": "ID|V01FVDATE\n1000001|03/24/2005\n1000002|03/24/2005",
        "Outcomes99": "id|V99RNTCNT|V99ERKBLRP\n1000001|1: 12-month|0: No\n1000002|1|0",
    } | tables
    root.mkdir(exist_ok=True)
    for name, text in whole.items():
        lines = "".join(f"{line}\r\n" for line in text.split("\n"))
        (root / f"{name}.txt").write_bytes(lines.encode())
    return root


def joint(tables: TableSet, name: str, visit: str = "V00") -> pd.Series:
    rows = tables.joints.set_index(["joint_id", "visit"])
    return rows.loc[(name, visit)]


MOAKS = """ID|SIDE|READPRJ|V00MCMFMA|V00MCMFLC|V00MBMSTLC|V00MMTMA|V00MMXMM|V00MEFFWK|V00MSYIC|V00NOTE
1000001|1: Right|22|1.0: 1-10%|0: None|3: >66%|0: Normal|1: 2-2.9 mm|0|1: Mild|x
1000001|1: Right|63A|2.1: 10-75% area, 1-10% full thickness|1.5|0.5|2|.A: Not Expected|1|2|y
1000002|2|63Z|2.1|0|0|0|0|0|0|z
1000002|2|65|-0.5|7.9|0|0|0|0|.T: Technical Problems|z"""


def test_a_moaks_cell_holds_two_grades(tmp_path: Path) -> None:
    tables = read_oai_tables(release(tmp_path, kMRI_SQ_MOAKS_BICL00=MOAKS))
    first = joint(tables, "1000001:R")
    assert (first["MCMFMA"], first["MCMFMAFT"]) == (2, 1)
    assert first["MCMFLC"] == 1.5
    assert np.isnan(first["MCMFLCFT"])
    assert (first["MBMSTLC"], first["MMTMA"], first["MEFFWK"], first["MSYIC"]) == (0.5, 2, 1, 2)
    second = joint(tables, "1000002:L")
    assert second["MCMFMA"] == -0.5
    assert np.isnan(second["MCMFLC"])
    reasons = tables.missing.set_index(["subject_id", "variable"])["reason"]
    assert reasons["1000001", "MCMFLCFT"] == "half grade"
    assert reasons["1000001", "MMXMM"] == ".A"
    assert reasons["1000002", "MCMFLC"] == "unreadable"
    assert reasons["1000002", "MSYIC"] == ".T"
    told = tables.issues["reason"]
    assert told.str.contains(r"READPRJ other than \[65, '63A'").any()
    rows = tables.dictionary.set_index("variable")
    assert set(rows.loc[["MCMFMA", "MCMFMAFT", "MBMSTLC", "MSYIC"], "role"]) == {"structure"}
    assert rows.loc["MBMSTLC", "group"] == "MOAKS"
    assert "MCMFMAFT" not in tables.visits


def test_the_order_of_moaks_projects_is_an_option(tmp_path: Path) -> None:
    config = OaiConfig(read_projects={"KMRI_SQ_MOAKS_BICL": ("22", "63A", "65")})
    tables = read_oai_tables(release(tmp_path, kMRI_SQ_MOAKS_BICL00=MOAKS), config)
    assert joint(tables, "1000001:R")["MBMSTLC"] == 3


@given(st.integers(0, 3), st.integers(0, 3))
def test_two_grades_come_back(area: int, depth: int) -> None:
    cells = pd.Series([float(f"{area}.{depth}")])
    assert split_grades(cells, "area").iloc[0] == area
    assert split_grades(cells, "depth").iloc[0] == depth


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_number_breaks_the_grades(value: float) -> None:
    for part in ("area", "depth"):
        out = split_grades(pd.Series([value]), part).iloc[0]
        assert np.isnan(out) or abs(out) < 1e300


def test_only_names_of_moaks_are_moaks() -> None:
    assert [row.name for row in moaks_variables("MCMTLP")] == ["MCMTLP", "MCMTLPFT"]
    assert [row.name for row in moaks_variables("MBMSFMA")] == ["MBMSFMA"]
    assert moaks_variables("AGE") == []
    assert moaks_variables("MCM") == []


def test_joint_space_width_and_alignment(tmp_path: Path) -> None:
    tables = read_oai_tables(
        release(
            tmp_path,
            kXR_QJSW_Duryea00="ID|SIDE|READPRJ|V00MCMJSW|V00JSW150|V00LJSW900|V00NOMJSWX|V00BMANG\n"
            "1000001|1|16|4.25|5.1|6.2|0: No|10.5\n1000002|1|16|.T: Technical Problems|.T|6.2|1|10",
            kxr_fta_duryea00="ID|SIDE|READPRJ|V00FTANGLE\n1000001|1|15|-4.5",
            flxr_kneealign_cooke01="ID|SIDE|V01HKANGLE\n1000001|2|1.25",
        )
    )
    row = joint(tables, "1000001:R")
    assert (row["MCMJSW"], row["JSW150"], row["LJSW900"], row["FTANGLE"]) == (4.25, 5.1, 6.2, -4.5)
    assert joint(tables, "1000001:L", "V01")["HKANGLE"] == 1.25
    roles = tables.dictionary.set_index("variable")["role"]
    assert roles["MCMJSW"] == roles["HKANGLE"] == "structure"
    assert roles["NOMJSWX"] == "administrative"
    reasons = tables.missing.set_index(["subject_id", "variable"])["reason"]
    assert reasons["1000002", "MCMJSW"] == ".T"


def test_a_table_of_unranked_projects_gives_no_knee_that_two_of_them_read(tmp_path: Path) -> None:
    text = "ID|SIDE|READPRJ|V00MCMJSW\n1000001|1|16|4\n1000001|1|17|5\n1000002|1|17|3"
    tables = read_oai_tables(release(tmp_path, kxr_qjsw_duryea00=text))
    assert list(tables.joints["MCMJSW"].dropna()) == [3]
    assert tables.issues["reason"].str.contains("oai.read_projects.KXR_QJSW_DURYEA").any()
    config = OaiConfig(read_projects={"KXR_QJSW_DURYEA": ("16", "17")})
    tables = read_oai_tables(tmp_path, config)
    assert list(tables.joints["MCMJSW"].dropna()) == [4, 3]


FILMS = """ID|SIDE|READPRJ|V{0}XRKL|V{0}XRJSM
1000001|1|15|{1}|{1}
1000001|1|37|3|1
1000002|1|15|2|1"""


def test_a_prosthesis_is_no_plain_missing_value(tmp_path: Path) -> None:
    whole = release(
        tmp_path,
        kxr_sq_bu00=FILMS.format("00", "3"),
        kxr_sq_bu01=FILMS.format("01", ".P: Prosthetic"),
    )
    tables = read_oai_tables(whole)
    later = joint(tables, "1000001:R", "V01")
    # Project 15 met it; project 37's grade of the same film does not take its place.
    assert np.isnan(later["XRKL"])
    assert later["XRPROSTH"] == 1
    assert joint(tables, "1000001:R")["XRPROSTH"] == 0
    reasons = tables.missing.set_index(["subject_id", "visit", "variable"])["reason"]
    assert reasons["1000001", "V01", "XRKL"] == ".P"
    assert tables.dictionary.set_index("variable").loc["XRPROSTH", "role"] == "outcome"
    found = tables.outcomes.set_index("joint_id").loc["1000001:R"]
    assert (found["lower"], found["upper"], found["cause"]) == (0, 365, "event")
    plain = read_oai_tables(whole, OaiConfig(prosthesis_is_event=False)).outcomes
    assert set(plain["cause"]) == {"censored"}


def test_without_a_prosthesis_there_is_no_such_variable(tmp_path: Path) -> None:
    tables = read_oai_tables(release(tmp_path, kxr_sq_bu00=FILMS.format("00", "3")))
    assert "XRPROSTH" not in tables.joints


def test_tables_that_are_taken_whole(tmp_path: Path) -> None:
    tables = {
        "Biospec_FNIH_Labcorp00": "ID|V00SERUM_CTXI|V00URINE_NOTE|V00BARCDX\n"
        "1000001|0.55|haemolysed|1\n1000002|<0.05|ok|2",
        "kMRI_QCart_Eckstein00": "ID|SIDE|READPRJ|V00WMTMTH|V00READER\n1000001|1|1|1.75|3",
        "kMRI_FNIH_SQ_MOAKS_BICL00": "ID|SIDE|READPRJ|V00MCMPM\n1000001|1|65|1.2",
    }
    found = read_oai_tables(release(tmp_path, **tables))
    assert list(found.visits["SERUM_CTXI"].dropna()) == [0.55]
    reasons = found.missing.set_index(["subject_id", "variable"])["reason"]
    assert reasons["1000002", "SERUM_CTXI"] == "<0.05"
    row = joint(found, "1000001:R")
    assert (row["WMTMTH"], row["MCMPM"], row["MCMPMFT"]) == (1.75, 1, 2)
    roles = found.dictionary.set_index("variable")["role"]
    assert (roles["SERUM_CTXI"], roles["WMTMTH"]) == ("biospecimen", "structure")
    assert "URINE_NOTE" not in found.visits
    off = read_oai_tables(tmp_path, OaiConfig(other_readings=False))
    assert "SERUM_CTXI" not in off.visits
    assert (off.issues["reason"] == "oai.other_readings is false").sum() == 3


def test_sides_that_are_none_look_shifted(tmp_path: Path) -> None:
    rows = "\n".join(f"1000001|{n}|15|2" for n in range(5, 20))
    with pytest.raises(InputError, match=r"15 of 15 rows have a SIDE other than .* shifted"):
        read_oai_tables(release(tmp_path, kxr_sq_bu00=f"ID|SIDE|READPRJ|V00XRKL\n{rows}"))


@pytest.mark.parametrize("column", ["SIDE", "READPRJ"])
def test_a_reading_table_without_its_key_is_refused(tmp_path: Path, column: str) -> None:
    names = ["ID", *({"SIDE", "READPRJ"} - {column}), "V00XRKL"]
    text = f"{'|'.join(names)}\n1000001|1|2"
    with pytest.raises(InputError, match=f"no column {column}"):
        read_oai_tables(release(tmp_path, kxr_sq_bu00=text))
