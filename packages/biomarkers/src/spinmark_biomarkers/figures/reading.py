"""Pages that readers look at: the same slices of many joints, on black, under codes.

Pages are dark, as reading rooms are. They hold pixels, codes and names of slices, and nothing that a file
knows of its origin.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from scipy import ndimage

from spinmark_biomarkers.errors import InputError

Picture = npt.NDArray[np.uint8]
AXES = "zyx"
# Shares of the voxels of a joint that become black and white.
WINDOW = (0.01, 0.995)
# Pixels that a picture has at least, so that a screen does not show blocks.
LEAST_PIXELS = 240
A4_LANDSCAPE = (11.69, 8.27)
MARGIN = 0.38
GAP = 0.14
HEAD = 0.62
CAPTION = 0.19
BAND = 0.13
LABEL = 0.95
PAPER, INK, SOFT, RULE = "#050607", "#e8eaed", "#9aa3ad", "#2a3138"


@dataclass(frozen=True, kw_only=True)
class Joint:
    """A joint on a page.

    Args:
        label: Its number or letter.
        pictures: Its slices, 0 to 255, of one height, in the order of the names of slices.
    """

    label: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class Band:
    """Joints that belong together on a page.

    Args:
        label: What they are: a kind, or the code of an item.
        note: A few words under the label.
        joints: The joints.
    """

    label: str
    note: str
    joints: tuple[Joint, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of joints.

    Args:
        title: At its top left.
        told: Beside the title.
        corner: At its top right.
        slices: Names of the slices.
        bands: What it shows.
    """

    title: str
    told: str
    corner: str
    slices: tuple[str, ...]
    bands: tuple[Band, ...]


def slice_pictures(
    volume: npt.ArrayLike,
    spacing_mm: Sequence[float],
    shares: Iterable[float],
    *,
    axis: str = "z",
) -> tuple[Picture, ...]:
    """Cut slices at fixed shares of the extent, in square pixels and one grey scale for the joint.

    The extent are the slices that hold an image: a slice of one value is padding.

    Args:
        volume: Intensities, shape (z, y, x).
        spacing_mm: Voxel size along z, y and x.
        shares: Where to cut: 0 is the first slice of the extent and 1 the last.
        axis: `z`, `y` or `x`.

    Raises:
        InputError: The volume has another number of dimensions, an axis or a share is not accepted, or no
            slice holds an image.
    """
    values = np.asarray(volume, dtype=np.float64)
    if values.ndim != 3 or len(spacing_mm) != 3:
        raise InputError(f"volume: shape {values.shape}; accepted is (z, y, x)")
    if axis not in AXES or len(axis) != 1:
        raise InputError(f"axis: '{axis}'; accepted are z, y and x")
    where = AXES.index(axis)
    across = tuple(one for one in range(3) if one != where)
    held = np.flatnonzero(values.min(axis=across) < values.max(axis=across))
    if held.size == 0:
        raise InputError("volume: every slice holds one value; accepted is a scan with an image")
    box = values.take(np.arange(held[0], held[-1] + 1), axis=where)
    low, high = np.quantile(box, WINDOW)
    if high <= low:
        low, high = float(box.min()), float(box.max())
    cuts = []
    for share in shares:
        if not 0 <= share <= 1:
            raise InputError(f"slices: {share:g}; accepted are shares from 0 to 1")
        cut = box.take(round(share * (box.shape[where] - 1)), axis=where)
        cuts.append(_square((cut - low) / (high - low), [spacing_mm[one] for one in across]))
    return tuple(cuts)


def _square(cut: npt.NDArray[np.float64], spacing_mm: Sequence[float]) -> Picture:
    finest = min(spacing_mm)
    enlarged = max(1, int(np.ceil(LEAST_PIXELS / max(cut.shape[0] * spacing_mm[0] / finest, 1))))
    factors = [enlarged * step / finest for step in spacing_mm]
    if factors != [1, 1]:
        cut = ndimage.zoom(np.clip(cut, 0, 1), factors, order=3, mode="nearest", grid_mode=True)
    return np.rint(255 * np.clip(cut, 0, 1)).astype(np.uint8)


def strip(joint: Joint, gap: int = 4) -> Picture:
    """Put the slices of a joint side by side, black between them.

    Raises:
        InputError: The pictures differ in height.
    """
    heights = {one.shape[0] for one in joint.pictures}
    if len(heights) != 1:
        raise InputError(
            f"joint {joint.label}: pictures of {sorted(heights)} rows; accepted is one height"
        )
    between = np.zeros((heights.pop(), gap), dtype=np.uint8)
    parts = [part for one in joint.pictures for part in (between, one)][1:]
    return np.concatenate(parts, axis=1)


