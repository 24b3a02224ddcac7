"""Multiplication along an axis by matrices that are zero away from their diagonals, on the CPU."""

from typing import Any

import numba
import numpy as np

# Lines of voxels that are filtered at once: a few cache lines wide.
_STRIP = 64


@numba.njit(
    parallel=True, nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc"}
)
def filter_kernel(
    values: Any,  # (N, outer, L, inner) float32, changed in place
    matrices: Any,  # (N, L, L) float32
    bands: Any,  # (N, L, 2) int64: the columns of each row that are not zero, the last left out
) -> None:
    """Replaces each line along the third axis by matrix times line."""
    n, outer, length, inner = values.shape
    lines = outer * inner
    for i in numba.prange(n):
        flat = values[i].reshape(outer * length * inner)
        before = np.empty((length, _STRIP), np.float32)
        total = np.empty(_STRIP, np.float32)
        where = np.empty(_STRIP, np.int64)
        for start in range(0, lines, _STRIP):
            count = min(_STRIP, lines - start)
            for s in range(count):
                o = (start + s) // inner
                where[s] = o * length * inner + (start + s - o * inner)
            for k in range(length):
                for s in range(count):
                    before[k, s] = flat[where[s] + k * inner]
            for j in range(length):
                for s in range(_STRIP):
                    total[s] = 0
                for k in range(bands[i, j, 0], bands[i, j, 1]):
                    weight = matrices[i, j, k]
                    for s in range(_STRIP):
                        total[s] += weight * before[k, s]
                for s in range(count):
                    flat[where[s] + j * inner] = total[s]
