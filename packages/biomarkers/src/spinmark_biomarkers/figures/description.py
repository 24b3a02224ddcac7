"""What phenotypes have more of than others: maps, forests, panels and regional profiles."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.embedding_map import COLOURS
from spinmark_biomarkers.phenotypes.description.scale import foremost, on_one_scale

Floats = npt.NDArray[np.float64]
# Full colour from here on; few differences are larger.
_STRONGEST = 1.5
_FOUND = 0.05
_LABEL = 46


def _short(label: str) -> str:
    """Cut a label in its middle, where regions of one measure do not differ."""
    label = label.partition(" (")[0]
    if len(label) <= _LABEL:
        return label
    return f"{label[: _LABEL - 21].rstrip()} ... {label[-16:].lstrip()}"


def _key(frame: pd.DataFrame) -> str:
    return "phenotype" if "phenotype" in frame.columns else "axis"


def _heat(axes: Axes, values: Floats, bold: npt.NDArray[np.bool_], top: float) -> Any:
    image = axes.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto")
    axes.set_facecolor("0.85")
    for row, column in np.argwhere(np.isfinite(values)):
        value = values[row, column]
        axes.text(
            column,
            row,
            f"{value:.1f}".replace("-0.0", "0.0"),
            ha="center",
            va="center",
            fontsize=8,
            fontweight="bold" if bold[row, column] else "normal",
            color="white" if abs(value) > 0.65 * top else "black",
        )
    return image


def enrichment_map(frame: pd.DataFrame, *, most: int = 30) -> Figure:
    """Draw the differences of the variables that tell phenotypes (or axes) apart the most.

    Args:
        frame: As `describe_groups` or `describe_axis` returns it.
        most: Variables, at most.

    Raises:
        InputError: No variable has a tested effect with a direction.
    """
    key = _key(frame)
    rows = on_one_scale(frame)
    rows = rows[np.isfinite(rows["effect"]) & np.isfinite(rows["p"])]
    if rows.empty:
        raise InputError(
            "enrichment map: no tested effect with a direction; accepted is at least 1"
        )
    largest = rows.assign(size=rows["effect"].abs()).groupby("variable")["size"].max()
    names = largest.sort_values(ascending=False, kind="stable").index[:most]
    # In the order of the dictionary, so that what belongs together stands together.
    names = [name for name in dict.fromkeys(rows["variable"]) if name in set(names)]
    columns = list(dict.fromkeys(frame[key]))
    labels = rows.drop_duplicates("variable").set_index("variable")["label"]

    def table(what: str) -> Floats:
        wide = rows.pivot(index="variable", columns=key, values=what)
        return np.asarray(wide.reindex(index=names, columns=columns), dtype=np.float64)

    size = (4.6 + 0.62 * len(columns), 1.5 + 0.25 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    image = _heat(axes, table("effect"), table("q") <= _FOUND, _STRONGEST)
    axes.set_yticks(range(len(names)), [_short(str(labels[name])) for name in names], fontsize=8)
    axes.set_xticks(range(len(columns)), [str(c) for c in columns])
    axes.set_xlabel(key)
    figure.colorbar(image, ax=axes, label="standard deviations", extend="both", shrink=0.7)
    versus = "members less others" if key == "phenotype" else "per SD of the axis"
    axes.set_title(f"Differences, {versus}\nbold: q of {_FOUND:g} or less", fontsize=9)
    return figure


def enrichment_forest(
    frame: pd.DataFrame, of: object, *, most: int = 12, adjusted_for: Sequence[str] = ()
) -> Figure:
    """Draw the largest differences of one phenotype or axis with their intervals.

    Args:
        frame: As `describe_groups` or `describe_axis` returns it.
        of: Which phenotype or axis.
        most: Variables, at most.
        adjusted_for: What the adjusted differences are adjusted for, to be named.

    Raises:
        InputError: Nothing was tested of it.
    """
    key = _key(frame)
    rows = foremost(on_one_scale(frame[frame[key] == of]), most)
    if rows.empty:
        raise InputError(f"enrichment forest: {key} {of} has no tested effect with a direction")
    figure = Figure(figsize=(7.2, 1.5 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    y = -np.arange(len(rows), dtype=np.float64)
    for prefix, shift, colour, mark, name in (
        ("", 0.12, COLOURS[0], "o", "crude"),
        ("adjusted_", -0.12, COLOURS[3], "s", "adjusted"),
    ):
        value, low, high = (
            rows[prefix + what].to_numpy(np.float64) for what in ("effect", "low", "high")
        )
        there = np.isfinite(value)
        if not there.any():
            continue
        error = np.nan_to_num(np.vstack([value - low, high - value])).clip(0)
        axes.errorbar(
            value[there],
            (y + shift)[there],
            xerr=error[:, there],
            fmt=mark,
            color=colour,
            markersize=4.5,
            capsize=2,
            linewidth=1,
            label=name,
        )
    axes.axvline(0, color="0.6", linewidth=0.8, linestyle="--")
    labels = [
        _short(f"{label}: {level}" if level else str(label))
        for label, level in zip(rows["label"], rows["level"], strict=True)
    ]
    axes.set_yticks(y, labels, fontsize=8)
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    axes.set_xlabel("standard deviations (odds ratios brought to that scale); bars: 95 %")
    said = f"; adjusted for {', '.join(adjusted_for)}" if adjusted_for else ""
    axes.set_title(f"{key.capitalize()} {of}{said}", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="best")
    return figure


def panel_bars(panel: pd.DataFrame) -> Figure:
    """Draw how far phenotypes go with what scans were made with.

    Args:
        panel: As `panel.batch_panel` returns it.
    """
    rows = panel[np.isfinite(panel["effect"].astype(float))].reset_index(drop=True)
    figure = Figure(figsize=(7.2, 1.3 + 0.3 * max(len(rows), 1)), layout="constrained")
    axes = figure.subplots()
    y = -np.arange(len(rows))
    suspect = (rows["flag"] == "artefact suspected").to_numpy(bool)
    axes.barh(y, rows["effect"], color=np.where(suspect, COLOURS[3], COLOURS[0]))
    values = rows[["effect", "p"]].to_numpy(np.float64)
    for place, (effect, p), flag in zip(y.tolist(), values, rows["flag"], strict=True):
        text = f"p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}, {flag}"
        axes.text(effect + 0.02, place, text, va="center", fontsize=8)
    axes.axvline(0.3, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_yticks(y, [_short(str(name)) for name in rows["variable"]], fontsize=8)
    axes.set_xlim(0, 1.5)
    axes.set_xticks(np.arange(0, 1.01, 0.2))
    axes.set_xlabel("Cramer's V, or of a number the root of eta squared")
    axes.set_title("Is a phenotype an artefact? Dotted: from here on suspected", fontsize=9)
    return figure


def importance_bars(
    importance: pd.DataFrame, score: Mapping[str, float | int | None], chance: float
) -> Figure:
    """Draw what a surrogate loses without each group of variables.

    Args:
        importance: As `Surrogate.importance`.
        score: Its balanced accuracy: `value`, `low`, `high`.
        chance: What a guess without variables gets.
    """
    figure = Figure(figsize=(7.2, 1.4 + 0.3 * len(importance)), layout="constrained")
    axes = figure.subplots()
    y = -np.arange(len(importance))
    loss, low, high = (importance[name].to_numpy(np.float64) for name in ("loss", "low", "high"))
    error = np.vstack([loss - low, high - loss]).clip(0)
    axes.barh(y, loss, xerr=error, color=COLOURS[5], ecolor="#333333", capsize=2)
    names = [
        f"{group}: {count} variable{'s' if count > 1 else ''}"
        for group, count in zip(importance["group"], importance["variables"], strict=True)
    ]
    axes.set_yticks(y, [_short(name) for name in names], fontsize=8)
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.set_xlabel("balanced accuracy lost when the group is permuted between people")
    axes.set_title(
        f"Balanced accuracy {score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f}); "
        f"chance {chance:.2f}",
        fontsize=9,
    )
    return figure


def profile_map(profiles: pd.DataFrame) -> Figure:
    """Draw regional measures of each phenotype, a panel a kind of measure.

    Args:
        profiles: As `profiles.regional_profiles` returns it.

    Raises:
        InputError: Nothing was measured.
    """
    rows = profiles[np.isfinite(profiles["z"])]
    if rows.empty:
        raise InputError("profile map: no phenotype has a measure; accepted is at least one")
    kinds = list(dict.fromkeys(rows["kind"]))
    phenotypes = sorted(set(profiles["phenotype"]))
    regions = {k: list(dict.fromkeys(rows.loc[rows["kind"] == k, "region"])) for k in kinds}
    tall = [len(regions[k]) for k in kinds]
    size = (3.2 + 0.75 * len(phenotypes), 1.3 + 0.9 * len(kinds) + 0.24 * sum(tall))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(kinds), 1, squeeze=False, height_ratios=[n + 1 for n in tall])
    names = {"THC": "cartilage thickness", "VOL": "volume", "TAB": "subchondral area"}
    for axes, kind in zip(grid[:, 0], kinds, strict=True):
        own = rows[rows["kind"] == kind]

        def table(what: str, own: pd.DataFrame = own, kind: str = kind) -> Floats:
            wide = own.pivot(index="region", columns="phenotype", values=what)
            return np.asarray(wide.reindex(index=regions[kind], columns=phenotypes), np.float64)

        image = _heat(axes, table("z"), table("q") <= _FOUND, _STRONGEST)
        places = [str(r).replace("_", " ").lower() if kind == "VOL" else r for r in regions[kind]]
        axes.set_yticks(range(len(places)), places, fontsize=8)
        axes.set_xticks(range(len(phenotypes)), [str(p) for p in phenotypes])
        axes.set_title(names.get(kind, kind), fontsize=9)
    grid[-1, 0].set_xlabel("phenotype")
    figure.colorbar(image, ax=list(grid[:, 0]), label="z", extend="both", shrink=0.6)
    return figure


def member_panel(
    slices: Mapping[str, Floats], members: pd.DataFrame, *, columns: int = 6
) -> Figure:
    """Draw one slice of each member of a phenotype, a row a kind, without identifiers.

    Args:
        slices: For each scan_id its slice (y, x).
        members: Rows of one phenotype as `members.members` returns them.
        columns: Members of each kind, at most.

    Raises:
        InputError: There is no member.
    """
    kinds = [k for k in ("prototype", "random", "boundary") if (members["kind"] == k).any()]
    if not kinds:
        raise InputError("member panel: no members; accepted is at least one")
    figure = Figure(figsize=(1.35 * columns + 0.5, 1.5 * len(kinds)), layout="constrained")
    grid = figure.subplots(len(kinds), columns, squeeze=False)
    for line, kind in zip(grid, kinds, strict=True):
        own = members[members["kind"] == kind].sort_values("order").head(columns)
        for axes in line:
            axes.set_axis_off()
        line[0].set_title(kind, fontsize=8, loc="left")
        for axes, scan in zip(line, own["scan_id"], strict=False):
            image = np.asarray(slices[str(scan)], dtype=np.float64)
            low, high = np.quantile(image, [0.01, 0.99])
            axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
    return figure
