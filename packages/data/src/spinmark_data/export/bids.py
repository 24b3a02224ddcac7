"""A BIDS raw dataset of anatomical scans (Brain Imaging Data Structure 1.10.0).

Joints are no part of BIDS. The side of a joint stands in `acq-<sequence><side>`, which BIDS leaves to
the dataset, and as DICOM's ImageLaterality in the sidecar. A rescan is a run of its own.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.export.bids_names import clean, labels, scanner_fields, suffix_of
from spinmark_data.export.bids_tables import (
    Named,
    write_description,
    write_participants,
    write_scan_tables,
    write_sessions,
)
from spinmark_data.export.common import (
    Progress,
    Scan,
    all_scans,
    choose,
    export_folder,
    for_each,
    load,
    write_json,
)
from spinmark_data.export.nifti import ENDING, to_nifti, write_nifti


def _name(scan: Scan, subject: str, session: str, suffix: str) -> Named:
    row = scan.row
    acquisition = f"{clean(scan.sequence)}{row['laterality']}"
    stem = f"sub-{subject}_ses-{session}_acq-{acquisition}_run-{int(row['rank']) + 1}"
    folder = f"sub-{subject}/ses-{session}/anat"
    times = scan.echo_time_ms
    echoes = [""] if times is None else [f"_echo-{echo + 1}" for echo in range(len(times))]
    files = tuple(f"{folder}/{stem}{echo}_{suffix}{ENDING}" for echo in echoes)
    return Named(scan=scan, subject=subject, session=session, files=files)


def _plan(
    scans: Sequence[Scan], chosen: Sequence[Scan], suffixes: Mapping[str, str] | None
) -> list[Named]:
    """A place for every scan that can have one; those chosen must."""

    def of(which: Iterable[Scan], column: str) -> list[str]:
        return [str(scan.row[column]) for scan in which]

    subjects = labels("subject_id", of(scans, "subject_id"), of(chosen, "subject_id"))
    sessions = labels("visit", of(scans, "visit"), of(chosen, "visit"))
    labels("sequence", (s.sequence for s in scans), (s.sequence for s in chosen))
    wanted = {scan.sequence for scan in chosen}
    kinds: dict[str, str] = {}
    for sequence, echoes in {
        scan.sequence: scan.echo_time_ms is not None for scan in scans
    }.items():
        try:
            kinds[sequence] = suffix_of(sequence, echoes=echoes, given=suffixes)
        except InputError:
            if sequence in wanted:
                raise
    plan = []
    for scan in scans:
        subject = subjects.get(str(scan.row["subject_id"]))
        session = sessions.get(str(scan.row["visit"]))
        if subject is not None and session is not None and scan.sequence in kinds:
            plan.append(_name(scan, subject, session, kinds[scan.sequence]))
    _check_files(plan, {str(scan.row["scan_id"]) for scan in chosen})
    return plan


def _check_files(plan: Sequence[Named], chosen: Container[str]) -> None:
    owners: dict[str, str] = {}
    for place in plan:
        identifier = str(place.scan.row["scan_id"])
        other = owners.setdefault(place.files[0].casefold(), identifier)
        if other != identifier and (other in chosen or identifier in chosen):
            raise InputError(
                f"scan_ids {other!r} and {identifier!r} would both be {place.files[0]}; rename a "
                "sequence."
            )


def _sidecar(scan: Scan, echo: int | None, body_part: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"Modality": "MR", "SeriesDescription": scan.sequence}
    fields |= scanner_fields(str(scan.row["scanner"]))
    if body_part:
        fields["BodyPart"] = body_part
    if scan.row["laterality"]:
        fields["ImageLaterality"] = scan.row["laterality"]
    if echo is not None and scan.echo_time_ms is not None:
        fields["EchoTime"] = round(float(scan.echo_time_ms[echo]) / 1000, 9)
    return fields


def _check_echoes(chosen: Sequence[Scan]) -> None:
    for scan in chosen:
        times = scan.echo_time_ms
        if times is not None and not (np.isfinite(times).all() and (times > 0).all()):
            raise InputError(
                f"Scan {scan.row['scan_id']} has echo times {times.tolist()} ms; BIDS needs a "
                "positive time of every echo."
            )


def export_bids(
    cohort: Cohort,
    out: Path,
    *,
    sequences: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
    suffixes: Mapping[str, str] | None = None,
    body_part: str | None = None,
    name: str = "Exported cohort",
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Path]:
    """Write scans as a BIDS raw dataset; see the module for how joints are named.

    `participants.tsv` holds the cohort's subjects table, `sessions.tsv` days since enrolment (no
    dates), `scans.tsv` what is known of each scan. Left joints are always turned back.

    Args:
        cohort: The cohort.
        out: Folder to fill; a file that is there is whole and is left alone.
        sequences: Names of the sequences; all by default.
        subjects: Identifiers of the subjects; all by default.
        suffixes: BIDS suffix by sequence, where a sequence's name does not tell it.
        body_part: What the sidecars name as BodyPart; nothing by default.
        name: The dataset's name.
        workers: Threads.
        progress: Called with scans done and scans asked for.

    Returns:
        The images of the scans asked for, in the order of the cohort.

    Raises:
        InputError: Nothing to export, two identifiers that share a label, a sequence without a
            suffix, an echo without a time, or a folder of something else.
    """
    out = Path(out)
    everything = all_scans(cohort)
    chosen = choose(everything, cohort, sequences, subjects)
    _check_echoes(chosen)
    named = _plan(everything, chosen, suffixes)
    places = {str(place.scan.row["scan_id"]): place for place in named}

    def write(scan: Scan) -> None:
        _write_scan(cohort, out, places[str(scan.row["scan_id"])], body_part)

    with export_folder(out, "bids", cohort, {"suffixes": dict(suffixes or {}), "body": body_part}):
        for_each(write, chosen, workers=workers, progress=progress)
        there = [place for place in named if all((out / file).exists() for file in place.files)]
        write_participants(cohort, out, there)
        write_sessions(cohort, out, there)
        write_scan_tables(out, there)
        write_description(cohort, out, there, name)
    return [out / file for scan in chosen for file in places[str(scan.row["scan_id"])].files]


def _write_scan(cohort: Cohort, out: Path, place: Named, body_part: str | None) -> None:
    if all((out / file).exists() for file in place.files):
        return
    scan = place.scan
    volume, affine = load(cohort, scan, undo_mirror=True)
    scale, offset = float(scan.row["scale"]), float(scan.row["offset"])
    name = str(scan.row["scan_id"])
    for number, file in enumerate(place.files):
        echo = None if scan.echo_time_ms is None else number
        part = volume if echo is None else volume[echo]
        # An image is there only with its sidecar, which is therefore written first.
        sidecar = out / file.replace(ENDING, ".json")
        write_json(sidecar, _sidecar(scan, echo, body_part))
        write_nifti(out / file, to_nifti(part, affine, scale=scale, offset=offset, name=name))
