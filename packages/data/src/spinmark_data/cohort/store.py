"""A whole cohort from arrays and frames that are in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.cohort.generation import GenerationWriter
from spinmark_data.cohort.location import Folder, locate
from spinmark_data.cohort.manifest import FILE
from spinmark_data.cohort.scans import complete_scans
from spinmark_data.cohort.sink import FolderSink
from spinmark_data.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SequenceVolumes:
    """The volumes of one sequence.

    Args:
        volume: Integer array `(scan, z, y, x)` or `(scan, echo, z, y, x)`, left joints already
            mirrored from right to left.
        scans: One row a scan, in the order of `volume`, with `subject_id`; `laterality`, `visit`,
            `rank`, `days`, `site`, `scanner`, `scale`, `offset`, `mirrored` and `source_sha256`
            have defaults.
        spacing_mm: Voxel spacing along z, y and x, in mm.
        affine: `(scan, 4, 4)`, indices before mirroring to LPS mm; by default the spacing alone.
        echo_time_ms: `(scan, echo)` in ms, where there are echoes.
    """

    volume: NDArray[Any]
    scans: pd.DataFrame
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    affine: NDArray[np.float64] | None = None
    echo_time_ms: NDArray[np.float64] | None = None


def write_cohort(
    path: str | Path | Folder,
    *,
    volumes: Mapping[str, SequenceVolumes],
    tables: Mapping[str, pd.DataFrame],
    provenance: Mapping[str, Any],
) -> None:
    """Write a whole cohort from arrays and frames.

    Raises:
        InputError: There is a cohort already, or shapes and rows disagree.
    """
    folder = locate(path)
    if folder.exists(FILE):
        raise InputError(f"{folder.url} holds a cohort already; choose another folder.")
    writer = GenerationWriter(folder=folder, sink=FolderSink(folder))
    for name, given in sorted(volumes.items()):
        count = len(given.volume)
        if len(given.scans) != count:
            raise InputError(f"'{name}' has {count} volumes and {len(given.scans)} rows of scans.")
        affine = given.affine
        if affine is None:
            affine = np.broadcast_to(np.diag([*given.spacing_mm, 1.0]), (count, 4, 4))
        scans = complete_scans(given.scans, name)
        writer.add_sequence(
            name,
            shape=given.volume.shape[1:],
            spacing_mm=given.spacing_mm,
            dtype=given.volume.dtype,
            scans=scans,
            affine=affine,
            echo_time_ms=given.echo_time_ms,
        )
        for index, scan in enumerate(scans.to_dict("records")):
            writer.write_scan(name, index, np.asarray(given.volume[index]), scan)
    writer.finish(tables, provenance)
