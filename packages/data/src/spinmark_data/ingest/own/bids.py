"""Anatomical scans of a BIDS dataset (Brain Imaging Data Structure 1.10).

A dataset is a folder with a `dataset_description.json`. Its raw images lie in
`sub-<label>[/ses-<label>]/anat/`; sidecars follow the inheritance principle: what stands nearer to the
image comes before what stands above it. Derivatives are left out.
"""

import csv
import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from spinmark_data.ingest.dicom.known_words import protocol_words, scanner_of
from spinmark_data.ingest.laterality import Evidence, side_of
from spinmark_data.ingest.own.csv_text import check_names
from spinmark_data.ingest.sequences import sequence_name
from spinmark_data.ingest.source import Found, Source

DESCRIPTION = "dataset_description.json"
_ASIDE = ("derivatives", "sourcedata", "code", "stimuli")
_IMAGE = re.compile(
    r"(?:^|/)sub-(?P<sub>[A-Za-z0-9+]+)(?:/ses-(?P<ses>[A-Za-z0-9+]+))?/(?P<type>[a-z]+)/"
    r"(?P<stem>[^/]+)\.nii(?:\.gz)?$"
)
# Suffixes of what is drawn on images or computed from them.
_DRAWN = ("mask", "defacemask", "dseg", "probseg", "T1map", "T2map", "T2starmap", "R1map", "R2map")
# Entities that the cohort keeps elsewhere; any other makes a sequence of its own.
_KEPT = ("sub", "ses", "run", "echo", "acq", "hemi")


@dataclass(frozen=True)
class Dataset:
    """A BIDS dataset and its tables.

    Args:
        root: Its folder within the release, `.` if it is the release.
        spinmark: Whether spinmark wrote it, and its columns therefore have spinmark's meaning.
        subjects: Identifier by label of a participant.
        visits: Visit and days by (label of a participant, label of a session).
    """

    root: str
    spinmark: bool = False
    subjects: dict[str, str] = field(default_factory=dict)
    visits: dict[tuple[str, str], tuple[str, float | None]] = field(default_factory=dict)


