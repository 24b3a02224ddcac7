"""All preprocessing of one volume, in order; what the ingest calls between loading and mirroring."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.errors import InputError
from spinmark_data.ingest.dicom.series import Refused
from spinmark_data.ingest.geometry import spacing_of
from spinmark_data.integers import quantise
from spinmark_data.preprocess.config import PreprocessConfig
from spinmark_data.preprocess.grid import Shape, TargetGrid, target_grid
from spinmark_data.preprocess.resample import resample

# With at least as many levels, rounding to the source's own step costs no more than 0.05 % of the
# span, and volumes compress as the source's did.
_LEVELS = 1024


@dataclass(kw_only=True)
class Prepared:
    """A volume as the cohort stores it, not yet mirrored.

    Args:
        voxels: Integers `(z, y, x)` or `(echo, z, y, x)`.
        affine: `(4, 4)`, indices to LPS mm.
        scale: `value = stored * scale + offset`.
        offset: See `scale`.
        coverage: Share of the voxels that lie in the scan's field of view; the others hold the
            scan's least value.
        notes: What was done.
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    scale: float
    offset: float
    coverage: float = 1.0
    notes: list[str] = field(default_factory=list)


def prepare(
    volume: NDArray[Any],
    affine: NDArray[np.float64],
    config: PreprocessConfig,
    *,
    scale: float = 1.0,
    offset: float = 0.0,
    target: TargetGrid | None = None,
) -> Prepared:
    """Preprocess one volume: bias field, then target grid, then 16-bit integers again.

    Args:
        volume: Integers as stored, `(z, y, x)` or `(echo, z, y, x)`, its axes in the ingest's order.
        affine: `(4, 4)`, indices to LPS mm, before mirroring.
        config: What to do.
        scale: `value = stored * scale + offset`; not 0.
        offset: See `scale`.
        target: Where to bring it, if that is known otherwise than from `config.centre`.

    Returns:
        The volume: int16, or the very integers that came in where nothing had to be done, or voxels
        only moved.

    Raises:
        Refused: The scan fills less of the target grid than `min_coverage`, or no joint can be
            looked for in it.
        InputError: SimpleITK is asked for and absent.
    """
    done = Prepared(voxels=volume, affine=affine, scale=scale, offset=offset)
    if not config.active:
        return done
    echoes: NDArray[Any] = volume if volume.ndim == 4 else volume[None]
    # In steps of the source, so that they can be rounded to; the value is `step * scale`.
    zero = offset / scale
    levels = int(volume.max()) - int(volume.min())
    if target is None:
        target = _target(echoes[0], affine, config)
    if config.bias_correction == "n4":
        echoes = _unbias(echoes, affine, zero, config)
        done.notes.append("a bias field was divided out (N4)")
    if target is not None:
        echoes = _regrid(echoes, done, target, config)
    if echoes.dtype.kind == "f":
        shift = zero if config.bias_correction == "none" else 0.0
        done.voxels, step, low = _store(echoes, levels)
        done.scale, done.offset = step * scale, (low + shift) * scale
    else:
        done.voxels = echoes
    if volume.ndim == 3:
        done.voxels = done.voxels[0]
    return done


def _target(
    volume: NDArray[np.int16], affine: NDArray[np.float64], config: PreprocessConfig
) -> TargetGrid | None:
    """Where to bring a volume; None where it lies there."""
    if not config.resample:
        return None
    z, y, x = (int(count) for count in volume.shape)
    shape: Shape = (z, y, x)
    if config.centre == "joint" and config.shape is not None:
        # Slow to import, and needed by few.
        from spinmark_data.preprocess.crop import joint_grid

        try:
            return joint_grid(volume, affine, shape=config.shape, spacing_mm=config.spacing_mm)
        except InputError as error:
            raise Refused(str(error)) from None
    grid = target_grid(shape, affine, spacing_mm=config.spacing_mm, target_shape=config.shape)
    return None if grid.shape == shape and np.allclose(grid.affine, affine, atol=1e-9) else grid


def _unbias(
    echoes: NDArray[np.int16], affine: NDArray[np.float64], zero: float, config: PreprocessConfig
) -> NDArray[np.float32]:
    """Every echo without the field of the first, which has the most signal."""
    from spinmark_data.preprocess.bias_field import correct_bias, simpleitk

    # Its absence is no fault of the scan.
    simpleitk()
    values = echoes.astype(np.float32) + np.float32(zero)
    try:
        found = correct_bias(values[0], affine, resolution_mm=config.bias_resolution_mm)
    except InputError as error:
        raise Refused(str(error)) from None
    values /= found.field
    return values


def _regrid(
    echoes: NDArray[Any],
    done: Prepared,
    target: TargetGrid,
    config: PreprocessConfig,
) -> NDArray[Any]:
    first = resample(echoes[0], done.affine, target, kernel=config.interpolation)
    if first.coverage < config.min_coverage:
        raise Refused(
            f"the scan fills {first.coverage:.0%} of the grid {list(target.shape)} at "
            f"{[round(step, 4) for step in spacing_of(target.affine)]} mm; "
            f"{config.min_coverage:.0%} are needed"
        )
    out = np.empty((len(echoes), *target.shape), first.values.dtype)
    out[0] = first.values
    for index in range(1, len(echoes)):
        one = resample(echoes[index], done.affine, target, kernel=config.interpolation)
        out[index] = one.values
    whole = out.dtype.kind != "f"
    done.notes.append(
        f"{'cut' if whole else 'resampled'} from {list(echoes.shape[1:])} at "
        f"{[round(step, 4) for step in spacing_of(done.affine)]} mm; "
        f"{first.coverage:.1%} of the grid lies in the scan"
    )
    done.affine, done.coverage = first.affine, first.coverage
    return out


def _store(values: NDArray[np.float32], levels: int) -> tuple[NDArray[np.int16], float, float]:
    if levels >= _LEVELS:
        np.rint(values, out=values)
    return quantise(values)
