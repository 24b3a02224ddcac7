"""A cohort's summary as tables of text, for the terminal and for a page."""

from collections.abc import Sequence

from spinmark.report.page import Table
from spinmark_data.inspect.records import CohortSummary, percent

# Rows of a table that may be as long as there are scanners; the JSON file holds all of them.
SHOWN = 20


def size(count: int) -> str:
    """Bytes in kilobytes, megabytes or gigabytes."""
    unit, name = next(
        (u, n) for u, n in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= u or n == "kB"
    )
    return f"{count / unit:,.1f} {name}"


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def sequence_table(summary: CohortSummary) -> Table:
    """Grid and counts by sequence."""
    return Table(
        title="Sequences",
        columns=("sequence", "grid", "spacing (mm)", "scans", "people", "joints"),
        rows=[
            (
                row.sequence,
                _by(row.shape),
                _by(row.spacing_mm),
                f"{row.scans:,}",
                f"{row.subjects:,}",
                f"{row.joints:,}",
            )
            for row in summary.sequences
        ],
        note="Grid along (echo,) z, y, x; spacing along z, y, x.",
    )


def size_table(summary: CohortSummary) -> Table:
    """What the voxels of each sequence take."""
    return Table(
        title="Voxels",
        columns=("sequence", "type", "stored", "in memory", "ratio"),
        rows=[
            (
                row.sequence,
                row.dtype,
                size(row.bytes_stored),
                size(row.bytes_uncompressed),
                "" if row.compression is None else f"{row.compression:.2f}",
            )
            for row in summary.sequences
        ],
        note="Ratio: in memory over stored.",
    )


def completeness_table(summary: CohortSummary) -> Table:
    """Scans by sequence and visit."""
    return Table(
        title="Scans by visit",
        columns=("sequence", "visit", "scans", "rescans", "joints", "of all joints"),
        rows=[
            (
                row.sequence,
                row.visit,
                f"{row.scans:,}",
                f"{row.rescans:,}",
                f"{row.joints:,}",
                percent(row.share),
            )
            for row in summary.completeness
        ],
        note=f"All joints: the {summary.joints:,} that have a row in the table joints or a scan.",
    )


def site_table(summary: CohortSummary) -> Table:
    """Scans by site and scanner."""
    rows = sorted(summary.sites, key=lambda row: (row.sequence, row.site, -row.scans, row.scanner))
    return Table(
        title="Scans by site and scanner",
        columns=("sequence", "site", "scanner", "scans", "people"),
        rows=[
            (
                row.sequence,
                row.site or "not known",
                row.scanner or "not known",
                f"{row.scans:,}",
                f"{row.subjects:,}",
            )
            for row in rows[:SHOWN]
        ],
        note=_rest(len(rows)),
    )


def tables_table(summary: CohortSummary) -> Table:
    """Rows and columns of each table."""
    return Table(
        title="Tables",
        columns=("table", "rows", "columns"),
        rows=[(row.table, f"{row.rows:,}", f"{row.columns:,}") for row in summary.tables],
    )


def static_table(summary: CohortSummary) -> Table:
    """Share of observed cells by role, of what is known once of each person."""
    return Table(
        title="Cells with a value, variables of a person",
        columns=("role", "variables", "people", "%"),
        rows=[
            (_role(row.role), str(row.variables), f"{row.rows:,}", percent(row.share)[:-1])
            for row in summary.observed
            if not row.visit
        ],
    )


def observed_table(summary: CohortSummary) -> Table:
    """Share of observed cells, a row a role and table, a column a visit."""
    cells = {(row.role, row.table, row.visit): row for row in summary.observed if row.visit}
    visits = [visit for visit in summary.visits if any(visit == key[2] for key in cells)]
    rows = []
    for role, table in dict.fromkeys(key[:2] for key in cells):
        here = [cells.get((role, table, visit)) for visit in visits]
        variables = next(cell.variables for cell in here if cell is not None)
        shares = ["" if cell is None else percent(cell.share)[:-1] for cell in here]
        rows.append((_role(role), table, str(variables), *shares))
    return Table(
        title="Cells with a value, by visit (%)",
        columns=("role", "table", "n", *visits),
        rows=rows,
        note="n: variables of the role. Of those asked at a visit; empty where none was.",
    )


def _role(role: str) -> str:
    return role or "not in dictionary"


def outcome_table(summary: CohortSummary) -> Table:
    """What became of the joints."""
    return Table(
        title="Outcomes",
        columns=("endpoint", "joints", "people", "events", "deaths", "censored"),
        rows=[
            (
                row.endpoint,
                f"{row.joints:,}",
                f"{row.subjects:,}",
                f"{row.events:,}",
                f"{row.deaths:,}",
                f"{row.censored:,}",
            )
            for row in summary.outcomes
        ],
        note="Joints are counted; a death stands on each of a person's joints.",
    )


def issue_table(summary: CohortSummary) -> Table:
    """Issues by kind with their commonest reasons."""
    shown = sum(times for issue in summary.issues for _, times in issue.reasons)
    total = sum(issue.count for issue in summary.issues)
    kinds = ", ".join(f"{issue.count:,} {issue.kind}" for issue in summary.issues)
    return Table(
        title="Issues met by the ingest",
        columns=("kind", "times", "reason"),
        rows=[
            (issue.kind, f"{times:,}", reason)
            for issue in summary.issues
            for reason, times in issue.reasons
        ],
        note=f"{kinds or 'None'}; {shown:,} of {total:,} shown, the rest is in the table issues.",
    )


def _rest(count: int) -> str:
    return f"The first {SHOWN} of {count:,}; --json FILE holds all." if count > SHOWN else ""


def all_tables(summary: CohortSummary) -> list[Table]:
    """Every table that has rows, in the order of reading."""
    makers = (
        sequence_table,
        size_table,
        completeness_table,
        site_table,
        tables_table,
        static_table,
        observed_table,
        outcome_table,
        issue_table,
    )
    return filled(*(maker(summary) for maker in makers))


def filled(*tables: Table) -> list[Table]:
    """Tables that have rows."""
    return [table for table in tables if table.rows]


def lead(summary: CohortSummary) -> str:
    """A cohort in two sentences."""
    scans = sum(row.scans for row in summary.sequences)
    kinds = f"{len(summary.sequences)} sequence{'s' * (len(summary.sequences) != 1)}"
    return (
        f"Generation {summary.generation}, {summary.hash[:16]}: {summary.subjects:,} people, "
        f"{summary.joints:,} joints, {scans:,} scans of {kinds}. "
        f"Images take {size(summary.bytes_images)}, tables {size(summary.bytes_tables)}."
    )
