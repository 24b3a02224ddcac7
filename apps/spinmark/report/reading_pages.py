"""Pages of a reader study in HTML: forms that save a CSV, instructions, sheets, and a README."""

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spinmark_biomarkers.figures.reading import Page
    from spinmark_biomarkers.phenotypes.reading.config import ReadingConfig
    from spinmark_biomarkers.phenotypes.reading.plan import ReadingPlan

PARTS = {
    "odd one out": ("Odd one out", "Which joint is of another group? Guess if you must."),
    "sheet": ("Sheets", "One group each. In this order, please."),
    "name": ("Names", "Look at the sheets once more. What would you call each group?"),
}
LONG = "what they have in common"
NUMBERS = {2: "Two", 3: "Three", 4: "Four", 5: "Five", 6: "Six", 7: "Seven"}


def in_words(number: int) -> str:
    """A small number at the beginning of a sentence."""
    return NUMBERS.get(number, str(number))


def _render(name: str, **values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(str(files("spinmark") / "report"))
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(name).render(**values)


def form_page(plan: "ReadingPlan", phase: int, reader: int, name: str) -> str:
    """A form to fill in with a browser, which saves the CSV that score-readings takes.

    Args:
        plan: The study.
        phase: 1 or 2.
        reader: The reader's number from 0.
        name: What the reader goes by.
    """
    from spinmark_biomarkers.phenotypes.reading.forms import COLUMNS, ODD, questions

    asked = questions(plan, phase, reader)
    numbered = list(enumerate(asked))
    parts = []
    for part, of_part in groupby(numbered, key=lambda pair: pair[1].part):
        title, lead = PARTS[part]
        blocks = []
        for code, own in groupby(of_part, key=lambda pair: pair[1].code):
            rows = [
                {
                    "number": number,
                    "question": one.question,
                    "accepted": one.accepted,
                    "long": one.question == LONG,
                }
                for number, one in own
            ]
            blocks.append({"code": code, "questions": rows, "short": part == ODD})
        parts.append({"title": title, "lead": lead, "blocks": blocks})
    content = {
        "set": plan.set_id,
        "phase": phase,
        "reader": name,
        "file": form_name(name, phase) + ".csv",
        "columns": list(COLUMNS),
        "questions": [[one.part, one.code, one.question, one.told] for one in asked],
    }
    title = "Reading form" if phase == 1 else "Second form: names"
    return _render(
        "reading_form.html.j2",
        title=title,
        set_id=plan.set_id,
        reader=name,
        parts=parts,
        rows=content,
    )


def form_name(reader: str, phase: int) -> str:
    """The name of a form's file, without its ending."""
    return reader if phase == 1 else f"{reader}-names"


def instructions_page(plan: "ReadingPlan", config: "ReadingConfig") -> str:
    """What readers must know, on one page."""
    return _render(
        "reading_instructions.html.j2",
        title="How to read",
        set_id=plan.set_id,
        slices=list(config.slices),
        items=len(plan.items),
        per_item=config.per_item,
        alike=in_words(config.per_item - 1),
        sheets=plan.sheets["code"].nunique(),
        odd_file=f"odd-one-out.{config.format}",
    )


def sheet_page(pages: Sequence["Page"], title: str, columns: int) -> str:
    """Pages of joints as HTML, each slice a picture of its own that a click enlarges.

    Args:
        pages: The pages.
        title: Of the document.
        columns: Joints side by side.
    """
    from spinmark_biomarkers.figures.reading import png

    def source(image: Any) -> str:
        return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"

    first = pages[0].bands[0].joints[0].pictures
    told = [
        {
            "title": page.title,
            "told": page.told,
            "corner": page.corner,
            "slices": ", ".join(page.slices),
            "bands": [
                {
                    "label": band.label,
                    "note": band.note,
                    "joints": [
                        {
                            "label": joint.label,
                            "sources": [
                                (name, source(image))
                                for name, image in zip(page.slices, joint.pictures, strict=True)
                            ],
                        }
                        for joint in band.joints
                    ],
                }
                for band in page.bands
            ],
        }
        for page in pages
    ]
    widths = " ".join(f"{image.shape[1]}fr" for image in first)
    return _render("reading_sheet.html.j2", title=title, pages=told, columns=columns, widths=widths)


def readme(plan: "ReadingPlan", config: "ReadingConfig", files_of: Mapping[str, int]) -> str:
    """What the organiser must know, as Markdown.

    Args:
        plan: The study.
        config: Its settings.
        files_of: Files in each folder.
    """
    types = plan.items["type"].value_counts()
    counts = ", ".join(
        f"{int(types.get(kind, 0))} {kind}" for kind in ("phenotype", "control", "repeat")
    )
    lines = [
        "# Reader study",
        "",
        f"Set `{plan.set_id}`: {plan.sheets['code'].nunique()} sheets of {plan.k} phenotypes and "
        f"{len(plan.items)} odd-one-out items ({counts}), for {config.readers} readers.",
        "",
        "For the organiser. Do not hand out this file, `run.json` or the folder `key`.",
        "",
        "1. Look through `sheets` yourself: an image may carry burnt-in text, which no software here removes.",
        f"2. Give every reader `sheets` ({files_of['sheets']} files) and the two files of one form of `forms`, "
        "such as `reader-1.html` and `reader-1.csv` (the same form twice: one of them comes back as a CSV).",
        "3. When a form is back, and not before, give its reader `forms/names/READER-names.html` or `.csv`.",
        "4. Score what came back:",
        "",
        "       spinmark score-readings --sheets THIS_FOLDER --readings FORM.csv FORM.csv ... --out SCORES",
        "",
        "`key` says which phenotype and which scan stands where. Its hash stands in every form, so that a",
        "changed key, or a form of other sheets, is refused.",
    ]
    if plan.notes:
        lines += ["", "What could not be made as asked:", "", *(f"- {note}" for note in plan.notes)]
    return "\n".join(lines) + "\n"
