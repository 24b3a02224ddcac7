"""A volume in 512 bits that brightness, noise and compression hardly change.

The volume is averaged onto a small grid and Fourier's cosines are taken of it; the signs of the
lowest frequencies are the fingerprint. Mirroring along an axis turns the sign of its odd frequencies,
so that a mirrored copy is found without another look at it.
"""

import hashlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from spinmark_data.inspect.picture import weights
from spinmark_data.quality.config import BITS

Words = NDArray[np.uint64]

_GRID = 16
_ROUNDING = 1e-4


def fingerprint(volume: NDArray[Any]) -> str:
    """The fingerprint as 128 hexadecimal digits; empty for a volume of one value.

    Volumes of fewer than 16 planes along an axis are stretched, so that grids may differ; a mirrored
    copy of one of fewer than 10 may be missed.

    Args:
        volume: `(z, y, x)`.
    """
    if volume.size == 0 or volume.min() == volume.max():
        return ""
    small = np.asarray(volume, dtype=np.float32)
    # The longest axis is the cheapest to shorten first.
    for axis in (2, 1, 0):
        share = weights(small.shape[axis], _GRID).astype(np.float32)
        small = np.moveaxis(np.tensordot(share, small, (1, axis)), 0, axis)
    found = dctn(small, norm="ortho").ravel()[_order()]
    # Frequencies that a volume of few planes cannot hold are 0 but for rounding.
    signs = found > _ROUNDING * np.sqrt(np.mean(found**2))
    return np.packbits(signs).tobytes().hex()


def words(fingerprints: list[str]) -> Words:
    """Fingerprints `(n, 8)` as whole numbers of 64 bits."""
    raw = b"".join(bytes.fromhex(text) for text in fingerprints)
    return np.frombuffer(raw, dtype=np.uint64).reshape(len(fingerprints), BITS // 64)


def mirrored(found: Words, axes: NDArray[np.int64]) -> Words:
    """Fingerprints `(n, 8)` of the same volumes mirrored.

    Args:
        found: `(n, 8)`.
        axes: `(n,)`, along which of z, y and x (0, 1 or 2) each is mirrored.
    """
    places = np.unravel_index(_order(), (_GRID, _GRID, _GRID))
    odd = np.packbits(np.stack(places) % 2 == 1, axis=1)
    turned: Words = odd.view(np.uint64)[axes]
    return found ^ turned


def exact(stored: NDArray[Any]) -> str:
    """sha256 of the voxels and their shape: equal for equal images, whatever file they came from.

    Args:
        stored: Voxels as acquired, not mirrored.
    """
    digest = hashlib.sha256(repr((stored.shape, str(stored.dtype))).encode())
    digest.update(np.ascontiguousarray(stored).data)
    return digest.hexdigest()


@cache
def _order() -> NDArray[np.int64]:
    """Places of the lowest frequencies but the mean, in the order of their length."""
    k = np.indices((_GRID, _GRID, _GRID)).reshape(3, -1)
    # Ties are broken by place, so that the order is the same everywhere.
    order = np.argsort((k**2).sum(axis=0), kind="stable")
    return np.asarray(order[1 : BITS + 1], dtype=np.int64)
