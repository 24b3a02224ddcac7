"""Choosing one reading a knee where several projects read the same image."""

from collections.abc import Mapping

import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.cells import parse_column
from spinmark_data.ingest.oai.files import Issue, RawTable, issue

SIDES = {1.0: "R", 2.0: "L"}
# A second name of a project: its participants were coded so by mistake.
RECODED: Mapping[str, str] = {"42": "37"}
PROSTHESIS_REASON = ".P"
# Fewer rows than this may all be odd by chance.
_FEW = 10


def _sides(table: RawTable) -> pd.Series:
    if "SIDE" not in table.frame:
        raise InputError(f"{table.source}: no column SIDE; a reading table needs one.")
    sides = parse_column(table.frame["SIDE"], "number").values.map(SIDES)
    if len(sides) >= _FEW and sides.isna().mean() > 0.5:
        raise InputError(
            f"{table.source}: {int(sides.isna().sum())} of {len(sides)} rows have a SIDE other than "
            "1 (right) and 2 (left); the columns look shifted."
        )
    return sides


def _projects(table: RawTable, needed: bool) -> pd.Series:
    """The project of each row as text: `15`, `63A`; it may be written `15: Project 15`."""
    if "READPRJ" not in table.frame:
        if needed:
            raise InputError(f"{table.source}: no column READPRJ; a reading table needs one.")
        return pd.Series("", index=table.frame.index, dtype=object)
    first = table.frame["READPRJ"].str.split(":").str[0].str.strip().str.upper()
    return first.str.replace(r"\.0$", "", regex=True)


def _without_score(column: pd.Series) -> pd.Series:
    reasons = parse_column(column).reasons
    # A prosthesis is a finding: its row must not give way to another project's.
    return reasons.ne("") & reasons.ne(PROSTHESIS_REASON)


def choose_readings(
    table: RawTable, projects: tuple[str, ...] | None
) -> tuple[pd.DataFrame, list[Issue]]:
    """One row a knee, of the project that stands first; readings are never averaged.

    Args:
        table: A reading table with `SIDE` and `READPRJ`, any number of rows a knee.
        projects: Projects in the order of preference; None takes whichever read a knee, as long as
            it was one.

    Returns:
        The chosen rows with a column `laterality`, and what was set aside. A knee with two
        different rows of one project is left out: nothing says which of them holds.

    Raises:
        InputError: The column `SIDE` or, with `projects`, `READPRJ` is absent, or most sides are
            none.
    """
    frame = table.frame.assign(laterality=_sides(table))
    project = _projects(table, projects is not None)
    issues: list[Issue] = []

    def drop(bad: pd.Series, reason: str) -> None:
        if bad.any():
            line = int(frame.loc[bad.to_numpy(), "LINE"].iloc[0])
            issues.append(
                issue(
                    table.source,
                    "quarantined",
                    f"{int(bad.sum())} rows {reason}, first line {line}",
                    "the rows were left out",
                )
            )

    no_side = frame["laterality"].isna()
    drop(no_side, "have a SIDE other than 1 (right) and 2 (left)")
    if projects is None:
        frame = frame[~no_side.to_numpy()].assign(rank=0)
    else:
        shown = [int(name) if name.isdigit() else name for name in projects]
        other = ~project.isin(projects) & ~no_side
        drop(other, f"are of a READPRJ other than {shown}")
        good = (~(no_side | other)).to_numpy()
        frame = frame[good].assign(rank=project[good].map(projects.index).astype("int64"))
    keys = ("SIDE", "READPRJ", "LINE", "laterality", "rank")
    scores = [str(name) for name in frame if name not in keys]
    # A row repeated word for word is one reading; the copies are dropped without a question.
    frame = frame[~frame.assign(subject=frame.index).drop(columns="LINE").duplicated()]
    frame = frame.assign(subject=frame.index)
    twice = frame.duplicated(["subject", "laterality", "rank"], keep=False)
    drop(
        twice,
        "contradict another row of the same knee and project"
        if projects is not None
        else "are a second row of a knee (an order of projects goes into "
        f"oai.read_projects.{table.stem})",
    )
    frame = frame[~twice]
    empty = pd.Series(True, index=frame.index)
    for name in scores:
        empty &= _without_score(frame[name])
    # A row without a single score gives way to another project's.
    order = frame.assign(empty=empty).sort_values(
        ["subject", "laterality", "empty", "rank"], kind="stable"
    )
    chosen = order.drop_duplicates(["subject", "laterality"])
    if projects is not None:
        issues += _told(table, chosen["rank"], projects)
    return chosen[[*scores, "laterality"]], issues


def _told(table: RawTable, rank: pd.Series, projects: tuple[str, ...]) -> list[Issue]:
    """Which knees have a reading of another project than the first."""
    rows = []
    for name, target in RECODED.items():
        if name in projects and (count := int((rank == projects.index(name)).sum())):
            reason = f"{count} knees are of READPRJ {name}"
            rows.append(issue(table.source, "repaired", reason, f"taken as project {target}"))
    fallback: dict[str, int] = {}
    for place, count in rank[rank > 0].value_counts().sort_index().items():
        if (name := projects[int(str(place))]) not in RECODED:
            fallback[name] = int(count)
    if fallback and (rank == 0).any():
        names = ", ".join(f"project {name} ({count})" for name, count in fallback.items())
        rows.append(
            issue(
                table.source,
                "repaired",
                f"{sum(fallback.values())} knees have no reading of project {projects[0]}",
                f"the reading of another was taken: {names}",
            )
        )
    return rows
