"""Where a scan samples a joint, and how tissues are laid onto it without touching every voxel.

A slab of slices knows the joint's coordinates of its voxels. `Slab.near` samples an implicit function
at the middle of small blocks: since it cannot change faster than `_STEEPEST` millimetres a millimetre,
most blocks are surely inside or outside of its surface, and only what is left is computed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_data.phantom.anatomy import LABELS, Coordinates, FloatArray, ellipsoid
from spinmark_data.phantom.state import Grid

Window = tuple[slice, slice, slice]
Places = npt.NDArray[np.intp]
Field = Callable[[Coordinates], FloatArray]

WHOLE: Window = (slice(None), slice(None), slice(None))
_MARGIN_MM, _CLOSE_MM = 2.0, 0.05
# Blocks are about as wide, so that a few per cent of the voxels decide over the others.
_BLOCK_MM = 1.6
# Approximate distances are steeper than true ones where surfaces bend or flare.
_STEEPEST = 2.5
# Voxels of a slab: few enough to stay in cache, and their number changes no value.
_SLAB_VOXELS = 28_000


def over_depths(values: FloatArray) -> FloatArray:
    """Mean over the first axis, which has one or two entries: the depths within a slice."""
    if len(values) == 1:
        return np.asarray(values[0])
    total = np.add(values[0], values[1])
    total *= np.float32(0.5)
    return np.asarray(total)


def _every(marks: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.asarray(marks[0] if len(marks) == 1 else marks[0] & marks[1])


class Lattice:
    """The joint's coordinates of a scan's voxels.

    Args:
        grid: Where the scan samples.
        turn: `(3, 3)`, turns millimetres about the middle of the scan along (medial, inferior,
            posterior) into the joint's own.
        offset: `(3,)`, the joint's coordinates of the middle.
        size: Linear scale of the joint.
        medial_sign: 1 where the patient's left is medial, as in a right knee; -1 in a left one.
    """

    def __init__(
        self,
        grid: Grid,
        turn: npt.NDArray[np.float64],
        offset: npt.NDArray[np.float64],
        size: float,
        medial_sign: float,
    ):
        self.shape = grid.shape
        # For each coordinate of the joint, the axis of the array that it runs along.
        self.order = (0, 1, 2) if grid.plane == "sagittal" else (2, 1, 0)
        (nz, ny, nx), (dz, dy, dx) = grid.shape, grid.spacing_mm
        z, y, x = (
            ((np.arange(n) - (n - 1) / 2) * d).astype(np.float32)
            for n, d in zip((nz, ny, nx), (dz, dy, dx), strict=True)
        )
        signs = np.array([medial_sign, 1.0, 1.0], np.float32)
        matrix = ((turn / size).astype(np.float32) * signs)[:, list(self.order)]
        start = offset.astype(np.float32)
        # Thick slices are sampled at several depths; one is enough where they are as thin as a layer.
        subs = 2 if dz > 1.5 else 1
        depths = ((np.arange(subs) + 0.5) / subs - 0.5).astype(np.float32) * np.float32(dz)
        self._across = [matrix[i, 0] * (z[None, :] + depths[:, None]) for i in range(3)]
        self._planes = [matrix[i, 1] * y[:, None] + (matrix[i, 2] * x + start[i]) for i in range(3)]
        self.width = float(np.sqrt(dy * dx)) / size
        block = max(1, int(_BLOCK_MM / max(dy, dx)))
        self.block = block
        self.step = max(1, _SLAB_VOXELS // (ny * nx))
        # From the middle of a block to its farthest voxel.
        self.reach = (block // 2) * float(np.hypot(dy, dx)) / size if block > 1 else 0.0
        rows, columns = (
            np.minimum(np.arange((n + block - 1) // block) * block + block // 2, n - 1)
            for n in (ny, nx)
        )
        self._coarse = [plane[rows][:, columns] for plane in self._planes]

    def slabs(self) -> list["Slab"]:
        """The slices in groups."""
        nz, step = self.shape[0], self.step
        return [Slab(self, start, min(start + step, nz)) for start in range(0, nz, step)]

    def at(self, slices: slice, rows: Any = WHOLE[1], columns: Any = WHOLE[2]) -> Coordinates:
        """Coordinates `(depth, z, y, x)` of some rows and columns of some slices."""
        m, s, p = (
            across[:, slices, None, None] + plane[rows][:, columns]
            for across, plane in zip(self._across, self._planes, strict=True)
        )
        return m, s, p

    def blocks(self, start: int, stop: int) -> Coordinates:
        """Coordinates `(depth, z, block, block)` of the middles of blocks."""
        m, s, p = (
            across[:, start:stop, None, None] + plane
            for across, plane in zip(self._across, self._coarse, strict=True)
        )
        return m, s, p


@dataclass(frozen=True)
class Near:
    """What is known of an implicit function on a slab.

    Args:
        places: Voxels where it may lie in the band, counted from the slab's first.
        values: The function there, `(depth, n)`.
        inside: Blocks of voxels `(z, y, x)` surely below the band.
    """

    places: Places
    values: FloatArray
    inside: npt.NDArray[np.bool_]


class Slab:
    """Some slices of a scan.

    Args:
        lattice: Where the scan samples.
        start: The first slice.
        stop: The slice after the last.
    """

    def __init__(self, lattice: Lattice, start: int, stop: int):
        self.start, self.stop = start, stop
        self.shape = (stop - start, *lattice.shape[1:])
        self.width, self.block = lattice.width, lattice.block
        self._lattice = lattice
        self._at = lattice.at(slice(start, stop))
        self._blocks = lattice.blocks(start, stop)
        self.windows = _Windows(
            lattice.at(slice(start, stop, max(stop - start - 1, 1)), [0, -1], [0, -1]),
            self.shape,
            lattice.order,
        )

    def at(self, window: Window = WHOLE) -> Coordinates:
        """Coordinates `(depth, z, y, x)` within a window."""
        m, s, p = (values[:, *window] for values in self._at)
        return m, s, p

    def pick(self, places: Places) -> Coordinates:
        """Coordinates `(depth, n)` of some voxels."""
        m, s, p = (values.reshape(len(values), -1).take(places, axis=1) for values in self._at)
        return m, s, p

    def near(
        self,
        field: Field,
        low: float,
        high: float,
        window: Window = WHOLE,
        steepest: float = _STEEPEST,
    ) -> Near:
        """Find where an implicit function lies between two values.

        Args:
            field: The function.
            low: Below it, a voxel is known to be inside; minus infinity computes all the inside.
            high: Above it, nothing is known of a voxel.
            window: Where the function can be below `high` at all; it saves time on coarse grids.
            steepest: Millimetres that it can change by in a millimetre of the scan.

        Returns:
            The voxels in between and the function there.
        """
        if self.block == 1:
            return self._near(field, low, high, window)
        slack = self._lattice.reach * steepest
        sampled = field(self._blocks)
        inside = _every(sampled < low - slack)
        places = self._places(~(inside | _every(sampled > high + slack)))
        if not len(places):
            return Near(places, np.empty((len(sampled), 0), np.float32), inside)
        return Near(places, field(self.pick(places)), inside)

    def near_each(
        self,
        field: Field,
        low: float,
        high: float,
        beyond: Sequence[np.float32],
        steepest: float = _STEEPEST,
    ) -> list[Near]:
        """Find where an implicit function less a distance lies between two values, for each distance.

        Args:
            field: The function.
            low: As of `near`.
            high: As of `near`.
            beyond: Distances that are taken from the function.
            steepest: As of `near`.
        """
        if self.block > 1:

            def less(off: np.float32) -> Field:
                return lambda at: np.asarray(field(at) - off)

            return [self.near(less(off), low, high, WHOLE, steepest) for off in beyond]
        values = field(self.at())
        return [self._within(values - off, low, high, WHOLE) for off in beyond]

    def _near(self, field: Field, low: float, high: float, window: Window) -> Near:
        """As `near` where every voxel is a block of its own."""
        return self._within(field(self.at(window)), low, high, window)

    def _within(self, values: FloatArray, low: float, high: float, window: Window) -> Near:
        inside = np.zeros(self.shape, np.bool_)
        inside[window] = below = _every(values < low)
        near = ~(below | _every(values > high))
        flat = values.reshape(len(values), -1)[:, np.flatnonzero(near)]
        _, ny, nx = self.shape
        z, y, x = np.nonzero(near)
        first = [cut.start or 0 for cut in window]
        places = ((z + first[0]) * ny + (y + first[1])) * nx + (x + first[2])
        return Near(places, flat, inside)

    def _places(self, blocks: npt.NDArray[np.bool_]) -> Places:
        """Voxels of some blocks."""
        _, ny, nx = self.shape
        z, y, x = np.nonzero(blocks)
        step = np.arange(self.block)
        y = (y * self.block)[:, None] + step
        x = (x * self.block)[:, None] + step
        places = ((z[:, None] * ny + y) * nx)[:, :, None] + x[:, None, :]
        if ny % self.block or nx % self.block:
            return np.asarray(places[(y < ny)[:, :, None] & (x < nx)[:, None, :]])
        return places.reshape(-1)

    def fill(self, array: npt.NDArray[Any], value: Any, blocks: npt.NDArray[np.bool_]) -> None:
        """Set the voxels `(z, y, x)` of some blocks; the array is contiguous."""
        if self.block == 1:
            np.copyto(array, value, where=blocks)
            return
        _, ny, nx = array.shape
        columns = blocks.repeat(self.block, axis=2)[:, :, :nx]
        whole = ny // self.block
        for z, mask in enumerate(columns):
            rows = array[z, : whole * self.block].reshape(whole, self.block, nx)
            np.copyto(rows, value, where=mask[:whole, None])
            if ny % self.block:
                np.copyto(array[z, whole * self.block :], value, where=mask[whole:])


class _Windows:
    """Finds the part of a slab that a small shape can touch, so that the rest is not computed.

    Args:
        ends: The coordinates of the slab's corners, each `(depth, 1 or 2, 2, 2)`.
        shape: Voxels of the slab along `(z, y, x)`.
        order: For each coordinate, the axis that it runs along.
    """

    def __init__(self, ends: Coordinates, shape: tuple[int, int, int], order: tuple[int, ...]):
        # Coordinates are affine in the grid, so along each axis the extremes lie at the corners.
        self._order = order
        self._ranges = []
        for axis, values in zip(order, ends, strict=True):
            others = tuple(i for i in range(4) if i != axis + 1)
            last = values.shape[axis + 1] - 1
            at = [float(values.take(i, axis + 1).mean(dtype=np.float64)) for i in (0, last)]
            middle = np.linspace(at[0], at[1], shape[axis])
            reach = np.ptp(values, axis=others).max() / 2
            self._ranges.append((middle - reach, middle + reach))

    def ellipsoid(
        self, centre: Sequence[float], semi: Sequence[float], reach: float
    ) -> Window | None:
        """Return slices along `(z, y, x)` around an ellipsoid, or None where it is out of the slab.

        Args:
            centre: Its centre.
            semi: Its semi-axes.
            reach: The greatest approximate distance that matters.
        """
        # The approximate distance is at least (k - 1) times the shortest axis on the ellipsoid k
        # times as large, so the largest one that matters is known.
        return self.box(centre, [a * (1 + reach / min(semi)) for a in semi], _CLOSE_MM)

    def box(
        self, centre: Sequence[float], half: Sequence[float], margin: float = _MARGIN_MM
    ) -> Window | None:
        """Return slices along `(z, y, x)` around a box, or None where it is out of the slab."""
        found = [slice(None)] * 3
        for axis, (low, high), c, a in zip(self._order, self._ranges, centre, half, strict=True):
            reach = a + margin
            if high[0] <= high[-1]:
                first = int(np.searchsorted(high, c - reach))
                last = int(np.searchsorted(low, c + reach, side="right"))
            else:
                first = len(low) - int(np.searchsorted(low[::-1], c + reach, side="right"))
                last = len(high) - int(np.searchsorted(high[::-1], c - reach))
            if first >= last:
                return None
            found[axis] = slice(first, last)
        return found[0], found[1], found[2]


class Canvas:
    """Signals and labels of a slab while tissues are painted onto it.

    Args:
        shape: Voxels along `(z, y, x)`.
        width: Width of a voxel in the joint's millimetres.
        signals: Signal of each tissue, one for each channel.
    """

    def __init__(
        self, shape: tuple[int, int, int], width: float, signals: Mapping[str, Sequence[float]]
    ):
        channels = len(next(iter(signals.values())))
        self.image = np.zeros((channels, *shape), np.float32)
        self.labels = np.zeros(shape, np.uint8)
        self.half = width / 2
        self._scale = np.float32(1.0 / width)
        self._signals = {name: [np.float32(v) for v in s] for name, s in signals.items()}

    def cover(self, distance: FloatArray) -> FloatArray:
        """Share of each voxel inside a surface; depths `(k, ...)` are averaged."""
        inside = np.asarray(np.float32(0.5) - distance * self._scale, np.float32)
        np.minimum(inside, 1, out=inside)
        np.maximum(inside, 0, out=inside)
        return over_depths(inside)

    def paint(
        self, tissue: str, label: str | None, cover: FloatArray, window: Window = WHOLE
    ) -> None:
        """Lay a tissue over what is there, or over a window of it."""
        left = 1 - cover
        for image, signal in zip(self.image, self._signals[tissue], strict=True):
            part = image[window]
            part *= left
            part += cover * signal
        if label is not None:
            self.labels[window][cover > 0.5] = LABELS[label]

    def paint_places(
        self, tissue: str, label: str | None, cover: FloatArray, places: Places
    ) -> None:
        """Lay a tissue over some voxels."""
        touched = np.flatnonzero(cover > 0)
        cover, places = cover.take(touched), places.take(touched)
        left = 1 - cover
        for image, signal in zip(self.image, self._signals[tissue], strict=True):
            flat = image.reshape(-1)
            flat[places] = flat[places] * left + cover * signal
        if label is not None:
            self.labels.reshape(-1)[places[cover > 0.5]] = LABELS[label]

    def fill(self, tissue: str, label: str, slab: Slab, inside: npt.NDArray[np.bool_]) -> None:
        """Replace what is there by a tissue, in some blocks."""
        if not inside.any():
            return
        for image, signal in zip(self.image, self._signals[tissue], strict=True):
            slab.fill(image, signal, inside)
        slab.fill(self.labels, np.uint8(LABELS[label]), inside)

    def lay(
        self, tissue: str, label: str, slab: Slab, field: Field, window: Window | None = WHOLE
    ) -> None:
        """Lay a tissue inside of a surface."""
        if window is None:
            return
        self.lay_near(tissue, label, slab, slab.near(field, -self.half, self.half, window))

    def lay_near(self, tissue: str, label: str, slab: Slab, near: Near) -> None:
        """Lay a tissue inside of a surface that was found."""
        self.fill(tissue, label, slab, near.inside)
        self.paint_places(tissue, label, self.cover(near.values), near.places)

    def lay_ellipsoid(
        self, tissue: str, label: str, slab: Slab, centre: Sequence[float], semi: Sequence[float]
    ) -> None:
        """Lay a tissue inside of an ellipsoid."""
        window = slab.windows.ellipsoid(centre, semi, self.half)
        if window is None:
            return
        if slab.block > 1:
            self.lay(tissue, label, slab, lambda at: ellipsoid(at, centre, semi))
        else:
            self.paint(tissue, label, self.cover(ellipsoid(slab.at(window), centre, semi)), window)
