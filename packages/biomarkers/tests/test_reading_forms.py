"""Forms: blank ones, completed ones, and what is wrong with them, in one line each."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.reading.config import SIGNS, ReadingConfig
from spinmark_biomarkers.phenotypes.reading.forms import (
    CONFIDENCE,
    blank_form,
    questions,
    reader_names,
)
from spinmark_biomarkers.phenotypes.reading.plan import ReadingPlan, plan_readings
from spinmark_biomarkers.phenotypes.reading.readings import read_readings

from .reading_cases import phenotypes_of

Rows = list[list[str]]


@pytest.fixture(scope="module")
def plan() -> ReadingPlan:
    config = ReadingConfig(prototypes=2, random=1, boundary=1, odd_items=2, controls=1, repeats=1)
    return plan_readings(*phenotypes_of([12, 12]), config)


def rows_of(text: str) -> Rows:
    return list(csv.reader(io.StringIO(text)))


def filled(plan: ReadingPlan, phase: int = 1, reader: str = "ada") -> Rows:
    rows = rows_of(blank_form(plan, phase, 0, reader))
    for row in rows[3:]:
        row[4] = "seen" if row[3] == "free text" else row[3].split(" | ")[0]
    return rows


def write(path: Path, rows: Rows, separator: str = ",", encoding: str = "utf-8") -> Path:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="\r\n").writerows(rows)
    path.write_bytes(out.getvalue().encode(encoding))
    return path


def test_a_blank_form_asks_everything_and_tells_nothing(plan: ReadingPlan) -> None:
    text = blank_form(plan, 1, 0, "reader-1")
    rows = rows_of(text)
    assert rows[0] == ["part", "code", "question", "accepted", "answer"]
    assert [row[4] for row in rows[1:3]] == [plan.set_id, "reader-1"]
    assert all(row[4] == "" for row in rows[3:])
    assert len(rows) - 3 == len(plan.items) + 6 * 2
    sign = next(row for row in rows if row[2] == "known sign")
    assert sign[3] == " | ".join(SIGNS)
    told = text.casefold()
    assert not any(
        one in told for one in ("prototype", "boundary", "control", "repeat", "phenotype")
    )
    assert not any(one.partition(":")[0] in told for one in plan.scan_ids())


def test_readers_begin_with_other_sheets_and_have_the_same_questions(plan: ReadingPlan) -> None:
    first, second = questions(plan, 1, 0), questions(plan, 1, 1)
    assert next(one.code for one in first if one.part == "sheet") != next(
        one.code for one in second if one.part == "sheet"
    )
    assert {(one.code, one.question) for one in first} == {
        (one.code, one.question) for one in second
    }
    assert reader_names(2) == ["reader-1", "reader-2"]


def test_completed_forms_of_both_phases_come_back(plan: ReadingPlan, tmp_path: Path) -> None:
    files = [
        write(tmp_path / "1.csv", filled(plan)),
        write(tmp_path / "2.csv", filled(plan, 2, "Ada")),
        write(tmp_path / "3.csv", filled(plan, 1, "bo")),
    ]
    found = read_readings(plan, files)
    # One reader who once wrote a capital is one reader.
    assert set(found["reader"]) == {"Ada", "bo"} or set(found["reader"]) == {"ada", "bo"}
    assert len(found) == 2 * len(questions(plan, 1)) + len(questions(plan, 2))
    pd.testing.assert_frame_equal(found, read_readings(plan, files[::-1]))
    names = found[(found["part"] == "name") & (found["question"] == "name")]
    assert names["answer"].tolist() == ["seen", "seen"]


@pytest.mark.parametrize(
    ("separator", "encoding"), [(";", "utf-8-sig"), ("\t", "cp1252"), (",", "utf-8")]
)
def test_what_spreadsheets_do_is_of_no_consequence(
    plan: ReadingPlan, tmp_path: Path, separator: str, encoding: str
) -> None:
    rows = filled(plan, 1, "Zo\u00eb")
    for row in rows[3:]:
        row[0], row[1] = row[0].upper(), f" {row[1].lower()} "
        row[4] = row[4] if row[3] == "free text" else row[4].upper()
    moved = [rows[0], *rows[1:3], *rows[:2:-1], [], ["", "", "", "", ""]]
    found = read_readings(plan, [write(tmp_path / "f.csv", moved, separator, encoding)])
    plain = read_readings(plan, [write(tmp_path / "g.csv", filled(plan, 1, "Zo\u00eb"))])
    pd.testing.assert_frame_equal(found, plain)


def test_an_answer_may_be_left_out(plan: ReadingPlan, tmp_path: Path) -> None:
    rows = filled(plan)
    rows[3][4] = "  "
    found = read_readings(plan, [write(tmp_path / "f.csv", rows)])
    assert (found["answer"] == "").sum() == 1


def at(rows: Rows, question: str) -> int:
    return next(n for n, row in enumerate(rows) if row[2] == question)


def changed(question: str, column: int, value: str) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        rows[at(rows, question)][column] = value

    return change


def without(question: str) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        del rows[at(rows, question)]

    return change


def twice(rows: Rows) -> None:
    rows.append(rows[at(rows, "confidence")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("confidence", 4, "6"), f"answer: '6'; accepted are {', '.join(CONFIDENCE)}, or nothing"),
        (changed("known sign", 4, "bml"), "answer: 'bml'; accepted are marrow lesion, cartilage loss"),
        (changed("odd one", 4, "E"), "row 4, column answer: 'E'; accepted are A, B, C, D"),
        (changed("odd one", 1, "QQQ"), "row 4, column code: 'QQQ'; accepted are "),
        (changed("odd one", 0, "even one"), "column part: 'even one'; accepted are odd one out, sheet"),
        (changed("odd one", 2, "odd"), "column question: 'odd'; accepted are odd one"),
        (changed("set", 4, "beef"), "row 2, column answer: set 'beef'; accepted is '"),
        (changed("reader", 4, ""), "no row 'form, reader' with an answer"),
        (without("set"), "no row 'form, set' with an answer"),
        (without("confidence"), "confidence'; accepted are all rows of the form"),
        (twice, "confidence' stands twice"),
        (lambda rows: rows[0].__setitem__(4, "said"), "row 1: no column 'answer'"),
        (lambda rows: rows.clear(), "row 1: no column 'part'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    plan: ReadingPlan, tmp_path: Path, change: Callable[[Rows], None], message: str
) -> None:
    rows = filled(plan)
    change(rows)
    file = write(tmp_path / "ada.csv", rows)
    with pytest.raises(InputError) as caught:
        read_readings(plan, [file])
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_one_form_a_reader_and_phase(plan: ReadingPlan, tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a.csv", filled(plan)),
        write(tmp_path / "b.csv", filled(plan, 1, "ADA")),
    ]
    with pytest.raises(InputError, match=r"b\.csv: reader 'ADA' stands in .*a\.csv too"):
        read_readings(plan, files)
    with pytest.raises(InputError, match="none were given"):
        read_readings(plan, [])
    with pytest.raises(InputError, match=r"absent\.csv: cannot be read"):
        read_readings(plan, [tmp_path / "absent.csv"])
