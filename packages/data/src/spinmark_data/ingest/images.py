"""From a source to a staged scan: load, reorient, mirror, write one shard, tell what it is.

A staged shard has the codec and chunks of its sequence, so that its bytes are those of the final
store whatever the index it ends up with.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.cohort.encode import encode_shard
from spinmark_data.cohort.ledger import shard_checksum
from spinmark_data.cohort.location import Folder
from spinmark_data.ingest.archives import read_archive
from spinmark_data.ingest.dicom.headers import File
from spinmark_data.ingest.dicom.known_words import protocol_words, safe_sequence, scanner_of
from spinmark_data.ingest.dicom.series import Refused, Volume, load
from spinmark_data.ingest.echoes import load_echoes
from spinmark_data.ingest.geometry import lps_axes, mirror, reorient, spacing_of
from spinmark_data.ingest.laterality import Side, decide, from_headers, side_of
from spinmark_data.ingest.pseudonyms import read_key
from spinmark_data.ingest.selection import Wanted
from spinmark_data.ingest.sequences import RADIOGRAPH, sequence_name
from spinmark_data.ingest.source import Source, pseudonym
from spinmark_data.preprocess.config import PreprocessConfig
from spinmark_data.preprocess.pipeline import prepare

__all__ = ["identify", "listing", "sequence_name", "side_of", "source_key", "stage"]

# Of the first and the last file, from each end.
_SAMPLE = 65536
CONFLICT = "say which in a table map, or correct the headers"


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


def identify(
    source: Source,
    header: Any,
    affine: NDArray[np.float64],
    shape: Sequence[int],
    name: Callable[[str], str] = pseudonym,
) -> tuple[Source, Side]:
    """Whose a series is and what, where its folder does not tell: from one of its headers.

    Args:
        source: The series as it was found.
        header: A header; empty for a file without one.
        affine: Of its volume as acquired, to LPS mm.
        shape: Of its volume.
        name: What makes the name of a person from a PatientID.

    Returns:
        The series with what the header tells, and the evidence of its side, weighed.
    """
    side = decide([*source.evidence, *from_headers(header, affine, shape)], source.laterality)
    told = protocol_words(str(header.get("SeriesDescription", "") or ""))
    repairs = source.repairs
    if source.layout == "oai" and told and source.sequence not in ("", told, RADIOGRAPH):
        repairs += (f"the list of images says {source.sequence}, the header something else",)
    stem = PurePosixPath(source.files[0]).name.removesuffix(".gz").removesuffix(".nii")
    whose = stem if source.kind == "nifti" else source.name
    filled = replace(
        source,
        subject_id=source.subject_id or name(str(header.get("PatientID", "") or whose)),
        laterality=side.side,
        sequence=source.sequence or safe_sequence(header),
        date=source.date or str(header.get("StudyDate", "") or ""),
        order=source.order or str(header.get("SeriesTime", "") or "").zfill(16),
        scanner=source.scanner or scanner_of(header),
        repairs=(*repairs, *([side.note] if side.note else [])),
    )
    return filled, side


def files_of(release: Path, source: Source) -> Sequence[File]:
    """What to read of a DICOM series: its files, or the members of its archive in memory.

    Raises:
        Refused: The archive cannot be used; the message says why.
    """
    if source.kind == "archive":
        return read_archive(release / source.files[0])
    return [release / file for file in source.files]


def _load(release: Path, source: Source) -> tuple[Volume, Any, str]:
    if source.kind == "nifti":
        volume, digest = load_echoes([release / file for file in source.files])
        volume.echo_time_ms = list(source.echo_time_ms) or volume.echo_time_ms
        return volume, {}, digest
    volume, headers, digest = load(files_of(release, source))
    return volume, headers[0], digest


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a staged shard depends on, beside its source.

    Args:
        wanted: What is asked for.
        key_file: The site's key, if people get codes for names.
        preprocess: What is done to the volume.
    """

    wanted: Wanted = field(default_factory=Wanted)
    key_file: Path | None = None
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)


def stage(release: Path, out: Folder, below: str, recipe: Recipe, source: Source) -> dict[str, Any]:
    """Load one source and stage its shard in the folder `below` of a cohort.

    Args:
        release: The release.
        out: The cohort.
        below: Folder of unfinished work within it.
        recipe: What to do.
        source: The series.

    Returns:
        A JSON-able record: `status` is `taken`, `refused` (with `kind` and `reason`) or `skipped`
        (nobody asked for it, which only its headers told).
    """
    key = source_key(source)
    record: dict[str, Any] = {"source": source.name, "key": key, "fingerprint": "", "listing": ""}
    try:
        record["fingerprint"] = listing(release, source, times=True)
        record["listing"] = listing(release, source)
        volume, header, digest = _load(release, source)
    except Refused as error:
        return {**record, "status": "refused", "kind": "refused", "reason": str(error)}
    except OSError as error:
        reason = f"a file of it cannot be read ({error.strerror or type(error).__name__})"
        return {**record, "status": "refused", "kind": "refused", "reason": reason}
    # A key makes its codes from the PatientID itself, as it does from the tables' identifiers.
    name = pseudonym if recipe.key_file is None else str
    source, side = identify(source, header, volume.affine, volume.voxels.shape, name)
    if why := recipe.wanted.why_not(
        subject_id=source.subject_id,
        visit=source.visit,
        sequence=source.sequence,
        layout=source.layout,
    ):
        return {**record, "status": "skipped", "sequence": source.sequence, "reason": why}
    if side.conflict:
        told = {"kind": "quarantined", "reason": side.conflict, "action": CONFLICT}
        return {**record, "status": "refused", **told}
    if recipe.key_file is not None:
        source = replace(source, subject_id=read_key(recipe.key_file).subject(source.subject_id))
    voxels, affine = reorient(volume.voxels, volume.affine)
    try:
        prepared = prepare(
            voxels, affine, recipe.preprocess, scale=volume.scale, offset=volume.offset
        )
    except Refused as error:
        return {**record, "status": "refused", "kind": "refused", "reason": str(error)}
    except MemoryError:
        reason = "there is not enough memory to preprocess it"
        return {**record, "status": "refused", "kind": "refused", "reason": reason}
    voxels, affine = prepared.voxels, prepared.affine
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
        "order": [source.date, source.order, source.place, source.name],
        "scanner": source.scanner,
        "shape": list(voxels.shape),
        "spacing_mm": [round(step, 4) for step in spacing_of(affine)],
        "axes": list(lps_axes(affine)),
        "affine": affine.tolist(),
        "scale": prepared.scale,
        "offset": prepared.offset,
        "echo_time_ms": volume.echo_time_ms,
        "mirrored": mirrored,
        "source_sha256": digest,
        "repairs": [*source.repairs, *volume.repairs, *prepared.notes],
    }
