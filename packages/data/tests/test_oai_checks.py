"""Totals of the whole OAI, ranges, shifted columns, and what a config accepts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.config import OaiConfig
from spinmark_data.ingest.oai.tables import read_oai_tables

TOTAL = 4796


def whole(
    root: Path,
    *,
    n: int = TOTAL,
    first: int = 9 * 10**6,
    swap: int = 0,
    aged: int = 4,
    right: int = 268,
) -> Path:
    """A release of the size of the OAI with its cohorts and sexes; ids are made up."""
    ids = [str(first + place) for place in range(n)]
    cohort = np.repeat([1, 2, 3], [1390, 3284, 122])[:n]
    cohort[:swap] = 2
    sex = np.repeat([1, 2], [1992, 2804])[:n]
    write(root, "Enrollees", ["ID", "P02SEX", "V00COHORT"], zip(ids, sex, cohort, strict=True))
    ages = 45 + np.arange(n) % 35
    write(root, "AllClinical00", ["ID", "V00AGE"], zip(ids, ages, strict=True))
    days = np.full(n, 1461)
    rows = zip(ids, ages + aged, days, strict=True)
    write(root, "AllClinical06", ["ID", "V06AGE", "V06VISDYS"], rows)
    place = np.arange(n)
    rpcf_r = np.where(place < right, "3: Replacement adjudicated, confirmed", " ")
    rpcf_l = np.where(place % 18 == 0, "3", " ")[:n]
    rpcf_l[np.flatnonzero(rpcf_l == "3")[264:]] = " "
    names = ["id", "V99ERKRPCF", "V99ERKDAYS", "V99ELKRPCF", "V99ELKDAYS", "V99RNTCNT"]
    told = zip(
        ids,
        rpcf_r,
        np.where(place < right, "900", "."),
        rpcf_l,
        np.where(rpcf_l == "3", "1000", "."),
        np.full(n, "6: 48-month"),
        strict=True,
    )
    write(root, "Outcomes99", names, told)
    return root


def write(root: Path, name: str, header: list[str], rows: object) -> None:
    lines = ["|".join(header), *("|".join(map(str, row)) for row in rows)]  # type: ignore[attr-defined]
    (root / f"{name}.txt").write_text("\r\n".join(lines), newline="")


def test_the_whole_oai_has_its_totals(tmp_path: Path) -> None:
    tables = read_oai_tables(whole(tmp_path))
    told = tables.issues[tables.issues["source"].isin(["Enrollees", "Outcomes99"])]
    assert list(told["reason"]) == [
        "the whole OAI: enrolled, cohorts, sexes, ids and ageing are as known"
    ]
    assert (tables.outcomes["cause"] == "event").sum() == 268 + 264


def test_other_replacements_are_a_warning(tmp_path: Path) -> None:
    issues = read_oai_tables(whole(tmp_path, right=300)).issues
    reason = "300 confirmed replacements of side R; one analysis had 268"
    assert list(issues.loc[issues["source"] == "Outcomes99", "reason"]) == [reason]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 4700}, "4700 are enrolled, not 4796"),
        ({"swap": 10}, "COHORT is 1380/3294/122, not 1390/3284/122"),
        ({"first": 1000001}, "4796 ids are not seven digits that begin with 9"),
        ({"aged": 8}, r"V06AGE - V00AGE is 8.00 years"),
    ],
)
def test_other_totals_stop_the_ingest(tmp_path: Path, change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=f"{message}.*oai.whole: false"):
        read_oai_tables(whole(tmp_path, **change))
    assert len(read_oai_tables(tmp_path, OaiConfig(whole="false")).subjects) >= 4700


def test_a_part_is_not_checked_unless_it_claims_so(tmp_path: Path) -> None:
    whole(tmp_path, n=100)
    assert len(read_oai_tables(tmp_path).subjects) == 100
    with pytest.raises(InputError, match="claims to be the whole OAI, but 100 are enrolled"):
        read_oai_tables(tmp_path, OaiConfig(whole="true"))


def small(root: Path, columns: dict[str, list[str]]) -> Path:
    """A release of twenty persons whose AllClinical00 has these columns."""
    ids = [f"10000{place:02d}" for place in range(20)]
    write(root, "Enrollees", ["ID", "P02SEX"], [(subject, "1: Male") for subject in ids])
    write(root, "AllClinical00", ["ID", *columns], zip(ids, *columns.values(), strict=True))
    write(root, "Outcomes99", ["id", "V99RNTCNT"], [(subject, "0") for subject in ids])
    return root


def test_a_shifted_column_is_refused(tmp_path: Path) -> None:
    age, bmi = [str(50 + n) for n in range(20)], [f"{22 + n}.5" for n in range(20)]
    site = ["A"] * 20
    good = read_oai_tables(small(tmp_path, {"V00AGE": age, "P01BMI": bmi, "V00WOMKPR": ["3"] * 20}))
    assert len(good.visits) == 20
    # Everything one to the right: a site before the age, the age where pain should be.
    with pytest.raises(InputError, match=r"AllClinical00.txt: 20 of 20 cells of AGE.* shifted"):
        read_oai_tables(small(tmp_path, {"V00AGE": site, "P01BMI": age, "V00WOMKPR": bmi}))
    with pytest.raises(
        InputError, match=r"20 of 20 cells of WOMKP .* between 0 and 20; .* shifted"
    ):
        read_oai_tables(small(tmp_path, {"V00WOMKPR": age}))


def test_shifted_ids_are_refused(tmp_path: Path) -> None:
    small(tmp_path, {"V00AGE": ["50"] * 20})
    rows = [(str(25), f"10000{n:02d}") for n in range(20)]
    write(tmp_path, "AllClinical01", ["ID", "V01AGE"], [(f"7{n}", "51") for n in range(20)])
    assert rows
    with pytest.raises(InputError, match="20 of 20 rows have an id that Enrollees does not hold"):
        read_oai_tables(tmp_path)


def test_a_few_odd_values_are_kept_and_told(tmp_path: Path) -> None:
    tables = read_oai_tables(small(tmp_path, {"V00AGE": ["50"] * 19 + ["999"]}))
    assert tables.visits["AGE"].max() == 999
    assert "1 values of AGE lie outside 18 to 110" in set(tables.issues["reason"])


def test_swapped_codes_are_refused(tmp_path: Path) -> None:
    small(tmp_path, {"V00AGE": ["50"] * 20})
    write(tmp_path, "Enrollees", ["ID", "P02SEX"], [("1000001", "1: Female")])
    with pytest.raises(InputError, match="code 1 of SEX is labelled otherwise than 'male'"):
        read_oai_tables(tmp_path)


def test_days_dates_and_nominal_months_are_not_mixed_silently(tmp_path: Path) -> None:
    small(tmp_path, {"V00AGE": ["50"] * 20, "V00EVDATE": ["03/24/2004"] * 20})
    ids = [f"10000{n:02d}" for n in range(4)]
    cells = [
        (ids[0], "1100", "03/29/2007", "51"),
        (ids[1], ".", "03/29/2007", "51"),
        (ids[2], "-5", ".", "51"),
        (ids[3], "900", "03/29/2007", "51"),
    ]
    write(tmp_path, "AllClinical05", ["ID", "V05VISDYS", "V05FVDATE", "V05AGE"], cells)
    write(tmp_path, "AllClinical12", ["ID", "V12AGE"], [(ids[0], "60")])
    tables = read_oai_tables(tmp_path)
    days = tables.visits.set_index(["subject_id", "visit"])["days"]
    assert list(days.xs("V05", level="visit")) == [1100, 1100, 36 * 30.4375, 900]
    told = "\n".join(tables.issues["source"] + ": " + tables.issues["reason"])
    assert "days of V05: 1 subjects have a VISDYS that is not their date" in told
    assert "days of V05: 1 subjects have no VISDYS but a date" in told
    assert "visit V05: 1 subjects have no day after enrolment" in told
    actions = tables.issues.set_index("source")["action"]
    assert "its month is not established (oai.months)" in actions["visit V12"]
    marked = tables.missing[tables.missing["variable"] == "days"]
    assert set(marked["reason"]) == {"nominal"}
    assert set(zip(marked["subject_id"], marked["visit"], strict=True)) == {
        (ids[2], "V05"),
        (ids[0], "V12"),
    }


def test_dates_of_another_format_stop_with_the_option(tmp_path: Path) -> None:
    small(tmp_path, {"V00AGE": ["50"] * 20, "V00EVDATE": ["24MAR2004"] * 20})
    with pytest.raises(InputError, match=r"set oai.date_formats"):
        read_oai_tables(tmp_path)
    tables = read_oai_tables(tmp_path, OaiConfig(date_formats=("%d%b%Y",)))
    assert tables.enrolment is not None
    assert set(tables.enrolment["date"]) == {pd.Timestamp("2004-03-24")}


def test_a_table_over_the_limit_is_not_opened(tmp_path: Path) -> None:
    small(tmp_path, {"V00AGE": ["50"] * 20})
    with pytest.raises(InputError, match="bytes; tables of up to 100 are opened"):
        read_oai_tables(tmp_path, OaiConfig(table_limit_bytes=100))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"replacement_failed": (3,)}, "share a code"),
        ({"death_unconfirmed": (2,)}, "share a code"),
        ({"months": {"V00": 0, "V03": 24, "V05": 12}}, "rise from visit to visit"),
        ({"months": {"V03": 24}}, "begin with V00"),
        ({"months": {"V00": 0, "X1": 3}}, "holds 'X1'"),
        ({"months": {"V00": float("nan")}}, "0 or more"),
        ({"whole": "perhaps"}, "accepted: auto, true, false"),
        ({"date_pivot": 100}, "between 0 and 99"),
        ({"date_formats": ()}, "is empty"),
        ({"table_limit_bytes": 0}, "1 or more"),
    ],
)
def test_a_config_is_checked(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        OaiConfig(**fields)  # type: ignore[arg-type]


def test_the_config_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys; before = set(sys.modules); import spinmark_data.ingest.oai.config; "
        "print([m for m in ('pandas', 'numpy', 'torch', 'yaml') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
