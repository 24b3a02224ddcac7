"""What a check says, and what it is told."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

# A row of `metrics.csv`; it holds the columns that were measured at its step.
Row = Mapping[str, float]


@dataclass(frozen=True)
class Finding:
    """One check of a run.

    Attributes:
        check: The name of the check.
        verdict: `ok`, `note`, `warning` or `failure`.
        text: What was seen, what it means and what to do.
    """

    check: str
    verdict: Literal["ok", "note", "warning", "failure"]
    text: str


@dataclass(frozen=True)
class Context:
    """What checks need to know beside the rows.

    Attributes:
        width: Length of the embedding.
        leakage: The nuisance variable that was probed.
        steps: Steps in all; none if unknown.
        warmup: Share of the steps over which the learning rate rises.
        final: Whether the run is over; during it some checks wait for more rows.
        source: Where a value that is not finite came from, in words; see `doctor.source`.
    """

    width: int
    leakage: str | None = None
    steps: int | None = None
    warmup: float = 0.1
    final: bool = True
    source: str | None = None


def column(rows: Sequence[Row], name: str) -> list[float]:
    """Return the finite values of a column, in the order of the rows."""
    return [row[name] for row in rows if name in row and math.isfinite(row[name])]


def last(rows: Sequence[Row], name: str) -> float:
    """Return the newest value of a column, or NaN."""
    values = [row[name] for row in rows if name in row]
    return values[-1] if values else math.nan


def settled(values: Sequence[float]) -> list[float]:
    """Return a running median over 5 values: a level that single batches do not move."""
    return [median(values[max(0, i - 4) : i + 1]) for i in range(len(values))]


def early(rows: Sequence[Row], context: Context) -> bool:
    """Say whether a running run is too young for a verdict on its loss.

    A third of the steps, and never less than twice the warm-up and five rows: the smallest healthy runs
    have left their chance level by then, and before it a wrong alarm would be the rule.
    """
    if context.final:
        return False
    share = max(1 / 3, 2 * context.warmup)
    step = max((row.get("step", 0.0) for row in rows), default=0.0)
    return len(column(rows, "loss")) < 5 or step < share * (context.steps or 0)
