"""The tables and descriptions of a BIDS dataset, of whatever images lie in it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spinmark_data.cohort.reader import Cohort
from spinmark_data.export.common import Scan, write_json, write_text, write_tsv

BIDS_VERSION = "1.10.0"
_SCAN_COLUMNS = {
    "scan_id": "The scan in the cohort that this dataset was exported from.",
    "laterality": "Side of the joint: R, L or n/a.",
    "days": "Days since enrolment.",
    "site": "Where it was scanned.",
    "scanner": "Maker, model and a pseudonym of the machine.",
    "source_sha256": "SHA-256 of the file or series that the scan was read from.",
}
_README = """{name}

Exported by spinmark {version} from the cohort {hash}. {subjects} subjects, {scans} scans: {counts}.

- Voxels are the integers that the cohort stores; scale and offset stand in scl_slope and scl_inter.
- Every scan lies where the patient was. Left joints, which a cohort mirrors, were turned back.
- The side of a joint is the last letter of the acq entity (R, L, or none where it is unknown), and
  ImageLaterality in the sidecar.
- A rescan of the same joint at the same visit is a further run.
- There are no dates. sessions.tsv has days since enrolment.
- Labels of subjects and sessions are the cohort's identifiers without what is no letter or digit;
  scans.tsv has each scan's identifier in the cohort.
"""


@dataclass(frozen=True, kw_only=True)
class Named:
    """Where one scan goes.

    Args:
        scan: The scan.
        subject: Label of its subject.
        session: Label of its session.
        files: Its images within the dataset, one an echo.
    """

    scan: Scan
    subject: str
    session: str
    files: tuple[str, ...]


def write_participants(cohort: Cohort, out: Path, there: Sequence[Named]) -> None:
    """Write `participants.tsv` from the cohort's subjects table, its columns from the dictionary."""
    table = cohort.table("subjects")
    rows: dict[str, Any] = {str(row["subject_id"]): row for row in table.to_dict("records")}
    found = {place.subject: str(place.scan.row["subject_id"]) for place in there}
    columns = [str(column) for column in table.columns]
    columns = ["participant_id", "subject_id", *(c for c in columns if c != "subject_id")]
    lines: list[dict[str, Any]] = [
        {**rows.get(subject, {}), "participant_id": f"sub-{label}", "subject_id": subject}
        for label, subject in sorted(found.items())
    ]
    write_tsv(out / "participants.tsv", columns, lines)
    described = cohort.table("dictionary").set_index("variable").to_dict("index")
    write_json(
        out / "participants.json",
        {
            "subject_id": {"Description": "The subject in the cohort."},
            **{c: _describe(described.get(c, {})) for c in columns[2:]},
        },
    )


def _describe(entry: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of the dictionary as BIDS describes a column."""

    def text(field: str) -> str:
        value = entry.get(field)
        return "" if value is None or pd.isna(value) else str(value).strip()

    described: dict[str, Any] = {"Description": text("label") or "A variable of the cohort."}
    if unit := text("unit"):
        described["Units"] = unit
    try:
        codes = json.loads(text("codes") or "{}")
    except ValueError:
        codes = {}
    if isinstance(codes, dict) and codes:
        described["Levels"] = {str(code): str(label) for code, label in codes.items()}
    return described


def write_sessions(cohort: Cohort, out: Path, there: Sequence[Named]) -> None:
    """Write each subject's `sessions.tsv`: visits, and days since enrolment."""
    visits = cohort.table("visits")
    keys = zip(visits["subject_id"].astype(str), visits["visit"].astype(str), strict=True)
    known = dict(zip(keys, visits["days"].astype(float), strict=True))
    sessions: dict[str, dict[str, tuple[str, float]]] = {}
    for place in there:
        row = place.scan.row
        days, visit = float(row["days"]), str(row["visit"])
        of_subject = sessions.setdefault(place.subject, {})
        before = of_subject.get(place.session, (visit, math.nan))[1]
        earliest = np.fmin(days, before)
        if math.isnan(earliest):
            earliest = known.get((str(row["subject_id"]), visit), math.nan)
        of_subject[place.session] = (visit, float(earliest))
    for subject, of_subject in sessions.items():
        rows = [
            {"session_id": f"ses-{label}", "visit": visit, "days": days}
            for label, (visit, days) in sorted(of_subject.items())
        ]
        file = out / f"sub-{subject}" / f"sub-{subject}_sessions.tsv"
        write_tsv(file, ["session_id", "visit", "days"], rows)
    write_json(
        out / "sessions.json",
        {
            "visit": {"Description": "The visit in the cohort."},
            "days": {"Description": "Days from enrolment to the first scan.", "Units": "day"},
        },
    )


def write_scan_tables(out: Path, there: Sequence[Named]) -> None:
    """Write each session's `scans.tsv`: every image with what is known of its scan."""
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for place in there:
        root = f"sub-{place.subject}/ses-{place.session}/"
        rows = tables.setdefault((place.subject, place.session), [])
        known = {column: place.scan.row[column] for column in _SCAN_COLUMNS}
        rows += [{"filename": file.removeprefix(root), **known} for file in place.files]
    for (subject, session), rows in tables.items():
        stem = f"sub-{subject}_ses-{session}_scans.tsv"
        file = out / f"sub-{subject}" / f"ses-{session}" / stem
        write_tsv(file, ["filename", *_SCAN_COLUMNS], rows)
    described = {column: {"Description": text} for column, text in _SCAN_COLUMNS.items()}
    write_json(out / "scans.json", described)


def write_description(cohort: Cohort, out: Path, there: Sequence[Named], name: str) -> None:
    """Write `README` and `dataset_description.json`."""
    counts: dict[str, int] = {}
    for place in there:
        counts[place.scan.sequence] = counts.get(place.scan.sequence, 0) + 1
    write_text(
        out / "README",
        _README.format(
            name=name,
            version=version("spinmark-data"),
            hash=cohort.hash,
            subjects=len({place.subject for place in there}),
            scans=len(there),
            counts=", ".join(f"{n} of {sequence}" for sequence, n in sorted(counts.items())),
        ),
    )
    write_json(
        out / "dataset_description.json",
        {
            "Name": name,
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "raw",
            "GeneratedBy": [{"Name": "spinmark", "Version": version("spinmark-data")}],
        },
    )
