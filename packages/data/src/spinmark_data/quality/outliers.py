"""Scans unlike their like: robust z within sequence and scanner, flags and a score."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.quality.config import QualityConfig

# The standard deviation of a normal law over its median absolute deviation.
_NORMAL = 1.482602218505602
# A group's own spread counts for no less than this share of the spread within all groups.
_SHARE = 0.5
# Groups of fewer have no spread at all.
_FEWEST = 3
# What one certain fault adds to the score; z counts up to this much, so that faults come first.
FAULT = 20.0


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How one metric is judged.

    Attributes:
        label: Its name in words.
        bad: Which side is bad.
        floor: Least standard deviation, in units of the metric (in natural logarithms for `log`): less is of no
            interest, however alike the others are.
        log: Whether ratios count rather than differences.
    """

    label: str
    bad: Literal["low", "high", "both"]
    floor: float
    log: bool = False


RULES: Mapping[str, Rule] = {
    "snr": Rule(label="signal-to-noise ratio", bad="low", floor=0.05, log=True),
    "noise": Rule(label="noise", bad="high", floor=0.05, log=True),
    "contrast": Rule(label="contrast of tissues", bad="both", floor=0.03, log=True),
    "air_contrast": Rule(label="contrast to air", bad="low", floor=0.01),
    "focus_entropy": Rule(label="focus entropy", bad="high", floor=0.005),
    "sharpness": Rule(label="sharpness", bad="low", floor=0.05, log=True),
    "ghosting": Rule(label="ghosting", bad="high", floor=0.005),
    "gradient_entropy": Rule(label="gradient entropy", bad="high", floor=0.003),
    "body_share": Rule(label="share of body", bad="both", floor=0.02),
    "cut_z": Rule(label="cut off along z", bad="high", floor=0.03),
    "cut_y": Rule(label="cut off along y", bad="high", floor=0.03),
    "cut_x": Rule(label="cut off along x", bad="high", floor=0.03),
    "centre_off_mm": Rule(label="centre off the middle", bad="high", floor=2.0),
    "slice_drift": Rule(label="drift along slices", bad="both", floor=0.01),
    "slice_jump": Rule(label="jump between slices", bad="high", floor=0.02),
    "air_slices": Rule(label="slices of air", bad="high", floor=0.5),
    "echo_deviation_ms": Rule(label="echo times unlike the others'", bad="high", floor=0.1),
}
# What is wrong whatever the others are: above this.
LIMITS: Mapping[str, tuple[str, float]] = {
    "empty_slices": ("slices of one value", 0),
    "padding": ("padded", 0.25),
    "clipped": ("clipped", 0.02),
    "echoes_wrong": ("echoes wrong", 0),
    "copies": ("copy of another scan", 0),
}


def robust_z(
    values: NDArray[np.float64], groups: NDArray[np.int64], *, floor: float, min_group: int
) -> NDArray[np.float64]:
    """Distance from the median of one's group, in robust standard deviations.

    Groups of fewer than `min_group` known values are compared with all values. A spread is at least
    half of that within all groups, and at least `floor`, so that a few equal scans make nobody an
    outlier.

    Args:
        values: One a scan; what is not finite stays NaN.
        groups: Number of each scan's group.
        floor: In units of the values.
        min_group: Number of scans.
    """
    known = np.isfinite(values)
    out = np.full(values.shape, np.nan)
    if known.sum() < _FEWEST:
        return out
    centre = np.full(values.shape, float(np.median(values[known])))
    everyone = _spread(values[known] - centre[known])
    large = []
    for group in np.unique(groups[known]):
        inside = known & (groups == group)
        if inside.sum() >= min_group:
            centre[inside] = np.median(values[inside])
            large.append(inside)
    away = values - centre
    at_home = np.any(large, axis=0) if large else known
    pooled = _spread(away[at_home & known])
    scale = np.full(values.shape, max(everyone, floor))
    for inside in large:
        scale[inside] = max(_spread(away[inside]), _SHARE * pooled, floor)
    out[known] = away[known] / scale[known]
    return out


def judge(scans: pd.DataFrame, config: QualityConfig) -> pd.DataFrame:
    """Add z values, flags and the score.

    Args:
        scans: A row a scan with `sequence`, `scanner`, `error` and the metrics.
        config: How strict to be.

    Returns:
        The rows in their order with `z_<metric>` (signed), `flags` (short names, joined by `;`), `flagged`
        and `score`: the largest z on its bad side, to at most 20, and 20 for each fault that is certain.
    """
    rows = scans.copy()
    flags: list[list[str]] = [[] for _ in range(len(rows))]
    worst = np.zeros(len(rows))
    for name, rule in RULES.items():
        z = _z(rows, name, rule, config.min_group)
        rows[f"z_{name}"] = z
        bad = {"low": -z, "high": z, "both": np.abs(z)}[rule.bad]
        worst = np.fmax(worst, bad)
        for place in np.flatnonzero(bad >= config.limit):
            flags[place].append(f"{name} {'low' if z[place] < 0 else 'high'}")
    faults = np.zeros(len(rows))
    for name, (_, limit) in LIMITS.items():
        for place in np.flatnonzero(rows[name].to_numpy(dtype=np.float64) > limit):
            flags[place].insert(0, name)
            faults[place] += 1
    blank = (rows["fingerprint"] == "").to_numpy()
    for word, where in (("blank", blank), ("unreadable", (rows["error"] != "").to_numpy())):
        for place in np.flatnonzero(where):
            # Nothing else that is said of such a scan is of use.
            flags[place], faults[place] = [word], len(LIMITS)
    rows["flags"] = pd.Series([";".join(names) for names in flags], index=rows.index, dtype=object)
    rows["flagged"] = rows["flags"] != ""
    rows["score"] = np.minimum(worst, FAULT) + FAULT * faults
    return rows


def explain(row: "pd.Series[Any]") -> list[str]:
    """Say in words why a scan is flagged, a sentence a flag."""
    said = []
    for flag in filter(None, str(row["flags"]).split(";")):
        name, _, side = flag.partition(" ")
        if name in RULES:
            value, z = (float(str(row[key])) for key in (name, f"z_{name}"))
            said.append(f"{RULES[name].label}: {side}, {value:.3g} (z {z:+.1f})")
        elif name in LIMITS:
            said.append(f"{LIMITS[name][0]}: {float(str(row[name])):.3g}")
        else:
            said.append({"blank": "all voxels have one value"}.get(name, "could not be read"))
    return said


def transformed(values: "pd.Series[Any]", rule: Rule) -> NDArray[np.float64]:
    """Values on the scale on which a rule compares them; what has no logarithm is NaN."""
    out = values.to_numpy(dtype=np.float64, copy=True)
    if rule.log:
        positive = out > 0
        out = np.where(positive, np.log(np.where(positive, out, 1)), np.nan)
    return out


def _z(rows: pd.DataFrame, name: str, rule: Rule, min_group: int) -> NDArray[np.float64]:
    out = np.full(len(rows), math.nan)
    # The two ways of measuring noise differ by more than scans do.
    within = ["sequence", "noise_method"] if name in ("snr", "noise") else ["sequence"]
    compared = rows.groupby(within, dropna=False).ngroup().to_numpy()
    groups = rows.groupby([*within, "scanner"], dropna=False).ngroup().to_numpy()
    values = transformed(rows[name], rule)
    for number in np.unique(compared):
        here = compared == number
        out[here] = robust_z(values[here], groups[here], floor=rule.floor, min_group=min_group)
    return out


def _spread(away: NDArray[np.float64]) -> float:
    return _NORMAL * float(np.median(np.abs(away)))
