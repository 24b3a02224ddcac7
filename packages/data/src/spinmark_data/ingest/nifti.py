"""One NIfTI file into one volume; NIfTI-1 and NIfTI-2, plain or gzipped.

The header is read first, so that a file unpacks to no more than it tells of. Orientation follows
nibabel: the sform if its code is set, else the qform, else the spacings alone.
"""

import hashlib
import io
import json
import warnings
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from spinmark_data.ingest.dicom.headers import File, read_bytes
from spinmark_data.ingest.dicom.series import Volume, to_int16
from spinmark_data.ingest.limits import LIMITS, Limits, Refused, check_voxels
from spinmark_data.integers import quantise

_HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_GZIP = b"\x1f\x8b"
_NO_NIFTI = "not a NIfTI file, or cut short"


def _gunzip(data: bytes, count: int, *, whole: bool = False) -> bytes:
    """The first `count` bytes that gzip members unpack to; with `whole`, no more may follow."""
    parts: list[bytes] = []
    left = count
    try:
        while data[:2] == _GZIP:
            unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
            parts.append(unpacker.decompress(data, left + whole))
            left -= len(parts[-1])
            if left < 0:
                raise Refused(
                    f"the file unpacks to more than the {count} bytes its header tells of"
                )
            if whole and not unpacker.eof:
                # All voxels are there, or never come; the checksum stands after them.
                left -= len(unpacker.decompress(unpacker.unconsumed_tail, 1))
                if left < 0 or not unpacker.eof:
                    raise Refused(_NO_NIFTI)
            if left <= 0 and not whole:
                break
            data = unpacker.unused_data
    except zlib.error:
        raise Refused(_NO_NIFTI) from None
    return b"".join(parts)


def _header(start: bytes) -> Any:
    sizes = (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big"))
    size = next((size for size in _HEADERS if size in sizes), 0)
    if not size or len(start) < size:
        raise Refused(_NO_NIFTI)
    kind: Any = _HEADERS[size]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # What nibabel would put right and log is checked here instead.
            header = kind.from_fileobj(io.BytesIO(start), check=False)
    except Exception:
        raise Refused(_NO_NIFTI) from None
    if header["magic"].item()[:2] != b"n+":
        raise Refused("not a NIfTI file in one piece (magic n+1 or n+2)")
    return header


def _shape(header: Any, limits: Limits) -> tuple[int, ...]:
    axes = int(header["dim"][0])
    if not 1 <= axes <= 7:
        raise Refused(f"{axes} axes; a volume has 3")
    shape = tuple(int(size) for size in header["dim"][1 : axes + 1])
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or min(shape[:3]) < 3:
        raise Refused(f"not a volume: shape {shape}; three axes of at least 3 are needed")
    check_voxels(shape, limits)
    return shape


def _echo_times(source: File, shape: tuple[int, ...]) -> list[float]:
    """Echo times in ms of a file with a fourth axis, from the JSON file beside it."""
    if len(shape) == 3:
        return []
    if isinstance(source, Path):
        stem = source.name.removesuffix(".gz").removesuffix(".nii")
        sidecar = source.with_name(f"{stem}.json")
        try:
            given = json.loads(read_bytes(sidecar)) if sidecar.is_file() else {}
            times = [1000 * float(time) for time in given["EchoTime"]]
        except (Refused, ValueError, TypeError, KeyError, RecursionError):
            times = []
        if len(times) == shape[3] and np.isfinite(times).all() and len(set(times)) == len(times):
            return [round(time, 3) for time in times]
    raise Refused(
        f"not a volume: {shape[3]} volumes in one file, over time or of an unknown kind; echoes need a "
        f"JSON file beside it with as many EchoTime"
    )


def _affine(header: Any) -> NDArray[np.float64]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            best = np.asarray(header.get_best_affine(), dtype=np.float64)
    except Exception:
        raise Refused("the affine cannot be read from the header") from None
    if not (np.abs(best) < 1e6).all():
        raise Refused("the affine is not finite")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ best
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not (spacing > 0).all() or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise Refused("the affine is singular")
    return affine


def _rescale(header: Any) -> tuple[float, float]:
    try:
        slope, inter = header.get_slope_inter()
    except Exception:
        raise Refused("scl_slope or scl_inter is not finite") from None
    slope, inter = 1.0 if slope is None else float(slope), 0.0 if inter is None else float(inter)
    if not (np.isfinite(slope) and np.isfinite(inter)):
        raise Refused("scl_slope or scl_inter is not finite")
    return slope, inter


def _voxels(data: bytes, header: Any, shape: tuple[int, ...], limits: Limits) -> NDArray[Any]:
    """The voxels as stored, `(x, y, z[, echo])`."""
    try:
        dtype = header.get_data_dtype()
    except Exception:
        raise Refused(f"voxels of datatype {int(header['datatype'])}; numbers are needed") from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        kind = "colour" if dtype.kind == "V" else str(dtype)
        raise Refused(f"voxels of type {kind}; integers and floats of up to 64 bits are read")
    offset = float(header["vox_offset"])
    if not 0 <= offset <= limits.file_bytes:
        raise Refused(f"vox_offset {offset:g}; the voxels cannot begin there")
    start, count = int(offset), int(np.prod(shape, dtype=np.int64))
    end = start + count * dtype.itemsize
    if data[:2] == _GZIP:
        # Some writers pad to a multiple of their blocks.
        data = _gunzip(data, end + 4096, whole=True)
    if len(data) < end:
        raise Refused(_NO_NIFTI)
    return np.frombuffer(data, dtype, count, start).reshape(shape, order="F")


def load_nifti(source: File, limits: Limits = LIMITS) -> tuple[Volume, str]:
    """Read a NIfTI file: its volume `([echo,] slice, row, column)`, affine in LPS, and its sha256.

    The third axis of the file is taken as the one across slices. A fourth axis is taken as echoes
    where a JSON file beside it has as many `EchoTime`, in seconds.

    Args:
        source: The file, or its bytes.
        limits: Bounds on what is read.

    Raises:
        Refused: It cannot be read, is no volume, or holds fewer than 3 slices.
    """
    data = read_bytes(source, limits)
    header = _header(_gunzip(data, 540) if data[:2] == _GZIP else data[:540])
    shape = _shape(header, limits)
    times = _echo_times(source, shape)
    affine, (slope, inter) = _affine(header), _rescale(header)
    voxels = _voxels(data, header, shape, limits)
    repairs = []
    if voxels.dtype.kind == "f":
        if not np.isfinite(voxels).all():
            raise Refused("voxels are not finite")
        stored, step, shift = quantise(voxels)
    else:
        step, (stored, shift) = 1.0, to_int16(voxels)
    if step != 1.0:
        repairs.append("floating-point voxels were rounded to 16 bits")
    scale, offset = step * slope, inter + shift * slope
    if not (np.isfinite(scale) and np.isfinite(offset)):
        raise Refused("values beyond what 64 bits hold")
    volume = Volume(
        voxels=stored.T,
        affine=affine[:, [2, 1, 0, 3]],
        scale=scale,
        offset=offset,
        echo_time_ms=times,
        repairs=repairs,
    )
    return volume, hashlib.sha256(data).hexdigest()
