"""Choosing one reading a knee where several projects read the same radiograph."""

import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.ingest.cells import parse_column
from spinmark_data.ingest.oai_files import Issue, RawTable, issue

SIDES = {1.0: "R", 2.0: "L"}
# Project 15 read the cohort's radiographs up to 48 months, 37 later ones and a sample of those; 42
# is a second name of 37. Their readers differ, so readings are chosen and never averaged.
PROJECTS = (15, 37, 42)


def _sides(table: RawTable) -> pd.Series:
    if "SIDE" not in table.frame:
        raise InputError(f"{table.source}: no column SIDE; a reading table needs one.")
    return parse_column(table.frame["SIDE"], "number").values.map(SIDES)


def choose_readings(table: RawTable) -> tuple[pd.DataFrame, list[Issue]]:
    """One row a knee, of the project that stands first in `PROJECTS`.

    Args:
        table: A reading table with `SIDE` and `READPRJ`, any number of rows a knee.

    Returns:
        The chosen rows with a column `laterality`, and what was set aside. A knee with two
        different rows of one project is left out: nothing says which of them holds.

    Raises:
        InputError: The column `SIDE` or `READPRJ` is absent.
    """
    if "READPRJ" not in table.frame:
        raise InputError(f"{table.source}: no column READPRJ; a reading table needs one.")
    frame = table.frame.assign(laterality=_sides(table))
    # A project may be written 15 or `15: Project 15`; others, such as 63A, are no numbers.
    text = frame["READPRJ"].str.strip().str.extract(r"^(\d+)(?::.*)?$", expand=False)
    project = pd.to_numeric(text, errors="coerce")
    issues: list[Issue] = []

    def drop(bad: pd.Series, reason: str) -> None:
        if bad.any():
            line = int(frame.loc[bad, "LINE"].iloc[0])
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
    other = ~project.isin(PROJECTS) & ~no_side
    drop(other, f"are of a READPRJ other than {list(PROJECTS)}")
    good = ~(no_side | other)
    frame = frame[good].assign(rank=project[good].map(PROJECTS.index))
    scores = [
        name for name in frame if name not in ("SIDE", "READPRJ", "LINE", "laterality", "rank")
    ]
    # A row repeated word for word is one reading; the copies are dropped without a question.
    frame = frame[~frame.assign(subject=frame.index).drop(columns="LINE").duplicated()]
    frame = frame.assign(subject=frame.index)
    twice = frame.duplicated(["subject", "laterality", "rank"], keep=False)
    drop(twice, "contradict another row of the same knee and project")
    frame = frame[~twice]
    empty = pd.DataFrame(
        {name: parse_column(frame[name]).reasons.ne("") for name in scores}, index=frame.index
    ).all(axis=1)
    # A row without a single score gives way to another project's.
    order = frame.assign(empty=empty).sort_values(
        ["subject", "laterality", "empty", "rank"], kind="stable"
    )
    chosen = order.drop_duplicates(["subject", "laterality"])
    recoded = int((chosen["rank"] == PROJECTS.index(42)).sum())
    if recoded:
        issues.append(
            issue(
                table.source,
                "repaired",
                f"{recoded} knees are of READPRJ 42",
                "taken as project 37",
            )
        )
    fallback = int((chosen["rank"] > 0).sum()) - recoded
    if fallback and (chosen["rank"] == 0).any():
        issues.append(
            issue(
                table.source,
                "repaired",
                f"{fallback} knees have no reading of project 15",
                "the reading of project 37 was taken",
            )
        )
    return chosen[[*scores, "laterality"]], issues
