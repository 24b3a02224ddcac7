"""The fits of `spinmark finetune`: the labelled joints of `spinmark probe`, a fit a budget and draw."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spinmark import probing
from spinmark.errors import InputError
from spinmark_biomarkers.evaluation.probing.plan import Plan, budget_name, make_plan

if TYPE_CHECKING:
    from spinmark_data.cohort.reader import Cohort
    from spinmark_training.probes.finetune import Finetuner

PIECES = "pieces"


def plan_fits(
    cohort: "Cohort",
    scans: pd.DataFrame,
    names: Sequence[str],
    truth: Path | None,
    *,
    labels: Sequence[int | str],
    draws: int,
    seed: int,
    on: str,
) -> Plan:
    """Draw labelled joints as `spinmark probe` does.

    Args:
        cohort: The cohort.
        scans: One row a scan, with its `set`.
        names: Variables and latents; without any, all latents.
        truth: A phantom's truth, where latents are asked for.
        labels: Budgets: numbers, and `all`.
        draws: Draws of each.
        seed: Of the draws.
        on: The set that is predicted.

    Raises:
        InputError: Nothing is asked for, or something that is not there or has no values.
    """
    # Those that the probe looks at: what is drawn depends on who is there.
    kept = scans[scans["set"].isin(["train", on]) & (scans["rank"] == 0)].reset_index(drop=True)
    latents = []
    if truth is not None:
        schema = json.loads((truth / "schema.json").read_text())
        latents = probing.latents(truth, schema, kept)
    if not names and not latents:
        raise InputError("--targets is empty; name variables of the cohort, or give --truth DIR")
    targets = latents
    if names:
        targets = probing.chosen([*latents, *probing.variables(cohort, kept)], names)
    return make_plan(
        kept,
        targets,
        budgets=[None if each == "all" else int(each) for each in labels],
        draws=draws,
        seed=seed,
        on=on,
    )


def fits(plan: Plan) -> Iterator[tuple[str, int, pd.DataFrame, pd.DataFrame]]:
    """Yield each fit: budget, draw, the labels (scan x target), and which scans are scored (scan x target).

    A target that the budget leaves out is not there; a fit without targets is left out.
    """
    ids = pd.Index(plan.scans["scan_id"].astype(str), name="scan_id")
    for budget in dict.fromkeys(cell.budget for cell in plan.cells):
        cells = [cell for cell in plan.cells if cell.budget == budget and not cell.reason]
        for draw in range(max((len(cell.subsets) for cell in cells), default=0)):
            labels, scored = {}, {}
            for cell in cells:
                values = np.full(len(ids), np.nan)
                rows = cell.subsets[draw]
                values[rows] = cell.target.values[rows]
                labels[cell.target.name] = values
                scored[cell.target.name] = np.isin(np.arange(len(ids)), cell.scored)
            yield (
                budget_name(budget),
                draw,
                pd.DataFrame(labels, index=ids).dropna(how="all"),
                pd.DataFrame(scored, index=ids),
            )


def run_fits(
    tuner: "Finetuner",
    plan: Plan,
    folder: Path,
    *,
    seed: int,
    progress: Callable[[int, int], None],
) -> pd.DataFrame:
    """Fit and predict, budget by budget and draw by draw; what is there from before is taken as it is.

    Args:
        tuner: Fine-tunes the encoder.
        plan: What is learnt from.
        folder: Finished fits are kept below it until all are there.
        seed: Of the fits: every draw has one of its own, the same for all budgets.
        progress: Called with fits done and fits in all.

    Returns:
        `scan_id`, `target`, `labels`, `draw`, `seed` and `prediction`.
    """
    pieces = folder / PIECES
    pieces.mkdir(parents=True, exist_ok=True)
    classes = {
        cell.target.name: np.unique(cell.target.values[cell.target.known]).tolist()
        for cell in plan.cells
        if cell.target.kind != "number"
    }
    todo, parts = list(fits(plan)), []
    for done, (labels, draw, known, scored) in enumerate(todo):
        path = pieces / f"{labels}-{draw}.parquet"
        if not path.is_file():
            asked = list(scored.index[scored.any(axis=1)])
            own = {name: each for name, each in classes.items() if name in known}
            said = tuner(known, asked, seed=1000 * seed + draw, classes=own)
            wide = said.where(scored.loc[asked]).reset_index()
            part = wide.melt("scan_id", var_name="target", value_name="prediction").dropna()
            _write(part.assign(labels=labels, draw=draw, seed=seed), path)
        parts.append(pd.read_parquet(path))
        progress(done + 1, len(todo))
    found = pd.concat(parts, ignore_index=True)
    return found[["scan_id", "target", "labels", "draw", "seed", "prediction"]]


def _write(frame: pd.DataFrame, path: Path) -> None:
    """Write a finished fit at once, so that a kill leaves none that is half there."""
    beside = path.with_suffix(".new")
    frame.to_parquet(beside, index=False)
    beside.rename(path)
