"""From the label maps of a cohort to its table of measures."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pandas as pd

from spinmark_data.cohort.amend import amend
from spinmark_data.cohort.location import Folder, locate
from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.ingest.merge_tables import append_rows
from spinmark_data.labels.store import LabelSet
from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.table import Morphometry, measure_cohort


def measure(
    path: str | Path | Folder,
    config: MorphometryConfig,
    sequence: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Morphometry:
    """Measure the label maps of a cohort; its next generation has the table `morphometry`.

    Args:
        path: The cohort.
        config: Settings.
        sequence: Whose label maps; needed where several sequences have some.
        progress: Called with scans done and scans asked for.

    Raises:
        InputError: The cohort has no such label maps, or several sequences have.
    """
    folder = locate(path)
    cohort = Cohort.open(folder)
    labelled = LabelSet.open(cohort, config.labels).sequences
    if sequence is None and len(labelled) != 1:
        raise InputError(
            f"{folder.url}: sequences {list(labelled)} have label maps; name one with --sequence."
        )
    found = measure_cohort(cohort, sequence or labelled[0], config, progress=progress)
    names = {field.name for field in fields(MorphometryConfig)} - {"workers"}
    settings = {name: getattr(config, name) for name in sorted(names)}

    def change(now: Cohort) -> dict[str, pd.DataFrame]:
        dictionary = now.table("dictionary")
        others = dictionary[dictionary["table"] != "morphometry"]
        return {
            "morphometry": found.table,
            "dictionary": append_rows(others, found.dictionary),
            "issues": append_rows(now.table("issues"), found.issues).drop_duplicates(),
        }

    amend(folder, change, {"measured": sequence or labelled[0], "settings": settings})
    return found
