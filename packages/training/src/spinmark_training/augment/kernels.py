"""One compiled pass from stored integers to augmented views on the CPU.

Resampling, the intensity changes and the noise happen row by row, so that a view is written
once and nothing is copied on the way. The noise is that of `counted`, hashed voxel by voxel. No
voxel pays for an exponential: the map of the histogram and gamma are read from one table with linear
interpolation (off by less than 1e-4 of the range near black, less elsewhere), and the bias field,
the exponential of a quadratic along a row, is a running product. Elastic displacements are
separable: their control points are summed up once a slice, once a row, and then once a voxel.

The kernel does not hold Python's lock. Each view is made by one thread, so the result does not depend on
their number.
"""

import math
from typing import Any

import numba
import numpy as np

RESAMPLE = 1
TONE = 2

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
_SECOND = np.uint64(2**62)
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


@numba.njit(inline="always")
def _curve(gamma: Any, knots: Any) -> Any:
    """The map of the histogram, then gamma, as a table; one entry more than is ever asked for."""
    curve = np.empty(_TABLE + 2, np.float32)
    pieces = len(knots) - 1
    for step in range(_TABLE + 2):
        value = step / _TABLE
        if pieces > 0:
            at = value * pieces
            k = min(int(at), pieces - 1)
            value = knots[k] + (at - k) * (knots[k + 1] - knots[k])
        curve[step] = value**gamma
    return curve


@numba.njit(inline="always")
def _control_row(control: Any, weights_z: Any, weights_y: Any, row: Any) -> None:
    """Sums control points `(P, P, P, 3)` along z and y into `row` `(P, 3)`."""
    points = len(row)
    for c in range(points):
        for k in range(3):
            row[c, k] = 0
    for a in range(points):
        for b in range(points):
            weight = weights_z[a] * weights_y[b]
            if weight > 0:
                for c in range(points):
                    for k in range(3):
                        row[c, k] += weight * control[a, b, c, k]


@numba.njit(inline="always")
def _bend(row: Any, weights_x: Any, bend: Any) -> None:
    """Sums control points along x into displacements `(3, W)`."""
    points, width = weights_x.shape
    for k in range(3):
        for x in range(width):
            bend[k, x] = 0
        for c in range(points):
            for x in range(width):
                bend[k, x] += row[c, k] * weights_x[c, x]


@numba.njit(inline="always")
def _cut_out(view: Any, boxes: Any) -> None:
    """Sets boxes to the view's mean."""
    depth, height, width = view.shape
    total = 0.0
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                total += view[z, y, x]
    mean = np.float32(total / (depth * height * width))
    for box in range(len(boxes)):
        z0, y0, x0, z1, y1, x1 = boxes[box]
        for z in range(z0, z1):
            for y in range(y0, y1):
                for x in range(x0, x1):
                    view[z, y, x] = mean


