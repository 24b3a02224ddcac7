"""Which scans are labelled for each target, budget and draw, and which are scored: once for all arms."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.labels import LabelDraws
from spinmark_biomarkers.evaluation.probing.targets import Target

Ints = npt.NDArray[np.int64]
Budget = int | None
MIN_EVENTS = 20
MIN_LABELS = 10


def budget_name(budget: Budget) -> str:
    """Return a budget as it stands in tables: a number, or `all`."""
    return "all" if budget is None else str(budget)


@dataclass(frozen=True)
class Cell:
    """What one target is fitted on at one budget.

    Args:
        target: The target.
        budget: Labelled joints (of an event: events); None for all.
        subsets: Labelled rows of each draw; one for the budget `all`, in which draws do not differ.
        scored: Test rows at which the target is known.
        reason: Why nothing is computed; empty where it is.
    """

    target: Target
    budget: Budget
    subsets: tuple[Ints, ...]
    scored: Ints
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """All cells over the same scans.

    Args:
        scans: A row a scan: `scan_id`, `subject_id`, `joint_id`, `days`, `rank`, `set`, `site`.
        on: The set that is scored.
        cells: By target and budget.
    """

    scans: pd.DataFrame
    on: str
    cells: tuple[Cell, ...]

    @cached_property
    def train(self) -> Ints:
        """Rows of training subjects."""
        return np.flatnonzero((self.scans["set"] == "train").to_numpy())

    @cached_property
    def test(self) -> Ints:
        """Rows that are scored."""
        return np.flatnonzero((self.scans["set"] == self.on).to_numpy())

    @cached_property
    def test_subjects(self) -> tuple[Ints, int]:
        """The code of each row's subject among those scored (-1 for others), and their number."""
        codes = np.full(len(self.scans), -1, dtype=np.int64)
        names, found = np.unique(
            self.scans["subject_id"].to_numpy()[self.test].astype(str), return_inverse=True
        )
        codes[self.test] = found
        return codes, names.size


def make_plan(
    scans: pd.DataFrame,
    targets: Sequence[Target],
    *,
    budgets: Sequence[Budget] = (50, 200, None),
    draws: int = 5,
    seed: int,
    on: str = "test",
) -> Plan:
    """Draw the labelled joints of every target and budget.

    Args:
        scans: As in `Plan`; training and scored sets, in the order of the embeddings' rows.
        targets: What is probed.
        budgets: Labelled joints, at least 10 each; of an event, events; None for all.
        draws: Draws of each budget below all.
        seed: Seed of the draws.
        on: The set that is scored.

    Raises:
        InputError: A setting out of range, no scan to score, or every cell is left out.
    """
    small = [b for b in budgets if b is not None and b < MIN_LABELS]
    if small or not budgets or len(set(budgets)) < len(budgets):
        raise InputError(
            f"labels: {[budget_name(b) for b in budgets]}; accepted are different numbers of at least "
            f"{MIN_LABELS}, and all"
        )
    if draws < 1:
        raise InputError(f"draws: {draws}; accepted is a whole number of at least 1")
    if not (scans["set"] == on).any():
        raise InputError(f"set {on}: no scan is in it; the sets are train, val and test")
    test = np.flatnonzero(((scans["set"] == on) & (scans["rank"] == 0)).to_numpy())
    labels = LabelDraws(scans, draws=draws, seed=seed)
    cells = tuple(_cell(labels, target, budget, test) for target in targets for budget in budgets)
    if cells and all(cell.reason for cell in cells):
        raise InputError(f"no target can be probed; {cells[0].target.name}: {cells[0].reason}")
    return Plan(scans, on, cells)


def _cell(labels: LabelDraws, target: Target, budget: Budget, test: Ints) -> Cell:
    scored = test[target.known[test]]
    scans = labels.scans
    if target.kind == "event":
        # One row a joint: a joint has its event once.
        first = scans.iloc[scored].assign(row=scored).sort_values(["days", "scan_id"])
        scored = np.sort(first.drop_duplicates("joint_id")["row"].to_numpy())
    # Without a budget draws differ in nothing.
    draws = range(1 if budget is None else labels.draws)
    subsets = [labels.rows(target.known, budget, draw=draw, event=target.event) for draw in draws]
    reason = _reason(scans, target, budget, subsets, scored)
    return Cell(target, budget, tuple(subsets), scored, reason)


def _reason(
    scans: pd.DataFrame, target: Target, budget: Budget, subsets: list[Ints], scored: Ints
) -> str:
    """Say why a cell cannot be computed; empty where it can."""
    rows = subsets[0]
    if target.event is not None:
        fitted, held = target.seen(rows), target.seen(scored)
        least = MIN_EVENTS if budget is None else max(MIN_EVENTS, budget)
        if fitted < least:
            return f"{fitted} events among labelled joints; {least} are needed"
        if held < MIN_EVENTS:
            return f"{held} events among scored joints; {MIN_EVENTS} are needed"
        return ""
    least = MIN_LABELS if budget is None else budget
    if len(rows) < least:
        return f"{len(rows)} training joints have it; {least} labelled ones are needed"
    if np.unique(scans["subject_id"].to_numpy()[rows].astype(str)).size < 2:
        return "labelled joints are of one subject"
    if not scored.size:
        return "no scored scan has it"
    if target.constant(scored):
        return "constant among scored scans"
    if all(target.constant(subset) for subset in subsets):
        return "constant among labelled joints"
    return ""
