"""Mid-plane pictures of one scan, side by side."""

from matplotlib.figure import Figure

from spinmark_data.cohort.reader import Cohort
from spinmark_data.inspect.contact_sheet import middle_slice
from spinmark_data.inspect.picture import grey

_AXES = ("z", "y", "x")
_INCHES = 8.0
_TALLEST = 3.2
_GAP = 0.08


def mid_planes(cohort: Cohort, sequence: str, index: int) -> Figure:
    """The middle planes across z, y and x of echo 0, in true proportions, each with its own grey scale.

    Args:
        cohort: The cohort.
        sequence: One of its sequences.
        index: Place of the scan in it.
    """
    row = cohort.scans(sequence).iloc[index]
    spacing = [float(step) for step in cohort.manifest["sequences"][sequence]["spacing_mm"][-3:]]
    shown = []
    for axis in range(3):
        dy, dx = spacing[:axis] + spacing[axis + 1 :]
        stored = middle_slice(cohort, sequence, index, axis)
        shown.append(grey(stored * float(row["scale"]) + float(row["offset"]), (dy, dx)))
    wide = [picture.shape[1] / picture.shape[0] for picture in shown]
    height = min(_TALLEST, (_INCHES - 2 * _GAP) / sum(wide))
    width, title = height * sum(wide) + 2 * _GAP, 0.25
    figure = Figure(figsize=(width, height + title))
    left = 0.0
    # Placed by hand: a page of many pictures would wait for the layout of each.
    for picture, ratio, name in zip(shown, wide, _AXES, strict=True):
        across, tall = height * ratio / width, height / (height + title)
        axes = figure.add_axes((left, 0, across, tall))
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="bilinear", aspect="auto")
        axes.set_axis_off()
        figure.text(left + across / 2, tall + 0.02, f"across {name}", ha="center", fontsize=8)
        left += across + _GAP / width
    return figure
