"""What an ingest would take and refuse, from headers alone."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.dicom.series import Refused, layout, read_file
from spinmark_data.ingest.discover import find_sources
from spinmark_data.ingest.echoes import load_echoes
from spinmark_data.ingest.images import files_of, identify
from spinmark_data.ingest.run import read_tables
from spinmark_data.ingest.selection import Estimate, Wanted, estimate
from spinmark_data.ingest.source import Found, Source, pseudonym


@dataclass(frozen=True, kw_only=True)
class IngestPlan:
    """What an ingest would do, from headers alone.

    Args:
        series: Series that were selected.
        sequences: Series that would be taken, by sequence.
        refused: `(source, reason)` of whatever would be refused.
        conflicts: `(source, reason)` of whatever would be set aside, since its sources disagree.
        notes: `(source, note)` of what would be taken with a remark.
        bytes: Bytes of the files that would be read.
        left_out: Series that nobody asked for, by reason.
        tables: Files that look like tables.
        people: Rows of the table of people.
        paths: Where each series lies in the release, by the name that the cohort gives it.
    """

    series: int
    sequences: dict[str, int]
    refused: list[tuple[str, str]] = field(default_factory=list)
    conflicts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    bytes: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    people: int = 0
    paths: dict[str, str] = field(default_factory=dict)


def _headers(release: Path, source: Source) -> tuple[Any, NDArray[np.float64], Sequence[int]]:
    """A header of a series, its affine and its shape; of DICOM no voxel is read."""
    if source.kind == "nifti":
        volume, _ = load_echoes([release / file for file in source.files])
        return {}, volume.affine, volume.voxels.shape
    headers = [read_file(file, pixels=False) for file in files_of(release, source)]
    found = layout(headers)
    return headers[0], found.affine, found.shape


def survey(release: Path, config: IngestConfig) -> tuple[Found, Estimate]:
    """What a configuration selects of a release, and how much that is.

    In the OAI's layouts and BIDS no image is opened; of other DICOM files the headers are read.

    Raises:
        InputError: The folder is absent or empty, or the configuration names what is not there.
    """
    found = find_sources(release, config)
    return found, estimate(release, found)


def plan(release: Path, config: IngestConfig, found: Found | None = None) -> IngestPlan:
    """What an ingest of a release would take and refuse; reads headers and writes nothing.

    Args:
        release: The release.
        config: Settings.
        found: What `survey` found, if it has been called.

    Raises:
        InputError: The folder is absent or empty, or a clinical table cannot be used.
    """
    found = find_sources(release, config) if found is None else found
    # What is wrong with them would stop the ingest.
    people = len(read_tables(release, found, config).subjects)
    told: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for where, kind, reason, _ in found.issues:
        told[kind].append((where, reason))
    wanted = Wanted.of(config)
    name = pseudonym if config.pseudonymise is None else str
    taken: Counter[str] = Counter()
    left_out = Counter(found.left_out)
    size = 0
    for source in found.sources:
        try:
            known, side = identify(source, *_headers(release, source), name)
        except Refused as error:
            told["refused"].append((source.name, str(error)))
            continue
        why = wanted.why_not(
            subject_id=known.subject_id,
            visit=known.visit,
            sequence=known.sequence,
            layout=known.layout,
        )
        left_out[why] += bool(why)
        if why:
            continue
        if side.conflict:
            told["quarantined"].append((source.name, side.conflict))
            continue
        told["repaired"] += [(source.name, note) for note in known.repairs]
        taken[known.sequence] += 1
        size += sum((release / file).stat().st_size for file in source.files)
    return IngestPlan(
        series=len(found.sources),
        sequences=dict(sorted(taken.items())),
        refused=told["refused"],
        conflicts=told["quarantined"],
        notes=told["repaired"],
        bytes=size,
        left_out=dict(+left_out),
        tables=found.tables,
        people=people,
        paths=found.paths,
    )
