"""One compiled pass from stored integers to augmented views on the CPU.

Resampling, the intensity changes and the noise happen voxel by voxel, so that a view is written
once and nothing is copied on the way. The noise is counted, not drawn: voxel `i` of a view
hashes `seed + i` (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014) and
adds the hash's four 16-bit parts, which is close to Gaussian (within 3.46 standard deviations)
and does not depend on the number of threads. No voxel pays for an exponential: gamma is read from a
table of its own with linear interpolation (off by less than 1e-4 of the range near black, less
elsewhere), and the bias field, the exponential of a quadratic along a row, is a running product.
"""

import math
from typing import Any

import numba
import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_LOW = np.uint64(0xFFFF)
_S16 = np.uint64(16)
_S27 = np.uint64(27)
_S30 = np.uint64(30)
_S31 = np.uint64(31)
_S32 = np.uint64(32)
_S48 = np.uint64(48)
# Four discrete uniforms on 0..65535: mean 131070, variance 4 (65536^2 - 1) / 12.
_NOISE_MEAN = np.float32(4 * 65535 / 2)
_NOISE_SCALE = np.float32(1 / math.sqrt(4 * (65536.0**2 - 1) / 12))

_TABLE = 4096


@numba.njit(inline="always")
def _noise(seed: Any, index: Any) -> Any:
    h = (seed + np.uint64(index) + np.uint64(1)) * _STEP
    h = (h ^ (h >> _S30)) * _MIX1
    h = (h ^ (h >> _S27)) * _MIX2
    h = h ^ (h >> _S31)
    total = (h & _LOW) + ((h >> _S16) & _LOW) + ((h >> _S32) & _LOW) + (h >> _S48)
    return (np.float32(total) - _NOISE_MEAN) * _NOISE_SCALE


@numba.njit(inline="always")
def _clip(value: Any, low: Any, high: Any) -> Any:
    # Written so that NaN becomes `low`: an index made from it must stay inside the arrays.
    above = value if value > low else low
    return above if above < high else high


# Sums may be reordered and fused; NaN keeps its meaning, on which `_clip` relies.
@numba.njit(
    parallel=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"}
)
def augment_kernel(
    volumes: Any,  # (N, D, H, W) integers or floats
    matrices: Any,  # (N, 3, 4) float32
    window: Any,  # (N, 2) float32: factor and shift to [0, 1]
    tone: Any,  # (N, 4) float32: gamma, contrast, brightness, noise sd
    seeds: Any,  # (N,) uint64
    bias: Any,  # (N, 9) float32
    mean: Any,  # float32
    inverse_sd: Any,  # float32
    out: Any,  # (N, D, H, W) float32
) -> None:
    """Fills `out` with views; see `spinmark_training.augment.apply` for their meaning."""
    n, depth, height, width = volumes.shape
    one = np.float32(1)
    zero = np.float32(0)
    half = np.float32(0.5)
    steps = np.float32(_TABLE)
    top_z, top_y, top_x = np.float32(depth - 1), np.float32(height - 1), np.float32(width - 1)
    last_z, last_y, last_x = np.uint64(depth - 1), np.uint64(height - 1), np.uint64(width - 1)
    unit_z = np.float32(2 / max(depth - 1, 1))
    unit_y = np.float32(2 / max(height - 1, 1))
    unit_x = np.float32(2 / max(width - 1, 1))
    for i in numba.prange(n):
        m = matrices[i]
        b = bias[i]
        volume = volumes[i]
        factor, shift = window[i, 0], window[i, 1]
        gamma, contrast, brightness, sd = tone[i, 0], tone[i, 1], tone[i, 2], tone[i, 3]
        curve = np.empty(_TABLE + 2, np.float32)
        for step in range(_TABLE + 2):
            curve[step] = (step / _TABLE) ** gamma
        # exp(b ux^2) is passed from voxel to voxel by a factor that itself grows by this one.
        growth = math.exp(2.0 * b[5] * unit_x * unit_x)
        for z in range(depth):
            uz = np.float32(z) * unit_z - one
            for y in range(height):
                uy = np.float32(y) * unit_y - one
                start_z = m[0, 0] * np.float32(z) + m[0, 1] * np.float32(y) + m[0, 3]
                start_y = m[1, 0] * np.float32(z) + m[1, 1] * np.float32(y) + m[1, 3]
                start_x = m[2, 0] * np.float32(z) + m[2, 1] * np.float32(y) + m[2, 3]
                field_0 = b[0] * uz + b[1] * uy + b[3] * uz * uz + b[4] * uy * uy + b[6] * uz * uy
                field_1 = b[2] + b[7] * uz + b[8] * uy
                # At x = 0, ux is -1.
                gain = math.exp(float(field_0 - field_1 + b[5]))
                ratio = math.exp(float(field_1 * unit_x + b[5] * unit_x * (unit_x - np.float32(2))))
                for x in range(width):
                    fx = np.float32(x)
                    pz = _clip(start_z + m[0, 2] * fx, zero, top_z)
                    py = _clip(start_y + m[1, 2] * fx, zero, top_y)
                    px = _clip(start_x + m[2, 2] * fx, zero, top_x)
                    z0, y0, x0 = np.uint64(pz), np.uint64(py), np.uint64(px)
                    # Unsigned, since numba tests signed indices for negative values each time.
                    z1 = min(z0 + np.uint64(1), last_z)
                    y1 = min(y0 + np.uint64(1), last_y)
                    x1 = min(x0 + np.uint64(1), last_x)
                    wz, wy, wx = pz - np.float32(z0), py - np.float32(y0), px - np.float32(x0)
                    v000, v001 = np.float32(volume[z0, y0, x0]), np.float32(volume[z0, y0, x1])
                    v010, v011 = np.float32(volume[z0, y1, x0]), np.float32(volume[z0, y1, x1])
                    v100, v101 = np.float32(volume[z1, y0, x0]), np.float32(volume[z1, y0, x1])
                    v110, v111 = np.float32(volume[z1, y1, x0]), np.float32(volume[z1, y1, x1])
                    v00, v01 = v000 + wx * (v001 - v000), v010 + wx * (v011 - v010)
                    v10, v11 = v100 + wx * (v101 - v100), v110 + wx * (v111 - v110)
                    v0, v1 = v00 + wy * (v01 - v00), v10 + wy * (v11 - v10)
                    value = _clip((v0 + wz * (v1 - v0)) * factor + shift, zero, one)
                    at = value * steps
                    k = np.uint64(at)
                    value = curve[k] + (at - np.float32(k)) * (curve[k + np.uint64(1)] - curve[k])
                    value *= np.float32(gain)
                    gain *= ratio
                    ratio *= growth
                    value = (value - half) * contrast + half + brightness
                    if sd > zero:
                        value += sd * _noise(seeds[i], (z * height + y) * width + x)
                    out[i, z, y, x] = (value - mean) * inverse_sd
