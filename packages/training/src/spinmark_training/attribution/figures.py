"""Pictures of attributions, as matplotlib `Figure` objects and never pyplot."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.ndimage import gaussian_filter

Volume = npt.NDArray[np.float32]
# Voxel by voxel, integrated gradients of a residual network are speckled: in pictures alone they are
# smoothed by this standard deviation.
SMOOTH_MM = 2.0
# Okabe and Ito's palette, told apart with any colour vision.
_MORE, _LESS, _GREY = "#D55E00", "#0072B2", "#666666"
_VARIABLES = 12


def slices_shown(attribution: Volume, count: int = 3) -> list[int]:
    """Choose the slices that hold most absolute attribution, in order, no two next to each other."""
    held = np.abs(attribution).sum(axis=(1, 2))
    chosen: list[int] = []
    for place in np.argsort(-held, kind="stable").tolist():
        if all(abs(place - other) > 1 for other in chosen):
            chosen.append(place)
        if len(chosen) == count:
            break
    return sorted(chosen)


def voxel_figure(
    volume: Volume, attribution: Volume, spacing_mm: tuple[float, float, float]
) -> Figure:
    """Draw the slices with most attribution: the scan above, the same with attribution below.

    Args:
        volume: The scan as the encoder sees it `(D, H, W)`.
        attribution: What each voxel adds to the similarity, on the same grid.
        spacing_mm: Voxel spacing (z, y, x).
    """
    smooth = gaussian_filter(attribution, [SMOOTH_MM / step for step in spacing_mm])
    shown = slices_shown(attribution)
    low, high = np.percentile(volume, (1, 99.5))
    limit = float(np.percentile(np.abs(smooth[shown]), 99.5)) or 1.0
    tall = volume.shape[1] * spacing_mm[1] / (volume.shape[2] * spacing_mm[2])
    figure = Figure(figsize=(9, 0.5 + 2 * 2.4 * tall), layout="constrained")
    panels = figure.subplots(2, len(shown), squeeze=False)
    aspect = spacing_mm[1] / spacing_mm[2]
    image = None
    for column, place in enumerate(shown):
        for axes in panels[:, column]:
            axes.imshow(volume[place], cmap="gray", vmin=low, vmax=high, aspect=aspect)
            axes.set_axis_off()
        strength = np.clip(np.abs(smooth[place]) / limit, 0, 1)
        image = panels[1, column].imshow(
            smooth[place],
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            alpha=strength**0.7,
            aspect=aspect,
        )
        panels[0, column].set_title(f"slice {place}", fontsize="small")
    if image is not None:
        # A colour bar of a see-through picture would be see-through, too.
        bar = figure.colorbar(image, ax=panels[1].tolist(), shrink=0.8, ticks=[-limit, 0, limit])
        bar.ax.set_yticklabels(["less alike", "0", "more alike"], fontsize="small")
        if bar.solids is not None:
            bar.solids.set_alpha(1)
    return figure


def cell_figure(cells: pd.DataFrame, groups: pd.DataFrame) -> Figure:
    """Draw the variables that add most to the similarity, and the sums by role.

    Args:
        cells: `label`, `attribution`, `occlusion` and `randomised`, a row a variable.
        groups: `by`, `name` and the same three, a row a group.
    """
    order = cells["attribution"].abs().sort_values(ascending=False, kind="stable").index
    most = cells.loc[order[:_VARIABLES]]
    roles = groups[groups["by"] == "role"]
    figure = Figure(figsize=(10, 0.9 + 0.3 * max(len(most), len(roles))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    for axes, names, frame in ((left, most["label"], most), (right, roles["name"], roles)):
        place = np.arange(len(frame))
        values = frame["attribution"].to_numpy()
        colours = [_MORE if value >= 0 else _LESS for value in values]
        axes.barh(place, values, color=colours, height=0.65)
        axes.plot(frame["occlusion"], place, "o", color="black", markersize=4)
        if frame["randomised"].notna().all():
            axes.plot(frame["randomised"], place, "x", color=_GREY, markersize=5)
        axes.axvline(0, color="0.6", linewidth=0.8)
        axes.set_yticks(place, [str(name)[:44] for name in names], fontsize="small")
        axes.invert_yaxis()
        axes.set_xlabel("change of similarity")
    left.set_title(f"The {len(most)} variables that matter most", fontsize="medium")
    right.set_title("By role", fontsize="medium")
    handles = [
        Line2D([], [], color=_MORE, linewidth=6, label="integrated gradients"),
        Line2D([], [], color="black", marker="o", linestyle="", markersize=4, label="hidden"),
        Line2D([], [], color=_GREY, marker="x", linestyle="", label="random weights"),
    ]
    figure.legend(
        handles=handles, loc="outside lower right", ncols=3, fontsize="small", frameon=False
    )
    return figure
