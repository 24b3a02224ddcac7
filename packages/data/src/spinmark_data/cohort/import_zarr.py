"""A Zarr array of scans from elsewhere into a cohort, a scan at a time.

Integers that span no more than 16 bits are kept as they are. Anything else is quantised scan by scan
to 65536 even steps between the scan's lowest and highest value, so that no value moves by more than
half a step, `scale / 2` (up to the rounding of double precision).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from spinmark_data.cohort.generation import GenerationWriter
from spinmark_data.cohort.import_scans import check_scans, ignored_columns
from spinmark_data.cohort.location import locate
from spinmark_data.cohort.manifest import FILE
from spinmark_data.cohort.sink import FolderSink
from spinmark_data.errors import InputError
from spinmark_data.ingest.geometry import mirror, spacing_of
from spinmark_data.ingest.tableset import COLUMNS
from spinmark_data.integers import quantise


def patient_affine(spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """The affine of an array that follows the cohort's axes, its first voxel at the origin.

    Args:
        spacing_mm: Along z, y and x.

    Returns:
        `(4, 4)`: z to the left, y downwards, x to the back, in LPS mm.
    """
    z, y, x = spacing_mm
    affine = np.eye(4)
    affine[:3, :3] = [[z, 0.0, 0.0], [0.0, 0.0, x], [0.0, -y, 0.0]]
    return affine


def open_array(store: Path, array: str = "volume") -> Any:
    """Open a Zarr array, or the array of that name within a group, of format 2 or 3.

    Raises:
        InputError: There is no such store or array, or it is not `(scan, z, y, x)` or
            `(scan, echo, z, y, x)` of integers or floats.
    """
    if not Path(store).exists():
        raise InputError(f"{store}: no such folder; a Zarr array or group is needed.")
    try:
        found: Any = zarr.open(Path(store), mode="r")
        if isinstance(found, zarr.Group):
            names = sorted(name for name, _ in found.arrays())
            found = found.get(array)
            if not isinstance(found, zarr.Array):
                raise InputError(f"{store}: no array '{array}'; this group has {names} (array).")
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{store} cannot be opened as Zarr 2 or 3 ({reason}).") from None
    if found.dtype.kind not in "iuf":
        raise InputError(f"{store}: voxels of {found.dtype}; integers or floats are needed.")
    if found.ndim not in (4, 5) or min(found.shape) < 1:
        raise InputError(
            f"{store}: an array of shape {found.shape}; (scan, z, y, x) or (scan, echo, z, y, x) "
            "is needed."
        )
    return found


def import_zarr(
    store: Path,
    out: Path,
    *,
    scans: pd.DataFrame,
    sequence: str,
    spacing_mm: Sequence[float],
    array: str = "volume",
    affine: NDArray[np.float64] | None = None,
    echo_time_ms: NDArray[np.float64] | Sequence[float] | None = None,
    mirror_left: bool = False,
    tables: Mapping[str, pd.DataFrame] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Copy a Zarr array of scans into a new cohort, holding one scan in memory at a time.

    Nothing is resampled or reoriented: axes must run as a cohort's do (docs/schemas.md), or the
    affine must say how they run. An array whose chunks span several scans is read once for each.

    Args:
        store: A Zarr array of format 2 or 3, or a group that holds it, with scans along its first
            axis: `(scan, z, y, x)` or `(scan, echo, z, y, x)`, integers or floats.
        out: Folder of the cohort.
        scans: Row i is scan i: `subject_id`, and if there are `laterality` (R, L or nothing),
            `visit`, `rank`, `days`, `site`, `scanner`, `source_sha256`, `mirrored` (the array
            holds the scan mirrored already), `scale` and `offset` (of the array's own numbers,
            `value = number * scale + offset`).
        sequence: Name of the sequence.
        spacing_mm: Along z, y and x.
        array: Name of the array within a group.
        affine: `(4, 4)` or `(scan, 4, 4)`, indices `(z, y, x)` before mirroring to LPS mm; by default
            `patient_affine`.
        echo_time_ms: `(echo,)` or `(scan, echo)`; needed where there are echoes.
        mirror_left: Flip left joints along the right-left axis, as an ingest does, and note it in
            `mirrored`. Those noted as mirrored already are left.
        tables: Further tables of the cohort, by name.
        progress: Called with scans done and scans there are.

    Returns:
        What `cohort.json` holds.

    Raises:
        InputError: The array, the table or the geometry cannot be used, or a scan holds a value
            that is not finite; the message names the scan.
    """
    out = Path(out)
    if (out / FILE).exists():
        raise InputError(f"{out} holds a cohort already; choose another folder.")
    source = open_array(Path(store), array)
    count, shape = int(source.shape[0]), tuple(int(size) for size in source.shape[1:])
    rows = check_scans(scans, sequence, count)
    spacing = _check_spacing(spacing_mm)
    affines = _check_affine(affine, spacing, count)
    times = _check_times(echo_time_ms, shape, count)
    turned = (rows["laterality"] == "L") & ~rows["mirrored"] & mirror_left
    hashed = "source_sha256" in scans.columns
    folder = locate(out)
    writer = GenerationWriter(folder=folder, sink=FolderSink(folder))
    for index in range(count):
        values = np.asarray(source[index])
        try:
            stored, scale, offset = quantise(values)
        except InputError as error:
            raise InputError(f"Scan {rows['scan_id'][index]} (row {index}): {error}.") from None
        if turned[index]:
            stored = mirror(stored, affines[index])
        # What the array's numbers stand for comes after what was done to them here.
        outer, shift = float(rows.loc[index, "scale"]), float(rows.loc[index, "offset"])  # type: ignore[arg-type]
        rows.loc[index, ["scale", "offset"]] = [scale * outer, offset * outer + shift]
        if not hashed:
            rows.loc[index, "source_sha256"] = _digest(values)
        writer.write_scan(sequence, index, stored, rows.iloc[index].to_dict())
        if progress is not None:
            progress(index + 1, count)
    rows["mirrored"] |= turned
    writer.add_sequence(
        sequence,
        shape=shape,
        spacing_mm=spacing,
        dtype=np.dtype(np.int16),
        scans=rows,
        affine=affines,
        echo_time_ms=times,
    )
    provenance = {
        "layout": "zarr",
        "zarr_format": int(source.metadata.zarr_format),
        "dtype": str(source.dtype),
        "left_mirrored": int(turned.sum()),
    }
    return writer.finish({**_notes(scans, count), **(tables or {})}, provenance)


