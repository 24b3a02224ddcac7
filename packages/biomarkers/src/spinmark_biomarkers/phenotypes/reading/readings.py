"""Completed forms, read strictly: what does not fit is named with file, row, column and value."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.reading.forms import COLUMNS, FORM, NAME, Question, questions
from spinmark_biomarkers.phenotypes.reading.plan import ReadingPlan

Row = tuple[int, dict[str, str]]
# What spreadsheets make of a comma, by the language of the machine.
SEPARATORS = (",", ";", "\t")


def read_readings(plan: ReadingPlan, files: Sequence[Path]) -> pd.DataFrame:
    """Read completed forms of one study.

    Args:
        plan: The study.
        files: CSV files; a reader's two phases are two files. A spreadsheet may have changed the separator,
            the encoding and the ends of lines. Case and spaces around answers are of no consequence.

    Returns:
        `reader`, `part`, `code`, `question`, `answer` ("" where there is none): a row a question that was
        put to a reader, sorted.

    Raises:
        InputError: A file cannot be read, belongs to other sheets, lacks a row or has one twice, has an
            unknown code or an answer that is not accepted, or two files are of one reader and phase.
    """
    if not files:
        raise InputError("readings: none were given; accepted is one CSV or more")
    frames: dict[tuple[str, int], tuple[Path, pd.DataFrame]] = {}
    for file in files:
        reader, phase, frame = _read_form(plan, file)
        for (other, its), (path, _) in frames.items():
            if (other.casefold(), its) == (reader.casefold(), phase):
                raise InputError(
                    f"{file}: reader '{reader}' stands in {path} too; accepted is one form a reader and phase"
                )
        frames[reader, phase] = (file, frame)
    # One reader who wrote the name in another way in the second phase is one reader.
    names: dict[str, str] = {}
    for reader, _ in sorted(frames):
        names.setdefault(reader.casefold(), reader)
    parts = [
        frame.assign(reader=names[reader.casefold()]) for (reader, _), (_, frame) in frames.items()
    ]
    whole = pd.concat(parts)[["reader", "part", "code", "question", "answer"]]
    return whole.sort_values(["reader", "part", "code", "question"]).reset_index(drop=True)


def _read_form(plan: ReadingPlan, file: Path) -> tuple[str, int, pd.DataFrame]:
    rows = _rows(file)
    head: dict[str, Row] = {}
    body: list[Row] = []
    for number, row in rows:
        if row["part"].casefold() == FORM:
            head[row["question"].casefold()] = (number, row)
        else:
            body.append((number, row))
    for name in ("set", "reader"):
        if name not in head or not head[name][1]["answer"]:
            raise InputError(
                f"{file}: no row 'form, {name}' with an answer; accepted is a form as made"
            )
    found = head["set"][1]["answer"]
    if found.casefold() != plan.set_id:
        raise InputError(
            f"{file}, row {head['set'][0]}, column answer: set '{found}'; accepted is '{plan.set_id}', that of "
            "these sheets, so the form is of another study"
        )
    reader = head["reader"][1]["answer"]
    phase = 2 if any(row["part"].casefold() == NAME for _, row in body) else 1
    return reader, phase, _answers(file, questions(plan, phase), body)


def _rows(file: Path) -> list[Row]:
    """The rows of a CSV as dictionaries, with their numbers as a spreadsheet counts them."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); accepted is a CSV") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    first = text.partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        lines = [[cell.strip() for cell in line] for line in reader]
    except csv.Error as error:
        raise InputError(f"{file}: is no CSV ({error}); accepted is a form as made") from error
    header = [name.casefold() for name in lines[0]] if lines else []
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise InputError(
            f"{file}, row 1: no column '{missing[0]}'; accepted are {', '.join(COLUMNS)}"
        )
    place = {name: header.index(name) for name in COLUMNS}
    return [
        (number, {name: line[at] if at < len(line) else "" for name, at in place.items()})
        for number, line in enumerate(lines[1:], start=2)
        if any(line)
    ]


def _answers(file: Path, asked: list[Question], body: list[Row]) -> pd.DataFrame:
    wanted = {(one.part, one.code.casefold(), one.question): one for one in asked}
    codes = {part: sorted({one.code for one in asked if one.part == part}) for part, _, _ in wanted}
    answers: dict[tuple[str, str, str], str] = {}
    for number, row in body:
        at = f"{file}, row {number}, column"
        part, code, question = (row[name].casefold() for name in ("part", "code", "question"))
        if part not in codes:
            raise InputError(f"{at} part: '{row['part']}'; accepted are {', '.join(codes)}")
        if code not in {one.casefold() for one in codes[part]}:
            raise InputError(f"{at} code: '{row['code']}'; accepted are {', '.join(codes[part])}")
        key = (part, code, question)
        if key not in wanted:
            known = [one.question for one in asked if (one.part, one.code.casefold()) == key[:2]]
            raise InputError(f"{at} question: '{row['question']}'; accepted are {', '.join(known)}")
        if key in answers:
            raise InputError(
                f"{file}, row {number}: '{part}, {row['code']}, {question}' stands twice; accepted once"
            )
        answers[key] = _accepted(at, row["answer"], wanted[key])
    for key, one in wanted.items():
        if key not in answers:
            raise InputError(
                f"{file}: no row '{one.part}, {one.code}, {one.question}'; accepted are all rows of the form, "
                "the answer left empty where there is none"
            )
    return pd.DataFrame(
        [(one.part, one.code, one.question, answers[key]) for key, one in wanted.items()],
        columns=["part", "code", "question", "answer"],
    )


def _accepted(at: str, answer: str, question: Question) -> str:
    """Return the answer as the form spells it; free text as it was written."""
    if not answer or not question.accepted:
        return answer
    for one in question.accepted:
        if " ".join(answer.casefold().split()) == one.casefold():
            return one
    raise InputError(
        f"{at} answer: '{answer}'; accepted are {', '.join(question.accepted)}, or nothing"
    )
