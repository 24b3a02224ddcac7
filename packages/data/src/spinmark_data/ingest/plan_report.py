"""A plan of an ingest in lines for a person to read."""

import re
from collections import defaultdict
from collections.abc import Sequence

from spinmark_data.ingest.plan import IngestPlan

_TABLES = 12


def grouped(rows: Sequence[tuple[str, str]], examples: int = 3) -> list[str]:
    """Reasons in lines, the most frequent first, each with a few of those that it is about.

    >>> grouped([("a", "gap of 3 mm"), ("b", "gap of 4 mm"), ("c", "empty")], examples=1)
    ['2: gap of 3 mm', '     a', '     and 1 more', '1: empty', '     c']
    """
    alike: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for source, reason in rows:
        # Reasons that differ in their numbers only are one.
        alike[re.sub(r"\d+(\.\d+)?", "#", reason)].append((source, reason))
    lines = []
    for group in sorted(alike.values(), key=lambda group: (-len(group), group[0][1])):
        lines.append(f"{len(group)}: {group[0][1]}")
        lines += [f"     {source}" for source, _ in group[:examples]]
        if len(group) > examples:
            lines.append(f"     and {len(group) - examples} more")
    return lines


def report(plan: IngestPlan, *, tables: Sequence[str], codes: bool = False) -> list[str]:
    """What an ingest would do, in lines.

    Args:
        plan: The plan.
        tables: The tables that it would read.
        codes: List what the codes of series stand for.
    """
    lines = [f"By their headers it would take {sum(plan.sequences.values())} series:"]
    lines += [f"  {count} of {name}" for name, count in plan.sequences.items()]
    pages = {
        "refuse": plan.refused,
        "set aside, since sources disagree,": plan.conflicts,
        "remark on": plan.notes,
    }
    for what, rows in pages.items():
        lines.append(f"It would {what} {len(rows) or 'none'}{':' if rows else '.'}")
        lines += [f"  {line}" for line in grouped(rows)]
    if codes:
        lines.append("Codes and what they stand for; keep this to yourself:")
        lines += [f"  {code}: {path}" for code, path in plan.paths.items()]
    more = ", ..." if len(tables) > _TABLES else ""
    lines.append("Copies, and scans on another grid than most, are told by the ingest itself.")
    people = f"; people in them: {plan.people}" if plan.people else ""
    return [*lines, f"Tables: {', '.join(tables[:_TABLES]) or 'none'}{more}{people}."]
