"""From the label maps of a cohort to its table of measures."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from spinmark_data.cohort.amend import amend
from spinmark_data.cohort.location import Folder, locate
from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.ingest.merge_tables import append_rows
from spinmark_data.labels.store import LabelSet
from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.shape_plan import Training, plan_shapes
from spinmark_data.morphometry.shape_scores import score_shapes
from spinmark_data.morphometry.shape_store import KEY, write_modes
from spinmark_data.morphometry.table import Morphometry, measure_cohort


def measure(
    path: str | Path | Folder,
    config: MorphometryConfig,
    sequence: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    training: Training | None = None,
    refit: bool = False,
) -> Morphometry:
    """Measure the label maps of a cohort; its next generation has the table `morphometry`.

    Args:
        path: The cohort.
        config: Settings.
        sequence: Whose label maps; needed where several sequences have some.
        progress: Called with scans done and scans asked for.
        training: Whom modes of bone shape are fitted on. Without it knees are scored by the modes that
            stand in the cohort, if any, and so they are if those were fitted on the same.
        refit: Fit modes anew though they stand.

    Raises:
        InputError: The cohort has no such label maps, or several sequences have; or shapes cannot be
            scored as asked for (see `plan_shapes` and `score_shapes`).
    """
    folder = locate(path)
    cohort = Cohort.open(folder)
    labelled = LabelSet.open(cohort, config.labels).sequences
    if sequence is None and len(labelled) != 1:
        raise InputError(
            f"{folder.url}: sequences {list(labelled)} have label maps; name one with --sequence."
        )
    chosen = sequence or labelled[0]
    plan = plan_shapes(cohort, chosen, config, training, refit=refit)
    measured = measure_cohort(cohort, chosen, config, bones=plan.bones, progress=progress)
    found, modes = score_shapes(measured, plan)
    names = {field.name for field in fields(MorphometryConfig)} - {"workers"}
    settings = {name: getattr(config, name) for name in sorted(names)}
    provenance: dict[str, Any] = {"measured": chosen, "settings": settings}
    if modes is not None:
        provenance[KEY] = modes.record

    def change(now: Cohort) -> dict[str, pd.DataFrame]:
        if modes is not None and plan.modes is None:
            write_modes(folder, modes)
        dictionary = now.table("dictionary")
        others = dictionary[dictionary["table"] != "morphometry"]
        return {
            "morphometry": found.table,
            "dictionary": append_rows(others, found.dictionary),
            "issues": append_rows(now.table("issues"), found.issues).drop_duplicates(),
        }

    amend(folder, change, provenance)
    return found