# Sums may be reordered and fused; NaN keeps its meaning, on which `_clip` relies.
@numba.njit(
    parallel=True,
    nogil=True,
    cache=True,
    error_model="numpy",
    fastmath={"contract", "reassoc", "nsz", "arcp"},
)
def augment_kernel(
    volumes: Any,  # (S, D', H', W') integers or floats
    rows: Any,  # (R,) int64: the views to make
    source: Any,  # (V,) int64: the volume of each
    matrices: Any,  # (V, 3, 4) float32
    window: Any,  # (V, 2) float32: factor and shift to [0, 1]
    control: Any,  # (V, P, P, P, 3) float32, voxels of the volume
    weights_z: Any,  # (D, P) float32
    weights_y: Any,  # (H, P) float32
    weights_x: Any,  # (P, W) float32
    tone: Any,  # (V, 5) float32: gamma, contrast, brightness, noise sd, whether it is Rician
    seeds: Any,  # (V,) uint64
    bias: Any,  # (V, 9) float32
    knots: Any,  # (V, K) float32
    boxes: Any,  # (V, B, 6) int64
    stages: Any,  # uint8, the sum of RESAMPLE and TONE
    mean: Any,  # float32
    inverse_sd: Any,  # float32
    out: Any,  # (V, D, H, W) float32
) -> None:
    """Fills `out` with views; see `spinmark_training.augment.apply` for their meaning.

    RESAMPLE alone leaves intensities in [0, 1]; TONE alone goes on from those.
    """
    _, from_depth, from_height, from_width = volumes.shape
    _, depth, height, width = out.shape
    points = len(weights_x)
    one = np.float32(1)
    zero = np.float32(0)
    half = np.float32(0.5)
    steps = np.float32(_TABLE)
    top_z = np.float32(from_depth - 1)
    top_y = np.float32(from_height - 1)
    top_x = np.float32(from_width - 1)
    last_z, last_y = np.uint64(from_depth - 1), np.uint64(from_height - 1)
    last_x = np.uint64(from_width - 1)
    unit_z = np.float32(2 / max(depth - 1, 1))
    unit_y = np.float32(2 / max(height - 1, 1))
    unit_x = np.float32(2 / max(width - 1, 1))
    for r in numba.prange(len(rows)):
        i = rows[r]
        m = matrices[i]
        b = bias[i]
        volume = volumes[source[i]]
        factor, shift = window[i, 0], window[i, 1]
        gamma, contrast, brightness, sd = tone[i, 0], tone[i, 1], tone[i, 2], tone[i, 3]
        rician = tone[i, 4] > zero
        curve = _curve(gamma, knots[i])
        row = np.empty((points, 3), np.float32)
        bend = np.empty((3, width), np.float32)
        # exp(b ux^2) is passed from voxel to voxel by a factor that itself grows by this one.
        growth = math.exp(2.0 * b[5] * unit_x * unit_x)
        for z in range(depth):
            uz = np.float32(z) * unit_z - one
            for y in range(height):
                line = out[i, z, y]
                if stages & RESAMPLE:
                    start_z = m[0, 0] * np.float32(z) + m[0, 1] * np.float32(y) + m[0, 3]
                    start_y = m[1, 0] * np.float32(z) + m[1, 1] * np.float32(y) + m[1, 3]
                    start_x = m[2, 0] * np.float32(z) + m[2, 1] * np.float32(y) + m[2, 3]
                    if points > 0:
                        _control_row(control[i], weights_z[z], weights_y[y], row)
                        _bend(row, weights_x, bend)
                    for x in range(width):
                        fx = np.float32(x)
                        az, ay, ax = zero, zero, zero
                        if points > 0:
                            az, ay, ax = bend[0, x], bend[1, x], bend[2, x]
                        pz = _clip(start_z + m[0, 2] * fx + az, zero, top_z)
                        py = _clip(start_y + m[1, 2] * fx + ay, zero, top_y)
                        px = _clip(start_x + m[2, 2] * fx + ax, zero, top_x)
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
                        line[x] = _clip((v0 + wz * (v1 - v0)) * factor + shift, zero, one)
                if stages & TONE:
                    uy = np.float32(y) * unit_y - one
                    field_0 = b[0] * uz + b[1] * uy + b[3] * uz * uz + b[4] * uy * uy
                    field_0 = field_0 + b[6] * uz * uy
                    field_1 = b[2] + b[7] * uz + b[8] * uy
                    # At x = 0, ux is -1.
                    gain = math.exp(float(field_0 - field_1 + b[5]))
                    ratio = math.exp(
                        float(field_1 * unit_x + b[5] * unit_x * (unit_x - np.float32(2)))
                    )
                    for x in range(width):
                        at = _clip(line[x], zero, one) * steps
                        k = np.uint64(at)
                        low, high = curve[k], curve[k + np.uint64(1)]
                        value = low + (at - np.float32(k)) * (high - low)
                        value *= np.float32(gain)
                        gain *= ratio
                        ratio *= growth
                        value = (value - half) * contrast + half + brightness
                        if sd > zero:
                            place = (z * height + y) * width + x
                            value += sd * _noise(seeds[i], place)
                            if rician:
                                other = sd * _noise(seeds[i] + _SECOND, place)
                                value = math.sqrt(value * value + other * other)
                        line[x] = (value - mean) * inverse_sd
        if stages & TONE and len(boxes[i]) > 0:
            _cut_out(out[i], boxes[i])
