"""The clinical side of a BIDS dataset: `participants.tsv` and `sessions.tsv` as one table."""

from pathlib import Path

import pandas as pd

from spinmark_data.ingest.own.bids import Dataset, open_dataset, read_tsv
from spinmark_data.ingest.own.columns import read_mapping
from spinmark_data.ingest.own.tables import tables_of
from spinmark_data.ingest.tableset import TableSet

# BIDS names sexes with these words; the cohort's codes are the OAI's.
_SEX = {
    **dict.fromkeys(("M", "m", "Male", "MALE", "male"), "1"),
    **dict.fromkeys(("F", "f", "Female", "FEMALE", "female"), "2"),
}
_OWN = ("participant_id", "session_id", "subject_id", "visit", "days", "laterality")


def _rows(release: Path, dataset: Dataset) -> list[dict[str, str]]:
    """A row a person at a session; what is known of a person stands on their first one."""
    folder = release / dataset.root
    rows: list[dict[str, str]] = []
    for person in read_tsv(folder / "participants.tsv"):
        label = person.get("participant_id", "").removeprefix("sub-")
        if not label:
            continue
        fixed = {k: v for k, v in person.items() if k not in _OWN}
        sessions = read_tsv(folder / f"sub-{label}" / f"sub-{label}_sessions.tsv")
        for place, session in enumerate(sessions or [{}]):
            key = (label, session.get("session_id", "").removeprefix("ses-"))
            visit, days = dataset.visits.get(key, (key[1] or "V00", None))
            own = {k: v for k, v in session.items() if k not in _OWN}
            name = dataset.subjects.get(label, label)
            rows.append(
                {"subject_id": name, "visit": visit, "days": "" if days is None else repr(days)}
                | (fixed if place == 0 else {})
                | {k: v for k, v in own.items() if v}
            )
    return rows


def read_bids_tables(release: Path, roots: list[str], mapping: Path | None = None) -> TableSet:
    """Read who was scanned when, and the variables that are known or mapped.

    Columns named as the OAI's variables (`age`, `SEX`, `BMI`) are taken as those, others when the
    mapping gives them a role.

    Args:
        release: The release.
        roots: Folders of the datasets within it.
        mapping: A YAML as for a clinical table of one's own.

    Raises:
        InputError: See `read_plain_tables`.
    """
    rows = [row for root in roots for row in _rows(release, open_dataset(release, root))]
    if not rows:
        return TableSet.empty()
    frame = pd.DataFrame(rows, dtype=object).fillna("")
    given = read_mapping(mapping)
    if mapping is None:
        sexes = [name for name in frame if str(name).upper() == "SEX"]
        given = {"variables": {name: {"codes": _SEX} for name in sexes}}
    if (frame["days"] == "").all():
        frame = frame.drop(columns="days")
    return tables_of(frame, given, Path(release) / roots[0] / "participants.tsv", mapping)
