"""A reader study on disk: sheets from volumes, forms, and the key apart."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spinmark.report.reading_pages import (
    form_name,
    form_page,
    in_words,
    instructions_page,
    readme,
    sheet_page,
)
from spinmark_biomarkers.figures.reading import (
    Band,
    Joint,
    Page,
    page_figure,
    pages_of,
    slice_pictures,
    write_pdf,
)
from spinmark_biomarkers.phenotypes.reading.config import ReadingConfig
from spinmark_biomarkers.phenotypes.reading.forms import blank_form, reader_names
from spinmark_biomarkers.phenotypes.reading.key import write_key
from spinmark_biomarkers.phenotypes.reading.plan import KINDS

if TYPE_CHECKING:
    from spinmark_biomarkers.phenotypes.reading.plan import ReadingPlan
    from spinmark_data.cohort.reader import Cohort

Progress = Callable[[int, int], None]
Places = dict[str, tuple[str, int]]
BANDS = {
    "prototype": ("Typical", "nearest to the\nmiddle"),
    "random": ("Random", "drawn by chance\nfrom the group"),
    "boundary": ("Border", "nearest to\nanother group"),
}
ITEMS_PER_PAGE = 2


def places_of(cohort: "Cohort") -> Places:
    """Return the sequence and the index of each scan of a cohort."""
    return {
        str(scan_id): (sequence, index)
        for sequence in cohort.sequences
        for index, scan_id in enumerate(cohort.scans(sequence)["scan_id"])
    }


class _Joints:
    """Draws joints, each read once: a repeat shows what was shown."""

    def __init__(
        self,
        cohort: "Cohort",
        places: Places,
        config: ReadingConfig,
        progress: Progress,
        total: int,
    ) -> None:
        self.cohort, self.places, self.config = cohort, places, config
        self.progress, self.total = progress, total
        self.drawn: dict[str, Joint] = {}

    def __call__(self, scan_id: str, label: str) -> Joint:
        if scan_id not in self.drawn:
            sequence, index = self.places[scan_id]
            volume = self.cohort.read(sequence, np.array([index]))[0]
            while volume.ndim > 3:
                # Of several echoes or frames the first has the most signal.
                volume = volume[0]
            spacing = self.cohort.manifest["sequences"][sequence]["spacing_mm"][-3:]
            shares, axis = self.config.slices.values(), self.config.axis
            pictures = slice_pictures(volume, [float(one) for one in spacing], shares, axis=axis)
            self.drawn[scan_id] = Joint(label="", pictures=pictures)
            self.progress(len(self.drawn), self.total)
        return Joint(label=label, pictures=self.drawn[scan_id].pictures)


def write_study(
    folder: Path,
    plan: "ReadingPlan",
    cohort: "Cohort",
    places: Places,
    config: ReadingConfig,
    progress: Progress,
) -> None:
    """Write sheets, forms, key and README into a folder.

    Args:
        folder: The folder.
        plan: The study.
        cohort: Where the volumes are.
        places: As `places_of` gives them.
        config: Settings.
        progress: Called with (done, total) as joints are drawn.
    """
    sheets = folder / "sheets"
    sheets.mkdir()
    joints = _Joints(cohort, places, config, progress, len(plan.scan_ids()))
    # In the order of the codes, so that the times of the files tell nothing either.
    for code in sorted(plan.sheets["code"].unique()):
        page = _sheet(str(code), joints, plan, config)
        _write(sheets / f"sheet-{code}", [page], f"Sheet {code}", config, columns=3)
    if len(plan.items):
        pages = _item_pages(plan, joints, config)
        _write(sheets / "odd-one-out", pages, "Odd one out", config, columns=2)
    (sheets / "instructions.html").write_text(instructions_page(plan, config), encoding="utf-8")
    _forms(folder / "forms", plan, config)
    write_key(folder / "key", plan)
    count = {"sheets": sum(1 for _ in sheets.iterdir())}
    (folder / "README.md").write_text(readme(plan, config, count), encoding="utf-8")


def _sheet(code: str, joints: _Joints, plan: "ReadingPlan", config: ReadingConfig) -> Page:
    own = plan.sheets[plan.sheets["code"] == code]
    bands = []
    for kind in KINDS:
        shown = own[own["kind"] == kind]
        if len(shown):
            label, note = BANDS[kind]
            drawn = [
                joints(str(scan_id), str(place))
                for scan_id, place in zip(shown["scan_id"], shown["place"], strict=True)
            ]
            bands.append(Band(label=label, note=note, joints=tuple(drawn)))
    return Page(
        title=" ".join(code),
        told=f"{len(own)} joints of {len(own)} people, put together by their images alone.\n"
        "What have they in common?",
        corner=f"reading sheet\nset {plan.set_id[:8]}",
        slices=tuple(config.slices),
        bands=tuple(bands),
    )


def _item_pages(plan: "ReadingPlan", joints: _Joints, config: ReadingConfig) -> list[Page]:
    bands = [
        Band(
            label=" ".join(str(item["code"])),
            note="which one is\nof another group?",
            joints=tuple(joints(str(item[letter]), letter) for letter in plan.letters),
        )
        for _, item in plan.items.iterrows()
    ]
    alike = in_words(config.per_item - 1)
    told = f"{alike} are of one group and one is of another.\nGive its letter; guess if you must."
    return pages_of(
        "Odd one out", told, f"set {plan.set_id[:8]}", config.slices, bands, ITEMS_PER_PAGE
    )


def _write(stem: Path, pages: list[Page], title: str, config: ReadingConfig, columns: int) -> None:
    path = stem.with_name(f"{stem.name}.{config.format}")
    if config.format == "pdf":
        path.write_bytes(write_pdf(page_figure(page) for page in pages))
    else:
        path.write_text(sheet_page(pages, title, columns), encoding="utf-8")


def _forms(folder: Path, plan: "ReadingPlan", config: ReadingConfig) -> None:
    for phase, place in ((1, folder), (2, folder / "names")):
        place.mkdir()
        for number, name in enumerate(reader_names(config.readers)):
            stem = form_name(name, phase)
            # A spreadsheet takes a CSV for UTF-8 by its first bytes alone.
            text = blank_form(plan, phase, number, name)
            (place / f"{stem}.csv").write_text(text, encoding="utf-8-sig", newline="")
            page = form_page(plan, phase, number, name)
            (place / f"{stem}.html").write_text(page, encoding="utf-8")
