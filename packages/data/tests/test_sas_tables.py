"""SAS tables: XPORT written here, and pyreadstat's own sas7bdat samples where they lie.

pyreadstat cannot write sas7bdat. Its samples (github.com/Roche/pyreadstat, test_data) are found
through the environment variable SPINMARK_SAS_SAMPLES; they are not part of this repository.
"""

import datetime
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.cells import parse_column
from spinmark_data.ingest.oai.files import read_table
from spinmark_data.ingest.oai.sas_tables import _cells, cell_text
from spinmark_data.ingest.oai.tables import read_oai_tables

pyreadstat = pytest.importorskip("pyreadstat", reason="the extra `sas` is not installed")
SAMPLES = Path(os.environ.get("SPINMARK_SAS_SAMPLES", "no samples"))

TABLES = {
    "Enrollees": {"ID": ["1000001", "1000002"], "P02SEX": [1.0, 2.0], "V00SITE": ["A", "B"]},
    "AllClinical00": {
        "ID": ["1000001", "1000002"],
        "V00AGE": [61.0, np.nan],
        "P01BMI": [28.25, 31.0],
        "V00WOMKPR": [3.0, 0.0],
        "V00EVDATE": [datetime.date(2004, 3, 24), datetime.date(2004, 11, 2)],
        "V00NOTE": ["caf\xe9", ""],
    },
    "kxr_sq_bu00": {"ID": ["1000001"], "SIDE": [1.0], "READPRJ": [15.0], "V00XRKL": [2.0]},
    "Outcomes99": {"id": ["1000001", "1000002"], "V99RNTCNT": [0.0, 0.0], "V99ERKBLRP": [0.0, 1.0]},
}


def ascii_cell(value: object) -> str:
    """A value as the ASCII release has it."""
    if isinstance(value, datetime.date):
        return f"{value:%m/%d/%Y}"
    return "." if value != value else f"{value:g}" if isinstance(value, float) else str(value)


def write(root: Path, form: str) -> Path:
    root.mkdir(exist_ok=True)
    for name, columns in TABLES.items():
        if form == "xpt":
            frame = pd.DataFrame(columns)
            pyreadstat.write_xport(frame, str(root / f"{name}.xpt"), file_format_version=8)
        else:
            rows = zip(*columns.values(), strict=True)
            lines = ["|".join(columns), *("|".join(map(ascii_cell, row)) for row in rows)]
            (root / f"{name}.txt").write_bytes("\r\n".join(lines).encode("latin-1"))
    return root


def test_xport_and_ascii_give_the_same_tables(tmp_path: Path) -> None:
    sas = read_oai_tables(write(tmp_path / "sas", "xpt"))
    text = read_oai_tables(write(tmp_path / "text", "txt"))
    for name in ("subjects", "visits", "joints", "outcomes", "missing"):
        pd.testing.assert_frame_equal(sas.tables()[name], text.tables()[name], check_dtype=False)
    assert sas.visits["BMI"].tolist() == [28.25, 31]
    assert sas.enrolment is not None
    assert list(sas.enrolment["date"].dt.day) == [24, 2]


def test_xport_says_that_it_has_no_letters(tmp_path: Path) -> None:
    issues = read_oai_tables(write(tmp_path, "xpt")).issues
    assert issues["reason"].str.contains("without the letters").sum() >= 3


def test_one_stem_in_both_forms_is_one_error(tmp_path: Path) -> None:
    write(tmp_path, "txt")
    write(tmp_path, "xpt")
    with pytest.raises(InputError, match=r"AllClinical00\.txt and AllClinical00\.xpt are the same"):
        read_oai_tables(tmp_path)


def test_letters_are_reasons_and_blanks_none() -> None:
    # The form in which pyreadstat delivers a numeric column with user_missing=True.
    cells = _cells([1.0, "P", float("nan"), "A", "_", 2.5], numeric=True)
    assert cells == ["1", ".P", ".", ".A", ".", "2.5"]
    parsed = parse_column(pd.Series(cells), "number")
    assert list(parsed.reasons) == ["", ".P", ".", ".A", ".", ""]
    assert _cells(["A", ""], numeric=False) == ["A", ""]
    assert cell_text(1e20) == "1e+20"
    assert cell_text(datetime.datetime(2004, 3, 4, 5)) == "03/04/2004"
    assert cell_text(b"caf\xe9") == "caf\xe9"


@pytest.mark.parametrize("suffix", ["xpt", "sas7bdat"])
@pytest.mark.parametrize("content", [b"", b"ID|V00AGE\r\n1|2", b"\x00" * 4096, b"HEADER RECORD"])
def test_what_is_no_sas_table_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    write(tmp_path, "txt")
    (tmp_path / "AllClinical00.txt").unlink()
    (tmp_path / f"AllClinical00.{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=rf"AllClinical00.{suffix}: .*damaged"):
        read_oai_tables(tmp_path)


def test_a_truncated_xport_is_refused_or_read_in_part(tmp_path: Path) -> None:
    whole = (write(tmp_path, "xpt") / "AllClinical00.xpt").read_bytes()
    for length in range(40, len(whole), 97):
        (tmp_path / "AllClinical00.xpt").write_bytes(whole[:length])
        try:
            read_table(tmp_path / "AllClinical00.xpt", tmp_path, lambda name: True)
        except InputError as error:
            assert "AllClinical00.xpt" in str(error)  # noqa: PT017


def test_without_pyreadstat_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "xpt")
    monkeypatch.setitem(sys.modules, "pyreadstat", None)
    with pytest.raises(InputError, match=r"pip install 'spinmark-data\[sas\]'"):
        read_oai_tables(tmp_path)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="pyreadstat's samples are not here")
def test_the_letters_of_a_real_sas7bdat(tmp_path: Path) -> None:
    frame, _ = pyreadstat.read_sas7bdat(str(SAMPLES / "missing_test.sas7bdat"), user_missing=True)
    cells = [_cells([value], numeric=True)[0] for value in frame.iloc[0]]
    assert cells == [".A", ".B", ".C", ".X", ".Y", ".Z", ".", ".", "1"]
    table = read_table(SAMPLES / "test_data_win.sas7bdat", SAMPLES, lambda name: True)
    assert list(table.frame.columns) == ["SEXA", "SEXB", "LINE"]
    assert len(table.frame) == 3


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="pyreadstat's samples are not here")
def test_a_truncated_sas7bdat_is_refused_or_read_in_part(tmp_path: Path) -> None:
    whole = (SAMPLES / "test_data_win.sas7bdat").read_bytes()
    path = tmp_path / "Enrollees.sas7bdat"
    for length in range(100, len(whole), 6151):
        path.write_bytes(whole[:length])
        try:
            read_table(path, tmp_path, lambda name: True)
        except InputError as error:
            assert "Enrollees.sas7bdat" in str(error)  # noqa: PT017
