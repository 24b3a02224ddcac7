"""A scan of a joint: anatomy and disease laid onto a grid, then seen through a scanner.

Tissues are painted from back to front, each by the share of the voxel that it covers, so that thin
layers blur into their neighbours as partial volume does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from spinmark_data.phantom import signal
from spinmark_data.phantom.anatomy import LABELS, Coordinates, FloatArray, Knee, ellipsoid, tendons
from spinmark_data.phantom.artefacts import (
    NONE,
    Artefacts,
    beyond_rows,
    fat_back,
    fold,
    ghost,
    shift_fat,
)
from spinmark_data.phantom.canvas import Canvas, Lattice, Near, Slab, over_depths
from spinmark_data.phantom.disease import Lesion, lesions
from spinmark_data.phantom.lesion_paint import paint_dents, paint_tears
from spinmark_data.phantom.lesion_shapes import FAT_PAD, recesses, semi_axes
from spinmark_data.phantom.positioning import position
from spinmark_data.phantom.sequences import DESS, SEQUENCES
from spinmark_data.phantom.sequences import Sequence as SequenceOf
from spinmark_data.phantom.state import Grid, JointState, ScannerStyle

_CORTEX_MM = 0.9
_NOWHERE = (slice(0, 0), slice(0, 0), slice(0, 0))


@dataclass(frozen=True, kw_only=True)
class RenderedScan:
    """One scan and what is true of it.

    Args:
        volume: Signal uint16 `(z, y, x)`, or `(echo, z, y, x)` where there are several; 0 to 4095.
        labels: Label map uint8 `(z, y, x)`, codes in `anatomy.LABELS`, 0 is air.
        affine: `(4, 4)`, voxel centres `(z, y, x, 1)` to LPS millimetres.
        knee: The joint's surfaces.
    """

    volume: npt.NDArray[np.uint16]
    labels: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]
    knee: Knee

    @property
    def cartilage_mm(self) -> dict[str, float]:
        """True mean thickness of each cartilage in millimetres."""
        return self.knee.cartilage_mm()


def _paint(canvas: Canvas, slab: Slab, knee: Knee, found: Sequence[Lesion]) -> None:
    """Paint one slab, from the skin inwards."""
    _paint_limb(canvas, slab, knee)
    femur, femoral = _paint_fluid(canvas, slab, knee, found)
    tibia = _paint_menisci_and_tibia(canvas, slab, knee)
    shell = np.where(femoral > 0.15, femur.values - femoral, 9)
    canvas.paint_places("cartilage", "femoral_cartilage", canvas.cover(shell), femur.places)
    front = slab.windows.box(knee.patella_centre, (27, 26, 19))
    patella = None
    if front is not None:
        near = slab.at(front)
        patella = knee.patella(near)
        thick = knee.thickness("patellar_cartilage", near)
        shell = np.where((thick > 0.15) & (near[2] > knee.patella_centre[2]), patella - thick, 9)
        canvas.paint("cartilage", "patellar_cartilage", canvas.cover(shell), front)
    _paint_osteophytes(canvas, slab, found)

    inner = np.zeros(slab.shape, np.float32)
    for name, bone in (("femur", femur), ("tibia", tibia)):
        canvas.fill("marrow", name, slab, bone.inside)
        slab.fill(inner, np.float32(1), bone.inside)
        canvas.paint_places("cortex", name, canvas.cover(bone.values), bone.places)
        marrow = canvas.cover(bone.values + _CORTEX_MM)
        canvas.paint_places("marrow", None, marrow, bone.places)
        flat = inner.reshape(-1)
        flat[bone.places] = np.maximum(flat[bone.places], marrow)
    small = [] if front is None or patella is None else [("patella", patella, front)]
    behind = slab.windows.box((-36, 61, 27), (10, 50, 10))
    if behind is not None:
        small.append(("fibula", knee.fibula(slab.at(behind)), behind))
    for name, distance, place in small:
        canvas.paint("cortex", name, canvas.cover(distance), place)
        marrow = canvas.cover(distance + _CORTEX_MM)
        canvas.paint("marrow", None, marrow, place)
        np.maximum(inner[place], marrow, out=inner[place])
    _paint_marrow_lesions(canvas, slab, found, inner)


def _paint_limb(canvas: Canvas, slab: Slab, knee: Knee) -> None:
    """Skin, fat, muscle, the hollow of the knee, tendons and the fat pad."""

    def limb(at: Coordinates) -> FloatArray:
        u, v = at[0] * np.float32(1 / 46), (at[2] - 1) * np.float32(1 / 55)
        return np.asarray((np.sqrt(u * u + v * v) - 1) * 46)

    fat = np.float32(knee.state.fat_mm / knee.state.size)
    # A cone grows by a millimetre in one; knees are narrowed by less than the rest (`Knee.stretch`).
    skin, muscle = slab.near_each(
        limb, -canvas.half, canvas.half, (fat, np.float32(0)), steepest=1.25
    )
    canvas.lay_near("fat", "fat", slab, skin)
    canvas.lay_near("muscle", "muscle", slab, muscle)
    canvas.lay_ellipsoid("fat", "fat", slab, (0, -20, 46), (15, 32, 14))
    cords = slab.windows.box((0, -30, -28), (13, 64, 34))
    canvas.lay("tendon", "tendon", slab, tendons, cords)
    canvas.lay_ellipsoid("hoffa", "fat_pad", slab, *FAT_PAD)


def _paint_fluid(
    canvas: Canvas, slab: Slab, knee: Knee, found: Sequence[Lesion]
) -> tuple[Near, FloatArray]:
    """Joint fluid and synovitis; returns the femur's distance and its cartilage's thickness."""
    inflamed = np.float32(min(max(knee.state.inflammation, 0.0), 4.0))
    film_mm = np.float32(0.5) + np.float32(0.9) * inflamed
    reach = knee.thickest("femoral_cartilage") + float(film_mm) + canvas.half
    # No further down than the condyles.
    above = slab.windows.box((0, -90, 0), (100, 98 + reach, 100)) or _NOWHERE
    femur = slab.near(knee.femur, -_CORTEX_MM - canvas.half, reach, above)
    at = slab.pick(femur.places)
    femoral = knee.thickness("femoral_cartilage", at)
    film = femur.values - femoral - film_mm * (femoral > 0.2) + (femoral <= 0.2)
    fluid = np.zeros(slab.shape, np.float32)
    fluid.reshape(-1)[femur.places] = canvas.cover(np.maximum(film, np.abs(at[1] + 18) - 26))
    for centre, semi in recesses(knee.state.inflammation):
        window = slab.windows.ellipsoid(centre, semi, canvas.half)
        if window is not None:
            part = fluid[window]
            np.maximum(part, canvas.cover(ellipsoid(slab.at(window), centre, semi)), out=part)
    wet = np.flatnonzero(fluid)
    canvas.paint_places("fluid", "fluid", fluid.reshape(-1)[wet], wet)
    for lesion in found:
        if lesion.kind != "synovitis":
            continue
        radii = semi_axes(lesion)
        window = slab.windows.ellipsoid(lesion.centre, radii, canvas.half)
        if window is not None:
            spot = canvas.cover(ellipsoid(slab.at(window), lesion.centre, radii))
            canvas.paint("synovitis", "synovitis", spot, window)
    return femur, femoral


def _paint_menisci_and_tibia(canvas: Canvas, slab: Slab, knee: Knee) -> Near:
    """Menisci and tibial cartilage; returns the tibia's distance."""
    paint_dents(canvas, slab, knee)
    for sign, name in ((1, "medial_meniscus"), (-1, "lateral_meniscus")):
        window = slab.windows.box((sign * 23, -1, 11), (25, 7, 27))
        if window is not None:
            ring = knee.meniscus(slab.at(window), sign)
            canvas.paint("meniscus", name, canvas.cover(ring), window)
    paint_tears(canvas, slab, knee)
    plates = ("medial_tibial_cartilage", "lateral_tibial_cartilage")
    reach = knee.thickest(*plates) + canvas.half
    # No further up than the spines.
    below = slab.windows.box((0, 90, 0), (100, 102 + reach, 100)) or _NOWHERE
    tibia = slab.near(knee.tibia, -_CORTEX_MM - canvas.half, reach, below)
    at = slab.pick(tibia.places)
    for name in plates:
        thick = knee.thickness(name, at)
        shell = np.maximum(tibia.values - thick, at[1] - 9)
        shell = np.where(thick > 0.15, shell, 9)
        canvas.paint_places("cartilage", name, canvas.cover(shell), tibia.places)
    return tibia


