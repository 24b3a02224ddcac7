"""Real knees and phantoms side by side, in the knee's own planes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spinmark_data.anatomy_report.aligned import Aligned

# Planes by name: axis and place in mm.
PLANES: Mapping[str, tuple[int, float]] = {
    "sagittal, medial": (0, 22.0),
    "sagittal, middle": (0, 2.0),
    "sagittal, lateral": (0, -22.0),
    "coronal": (2, 3.0),
    "axial, femur": (1, -26.0),
    "axial, tibia": (1, 6.0),
}
_COLOURS = {
    "femur": "#d9c8a5",
    "tibia": "#c9b48a",
    "patella": "#e6d9bd",
    "fibula": "#b7a27c",
    "femoral_cartilage": "#2a7fb8",
    "medial_tibial_cartilage": "#e07b39",
    "lateral_tibial_cartilage": "#3f9b5a",
    "patellar_cartilage": "#8e4fa8",
    "medial_meniscus": "#b5263c",
    "lateral_meniscus": "#e0567a",
}
_LEGEND = tuple(_COLOURS)


def plane(turned: Aligned, axis: int, place_mm: float) -> NDArray[np.uint8]:
    """One plane as `(rows, columns)`: up is up or, of an axial plane, medial is up."""
    index = int(np.argmin(np.abs(turned.places(axis) - place_mm)))
    cut = turned.labels.take(index, axis=axis)
    return np.asarray(cut.T if axis == 2 else cut)


def coloured(codes: NDArray[np.uint8], names: Mapping[str, int]) -> NDArray[np.float64]:
    """Colour bones, cartilages and menisci; all else is black.

    Args:
        codes: Labels `(rows, columns)`.
        names: Code of each structure.
    """
    from matplotlib.colors import to_rgb

    table = np.zeros((256, 3))
    for name, colour in _COLOURS.items():
        if name in names:
            table[names[name]] = to_rgb(colour)
    return np.asarray(table[codes])


def draw(knees: Mapping[str, Aligned], path: Path) -> None:
    """Write a picture, a row a knee and a column a plane of `PLANES`.

    Args:
        knees: Knees by the title of their row.
        path: PNG file.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(13, 2.35 * len(knees) + 0.7), layout="constrained")
    axes = figure.subplots(len(knees), len(PLANES), squeeze=False)
    for index, (title, turned) in enumerate(knees.items()):
        row = axes[index]
        for panel, (name, (axis, place)) in zip(row, PLANES.items(), strict=True):
            panel.imshow(
                coloured(plane(turned, axis, place), turned.codes), interpolation="nearest"
            )
            panel.set_xticks([])
            panel.set_yticks([])
            if index == 0:
                panel.set_title(name, fontsize=9)
        row[0].set_ylabel(title, fontsize=9)
    patches = [Patch(color=_COLOURS[n], label=n.replace("_", " ")) for n in _LEGEND]
    figure.legend(handles=patches, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    figure.savefig(path, dpi=90, metadata={"Software": None})
