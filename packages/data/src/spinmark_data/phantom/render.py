"""A scan of a joint: anatomy and disease laid onto a grid, then seen through a scanner.

Tissues are painted from back to front, each by the share of the voxel that it covers, so that thin
layers blur into their neighbours as partial volume does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_data.phantom import signal
from spinmark_data.phantom.anatomy import LABELS, Coordinates, FloatArray, Knee, ellipsoid, tendons
from spinmark_data.phantom.disease import LEAST_MM, Lesion, lesions
from spinmark_data.phantom.state import Grid, JointState, ScannerStyle

# The field of view of a joint crop is centred above and before the joint line, so that the patella
# lies within 72 x 81 mm.
_CENTRE_MM = np.array([0.0, -9.0, -4.5])
# The knee lies to the side of the magnet's middle.
_OFF_CENTRE_MM = 90.0
# Voxels computed at a time: few enough to stay in cache, and their number changes no value.
_SLAB_VOXELS = 28_000


@dataclass(frozen=True, kw_only=True)
class RenderedScan:
    """One scan and what is true of it.

    Args:
        volume: Signal uint16 `(z, y, x)`, 0 to 4095.
        labels: Label map uint8 `(z, y, x)`, codes in `anatomy.LABELS`, 0 is air.
        affine: `(4, 4)`, voxel centres `(z, y, x, 1)` to LPS millimetres.
        cartilage_mm: True mean thickness of each cartilage in millimetres.
    """

    volume: npt.NDArray[np.uint16]
    labels: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]
    cartilage_mm: dict[str, float]


Window = tuple[slice, slice, slice]
_WHOLE: Window = (slice(None), slice(None), slice(None))
_MARGIN_MM = 2.0


class _Canvas:
    """Signal and labels of a slab while tissues are painted onto it."""

    def __init__(self, shape: tuple[int, int, int], width: float, signals: Mapping[str, float]):
        self.image = np.zeros(shape, np.float32)
        self.labels = np.zeros(shape, np.uint8)
        self._scale = np.float32(1.0 / width)
        self._signals = signals

    def cover(self, distance: FloatArray) -> FloatArray:
        """Share of each voxel inside a surface; sub-slices `(k, z, y, x)` are averaged."""
        inside = np.clip(np.float32(0.5) - distance * self._scale, 0, 1)
        return np.asarray(inside.mean(axis=0) if len(inside) > 1 else inside[0], np.float32)

    def paint(
        self, tissue: str, label: str | None, cover: FloatArray, window: Window = _WHOLE
    ) -> None:
        """Lay a tissue over what is there, or over a window of it."""
        image = self.image[window]
        image += cover * (np.float32(self._signals[tissue]) - image)
        if label is not None:
            self.labels[window][cover > 0.5] = LABELS[label]


def _rotation(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotation about the three axes in turn; angles in radians."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [(1, 2), (0, 2), (0, 1)][axis]
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    return turn


class _Windows:
    """Finds the part of a slab that a small shape can touch, so that the rest is not computed.

    Args:
        at: The slab's coordinates, each `(k, z, y, x)`.
    """

    def __init__(self, at: Coordinates):
        # Coordinates are affine in the grid, so along each axis the extremes lie at the corners.
        corners = np.ix_(*((0, -1) for _ in at[0].shape))
        self._ranges = []
        for axis, values in ((1, at[0]), (2, at[1]), (3, at[2])):
            others = tuple(i for i in range(4) if i != axis)
            ends = values[corners]
            first, last = (float(ends.take(i, axis=axis).mean(dtype=np.float64)) for i in (0, 1))
            middle = np.linspace(first, last, values.shape[axis])
            reach = np.ptp(ends, axis=others).max() / 2
            self._ranges.append((middle - reach, middle + reach))

    def ellipsoid(self, centre: Sequence[float], semi: Sequence[float]) -> Window | None:
        """Return slices along `(z, y, x)` around an ellipsoid, or None where it is out of the slab."""
        # The approximate distance grows more slowly off the axes: half the longest one again is ample.
        return self.box(centre, [a + max(semi) / 2 for a in semi])

    def box(self, centre: Sequence[float], half: Sequence[float]) -> Window | None:
        """Return slices along `(z, y, x)` around a box, or None where it is out of the slab."""
        found = []
        for (low, high), c, a in zip(self._ranges, centre, half, strict=True):
            reach = a + _MARGIN_MM
            (inside,) = np.nonzero((high >= c - reach) & (low <= c + reach))
            if not len(inside):
                return None
            found.append(slice(int(inside[0]), int(inside[-1]) + 1))
        return found[0], found[1], found[2]


def _cut(at: Coordinates, window: Window) -> Coordinates:
    m, s, p = (values[(slice(None), *window)] for values in at)
    return m, s, p


def _semi(lesion: Lesion, stretch: tuple[float, float, float]) -> list[float]:
    return [lesion.radius * k for k in stretch]


def _paint(canvas: _Canvas, at: Coordinates, knee: Knee, found: tuple[Lesion, ...]) -> None:
    """Paint one slab, from the skin inwards."""
    windows = _Windows(at)
    state, size = knee.state, knee.state.size
    m, s, p = at
    inflamed = np.float32(min(max(state.inflammation, 0.0), 4.0))
    limb = (np.hypot(m / 43, (p - 3) / 50) - 1) * 43
    canvas.paint("fat", "fat", canvas.cover(limb - state.fat_mm / size))
    canvas.paint("muscle", "muscle", canvas.cover(limb))
    canvas.paint("fat", "fat", canvas.cover(ellipsoid(at, (0, -20, 46), (15, 32, 14))))
    canvas.paint("tendon", "tendon", canvas.cover(tendons(at)))
    pad = ((0, -8, -25), (23, 17, 13))
    window = windows.ellipsoid(*pad)
    if window is not None:
        canvas.paint("hoffa", "fat_pad", canvas.cover(ellipsoid(_cut(at, window), *pad)), window)

    femur, tibia = knee.femur(at), knee.tibia(at)
    femoral = knee.thickness("femoral_cartilage", at)
    film = femur - femoral - (0.5 + 0.9 * inflamed) * (femoral > 0.2) + (femoral <= 0.2)
    fluid = canvas.cover(np.maximum(film, np.abs(s + 18) - 26))
    grow = float(inflamed) / 3
    pouches = [((0, -46, -27), (16 + 14 * grow, 6 + 12 * grow, 1.2 + 7 * grow))]
    if inflamed > LEAST_MM:
        for side in (1, -1):
            pouches.append(((side * 33, -26, -14), (7 * grow, 16 * grow, 12 * grow)))
            pouches.append(((side * 18, -14, 38), (10 * grow, 10 * grow, 6 * grow)))
    for centre, semi in pouches:
        window = windows.ellipsoid(centre, semi)
        if window is not None:
            part = fluid[window]
            np.maximum(part, canvas.cover(ellipsoid(_cut(at, window), centre, semi)), out=part)
    canvas.paint("fluid", "fluid", fluid)
    for lesion in found:
        radii = _semi(lesion, (1.4, 1.2, 0.7))
        window = windows.ellipsoid(lesion.centre, radii) if lesion.kind == "synovitis" else None
        if window is not None:
            spot = canvas.cover(ellipsoid(_cut(at, window), lesion.centre, radii))
            canvas.paint("synovitis", "synovitis", spot, window)

    for sign, name in ((1, "medial_meniscus"), (-1, "lateral_meniscus")):
        window = windows.box((sign * 20, 0, 11), (20, 6, 26))
        if window is not None:
            ring = knee.meniscus(_cut(at, window), sign)
            canvas.paint("meniscus", name, canvas.cover(ring), window)
    for sign, name in ((1, "medial_tibial_cartilage"), (-1, "lateral_tibial_cartilage")):
        window = windows.box((sign * 19.5, 0, 11), (14, 12, 18))
        if window is not None:
            near = _cut(at, window)
            thick = knee.thickness(name, near)
            shell = np.maximum(tibia[(slice(None), *window)] - thick, near[1] - 9)
            shell = np.where(thick > 0.15, shell, 9)
            canvas.paint("cartilage", name, canvas.cover(shell), window)
    shell = np.where(femoral > 0.15, femur - femoral, 9)
    canvas.paint("cartilage", "femoral_cartilage", canvas.cover(shell))
    front = windows.box((-1, -31, -36.5), (24, 26, 14))
    if front is not None:
        near = _cut(at, front)
        patella = knee.patella(near)
        thick = knee.thickness("patellar_cartilage", near)
        shell = np.where((thick > 0.15) & (near[2] > -36.5), patella - thick, 9)
        canvas.paint("cartilage", "patellar_cartilage", canvas.cover(shell), front)

    for lesion in found:
        radii = _semi(lesion, (1.0, 0.9, 1.3))
        window = windows.ellipsoid(lesion.centre, radii) if lesion.kind == "osteophyte" else None
        if window is not None:
            spur = ellipsoid(_cut(at, window), lesion.centre, radii)
            canvas.paint("cortex", "osteophyte", canvas.cover(spur), window)
            canvas.paint("osteophyte", None, canvas.cover(spur + 1.0), window)
    bones: list[tuple[str, FloatArray, Window]] = [
        ("femur", femur, _WHOLE),
        ("tibia", tibia, _WHOLE),
    ]
    if front is not None:
        bones.append(("patella", patella, front))
    behind = windows.box((-33, 60, 26), (8, 50, 8))
    if behind is not None:
        bones.append(("fibula", knee.fibula(_cut(at, behind)), behind))
    inner = np.zeros_like(canvas.image)
    for name, bone, place in bones:
        canvas.paint("cortex", name, canvas.cover(bone), place)
        marrow = canvas.cover(bone + 0.9)
        canvas.paint("marrow", None, marrow, place)
        np.maximum(inner[place], marrow, out=inner[place])
    for lesion in found:
        radii = _semi(lesion, (1.0, 1.0, 1.2))
        # Twice as wide: at two radii and more the fading below leaves nothing of it.
        wide = [2 * a for a in radii]
        window = windows.ellipsoid(lesion.centre, wide) if lesion.kind == "marrow" else None
        if window is not None:
            # Ill-defined: oedema fades out over its radius and stays within the bone.
            q = ellipsoid(_cut(at, window), lesion.centre, radii) / np.float32(lesion.radius) + 1
            fade = np.exp(np.float32(-0.7) * q**4).mean(axis=0) * inner[window]
            share = np.asarray(fade * np.float32(lesion.depth), np.float32)
            canvas.paint("lesion", None, share, window)
            canvas.labels[window][fade > 0.5] = LABELS["marrow_lesion"]


def render_scan(
    state: JointState, style: ScannerStyle, grid: Grid, *, seed: int, nuisance: float = 1.0
) -> RenderedScan:
    """Scan a joint.

    Args:
        state: The joint at a visit.
        style: The scanner.
        grid: Where it samples.
        seed: Seed of positioning, coil bias and noise.
        nuisance: Factor on positioning, bias, noise and the scanner's deviation; 1 is realistic and was
            fixed beforehand (reasons in `signal`), 0 is a perfect scan.

    Returns:
        The scan. The same arguments give the same bytes.
    """
    place, field, noise = (
        np.random.default_rng(np.random.SeedSequence([seed, stream])) for stream in range(3)
    )
    shift = place.normal(size=3) * signal.TRANSLATION_SD_MM * nuisance
    turn = _rotation(place.normal(size=3) * np.deg2rad(signal.ROTATION_SD_DEG) * nuisance)
    found = lesions(state)
    knee = Knee(state, found)
    signals = signal.tissue_signals(style, nuisance)
    profiles = signal.bias_profiles(grid.shape, style.bias * nuisance, field)
    sigma = style.noise * nuisance * signals["cartilage"]

    nz, ny, nx = grid.shape
    dz, dy, dx = grid.spacing_mm
    # Index 0 along z is the patient's right: lateral in a right knee, medial in a left one.
    medial_sign = 1.0 if state.laterality == "R" else -1.0
    axes = [
        ((np.arange(n) - (n - 1) / 2) * d).astype(np.float32)
        for n, d in zip((nz, ny, nx), (dz, dy, dx), strict=True)
    ]
    # Thick slices are sampled at several depths; one is enough where they are as thin as a layer.
    subs = 2 if dz > 1.5 else 1
    depths = ((np.arange(subs) + 0.5) / subs - 0.5).astype(np.float32) * np.float32(dz)
    width = float(np.sqrt(dy * dx)) / state.size
    volume = np.empty(grid.shape, np.uint16)
    labels = np.empty(grid.shape, np.uint8)
    step = max(1, _SLAB_VOXELS // (ny * nx))
    matrix = (turn / state.size).astype(np.float32)
    offset = ((turn @ shift) / state.size + _CENTRE_MM).astype(np.float32)
    for start in range(0, nz, step):
        stop = min(start + step, nz)
        z = (axes[0][start:stop][None, :] + depths[:, None])[..., None, None] * np.float32(
            medial_sign
        )
        y, x = axes[1][:, None], axes[2]
        m, s, p = (
            matrix[i, 0] * z + (matrix[i, 1] * y + (matrix[i, 2] * x + offset[i])) for i in range(3)
        )
        canvas = _Canvas((stop - start, ny, nx), width, signals)
        _paint(canvas, (m, s, p), knee, found)
        seen = signal.blur(canvas.image, (style.blur_mm / dy, style.blur_mm / dx))
        seen *= profiles[0][start:stop, None, None] * profiles[1][:, None] * profiles[2]
        for i in range(stop - start):
            plane = signal.rician(seen[i], sigma, noise)
            volume[start + i] = np.clip(np.rint(plane), 0, signal.FULL_SCALE)
        labels[start:stop] = canvas.labels

    affine = np.eye(4)
    affine[:3, :3] = [[dz, 0, 0], [0, 0, dx], [0, -dy, 0]]
    centre = np.array([-_OFF_CENTRE_MM * medial_sign, 0.0, 0.0])
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2)
    return RenderedScan(
        volume=volume, labels=labels, affine=affine, cartilage_mm=knee.cartilage_mm()
    )
