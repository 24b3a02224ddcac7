"""What a summary of a cohort is made of: one dataclass a kind of row."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SequenceSize:
    """How much there is of one sequence.

    Attributes:
        sequence: Its name.
        shape: Grid of one scan, `(z, y, x)` or `(echo, z, y, x)`.
        spacing_mm: Voxel spacing along z, y and x.
        dtype: Type of the intensities as stored.
        scans: Number of scans, rescans among them.
        subjects: Number of people with a scan.
        joints: Number of joints with a scan.
        bytes_stored: Bytes of its shards.
        bytes_uncompressed: Bytes of its voxels in memory.
        compression: `bytes_uncompressed / bytes_stored`; None where nothing is stored.
    """

    sequence: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    dtype: str
    scans: int
    subjects: int
    joints: int
    bytes_stored: int
    bytes_uncompressed: int
    compression: float | None


@dataclass(frozen=True, kw_only=True)
class Completeness:
    """How many were scanned with one sequence at one visit.

    Attributes:
        sequence: The sequence.
        visit: The visit.
        scans: Number of scans, rescans among them.
        rescans: Scans of a rank above 0.
        joints: Joints with a scan.
        joints_seen: Joints that the cohort knows at all, by a scan or a row of `joints`.
        share: `joints / joints_seen`; None where no joint is known.
    """

    sequence: str
    visit: str
    scans: int
    rescans: int
    joints: int
    joints_seen: int
    share: float | None


@dataclass(frozen=True, kw_only=True)
class SiteCount:
    """Scans of one sequence by site and scanner; either is empty where it is not known."""

    sequence: str
    site: str
    scanner: str
    scans: int
    subjects: int


@dataclass(frozen=True, kw_only=True)
class TableSize:
    """Rows and columns of one table."""

    table: str
    rows: int
    columns: int


@dataclass(frozen=True, kw_only=True)
class Observed:
    """How full the cells of one role are at one visit.

    Attributes:
        role: The variables' role; empty for variables that the dictionary does not hold.
        table: The table they stand in.
        visit: The visit; empty in `subjects`, which has none.
        rows: Rows of the table at the visit.
        variables: Variables of the role in the table.
        asked: Those with a value in any row at the visit. One that nobody was asked is not missing.
        observed: Cells with a value.
        share: `observed / (rows * asked)`; None where nothing was asked.
    """

    role: str
    table: str
    visit: str
    rows: int
    variables: int
    asked: int
    observed: int
    share: float | None


@dataclass(frozen=True, kw_only=True)
class OutcomeCount:
    """What became of the joints, for one endpoint."""

    endpoint: str
    joints: int
    subjects: int
    events: int
    deaths: int
    censored: int


@dataclass(frozen=True, kw_only=True)
class IssueCount:
    """Issues of one kind: how many, and the commonest reasons with how often each was given."""

    kind: str
    count: int
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class CohortSummary:
    """What is in a cohort; `dataclasses.asdict` gives what JSON can hold.

    Attributes:
        generation: The cohort's generation.
        hash: The hash of its content.
        bytes_images: Bytes of all shards, as the ledger tells; coordinates are small and left out.
        bytes_tables: Bytes of the table files.
        subjects: People in `subjects` or with a scan.
        joints: Joints in `joints` or with a scan.
        visits: Visits with a scan or a row of `visits` or `joints`, by their median day.
        sequences: Sizes, a row a sequence.
        completeness: A row a sequence and visit at which anything was scanned.
        sites: Scans by sequence, site and scanner.
        tables: Sizes, a row a table.
        observed: Observed cells, a row a table, role and visit.
        outcomes: A row an endpoint.
        issues: A row a kind, the commonest first.
    """

    generation: int
    hash: str
    bytes_images: int
    bytes_tables: int
    subjects: int
    joints: int
    visits: tuple[str, ...]
    sequences: tuple[SequenceSize, ...]
    completeness: tuple[Completeness, ...]
    sites: tuple[SiteCount, ...]
    tables: tuple[TableSize, ...]
    observed: tuple[Observed, ...]
    outcomes: tuple[OutcomeCount, ...]
    issues: tuple[IssueCount, ...]


def percent(share: float | None) -> str:
    """A share in percent; what is not quite all or not quite none does not read as such.

    >>> percent(0.999), percent(1.0), percent(0.123), percent(None)
    ('>99%', '100%', '12%', '')
    """
    if share is None or math.isnan(share):
        return ""
    if 0.995 <= share < 1:
        return ">99%"
    return "<1%" if 0 < share < 0.005 else f"{100 * share:.0f}%"
