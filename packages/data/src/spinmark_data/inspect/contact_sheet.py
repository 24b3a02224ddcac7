"""Middle slices of a sample of scans, as one grey picture or as a labelled figure.

The sample is seeded and spread over visits and sites, so that one odd scanner or visit shows.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.inspect.picture import grey

COLUMNS = 6
GAP = 2
_PANEL_INCHES = 2.0


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One scan of a contact sheet.

    Attributes:
        scan_id: Whose it is.
        visit: The visit.
        site: The site, empty where it is not known.
        picture: `(height, width)` uint8, square pixels.
    """

    scan_id: str
    visit: str
    site: str
    picture: NDArray[np.uint8]


def sample_scans(scans: pd.DataFrame, count: int, seed: int) -> NDArray[np.int64]:
    """Positions of a seeded sample, as even over visits, and within these over sites, as can be.

    The sample does not depend on the order of the rows. It is sorted by visit, site and scan_id.

    Args:
        scans: Rows with `scan_id`, `visit` and `site`, as `Cohort.scans` gives them.
        count: How many; all where there are fewer.
        seed: Of the draw.
    """
    rows = scans[["scan_id", "visit", "site"]].reset_index(drop=True).sort_values("scan_id")
    rows = rows.sample(frac=1.0, random_state=np.random.default_rng(seed))
    # Every stratum's first is taken before any stratum's second.
    rows["turn"] = rows.groupby(["visit", "site"]).cumcount()
    rows = rows.sort_values("turn", kind="stable")
    rows["round"] = rows.groupby("visit").cumcount()
    taken = rows.sort_values("round", kind="stable").head(count)
    order = taken.sort_values(["visit", "site", "scan_id"]).index.to_numpy()
    return np.asarray(order, dtype=np.int64)


def middle_slice(cohort: Cohort, sequence: str, index: int, axis: int = 0) -> NDArray[np.float64]:
    """The plane in the middle of an axis, of echo 0, as stored.

    Args:
        cohort: The cohort.
        sequence: One of its sequences.
        index: Place of the scan in it.
        axis: 0, 1 or 2 for the plane across z `(y, x)`, y `(z, x)` or x `(z, y)`.
    """
    shape = tuple(cohort.manifest["sequences"][sequence]["shape"])
    lead, grid = (0,) * (len(shape) - 3), shape[-3:]
    start, size = [0, 0, 0], list(grid)
    start[axis], size[axis] = grid[axis] // 2, 1
    box = cohort.crop(sequence, index, (*lead, *start), (*(1 for _ in lead), *size))
    return box.reshape(grid[:axis] + grid[axis + 1 :]).astype(np.float64)


def tiles(cohort: Cohort, sequence: str, *, scans: int = 12, seed: int = 0) -> list[Tile]:
    """Windowed middle slices of a sample, in true proportions.

    Args:
        cohort: The cohort.
        sequence: One of its sequences.
        scans: How many scans at most.
        seed: Of the sample.

    Raises:
        InputError: No such sequence, it has no scans, or fewer than one was asked for.
    """
    listed = cohort.scans(sequence)
    if scans < 1:
        raise InputError(f"scans: {scans}; a contact sheet shows 1 or more.")
    if listed.empty:
        raise InputError(f"'{sequence}' of {cohort.folder.url} has no scans to show.")
    dy, dx = cohort.manifest["sequences"][sequence]["spacing_mm"][-2:]
    shown = []
    for index in sample_scans(listed, scans, seed):
        row = listed.iloc[int(index)]
        stored = middle_slice(cohort, sequence, int(index))
        image = stored * float(row["scale"]) + float(row["offset"])
        shown.append(
            Tile(
                scan_id=str(row["scan_id"]),
                visit=str(row["visit"]),
                site=str(row["site"]),
                picture=grey(image, (dy, dx)),
            )
        )
    return shown


def mosaic(shown: list[Tile], *, columns: int = COLUMNS) -> NDArray[np.uint8]:
    """Tiles of one size in rows, left to right and top to bottom, on black.

    Args:
        shown: At least one tile.
        columns: Tiles a row.
    """
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    height, width = shown[0].picture.shape
    sheet = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), dtype=np.uint8)
    for tile, (row, column) in zip(
        shown, itertools.product(range(rows), range(columns)), strict=False
    ):
        top, left = row * (height + GAP), column * (width + GAP)
        sheet[top : top + height, left : left + width] = tile.picture
    return sheet


def contact_sheet(
    cohort: Cohort, sequence: str, *, scans: int = 12, seed: int = 0, columns: int = COLUMNS
) -> NDArray[np.uint8]:
    """Middle slices of a sample as one picture `(height, width)`, in square pixels.

    Args:
        cohort: The cohort.
        sequence: One of its sequences.
        scans: How many scans at most.
        seed: Of the sample.
        columns: Scans a row.

    Raises:
        InputError: No such sequence, it has no scans, or fewer than one was asked for.
    """
    return mosaic(tiles(cohort, sequence, scans=scans, seed=seed), columns=columns)


def contact_figure(
    cohort: Cohort, sequence: str, *, scans: int = 12, seed: int = 0, columns: int = 4
) -> Figure:
    """The contact sheet with the scan_id above each slice and its site below.

    Args:
        cohort: The cohort.
        sequence: One of its sequences.
        scans: How many scans at most.
        seed: Of the sample.
        columns: Scans a row.

    Raises:
        InputError: No such sequence, it has no scans, or fewer than one was asked for.
    """
    shown = tiles(cohort, sequence, scans=scans, seed=seed)
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    height, width = shown[0].picture.shape
    # Very long slices would make a page of black; half to twice as high as wide is enough.
    tall = _PANEL_INCHES * min(max(height / width, 0.5), 2.0) + 0.45
    figure = Figure(figsize=(columns * _PANEL_INCHES, rows * tall), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    # A character is about 0.6 of its size wide; long identifiers are set smaller.
    longest = max(len(tile.scan_id) for tile in shown)
    size = min(8.0, 0.95 * _PANEL_INCHES * 72 / (0.6 * longest))
    for axes, tile in zip(panels, shown, strict=False):
        axes.imshow(tile.picture, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
        # An identifier may hold a dollar sign, which would begin a formula.
        axes.set_title(tile.scan_id, fontsize=size, parse_math=False)
        site = f"site {tile.site}" if tile.site else ""
        axes.set_xlabel(site, fontsize=7, color="#444444", parse_math=False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    return figure