def _paint_osteophytes(canvas: Canvas, slab: Slab, found: Sequence[Lesion]) -> None:
    for lesion in found:
        if lesion.kind != "osteophyte":
            continue
        radii = semi_axes(lesion)
        window = slab.windows.ellipsoid(lesion.centre, radii, canvas.half)
        if window is not None:
            spur = ellipsoid(slab.at(window), lesion.centre, radii)
            canvas.paint("cortex", "osteophyte", canvas.cover(spur), window)
            canvas.paint("osteophyte", None, canvas.cover(spur + 1.0), window)


def _paint_marrow_lesions(
    canvas: Canvas, slab: Slab, found: Sequence[Lesion], inner: FloatArray
) -> None:
    """Ill-defined: oedema fades out over its radius and stays within the bone."""
    for lesion in found:
        if lesion.kind != "marrow":
            continue
        radii = semi_axes(lesion)
        window = slab.windows.ellipsoid(lesion.centre, radii, lesion.radius)
        if window is None:
            continue
        q = ellipsoid(slab.at(window), lesion.centre, radii) / np.float32(lesion.radius) + 1
        # At two radii nothing is left of it.
        shade = np.exp(np.float32(-0.7) * q**4) * (q < 2)
        fade = over_depths(shade) * inner[window]
        canvas.paint(
            "lesion", None, np.asarray(fade * np.float32(lesion.depth), np.float32), window
        )
        canvas.labels[window][fade > 0.5] = LABELS["marrow_lesion"]


