"""Predictions that were made elsewhere, such as by fine-tuned encoders, brought to a plan's cells."""

import numpy as np
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.probing.plan import Plan, budget_name
from spinmark_biomarkers.evaluation.probing.predict import Predictions

COLUMNS = ("scan_id", "target", "labels", "draw", "prediction")


def as_predictions(frame: pd.DataFrame, plan: Plan, *, name: str) -> Predictions:
    """Return the predictions of one run for the cells of a plan that it has.

    Args:
        frame: A row a scan, target, budget and draw: `scan_id`, `target`, `labels` (a number or `all`),
            `draw`, `prediction` (a number, the score of the higher of two classes, the code of a
            class, or a log hazard ratio).
        plan: The plan.
        name: What the frame is called in messages.

    Raises:
        InputError: A column is missing, a value stands twice or is not finite, or a cell lacks scored
            scans or draws.
    """
    if absent := [column for column in COLUMNS if column not in frame.columns]:
        raise InputError(f"{name}: no column {absent[0]!r}; accepted are {', '.join(COLUMNS)}")
    if frame.duplicated(list(COLUMNS[:-1])).any():
        raise InputError(f"{name}: a scan stands twice for one target, labels and draw")
    if not np.isfinite(frame["prediction"].to_numpy(np.float64)).all():
        raise InputError(f"{name}: a prediction is not finite; accepted are finite numbers")
    keys = frame["target"].astype(str), frame["labels"].astype(str)
    # A list first: `dict` would take the attribute `keys` of a grouping for the method of a mapping.
    groups = dict(list(frame.groupby([*keys], sort=False)))
    ids = plan.scans["scan_id"].to_numpy().astype(str)
    found: Predictions = {}
    for cell in plan.cells:
        part = groups.get((cell.target.name, budget_name(cell.budget)))
        if part is None or cell.reason:
            continue
        wide = part.assign(scan_id=part["scan_id"].astype(str)).pivot(
            index="draw", columns="scan_id", values="prediction"
        )
        wide = wide.reindex(index=range(len(cell.subsets)), columns=ids[cell.scored])
        if wide.isna().any(axis=None):
            raise InputError(
                f"{name}: {cell.target.name} with {budget_name(cell.budget)} labels lacks predictions "
                f"for {int(wide.isna().any(axis=0).sum())} of {cell.scored.size} scored scans in some "
                f"of {len(cell.subsets)} draws; accepted are all of them"
            )
        found[cell.target.name, cell.budget, "finetuned"] = wide.to_numpy(np.float64)
    if not found:
        raise InputError(f"{name}: has none of the targets and labels that are probed here")
    return found
