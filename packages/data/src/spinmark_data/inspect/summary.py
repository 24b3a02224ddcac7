"""Counts and sizes of a cohort, from its scans, tables and ledger; voxels are not read."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from spinmark_data.cohort.ledger import read_ledger
from spinmark_data.cohort.reader import Cohort
from spinmark_data.inspect.records import (
    CohortSummary,
    Completeness,
    IssueCount,
    Observed,
    OutcomeCount,
    SequenceSize,
    SiteCount,
    TableSize,
)

NAMES = (
    "subjects",
    "visits",
    "joints",
    "morphometry",
    "missing",
    "outcomes",
    "dictionary",
    "issues",
    "flow",
)
# Columns that say whose a row is and when; all others of these tables are variables.
KEYS = frozenset({"subject_id", "laterality", "joint_id", "visit", "days", "months"})
REASONS = 5


def summarise(cohort: Cohort) -> CohortSummary:
    """Count what a cohort holds.

    Raises:
        InputError: A table or the ledger is absent.
    """
    scans = {name: cohort.scans(name) for name in cohort.sequences}
    tables = {name: cohort.table(name) for name in NAMES}
    order = visit_order([*scans.values(), tables["visits"], tables["joints"]])
    joints = _known([*scans.values(), tables["joints"]], "joint_id")
    stored: Counter[str] = Counter()
    for row in read_ledger(cohort.folder, cohort.generation):
        stored[row["sequence"]] += row["bytes"]
    return CohortSummary(
        generation=cohort.generation,
        hash=cohort.hash,
        bytes_images=sum(stored.values()),
        bytes_tables=_table_bytes(cohort),
        subjects=len(_known([*scans.values(), tables["subjects"]], "subject_id")),
        joints=len(joints),
        visits=tuple(order),
        sequences=tuple(_size(cohort, name, rows, stored[name]) for name, rows in scans.items()),
        completeness=_completeness(scans, order, len(joints)),
        sites=_sites(scans),
        tables=tuple(
            TableSize(table=name, rows=len(rows), columns=rows.shape[1])
            for name, rows in tables.items()
        ),
        observed=_observed(tables, order),
        outcomes=_outcomes(tables["outcomes"]),
        issues=_issues(tables["issues"]),
    )


def frame(rows: Sequence[Any]) -> pd.DataFrame:
    """One part of a summary as a frame, a row a dataclass, columns by attribute."""
    return pd.DataFrame([asdict(row) for row in rows])


def visit_order(frames: Iterable[pd.DataFrame]) -> list[str]:
    """The visits of frames with `visit` and `days`, by median day; those without days come last."""
    both = pd.concat([rows[["visit", "days"]] for rows in frames], ignore_index=True)
    middle = both.groupby(both["visit"].astype(str))["days"].median().fillna(np.inf)
    return sorted(map(str, middle.index), key=lambda visit: (float(middle[visit]), visit))


def _table_bytes(cohort: Cohort) -> int:
    names = cohort.folder.names(str(cohort.manifest["tables"]))
    return sum(len(cohort.folder.read(name)) for name in names)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _known(frames: Iterable[pd.DataFrame], column: str) -> set[str]:
    return {str(name) for rows in frames for name in rows[column].unique()}


def _size(cohort: Cohort, sequence: str, scans: pd.DataFrame, stored: int) -> SequenceSize:
    grid = cohort.manifest["sequences"][sequence]
    # Reading no scan costs nothing and tells the type.
    dtype = cohort.read(sequence, np.empty(0, dtype=np.int64)).dtype
    loose = len(scans) * math.prod(grid["shape"]) * dtype.itemsize
    return SequenceSize(
        sequence=sequence,
        shape=tuple(int(n) for n in grid["shape"]),
        spacing_mm=tuple(float(step) for step in grid["spacing_mm"]),
        dtype=str(dtype),
        scans=len(scans),
        subjects=scans["subject_id"].nunique(),
        joints=scans["joint_id"].nunique(),
        bytes_stored=stored,
        bytes_uncompressed=loose,
        compression=loose / stored if stored else None,
    )


def _completeness(
    scans: dict[str, pd.DataFrame], order: Sequence[str], joints_seen: int
) -> tuple[Completeness, ...]:
    """A row a sequence and visit, for every visit at which anything was scanned."""
    scanned = _known(scans.values(), "visit")
    rows = []
    for (name, frame_), visit in product(scans.items(), [v for v in order if v in scanned]):
        here = frame_[frame_["visit"] == visit]
        joints = here["joint_id"].nunique()
        rows.append(
            Completeness(
                sequence=name,
                visit=visit,
                scans=len(here),
                rescans=int((here["rank"] > 0).sum()),
                joints=joints,
                joints_seen=joints_seen,
                share=_share(joints, joints_seen),
            )
        )
    return tuple(rows)


def _sites(scans: dict[str, pd.DataFrame]) -> tuple[SiteCount, ...]:
    return tuple(
        SiteCount(
            sequence=name,
            site=str(site),
            scanner=str(scanner),
            scans=len(rows),
            subjects=rows["subject_id"].nunique(),
        )
        for name, frame_ in scans.items()
        for (site, scanner), rows in frame_.groupby(["site", "scanner"])
    )


def _observed(tables: dict[str, pd.DataFrame], order: Sequence[str]) -> tuple[Observed, ...]:
    dictionary = tables["dictionary"]
    roles = dict(zip(dictionary["variable"], dictionary["role"].astype(str), strict=True))
    rows = []
    for table in ("subjects", "visits", "joints", "morphometry"):
        values = tables[table]
        variables = [name for name in values.columns if name not in KEYS]
        visits = order if "visit" in values.columns else [""]
        for role in sorted({roles.get(name, "") for name in variables}):
            mine = [name for name in variables if roles.get(name, "") == role]
            for visit in visits:
                cells = (values[values["visit"] == visit] if visit else values)[mine].notna()
                if len(cells):
                    rows.append(_fullness(role, table, visit, cells))
    return tuple(rows)


def _fullness(role: str, table: str, visit: str, cells: pd.DataFrame) -> Observed:
    asked, observed = int(cells.any().sum()), int(cells.to_numpy().sum())
    return Observed(
        role=role,
        table=table,
        visit=visit,
        rows=len(cells),
        variables=cells.shape[1],
        asked=asked,
        observed=observed,
        share=_share(observed, len(cells) * asked),
    )


def _outcomes(outcomes: pd.DataFrame) -> tuple[OutcomeCount, ...]:
    return tuple(
        OutcomeCount(
            endpoint=str(endpoint),
            joints=len(rows),
            subjects=rows["subject_id"].nunique(),
            events=int((rows["cause"] == "event").sum()),
            deaths=int((rows["cause"] == "death").sum()),
            censored=int((rows["cause"] == "censored").sum()),
        )
        for endpoint, rows in outcomes.groupby("endpoint")
    )


def _issues(issues: pd.DataFrame) -> tuple[IssueCount, ...]:
    counts = []
    for kind, reasons in issues.groupby("kind")["reason"]:
        times = sorted(reasons.astype(str).value_counts().items(), key=lambda r: (-r[1], r[0]))
        common = tuple((str(reason), int(n)) for reason, n in times[:REASONS])
        counts.append(IssueCount(kind=str(kind), count=len(reasons), reasons=common))
    return tuple(sorted(counts, key=lambda issue: (-issue.count, issue.kind)))
