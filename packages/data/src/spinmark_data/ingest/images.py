"""From a source to a staged scan: load, reorient, mirror, write one shard, tell what it is.

A staged shard has the codec and chunks of its sequence, so that its bytes are those of the final
store whatever the index it ends up with.
"""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spinmark_data.cohort.encode import encode_shard
from spinmark_data.cohort.ledger import shard_checksum
from spinmark_data.cohort.location import Folder
from spinmark_data.ingest.discover import Source, pseudonym
from spinmark_data.ingest.geometry import lps_axes, mirror, reorient, spacing_of
from spinmark_data.ingest.nifti import load_nifti
from spinmark_data.ingest.series import Refused, Volume, load

# Of the first and the last file, from each end.
_SAMPLE = 65536
_SIDE = re.compile(r"(?:^|[\s_^-])(LEFT|RIGHT)\s*$", re.IGNORECASE)


def sequence_name(description: str, modality: str = "") -> str:
    """A sequence's name from a series description, its side taken off.

    >>> sequence_name("SAG_3D_DESS_LEFT ")
    'SAG_3D_DESS'
    """
    name = _SIDE.sub("", description.strip())
    name = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").upper()
    return name or modality or "IMAGE"


def side_of(description: str) -> str:
    """`R`, `L` or nothing, from the end of a series description."""
    match = _SIDE.search(description.strip())
    return match.group(1)[0].upper() if match else ""


def source_key(source: Source) -> str:
    """A file name for a source."""
    return hashlib.sha256(source.name.encode()).hexdigest()[:24]


def listing(release: Path, source: Source, *, times: bool = False) -> str:
    """What changes when a source's files or identity change, without reading all of them.

    Args:
        release: The release.
        source: One of its sources.
        times: Take times of change instead of samples of the content; a copy has other times.
    """
    total = hashlib.sha256(repr(source).encode())
    for file in source.files:
        stat = (release / file).stat()
        total.update(f"{stat.st_size} {stat.st_mtime_ns if times else ''}".encode())
    for file in () if times else {source.files[0]: 0, source.files[-1]: 0}:
        with (release / file).open("rb") as handle:
            total.update(handle.read(_SAMPLE))
            handle.seek(max((release / file).stat().st_size - _SAMPLE, 0))
            total.update(handle.read(_SAMPLE))
    return total.hexdigest()[:32]


def _scanner(header: Any) -> str:
    maker = f"{header.get('Manufacturer', '')} {header.get('ManufacturerModelName', '')}".strip()
    serial = str(header.get("DeviceSerialNumber", "") or "")
    tail = hashlib.sha256(f"spinmark:{serial}".encode()).hexdigest()[:6] if serial else ""
    return f"{maker} {tail}".strip()


def _from_headers(source: Source, headers: list[Any], volume: Volume) -> tuple[Source, str, str]:
    header = headers[0]
    description = str(header.get("SeriesDescription", "") or "")
    subject = source.subject_id or pseudonym(str(header.get("PatientID", "") or source.name))
    side = source.laterality or side_of(description)
    if not side:
        tag = str(header.get("Laterality", "") or header.get("ImageLaterality", "") or "")
        side = tag if tag in ("R", "L") else ""
    if not side and "KNEE" in str(header.get("BodyPartExamined", "") or "").upper():
        middle = (np.array(volume.voxels.shape[-3:]) - 1) / 2
        across = float((volume.affine @ np.array([*middle, 1.0]))[0])
        # Near the isocentre a knee may have been moved there, so its place tells nothing.
        side = "" if abs(across) < 30 else ("L" if across > 0 else "R")
    name = source.sequence or sequence_name(description, str(header.get("Modality", "") or ""))
    date = source.date or str(header.get("StudyDate", "") or "")
    number = str(header.get("SeriesTime", "") or "").zfill(16)
    filled = replace(source, subject_id=subject, laterality=side, sequence=name, date=date)
    return filled, number, _scanner(header)


def stage(
    release: Path, out: Folder, below: str, source: Source, wanted: list[str] | None
) -> dict[str, Any]:
    """Load one source and stage its shard in the folder `below` of a cohort.

    Returns:
        A JSON-able record: `status` is `taken`, `refused` or `skipped` (another sequence).
    """
    key = source_key(source)
    record: dict[str, Any] = {
        "source": source.name,
        "key": key,
        "fingerprint": listing(release, source, times=True),
        "listing": listing(release, source),
    }
    try:
        if source.kind == "nifti":
            volume, digest = load_nifti(release / source.files[0])
            stem = Path(source.name).name.removesuffix(".gz").removesuffix(".nii")
            source = replace(
                source,
                subject_id=source.subject_id or pseudonym(stem),
                sequence=source.sequence or "IMAGE",
            )
            number, scanner = "", ""
        else:
            volume, headers, digest = load([release / file for file in source.files])
            source, number, scanner = _from_headers(source, headers, volume)
        if wanted is not None and source.sequence not in wanted:
            return {**record, "status": "skipped", "sequence": source.sequence}
    except Refused as error:
        return {**record, "status": "refused", "reason": str(error)}
    voxels, affine = reorient(volume.voxels, volume.affine)
    mirrored = source.laterality == "L"
    if mirrored:
        voxels = mirror(voxels, affine)
    shard = encode_shard(voxels)
    out.write(f"{below}/{key}", shard)
    return {
        **record,
        **shard_checksum(shard),
        "status": "taken",
        "subject_id": source.subject_id,
        "laterality": source.laterality,
        "visit": source.visit,
        "date": source.date,
        "days": source.days,
        "sequence": source.sequence,
        "order": [source.date, number, source.name],
        "scanner": scanner,
        "shape": list(voxels.shape),
        "spacing_mm": [round(step, 4) for step in spacing_of(affine)],
        "axes": list(lps_axes(affine)),
        "affine": affine.tolist(),
        "scale": volume.scale,
        "offset": volume.offset,
        "echo_time_ms": volume.echo_time_ms,
        "mirrored": mirrored,
        "source_sha256": digest,
        "repairs": volume.repairs,
    }