def page_figure(page: Page) -> Figure:
    """Draw a page in A4 landscape, the joints as large as fits.

    Args:
        page: What it shows.
    """
    figure = Figure(figsize=A4_LANDSCAPE, facecolor=PAPER)
    width, height = A4_LANDSCAPE

    def text(x: float, y: float, words: str, size: float, colour: str, **more: Any) -> None:
        figure.text(x / width, 1 - y / height, words, fontsize=size, color=colour, va="top", **more)

    text(MARGIN, MARGIN - 0.06, page.title, 19, INK, fontweight="bold")
    beside = MARGIN + 0.35 + 0.19 * len(page.title)
    text(beside, MARGIN - 0.03, page.told, 8.5, SOFT, linespacing=1.45)
    text(width - MARGIN, MARGIN - 0.03, page.corner, 8.5, SOFT, ha="right", linespacing=1.45)
    strips = [[strip(joint) for joint in band.joints] for band in page.bands]
    columns, size = _fit(strips, width - 2 * MARGIN - LABEL, height - 2 * MARGIN - HEAD)
    y = MARGIN + HEAD
    for number, (band, row) in enumerate(zip(page.bands, strips, strict=True)):
        if number:
            _rule(figure, y)
            y += BAND
        text(MARGIN, y + CAPTION - 0.03, band.label, 10, INK, fontweight="bold", linespacing=1.3)
        if band.note:
            lines = band.label.count("\n") + 1
            text(MARGIN, y + CAPTION + 0.03 + 0.19 * lines, band.note, 7, SOFT, linespacing=1.45)
        for place, (joint, image) in enumerate(zip(band.joints, row, strict=True)):
            across = image.shape[1] / image.shape[0] * size
            x = MARGIN + LABEL + (place % columns) * (across + GAP)
            top = y + (place // columns) * (size + CAPTION)
            text(x, top + 0.025, joint.label, 8.5, INK, fontweight="bold")
            if number == 0 and place < columns:
                _name_slices(figure, page.slices, joint, x, top, across)
            axes = figure.add_axes(
                (x / width, 1 - (top + CAPTION + size) / height, across / width, size / height)
            )
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="none", aspect="auto")
            axes.set_axis_off()
        y += -(-len(row) // columns) * (size + CAPTION) + BAND / 2
    return figure


def _name_slices(
    figure: Figure, names: Sequence[str], joint: Joint, x: float, top: float, across: float
) -> None:
    widths = np.array([one.shape[1] for one in joint.pictures], dtype=np.float64)
    middles = (np.cumsum(widths) - widths / 2) / widths.sum()
    for name, middle in zip(names, middles, strict=True):
        figure.text(
            (x + middle * across) / A4_LANDSCAPE[0],
            1 - (top + 0.055) / A4_LANDSCAPE[1],
            name,
            fontsize=6,
            color=SOFT,
            ha="center",
            va="top",
        )


def _rule(figure: Figure, y: float) -> None:
    width, height = A4_LANDSCAPE
    line = figure.add_axes((MARGIN / width, 1 - y / height, 1 - 2 * MARGIN / width, 1e-4))
    line.axhline(0, color=RULE, linewidth=0.6)
    line.set_axis_off()


def _fit(strips: Sequence[Sequence[Picture]], width: float, height: float) -> tuple[int, float]:
    """Return how many columns make the strips tallest, and their height in inches."""
    aspect = max(image.shape[1] / image.shape[0] for row in strips for image in row)
    best = (1, 0.0)
    for columns in range(1, max(len(row) for row in strips) + 1):
        rows = sum(-(-len(row) // columns) for row in strips)
        spare = height - rows * CAPTION - 1.5 * BAND * len(strips)
        size = min(spare / rows, (width - (columns - 1) * GAP) / columns / aspect)
        if size > best[1]:
            best = (columns, size)
    return best


def write_pdf(figures: Iterable[Figure]) -> bytes:
    """Return figures as the pages of a PDF without any metadata; equal figures give equal bytes."""
    out = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Producer", "CreationDate"))
    # Fonts as outlines that a viewer can search and copy: codes are to be typed off without slips.
    with rc_context({"pdf.fonttype": 42}), PdfPages(out, metadata=nothing) as pages:
        for figure in figures:
            pages.savefig(figure, facecolor=figure.get_facecolor(), dpi=72)
    return out.getvalue()


def png(image: Picture) -> bytes:
    """Return a grey picture as PNG without any metadata."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, format="PNG")
    return out.getvalue()


def pages_of(
    title: str,
    told: str,
    corner: str,
    slices: Mapping[str, float],
    bands: Sequence[Band],
    per_page: int,
) -> list[Page]:
    """Spread bands over pages of one heading.

    Args:
        title: As of `Page`.
        told: As of `Page`.
        corner: As of `Page`; the number of the page is added.
        slices: The names of the slices are its keys.
        bands: All bands.
        per_page: Bands a page.
    """
    total = -(-len(bands) // per_page)
    return [
        Page(
            title=title,
            told=told,
            corner=f"{corner}\npage {number + 1} of {total}",
            slices=tuple(slices),
            bands=tuple(bands[number * per_page : (number + 1) * per_page]),
        )
        for number in range(total)
    ]
