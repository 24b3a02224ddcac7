"""What readers are asked, and blank forms: a row a question, the accepted answers beside it.

The first phase has the odd-one-out items and the sheets. The second, names, is handed out when the
first has come back, since who names phenotypes has begun to compare them.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spinmark_biomarkers.phenotypes.reading.plan import ReadingPlan

COLUMNS = ("part", "code", "question", "accepted", "answer")
FORM, ODD, SHEET, NAME = "form", "odd one out", "sheet", "name"
FREE = "free text"
YES_NO = ("yes", "no")
CONFIDENCE = ("1", "2", "3", "4", "5")
DISEASE = ("yes", "no", "unsure")
KNOWN = ("known", "variant of a known one", "new", "cannot say")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question to a reader.

    Args:
        part: `odd one out`, `sheet` or `name`.
        code: The item or the sheet.
        question: What is asked, in a few words.
        accepted: The answers that are accepted; empty for free text.
    """

    part: str
    code: str
    question: str
    accepted: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The accepted answers in words."""
        return " | ".join(self.accepted) if self.accepted else FREE


def questions(plan: ReadingPlan, phase: int, reader: int = 0) -> list[Question]:
    """Return the questions of a phase.

    Args:
        plan: The study.
        phase: 1 or 2.
        reader: The reader's number from 0. The second and later readers see the sheets begin at another
            one, so that no sheet is the first for all.
    """
    codes = list(dict.fromkeys(plan.sheets["code"]))
    start = reader % max(len(codes), 1)
    codes = [*codes[start:], *codes[:start]]
    if phase == 2:
        return [one for code in codes for one in _naming(code, codes)]
    items = [
        Question(part=ODD, code=str(code), question="odd one", accepted=tuple(plan.letters))
        for code in plan.items["code"]
    ]
    return [*items, *(one for code in codes for one in _sheet(code, plan.signs))]


def _sheet(code: str, signs: tuple[str, ...]) -> Iterator[Question]:
    asked: dict[str, tuple[str, ...]] = {
        "what they have in common": (),
        "known sign": signs,
        "confidence": CONFIDENCE,
        "artefact suspected": YES_NO,
        "which artefact": (),
        "related to disease": DISEASE,
    }
    for question, accepted in asked.items():
        yield Question(part=SHEET, code=code, question=question, accepted=accepted)


def _naming(code: str, codes: list[str]) -> Iterator[Question]:
    others = tuple(sorted(one for one in codes if one != code))
    yield Question(part=NAME, code=code, question="name")
    yield Question(part=NAME, code=code, question="known pattern", accepted=KNOWN)
    yield Question(part=NAME, code=code, question="same as sheet", accepted=("no other", *others))


def blank_form(plan: ReadingPlan, phase: int, reader: int, name: str) -> str:
    """Return a blank form as CSV.

    Args:
        plan: The study.
        phase: 1 or 2.
        reader: The reader's number from 0.
        name: What the reader goes by.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerow([FORM, "", "set", "leave as it is", plan.set_id])
    writer.writerow([FORM, "", "reader", "a name or a number, the same on all your forms", name])
    for one in questions(plan, phase, reader):
        writer.writerow([one.part, one.code, one.question, one.told, ""])
    return out.getvalue()


def reader_names(count: int) -> list[str]:
    """Return what readers go by: reader-1, reader-2, ..."""
    return [f"reader-{n}" for n in np.arange(1, count + 1)]
