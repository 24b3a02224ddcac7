"""One stored scan and its label maps, cut about the joint and staged for another cohort.

A left joint is stored mirrored, and its affine is that of the joint as it was scanned. So everything
is turned back first, cut where it lay in the patient, and turned again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.cohort.encode import encode_shard
from spinmark_data.cohort.ledger import shard_checksum
from spinmark_data.cohort.location import Folder
from spinmark_data.cohort.reader import Cohort
from spinmark_data.ingest.geometry import mirror
from spinmark_data.ingest.limits import Refused
from spinmark_data.integers import quantise
from spinmark_data.labels.store import LabelSet
from spinmark_data.preprocess.crop import label_grid
from spinmark_data.preprocess.crop_config import CropConfig
from spinmark_data.preprocess.grid import TargetGrid, as_shape, to_source
from spinmark_data.preprocess.pipeline import Prepared, prepare
from spinmark_data.preprocess.resample_labels import resample_labels

NO_LABELS = "add its label map, or give --without_labels joint"
SMALL = "give a larger shape if it should be in"
_OTHER = "give a smaller shape or min_coverage, or add its label map"


@dataclass(frozen=True, kw_only=True)
class StoredScan:
    """A scan of the cohort that is cut.

    Args:
        sequence: Its sequence.
        index: Its place in the sequence.
        scan_id: Its identifier.
        affine: `(4, 4)`, indices before mirroring to LPS mm.
        mirrored: Whether its voxels are stored mirrored.
        scale: `value = stored * scale + offset`.
        offset: See `scale`.
        places: The place of its label map in each set that has one.
    """

    sequence: str
    index: int
    scan_id: str
    affine: NDArray[np.float64]
    mirrored: bool
    scale: float
    offset: float
    places: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class CropWork:
    """What is the same for all scans.

    Args:
        cohort: The cohort that is cut.
        sets: Its sets of label maps by name, without their rows.
        out: Where the cut cohort lies.
        below: Folder of unfinished work within it.
        config: Settings.
        codes: Codes to lie in the middle.
        dtypes: How the voxels of each sequence are to be stored.
    """

    cohort: Cohort
    sets: Mapping[str, LabelSet]
    out: Folder
    below: str
    config: CropConfig
    codes: Sequence[int]
    dtypes: Mapping[str, str]


def cut_scan(work: CropWork, scan: StoredScan) -> dict[str, Any]:
    """Cut one scan and its label maps, and stage their shards.

    Args:
        work: What to do.
        scan: The scan.

    Returns:
        A JSON-able record: `status` is `taken` or `refused` (with `kind`, `reason` and `action`).

    Raises:
        InputError: The stored voxels are absent or damaged.
    """
    record = {"sequence": scan.sequence, "index": scan.index, "scan_id": scan.scan_id}
    maps = {name: _read_map(work, scan, name) for name in sorted(scan.places)}
    volume = work.cohort.read(scan.sequence, np.array([scan.index]))[0]
    if scan.mirrored:
        volume = mirror(volume, scan.affine)
    try:
        target, notes = _about_labels(work, scan, maps.get(work.config.labels))
        done = prepare(
            volume,
            scan.affine,
            work.config.recipe,
            scale=scan.scale,
            offset=scan.offset,
            target=target,
        )
    except _NoLabels as error:
        told = {"kind": "quarantined", "reason": str(error), "action": NO_LABELS}
        return {**record, "status": "refused", **told}
    except Refused as error:
        return {**record, "status": "refused", **_refusal(str(error))}
    except MemoryError:
        return {**record, "status": "refused", **_refusal("there is not enough memory to cut it")}
    voxels, scale, offset = _as_type(done, np.dtype(work.dtypes[scan.sequence]))
    grid = TargetGrid(shape=as_shape(voxels.shape[-3:]), affine=done.affine)
    return {
        **record,
        **_stage(work, scan, "images", voxels, grid),
        "status": "taken",
        "shape": list(voxels.shape),
        "affine": done.affine.tolist(),
        "scale": scale,
        "offset": offset,
        "repairs": [*notes, (done.notes[-1], "none needed")],
        "labels": {name: _cut_map(work, scan, name, labels, grid) for name, labels in maps.items()},
    }


class _NoLabels(Exception):
    """A scan without anything to lie in the middle."""


def _refusal(reason: str) -> dict[str, str]:
    return {"kind": "refused", "reason": reason, "action": _OTHER}


def _read_map(work: CropWork, scan: StoredScan, name: str) -> NDArray[Any]:
    """Codes `(z, y, x)` as they lay in the patient."""
    found = work.sets[name]
    shape = found.manifest["sequences"][scan.sequence]["shape"]
    labels = found.crop(scan.sequence, scan.places[name], (0, 0, 0), shape)
    return mirror(labels, scan.affine) if scan.mirrored else labels


def _about_labels(
    work: CropWork, scan: StoredScan, labels: NDArray[Any] | None
) -> tuple[TargetGrid | None, list[tuple[str, str]]]:
    """The grid about the labels, None for one about the joint in the image, and what is to be told."""
    config = work.config
    if config.centre == "joint":
        return None, []
    marked = None if labels is None else np.isin(labels, list(work.codes))
    if labels is None or marked is None or not marked.any():
        lacks = "no label map" if labels is None else f"none of the codes {list(work.codes)}"
        if config.without_labels == "refuse":
            raise _NoLabels(f"it has {lacks} in '{config.labels}', so nothing says where to cut")
        text = f"it has {lacks} in '{config.labels}': cut about the joint found from the image"
        return None, [(text, "see that the joint is in the middle")]
    assert config.shape is not None
    grid = label_grid(
        labels, scan.affine, shape=config.shape, spacing_mm=config.spacing_mm, codes=work.codes
    )
    lost = 1 - _share_inside(marked, scan.affine, grid)
    told = f"{100 * lost:.2f} % of the voxels that it is cut about lie outside of the cut"
    return grid, [(told, SMALL)] if lost else []


def _share_inside(
    marked: NDArray[np.bool_], affine: NDArray[np.float64], grid: TargetGrid
) -> float:
    """Share of the marked voxels whose centres lie in a grid along the same axes."""
    matrix = to_source(affine, grid)
    step, start = np.diag(matrix)[:3], matrix[:3, 3]
    # Half a voxel around the outermost centres belongs to the grid; the rest is rounding.
    low = np.ceil(start - step / 2 - 1e-6).astype(int)
    high = np.floor(start + step * (np.array(grid.shape) - 0.5) + 1e-6).astype(int) + 1
    box = tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True))
    return float(np.count_nonzero(marked[box]) / np.count_nonzero(marked))


def _as_type(done: Prepared, dtype: np.dtype[Any]) -> tuple[NDArray[Any], float, float]:
    """The voxels as their sequence stores them; scans of one sequence may differ in what they need."""
    if done.voxels.dtype == dtype:
        return done.voxels, done.scale, done.offset
    stored, step, low = quantise(done.voxels)
    return stored, step * done.scale, low * done.scale + done.offset


def _cut_map(
    work: CropWork, scan: StoredScan, name: str, labels: NDArray[Any], grid: TargetGrid
) -> dict[str, Any]:
    cut = resample_labels(labels, scan.affine, grid).values
    codes = [int(code) for code in np.unique(cut) if code]
    return {**_stage(work, scan, f"labels/{name}", cut, grid), "codes": codes}


def _stage(
    work: CropWork, scan: StoredScan, kind: str, values: NDArray[Any], grid: TargetGrid
) -> dict[str, Any]:
    """Turn a left joint again, put its shard on the disk, and tell where it lies and its checksum."""
    shard = encode_shard(mirror(values, grid.affine) if scan.mirrored else values)
    name = hashlib.sha256(f"{scan.sequence} {scan.scan_id}".encode()).hexdigest()[:24]
    staged = f"{work.below}/{kind}/{name}"
    work.out.write(staged, shard)
    return {"staged": staged, **shard_checksum(shard)}
