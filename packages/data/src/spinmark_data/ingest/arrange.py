"""Which staged scans enter a sequence, and in which order: grids, rescans, days."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from spinmark_data.ingest.tableset import TableSet

Record = dict[str, Any]
Issue = tuple[str, str, str, str]
Grid = tuple[Any, ...]


def grid_of(shape: list[int], spacing_mm: list[float], axes: list[int]) -> Grid:
    """What scans of one sequence must share: shape, spacing to 0.01 mm and directions."""
    return (*shape, *(round(step, 2) for step in spacing_mm), *axes)


def choose_grids(
    taken: list[Record], issues: list[Issue], standing: Mapping[str, Grid] | None = None
) -> list[Record]:
    """Keep the scans on the grid of their sequence, and note the others.

    Args:
        taken: Records of staged scans.
        issues: What was left out is added here.
        standing: Grids of the sequences that stand; a new sequence takes the commonest of its own.
    """
    kept = []
    for name in sorted({record["sequence"] for record in taken}):
        group = [record for record in taken if record["sequence"] == name]
        grids = [grid_of(r["shape"], r["spacing_mm"], r["axes"]) for r in group]
        counts = Counter(grids)
        # Ties go to the larger grid, so that the choice does not hang on the order of folders.
        best = max(counts, key=lambda grid: (counts[grid], grid[:3]))
        best = (standing or {}).get(name, best)
        for record, grid in zip(group, grids, strict=True):
            if grid == best:
                kept.append(record)
                continue
            reason = (
                f"shape {record['shape']} at {record['spacing_mm']} mm; {name} is on another grid, "
                f"{list(best[:-6])} at {list(best[-6:-3])} mm"
            )
            issues.append((record["source"], "quarantined", reason, "resample it before ingest"))
    return kept


def _key(record: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(record[k] for k in ("sequence", "subject_id", "laterality", "visit"))


def rank(records: list[Record], standing: Mapping[tuple[str, ...], int]) -> list[Record]:
    """Number the scans of one joint, visit and sequence, and sort by who they are of.

    Args:
        records: Records of staged scans; each gets a `rank`.
        standing: How many scans stand already, by (sequence, subject, laterality, visit).
    """
    ordered = sorted(records, key=lambda r: (_key(r), r["order"]), reverse=True)
    ranks: Counter[tuple[str, ...]] = Counter(standing)
    for record in ordered:
        # Of rescans the last is the one that the radiographer was content with; but a scan that
        # stands keeps its rank, whatever comes later.
        record["rank"] = ranks[_key(record)]
        ranks[_key(record)] += 1
    return sorted(ordered, key=lambda r: (*_key(r), r["rank"]))


def days(records: list[Record], tables: TableSet) -> list[float]:
    """Days since enrolment of each scan: as given, by its visit, or from its date; else NaN."""
    visits = tables.visits.dropna(subset=["days"])
    keys = zip(visits["subject_id"].astype(str), visits["visit"].astype(str), strict=True)
    known = dict(zip(keys, visits["days"].astype(float), strict=True))
    start: dict[str, pd.Timestamp] = {}
    if tables.enrolment is not None:
        frame = tables.enrolment.dropna()
        start = dict(zip(frame["subject_id"].astype(str), frame["date"], strict=True))
    found = []
    for record in records:
        value = record["days"]
        subject = record["subject_id"]
        if value is None:
            value = known.get((subject, record["visit"]))
        if value is None and subject in start and record["date"]:
            when = pd.to_datetime(pd.Series([record["date"]]), format="%Y%m%d", errors="coerce")
            value = (when.iloc[0] - start[subject]) / pd.Timedelta(days=1)
        found.append(float("nan") if value is None else float(value))
    return found


def sites(tables: TableSet) -> dict[str, str]:
    """The site of each subject that has one."""
    if "SITE" not in tables.subjects.columns:
        return {}
    given = tables.subjects.dropna(subset=["SITE"])
    found = {}
    for subject, site in zip(given["subject_id"], given["SITE"], strict=True):
        whole = isinstance(site, float) and site.is_integer()
        found[str(subject)] = str(int(site)) if whole else str(site)
    return found
