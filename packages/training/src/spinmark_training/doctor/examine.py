"""All checks, after a run and during it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from spinmark_training.doctor.chance import check_loss
from spinmark_training.doctor.collapse import check_rank, check_spread
from spinmark_training.doctor.feed import check_feed
from spinmark_training.doctor.finding import Context, Finding, Row
from spinmark_training.doctor.finite import check_finite
from spinmark_training.doctor.leakage import check_leakage
from spinmark_training.doctor.learning_rate import check_learning_rate
from spinmark_training.doctor.negatives import check_negatives
from spinmark_training.doctor.teacher import check_teacher
from spinmark_training.doctor.views import check_views

# Each takes the rows so far and the context, and returns none where it has nothing to go by.
CHECKS: tuple[Callable[[Sequence[Row], Context], Finding | None], ...] = (
    check_finite,
    check_loss,
    check_rank,
    check_spread,
    check_views,
    check_negatives,
    check_teacher,
    check_learning_rate,
    check_leakage,
    check_feed,
)


def diagnose(rows: Sequence[Row], context: Context) -> list[Finding]:
    """Run all checks that have something to go by.

    Args:
        rows: The rows of the metrics so far; a row may lack columns.
        context: What is known beside them.
    """
    found = (check(rows, context) for check in CHECKS)
    return [finding for finding in found if finding is not None]


def examine(
    rows: Sequence[Row],
    *,
    width: int,
    leakage: str | None,
    steps: int | None = None,
    warmup: float = 0.1,
    source: str | None = None,
) -> dict[str, Any]:
    """Examine a run that is over.

    Args:
        rows: The rows of the metrics; a row may lack columns.
        width: Length of the embedding.
        leakage: The nuisance variable that was probed.
        steps: Steps that were planned.
        warmup: Share of the steps over which the learning rate rose.
        source: Where a value that is not finite came from, in words; see `doctor.source`.

    Returns:
        `healthy` (no failure) and `findings`, each `check`, `verdict`, `text`; plain JSON.
    """
    context = Context(width=width, leakage=leakage, steps=steps, warmup=warmup, source=source)
    findings = diagnose(rows, context)
    healthy = all(finding.verdict != "failure" for finding in findings)
    return {"healthy": healthy, "findings": [asdict(finding) for finding in findings]}


class Watcher:
    """Examines a run while it goes on, and says each thing once.

    Args:
        context: What is known beside the rows.
    """

    def __init__(self, context: Context) -> None:
        self._context = replace(context, final=False)
        self._said: dict[str, str] = {}
        self._due = 0

    def watch(self, rows: Sequence[Row]) -> list[Finding]:
        """Return the warnings and failures that are new since the last call.

        What got worse, or came back after it had gone, is new. A long run is looked at whenever it has
        become a fiftieth longer: all rows are read each time.

        Args:
            rows: The rows of the metrics so far.
        """
        if len(rows) < self._due:
            return []
        self._due = len(rows) + len(rows) // 50
        found = [f for f in diagnose(rows, self._context) if f.verdict in ("warning", "failure")]
        new = [f for f in found if self._said.get(f.check) != f.verdict]
        self._said = {f.check: f.verdict for f in found}
        return new
