"""What goes wrong in single scans: motion, anatomy beyond the field of view, fat that stays.

Phase is encoded from superior to inferior. How often each occurs is a rate of the config; sizes were
chosen to look as they do, and no survey stands behind either. Chemical shift is no accident: it belongs to
each sequence that keeps its fat (`sequences.Sequence.fat_shift_mm`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.sequences import SEQUENCES

FloatArray = npt.NDArray[np.floating[Any]]

# Most of a row that ghosts take, most of a field of view that is folded in, and what the coil sees there.
_GHOST, _FOLDED, _BEYOND = (0.04, 0.12), (0.05, 0.15), 0.6


@dataclass(frozen=True, kw_only=True)
class Artefacts:
    """What a scan suffers from.

    Args:
        ghosting: Share of the signal in each of the two first ghosts of motion, 0 for none.
        ghosts: Number of ghosts that fill the field of view, 2 to 6.
        wrap: Share of the field of view beyond each end that is folded in, 0 for none.
        fat_failure: Share of the suppressed fat that comes back where suppression fails, 0 for none.
        corner: Where it fails, in fields of view along `(z, y, x)`, -1 to 1.
    """

    ghosting: float = 0.0
    ghosts: int = 2
    wrap: float = 0.0
    fat_failure: float = 0.0
    corner: tuple[float, float, float] = (0.0, 0.0, 0.0)


NONE = Artefacts()
"""A scan in which nothing went wrong."""


def draw(seed: int, sequence: str, config: PhantomConfig) -> Artefacts:
    """Decide what a scan suffers from.

    Args:
        seed: Seed of the scan.
        sequence: Its sequence; where no fat is suppressed, no suppression can fail.
        config: Rates, and the nuisance level that scales every size.
    """
    rates = (config.motion_ghosting, config.wrap_around, config.fat_failure)
    if config.nuisance == 0 or not any(rates):
        return NONE
    u = np.random.default_rng(np.random.SeedSequence([seed, 3])).random(10)
    scale = config.nuisance
    ghosting = min(_within(u[1], _GHOST) * scale, 0.4) if u[0] < rates[0] else 0.0
    wrap = min(_within(u[4], _FOLDED) * scale, 0.45) if u[3] < rates[1] else 0.0
    suppressed = SEQUENCES[sequence].fat != "kept"
    failure = min((0.3 + 0.5 * u[6]) * scale, 1.0) if suppressed and u[5] < rates[2] else 0.0
    x, y, z = (2 * v - 1 for v in u[7:])
    return Artefacts(
        ghosting=float(ghosting),
        ghosts=2 + int(u[2] * 5),
        wrap=float(wrap),
        fat_failure=float(failure),
        corner=(float(z), float(y), float(np.sign(x) or 1.0)),
    )


def _within(u: float, bounds: tuple[float, float]) -> float:
    return bounds[0] + u * (bounds[1] - bounds[0])


def beyond_rows(artefacts: Artefacts, rows: int) -> int:
    """Rows beyond each end of the field of view that are folded into it."""
    return round(artefacts.wrap * rows)


def fold(image: FloatArray, beyond: int) -> FloatArray:
    """Fold rows beyond the field of view to its other end.

    Args:
        image: `(..., y, x)` with `beyond` more rows at each end.
        beyond: Their number.

    Returns:
        `(..., y, x)` without them.
    """
    if beyond == 0:
        return image
    seen = image[..., beyond:-beyond, :].copy()
    seen[..., -beyond:, :] += np.float32(_BEYOND) * image[..., :beyond, :]
    seen[..., :beyond, :] += np.float32(_BEYOND) * image[..., -beyond:, :]
    return seen


def ghost(image: FloatArray, artefacts: Artefacts) -> FloatArray:
    """Repeat an image `(..., y, x)` along the rows, as a periodic motion does; its sum stays."""
    if artefacts.ghosting == 0:
        return image
    step = max(1, image.shape[-2] // artefacts.ghosts)
    share = np.float32(artefacts.ghosting)
    around = np.roll(image, step, axis=-2) + np.roll(image, -step, axis=-2)
    return np.asarray((1 - 2 * share) * image + share * around)


def fat_back(
    shape: tuple[int, int, int], artefacts: Artefacts, suppressed: float
) -> tuple[FloatArray, FloatArray] | None:
    """Return the factor on fat where its suppression fails, or None where it does not.

    Args:
        shape: Voxels along `(z, y, x)`.
        artefacts: What the scan suffers from.
        suppressed: Share of the fat that is suppressed elsewhere.

    Returns:
        A profile `(z)` and a plane `(y, x)`; the factor is 1 plus their product.
    """
    if artefacts.fat_failure == 0 or suppressed <= 0:
        return None
    profiles = []
    for n, centre, width in zip(shape, artefacts.corner, (0.8, 0.8, 0.6), strict=True):
        t = np.linspace(-1, 1, n)
        profiles.append(np.exp(-0.5 * ((t - centre) / width) ** 2))
    whole = artefacts.fat_failure * suppressed / (1 - suppressed)
    plane = profiles[1][:, None] * profiles[2] * whole
    return profiles[0].astype(np.float32), plane.astype(np.float32)


def shift_fat(fat: FloatArray, voxels: float) -> FloatArray:
    """Displace fat `(..., x)` along the readout by a share of voxels, with nothing moving in."""
    if voxels == 0:
        return fat
    whole = int(np.floor(voxels))
    rest = np.float32(voxels - whole)
    return np.asarray((1 - rest) * _moved(fat, whole) + rest * _moved(fat, whole + 1))


def _moved(image: FloatArray, by: int) -> FloatArray:
    moved = np.zeros_like(image)
    if by < image.shape[-1]:
        moved[..., by:] = image[..., : image.shape[-1] - by]
    return moved