def read_tsv(path: Path) -> list[dict[str, str]]:
    """The rows of a tab-separated table; `n/a` is empty, and so is a table that is not there."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [
            {str(k): "" if v in (None, "n/a") else str(v).strip() for k, v in row.items() if k}
            for row in reader
        ]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def roots(release: Path, names: list[str], found: Found) -> list[str]:
    """The folders of raw BIDS datasets; those of derivatives are noted and left out."""
    places = [
        PurePosixPath(n).parent.as_posix() for n in names if PurePosixPath(n).name == DESCRIPTION
    ]
    raw: list[str] = []
    for place in sorted(places, key=lambda p: (p != ".", p.count("/"), p)):
        if any(within(place, root) for root in raw):
            continue
        about = _read_json(release / place / DESCRIPTION)
        if str(about.get("DatasetType", "raw")) == "derivative":
            reason = "a BIDS dataset of derivatives"
            found.issues.append(
                (f"{place}/{DESCRIPTION}", "refused", reason, "give its raw dataset")
            )
        elif "BIDSVersion" in about:
            raw.append(place)
    return raw


def within(name: str, root: str) -> bool:
    """Whether a path lies in a folder of the release."""
    return root == "." or name == root or name.startswith(f"{root}/")


def open_dataset(release: Path, root: str) -> Dataset:
    """Read who and when: `participants.tsv` and each `sessions.tsv`.

    Raises:
        InputError: The name of a subject or visit cannot name a scan.
    """
    folder = release / root
    by = _read_json(folder / DESCRIPTION).get("GeneratedBy", [])
    spinmark = isinstance(by, list) and any(
        isinstance(item, dict) and item.get("Name") == "spinmark" for item in by
    )
    subjects: dict[str, str] = {}
    for row in read_tsv(folder / "participants.tsv"):
        label = row.get("participant_id", "").removeprefix("sub-")
        if label:
            subjects[label] = (row.get("subject_id") if spinmark else "") or label
    visits: dict[tuple[str, str], tuple[str, float | None]] = {}
    for path in sorted(folder.glob("sub-*/sub-*_sessions.tsv")):
        label = path.parent.name.removeprefix("sub-")
        for row in read_tsv(path):
            session = row.get("session_id", "").removeprefix("ses-")
            if session:
                visit = row.get("visit") or session
                visits[label, session] = (visit, _number(row.get("days", "")))
    where = f"{folder}: participants.tsv or sessions.tsv"
    check_names("subject_id", list(subjects.values()), where)
    check_names("visit", [visit for visit, _ in visits.values()], where)
    return Dataset(root, spinmark, subjects, visits)


def _entities(stem: str) -> tuple[dict[str, str], str]:
    *pairs, suffix = stem.split("_")
    return dict(pair.partition("-")[::2] for pair in pairs), suffix


def _sidecar(release: Path, root: str, name: str) -> dict[str, Any]:
    """All that the sidecars of an image say, the nearest last."""
    entities, suffix = _entities(PurePosixPath(name).name.split(".")[0])
    base = PurePosixPath(root)
    folders = [p for p in reversed(PurePosixPath(name).parents) if p == base or base in p.parents]
    told: dict[str, Any] = {}
    for folder in folders:
        fitting = []
        for path in (release / folder).glob(f"*{suffix}.json"):
            theirs, kind = _entities(path.stem)
            if kind == suffix and theirs.items() <= entities.items():
                fitting.append((len(theirs), path))
        for _, path in sorted(fitting):
            told |= _read_json(path)
    return told


def _evidence(
    about: dict[str, Any], entities: dict[str, str], row: dict[str, str]
) -> list[Evidence]:
    acquisition = re.search(r"(left|right)$", entities.get("acq", ""), re.IGNORECASE)
    told = (
        ("sidecar's ImageLaterality", str(about.get("ImageLaterality", ""))),
        ("sidecar's Laterality", str(about.get("Laterality", ""))),
        ("sidecar's series description", side_of(str(about.get("SeriesDescription", "")))),
        ("entity hemi", entities.get("hemi", "")),
        ("entity acq", acquisition.group(1)[0].upper() if acquisition else ""),
        ("scans.tsv", row.get("laterality", "")),
    )
    return [Evidence(words, side) for words, side in told if side in ("R", "L")]


def _scanner(about: dict[str, Any], hidden: bool) -> str:
    tags = ("Manufacturer", "ManufacturersModelName", "DeviceSerialNumber")
    maker, model, serial = (str(about.get(tag, "") or "") for tag in tags)
    if hidden:  # As the cohort had them that was exported.
        return " ".join(part for part in (maker, model, serial) if part)
    names = {"Manufacturer": maker, "ManufacturerModelName": model, "DeviceSerialNumber": serial}
    return scanner_of(names)


def _sequence(about: dict[str, Any], entities: dict[str, str], suffix: str, spinmark: bool) -> str:
    acquisition = re.sub(r"(left|right)$", "", entities.get("acq", ""), flags=re.IGNORECASE)
    described = str(about.get("SeriesDescription", "") or "")
    # A description is free text, in which a name may stand; labels were chosen to be shared.
    words = described if spinmark else protocol_words(described)
    words = words or f"{acquisition} {suffix}"
    more = [f"{key} {value}" for key, value in entities.items() if key not in _KEPT]
    return sequence_name(sequence_name(words) + " " + " ".join(more))


def find_scans(release: Path, dataset: Dataset, names: list[str], found: Found) -> None:
    """Add the anatomical scans of a dataset to what was found.

    Args:
        release: The release.
        dataset: The dataset.
        names: Files of the release within it.
        found: Gains sources, issues and counts.
    """
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    tables: dict[str, dict[str, dict[str, str]]] = {}
    base = "" if dataset.root == "." else f"{dataset.root}/"
    for name in names:
        inner = name.removeprefix(base)
        match = _IMAGE.match(inner)
        if inner.split("/")[0] in _ASIDE:
            found.left_out["files of BIDS derivatives"] += inner.endswith((".nii", ".nii.gz"))
        elif match is not None:
            entities, suffix = _entities(match["stem"])
            if match["type"] != "anat" or suffix in _DRAWN:
                found.left_out["BIDS images other than anatomical scans"] += 1
            elif (entities.get("sub"), entities.get("ses")) != (match["sub"], match["ses"]):
                reason = "its name and its folder tell different subjects or sessions"
                found.issues.append((name, "refused", reason, "rename it"))
            else:
                stem = re.sub(r"_echo-[A-Za-z0-9]+", "", match["stem"])
                groups[match["sub"], match["ses"] or "", stem].append(name)
    for (label, session, _), files in sorted(groups.items()):
        folder = PurePosixPath(files[0]).parents[1].as_posix()
        if folder not in tables:
            stem = f"sub-{label}_ses-{session}" if session else f"sub-{label}"
            rows = read_tsv(release / folder / f"{stem}_scans.tsv")
            tables[folder] = {row.get("filename", ""): row for row in rows}
        _add(release, dataset, label, session, files, tables[folder], found)


def _add(
    release: Path,
    dataset: Dataset,
    label: str,
    session: str,
    files: list[str],
    rows: dict[str, dict[str, str]],
    found: Found,
) -> None:
    """Add the source of one scan: an image, or an image an echo."""

    def echo(name: str) -> int:
        match = re.search(r"_echo-(\d+)", name)
        return int(match.group(1)) if match else 0

    files = sorted(files, key=lambda name: (echo(name), name))
    about = [_sidecar(release, dataset.root, name) for name in files]
    entities, suffix = _entities(PurePosixPath(files[0]).name.split(".")[0])
    row = rows.get("/".join(PurePosixPath(files[0]).parts[-2:]), {})
    times: list[float] = []
    if len(files) > 1:
        seconds = [_number(str(item.get("EchoTime", ""))) for item in about]
        times = [round(time * 1000, 6) for time in seconds if time is not None and time > 0]
        if len(set(times)) < len(files):
            reason = "an echo has no EchoTime of its own in its sidecar"
            found.issues.append((files[0], "refused", reason, "add EchoTime in seconds"))
            return
    visit, days = dataset.visits.get((label, session), (session or "V00", None))
    scan_days = _number(row.get("days", "")) if dataset.spinmark else None
    rank = row.get("scan_id", "").rpartition(":")[2] if dataset.spinmark else ""
    run = entities.get("run", "").zfill(4)
    found.sources.append(
        Source(
            name=files[0],
            files=tuple(files),
            kind="nifti",
            layout="bids",
            subject_id=dataset.subjects.get(label, label),
            evidence=tuple(_evidence(about[0], entities, row)),
            visit=visit,
            days=days if scan_days is None else scan_days,
            sequence=_sequence(about[0], entities, suffix, dataset.spinmark),
            scanner=_scanner(about[0], dataset.spinmark),
            # spinmark's own first run is the primary one; elsewhere the last is.
            order=f"{9999 - int(rank):04d}"
            if rank.isdigit()
            else f"{row.get('acq_time', '')} {run}",
            echo_time_ms=tuple(times),
        )
    )