def render_scan(
    state: JointState,
    style: ScannerStyle,
    grid: Grid,
    *,
    seed: int,
    nuisance: float = 1.0,
    sequence: str = DESS,
    artefacts: Artefacts = NONE,
    place: int | None = None,
) -> RenderedScan:
    """Scan a joint.

    Args:
        state: The joint at a visit.
        style: The scanner.
        grid: Where it samples.
        seed: Seed of positioning, coil bias and noise.
        nuisance: Factor on positioning, bias, noise and the scanner's deviation; 1 is realistic and was
            fixed beforehand (reasons in `signal`), 0 is a perfect scan.
        sequence: Name of the sequence, one of `sequences.SEQUENCES`.
        artefacts: What goes wrong.
        place: Seed of the positioning, which the series of one session share; `seed` if none is given.

    Returns:
        The scan. The same arguments give the same bytes.
    """
    field, noise = (
        np.random.default_rng(np.random.SeedSequence([seed, stream])) for stream in (1, 2)
    )
    found = lesions(state)
    knee = Knee(state, found)
    look = _Look(style, grid, nuisance, SEQUENCES[sequence], artefacts, field)
    lies = position(knee, seed if place is None else place, nuisance)
    lattice = Lattice(look.grid, lies.turn, lies.offset, lies.size, lies.medial_sign)
    echoes = len(SEQUENCES[sequence].te_ms)
    volume = np.empty((echoes, *grid.shape), np.uint16)
    labels = np.empty(grid.shape, np.uint8)
    inside = slice(look.beyond, look.beyond + grid.shape[1])
    for slab in lattice.slabs():
        canvas = Canvas(slab.shape, slab.width, look.signals)
        _paint(canvas, slab, knee, found)
        for echo, seen in enumerate(look.seen(canvas.image, slab.start)):
            for i in range(slab.start, slab.stop):
                plane = signal.rician(seen[i - slab.start], look.sigma, noise)
                np.minimum(np.rint(plane, out=plane), signal.FULL_SCALE, out=plane)
                volume[echo, i] = plane
        labels[slab.start : slab.stop] = canvas.labels[:, inside]

    return RenderedScan(
        volume=volume if echoes > 1 else volume[0],
        labels=labels,
        affine=_affine(grid, lies.middle_mm),
        knee=knee,
    )


def _affine(grid: Grid, middle_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    dz, dy, dx = grid.spacing_mm
    affine = np.eye(4)
    if grid.plane == "sagittal":
        affine[:3, :3] = [[dz, 0, 0], [0, 0, dx], [0, -dy, 0]]
    else:
        affine[:3, :3] = [[0, 0, dx], [dz, 0, 0], [0, -dy, 0]]
    affine[:3, 3] = middle_mm - affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2)
    return affine


class _Look:
    """What a scanner makes of painted water and fat.

    Args:
        style: The scanner.
        grid: Where the scan samples.
        nuisance: As of `render_scan`.
        sequence: The sequence.
        artefacts: What goes wrong.
        rng: Source of the coil's bias.
    """

    def __init__(
        self,
        style: ScannerStyle,
        grid: Grid,
        nuisance: float,
        sequence: SequenceOf,
        artefacts: Artefacts,
        rng: np.random.Generator,
    ):
        tissue = signal.tissue_signals(style, nuisance, sequence.name)
        self._artefacts = artefacts
        self._fat_back = fat_back(grid.shape, artefacts, tissue.suppressed)
        _, dy, dx = grid.spacing_mm
        self._fat_voxels = sequence.fat_shift_mm / dx if sequence.fat == "kept" else 0.0
        # Fat is painted apart only where something happens to it alone.
        self._apart = self._fat_back is not None or self._fat_voxels > 0
        self._echoes = len(sequence.te_ms)
        self.signals = {
            name: (*water, *tissue.fat[name]) if self._apart else (*(water + tissue.fat[name]),)
            for name, water in tissue.water.items()
        }
        nz, ny, nx = grid.shape
        self.beyond = beyond_rows(artefacts, ny)
        self.grid = replace(grid, shape=(nz, ny + 2 * self.beyond, nx))
        profiles = signal.bias_profiles(grid.shape, style.bias * nuisance, rng)
        self._bias = profiles[0], profiles[1][:, None] * profiles[2]
        self._blur = (style.blur_mm / dy, style.blur_mm / dx)
        cartilage = float(tissue.water["cartilage"][0])
        self.sigma = style.noise * nuisance * sequence.noise * cartilage

    def seen(self, painted: FloatArray, start: int) -> Iterator[FloatArray]:
        """Yield each echo `(z, y, x)` of a slab that begins at a slice, without noise."""
        stop = start + painted.shape[1]
        for echo in range(self._echoes):
            image = fold(painted[echo], self.beyond)
            if self._apart:
                fat = fold(painted[self._echoes + echo], self.beyond)
                if self._fat_back is not None:
                    along, plane = self._fat_back
                    fat = fat * (1 + along[start:stop, None, None] * plane)
                image = image + shift_fat(fat, self._fat_voxels)
            image = signal.blur(ghost(image, self._artefacts), self._blur)
            yield image * (self._bias[1] * self._bias[0][start:stop, None, None])
