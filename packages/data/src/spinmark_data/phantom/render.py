"""A scan of a joint: anatomy and disease laid onto a grid, then seen through a scanner.

Tissues are painted from back to front, each by the share of the voxel that it covers, so that thin
layers blur into their neighbours as partial volume does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_data.phantom import signal
from spinmark_data.phantom.anatomy import LABELS, Coordinates, FloatArray, Knee, ellipsoid, tendons
from spinmark_data.phantom.disease import Lesion, lesions
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

    def paint(self, tissue: str, label: str | None, cover: FloatArray) -> None:
        """Lay a tissue over what is there."""
        self.image += cover * (np.float32(self._signals[tissue]) - self.image)
        if label is not None:
            self.labels[cover > 0.5] = LABELS[label]


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


def _distance(at: Coordinates, lesion: Lesion, stretch: tuple[float, float, float]) -> FloatArray:
    return ellipsoid(at, lesion.centre, [lesion.radius * k for k in stretch])


def _paint(canvas: _Canvas, at: Coordinates, knee: Knee, found: tuple[Lesion, ...]) -> None:
    """Paint one slab, from the skin inwards."""
    state, size = knee.state, knee.state.size
    m, s, p = at
    inflamed = np.float32(min(max(state.inflammation, 0.0), 4.0))
    limb = (np.hypot(m / 43, (p - 3) / 50) - 1) * 43
    canvas.paint("fat", "fat", canvas.cover(limb - state.fat_mm / size))
    canvas.paint("muscle", "muscle", canvas.cover(limb))
    canvas.paint("fat", "fat", canvas.cover(ellipsoid(at, (0, -20, 46), (15, 32, 14))))
    canvas.paint("tendon", "tendon", canvas.cover(tendons(at)))
    hoffa = canvas.cover(ellipsoid(at, (0, -8, -25), (23, 17, 13)))
    canvas.paint("hoffa", "fat_pad", hoffa)

    femur, tibia, patella = knee.femur(at), knee.tibia(at), knee.patella(at)
    femoral = knee.thickness("femoral_cartilage", at)
    film = femur - femoral - (0.5 + 0.9 * inflamed) * (femoral > 0.2) + (femoral <= 0.2)
    fluid = canvas.cover(np.maximum(film, np.abs(s + 18) - 26))
    grow = float(inflamed) / 3
    pouches = [((0, -46, -27), (16 + 14 * grow, 6 + 12 * grow, 1.2 + 7 * grow))]
    if inflamed > 0:
        for side in (1, -1):
            pouches.append(((side * 33, -26, -14), (7 * grow, 16 * grow, 12 * grow)))
            pouches.append(((side * 18, -14, 38), (10 * grow, 10 * grow, 6 * grow)))
    for centre, semi in pouches:
        np.maximum(fluid, canvas.cover(ellipsoid(at, centre, semi)), out=fluid)
    canvas.paint("fluid", "fluid", fluid)
    for lesion in found:
        if lesion.kind == "synovitis":
            spot = canvas.cover(_distance(at, lesion, (1.4, 1.2, 0.7)))
            canvas.paint("synovitis", "synovitis", spot)

    for sign, name in ((1, "medial_meniscus"), (-1, "lateral_meniscus")):
        canvas.paint("meniscus", name, canvas.cover(knee.meniscus(at, sign)))
    for name in ("medial_tibial_cartilage", "lateral_tibial_cartilage"):
        thick = knee.thickness(name, at)
        shell = np.where(thick > 0.15, np.maximum(tibia - thick, s - 9), 9)
        canvas.paint("cartilage", name, canvas.cover(shell))
    shell = np.where(femoral > 0.15, femur - femoral, 9)
    canvas.paint("cartilage", "femoral_cartilage", canvas.cover(shell))
    thick = knee.thickness("patellar_cartilage", at)
    shell = np.where((thick > 0.15) & (p > -36.5), patella - thick, 9)
    canvas.paint("cartilage", "patellar_cartilage", canvas.cover(shell))

    for lesion in found:
        if lesion.kind == "osteophyte":
            spur = _distance(at, lesion, (1.0, 0.9, 1.3))
            canvas.paint("cortex", "osteophyte", canvas.cover(spur))
            canvas.paint("osteophyte", None, canvas.cover(spur + 1.0))
    bones = {"femur": femur, "tibia": tibia, "patella": patella, "fibula": knee.fibula(at)}
    inner = np.zeros_like(hoffa)
    for name, bone in bones.items():
        canvas.paint("cortex", name, canvas.cover(bone))
        marrow = canvas.cover(bone + 0.9)
        canvas.paint("marrow", None, marrow)
        np.maximum(inner, marrow, out=inner)
    for lesion in found:
        if lesion.kind == "marrow":
            # Ill-defined: oedema fades out over its radius and stays within the bone.
            q = _distance(at, lesion, (1.0, 1.0, 1.2)) / np.float32(lesion.radius) + 1
            fade = np.exp(np.float32(-0.7) * q**4).mean(axis=0) * inner
            canvas.paint("lesion", None, np.asarray(fade * np.float32(lesion.depth), np.float32))
            canvas.labels[fade > 0.5] = LABELS["marrow_lesion"]


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
