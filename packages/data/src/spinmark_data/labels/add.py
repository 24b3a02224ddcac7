"""Adding the label maps of a folder to a cohort that stands."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from spinmark_data.cohort.amend import amend
from spinmark_data.cohort.encode import encode_shard
from spinmark_data.cohort.ledger import shard_checksum
from spinmark_data.cohort.location import Folder, locate
from spinmark_data.cohort.lock import sole_writer
from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.limits import Refused
from spinmark_data.ingest.merge_tables import append_rows
from spinmark_data.ingest.pseudonyms import read_key
from spinmark_data.labels.config import LabelsConfig
from spinmark_data.labels.grid import onto_scan
from spinmark_data.labels.match import Issue, LabelFile, find_labels
from spinmark_data.labels.names import harmonise, read_codes
from spinmark_data.labels.read import read_label_map
from spinmark_data.labels.series import scan_of_series
from spinmark_data.labels.store import FOLDER, checked_name, manifest_file, read_labels_manifest
from spinmark_data.labels.write import LabelsWriter, StagedLabels

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIX = "correct or remove the label map, then add labels again"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class LabelsSummary:
    """What was done.

    Args:
        added: Label maps that were stored now.
        stood: Scans whose label map stood before.
        files: Label maps that were found.
        issues: `source`, `kind`, `reason`, `action`: what was repaired or refused, as in `issues`.
    """

    added: int
    stood: int
    files: int
    issues: pd.DataFrame


def _staging(name: str) -> str:
    return f"{FOLDER}/.{name}"


def add_labels(
    cohort_path: str | Path | Folder,
    labels_dir: Path,
    config: LabelsConfig,
    progress: Progress | None = None,
    *,
    series: Callable[[], Mapping[str, str]] | None = None,
) -> LabelsSummary:
    """Add the label maps of a folder to a cohort that stands.

    A label map that cannot be used is told in the summary, and the rest goes in. Call again to resume
    or to add more: what stands is left as it is.

    Args:
        cohort_path: The cohort.
        labels_dir: The folder of label maps.
        config: Settings.
        progress: Called with label maps done and label maps found.
        series: Gives the scan of each series by SeriesInstanceUID; asked only if a file is not
            named by its scan, as DICOM-SEG may be.

    Raises:
        InputError: The cohort or the folder is absent, the codes or the CSV cannot be used, another
            process writes the cohort, or no label map of the folder can be used.
    """
    folder, name = locate(cohort_path), checked_name(config.name)
    codes = read_codes(config.codes)
    with sole_writer(folder):
        cohort = Cohort.open(folder)
        scans = _scan_table(cohort)
        files, issues = find_labels(labels_dir, scans, config.table_map)
        manifest = _standing(folder, name, codes)
        stands = {
            row["scan_id"] for entry in manifest["sequences"].values() for row in entry["rows"]
        }
        new = [file for file in files if file.scan_id not in stands]
        folder.remove(_staging(name))
        known = dict(series()) if series and any(not file.scan_id for file in new) else {}
        taken = _take(new, cohort, scans, config, codes, known, issues, progress)
        again = [one for one in taken if one.scan_id in stands]
        taken = [one for one in taken if one.scan_id not in stands]
        if not taken and not stands:
            first = f"; first reason: {issues[0][0]}: {issues[0][2]}" if issues else ""
            raise InputError(f"{labels_dir} holds no label map of a scan of the cohort{first}.")
        if taken:
            _write(folder, name, cohort, manifest, taken, config.dtype)
        folder.remove(_staging(name))
    rows = pd.DataFrame(sorted(set(issues)), columns=["source", "kind", "reason", "action"])
    return LabelsSummary(
        added=len(taken),
        stood=len(files) - len(new) + len(again),
        files=len(files),
        issues=rows.astype(object),
    )


def ingest_labels(
    cohort_path: str | Path | Folder,
    release: Path,
    config: IngestConfig,
    progress: Progress | None = None,
) -> LabelsSummary:
    """Add the label maps that an ingest names to the cohort that it made, issues included.

    Args:
        cohort_path: The cohort.
        release: What it was made from; DICOM-SEG refer to its series.
        config: Settings of the ingest, with its `labels`.
        progress: As for `add_labels`.

    Raises:
        InputError: No folder of labels is named; and as for `add_labels`.
    """
    if config.labels is None:
        raise InputError("labels is empty; name the folder that holds the label maps.")

    def series() -> dict[str, str]:
        return scan_of_series(Cohort.open(cohort_path), release, config)

    summary = add_labels(cohort_path, config.labels, config.label_maps, progress, series=series)
    told = summary.issues
    if config.pseudonymise is not None:
        # A file may be named after the person.
        key = read_key(config.pseudonymise)
        told = told.assign(source=[f"labels-{key.code(str(n), 'labels')}" for n in told["source"]])

    def change(now: Cohort) -> dict[str, pd.DataFrame]:
        return {"issues": append_rows(now.table("issues"), told).drop_duplicates()}

    if len(told):
        amend(cohort_path, change, {"labels": config.label_maps.name})
    return summary


def _scan_table(cohort: Cohort) -> dict[str, tuple[str, int]]:
    """Sequence and place of each scan, by scan_id."""
    return {
        str(scan): (sequence, index)
        for sequence in cohort.sequences
        for index, scan in enumerate(cohort.scans(sequence)["scan_id"])
    }


def _standing(folder: Folder, name: str, codes: dict[int, str]) -> dict[str, Any]:
    text = {str(code): meaning for code, meaning in sorted(codes.items())}
    if not folder.exists(manifest_file(name)):
        return {"codes": text, "sequences": {}}
    manifest = read_labels_manifest(folder, name)
    if manifest["codes"] != text:
        raise InputError(
            f"The label maps '{name}' of {folder.url} have other codes; give the same codes, or "
            "another name."
        )
    return manifest


def _take(
    files: Sequence[LabelFile],
    cohort: Cohort,
    scans: Mapping[str, tuple[str, int]],
    config: LabelsConfig,
    codes: Mapping[int, str],
    series: Mapping[str, str],
    issues: list[Issue],
    progress: Progress | None,
) -> list[StagedLabels]:
    """Read label maps and encode them; the result is in the order of the files."""
    affines: dict[str, NDArray[np.float64]] = {}
    mirrored: dict[str, NDArray[np.bool_]] = {}
    for sequence in cohort.sequences:
        frame, affines[sequence], _ = cohort.coordinates(sequence)
        mirrored[sequence] = frame["mirrored"].to_numpy(bool)

    def one(file: LabelFile) -> tuple[StagedLabels | None, list[Issue]]:
        try:
            found, told = harmonise(read_label_map(file.path), codes)
            scan_id = file.scan_id or series.get(found.series_uid, "")
            if scan_id not in scans:
                raise Refused("no scan of the cohort has its name, or the series it refers to")
            sequence, index = scans[scan_id]
            shape = cohort.manifest["sequences"][sequence]["shape"][-3:]
            array, more = onto_scan(
                found, affines[sequence][index], shape, bool(mirrored[sequence][index])
            )
            if int(array.max(initial=0)) > np.iinfo(config.dtype).max:
                raise Refused(f"a code above {np.iinfo(config.dtype).max}; set dtype to uint16")
        except Refused as error:
            return None, [(file.name, "refused", str(error), _FIX)]
        # On the disk at once: of ten thousand label maps not even the shards fit into memory.
        shard = encode_shard(array.astype(config.dtype))
        staged = f"{_staging(config.name)}/{hashlib.sha256(file.name.encode()).hexdigest()[:24]}"
        cohort.folder.write(staged, shard)
        taken = StagedLabels(
            scan_id=scan_id,
            sequence=sequence,
            index=index,
            staged=staged,
            checksum=shard_checksum(shard),
            codes=tuple(int(code) for code in np.unique(array) if code),
            sha256=hashlib.sha256(file.path.read_bytes()).hexdigest(),
        )
        return taken, [(file.name, "repaired", text, "none needed") for text in [*told, *more]]

    kept: dict[str, StagedLabels] = {}
    with ThreadPoolExecutor(max_workers=max(1, config.workers)) as pool:
        for done, (file, (taken, told)) in enumerate(
            zip(files, pool.map(one, files), strict=True), 1
        ):
            issues += told
            if taken is not None and taken.scan_id in kept:
                issues.append((file.name, "refused", "its scan has a label map already", _FIX))
            elif taken is not None:
                kept[taken.scan_id] = taken
            if progress is not None:
                progress(done, len(files))
    return list(kept.values())


def _write(
    folder: Folder,
    name: str,
    cohort: Cohort,
    manifest: dict[str, Any],
    taken: Sequence[StagedLabels],
    dtype: str,
) -> None:
    """Shards and longer coordinates first, then the manifest that counts them."""
    writer = LabelsWriter(folder, name, manifest["codes"], manifest["sequences"])
    for sequence in sorted({one.sequence for one in taken}):
        scans, affine, _ = cohort.coordinates(sequence)
        writer.add(
            sequence,
            [one for one in taken if one.sequence == sequence],
            shape=cohort.manifest["sequences"][sequence]["shape"][-3:],
            dtype=dtype,
            scans=scans,
            affine=affine,
        )
    writer.finish()