def _digest(values: NDArray[Any]) -> str:
    """The sha256 of a scan's numbers, little-endian in C order."""
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return hashlib.sha256(plain.data).hexdigest()


def _check_spacing(spacing_mm: Sequence[float]) -> tuple[float, float, float]:
    steps = [float(step) for step in spacing_mm]
    if len(steps) != 3 or not all(np.isfinite(step) and step > 0 for step in steps):
        raise InputError(f"spacing_mm is {steps}; three positive numbers, along z, y and x.")
    return steps[0], steps[1], steps[2]


def _check_affine(
    affine: NDArray[np.float64] | None, spacing: tuple[float, float, float], count: int
) -> NDArray[np.float64]:
    given = patient_affine(spacing) if affine is None else np.asarray(affine, dtype=np.float64)
    if given.shape not in ((4, 4), (count, 4, 4)) or not np.isfinite(given).all():
        raise InputError(
            f"affine has the shape {given.shape}; (4, 4) or ({count}, 4, 4), finite, is needed."
        )
    affines = np.array(np.broadcast_to(given, (count, 4, 4)))
    for index, one in enumerate(affines):
        found = spacing_of(one)
        if not np.allclose(found, spacing, rtol=1e-2, atol=0):
            raise InputError(
                f"The affine of scan {index} steps by {[round(step, 4) for step in found]} mm and "
                f"spacing_mm is {list(spacing)}; they must agree."
            )
        if abs(np.linalg.det(one[:3, :3])) < 1e-3 * np.prod(spacing):
            raise InputError(f"The affine of scan {index} is singular.")
    return affines


def _check_times(
    echo_time_ms: NDArray[np.float64] | Sequence[float] | None, shape: tuple[int, ...], count: int
) -> NDArray[np.float64] | None:
    if (echo_time_ms is None) != (len(shape) == 3):
        told = "no echoes" if len(shape) == 3 else f"{shape[0]} echoes"
        raise InputError(
            f"The array has {told} and echo_time_ms is {echo_time_ms}; times go with echoes."
        )
    if echo_time_ms is None:
        return None
    times = np.asarray(echo_time_ms, dtype=np.float64)
    if times.shape not in ((shape[0],), (count, shape[0])):
        raise InputError(
            f"echo_time_ms has the shape {times.shape}; ({shape[0]},) or ({count}, {shape[0]})."
        )
    return np.array(np.broadcast_to(times, (count, shape[0])))


def _notes(scans: pd.DataFrame, count: int) -> dict[str, pd.DataFrame]:
    """The issues and flow tables of an import."""
    issues = [
        (f"scan table, column {column}", "refused", "no property of a scan", "none needed")
        for column in ignored_columns(scans)
    ]
    flow = [("scans given", "scans", count, 0, ""), ("scans stored", "scans", count, 0, "")]
    return {
        "issues": pd.DataFrame(issues, columns=list(COLUMNS["issues"]), dtype=object),
        "flow": pd.DataFrame(flow, columns=list(COLUMNS["flow"])),
    }
