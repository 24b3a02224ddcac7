"""All metrics of one scan, as `spinmark_data.cohort.scan_map.map_scans` calls for them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from spinmark_data.quality import coverage, motion, slices
from spinmark_data.quality.contrast import air_contrast, focus_entropy, sharpness, tissue_contrast
from spinmark_data.quality.fingerprint import exact, fingerprint
from spinmark_data.quality.foreground import Modality, Volume, air_mask, body_mask, modality_of
from spinmark_data.quality.noise import (
    air_sigma,
    measure_noise,
    smoothed,
    snr,
    some_slices,
    tissue,
)

if TYPE_CHECKING:
    import pandas as pd

Values = dict[str, float | str]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Measures scans of one sequence; it is sent to wherever they are read.

    Attributes:
        spacing_mm: Along z, y and x.
        modality: `auto` looks at the intensities of each scan.
        echo_time_ms: Times of each scan's echoes, by `scan_id`.
        right_left: Which of z, y and x (0, 1 or 2) runs along right-left, by `scan_id`; z where
            nothing is said.
    """

    spacing_mm: tuple[float, float, float]
    modality: Literal["auto", "mr", "ct"] = "auto"
    echo_time_ms: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    right_left: Mapping[str, int] = field(default_factory=dict)

    def __call__(self, stored: NDArray[Any], row: "pd.Series[Any]") -> Values:
        """Metrics of one scan.

        Args:
            stored: `(z, y, x)` or `(echo, z, y, x)` as stored; of echoes the first is measured.
            row: Its row of `Cohort.scans`.
        """
        # Both as acquired: one image under a left and a right joint is to be found.
        scan_id = str(row["scan_id"])
        side = stored.ndim - 3 + self.right_left.get(scan_id, 0)
        acquired = np.flip(stored, axis=side) if row["mirrored"] else stored
        first = acquired[0] if stored.ndim == 4 else acquired
        volume = first.astype(np.float32) * np.float32(row["scale"]) + np.float32(row["offset"])
        found = metrics(volume, self.spacing_mm, self.modality)
        times = self.echo_time_ms.get(scan_id)
        if stored.ndim == 4 and times is not None:
            body = body_mask(volume, modality_of(volume))
            found["echoes_wrong"] = slices.wrong_echoes(acquired, body, times)
        return {**found, "voxels_sha256": exact(acquired), "fingerprint": fingerprint(first)}


def metrics(
    volume: Volume,
    spacing_mm: tuple[float, float, float],
    modality: Literal["auto", "mr", "ct"] = "auto",
) -> Values:
    """Metrics of one image; what cannot be measured is NaN.

    Args:
        volume: `(z, y, x)`, in Hounsfield units for CT.
        spacing_mm: Along z, y and x.
        modality: `auto` looks at the intensities.
    """
    kind = modality_of(volume) if modality == "auto" else modality
    sigma = air_sigma(volume) if kind == "mr" else math.nan
    body = body_mask(volume, kind, 0.0 if math.isnan(sigma) else sigma)
    chosen = some_slices(len(volume))
    part, inside = volume[chosen], body[chosen]
    smooth = smoothed(part)
    where = tissue(smooth, inside, kind)
    noise = measure_noise(part, where, sigma)
    signal, ratio = snr(smooth, where, kind, noise)
    cut_z, cut_y, cut_x = coverage.cut_off(body)
    # From air up: in CT nothing is negative any more, so that ratios have a meaning.
    above = np.maximum(volume + np.float32(1000), 0) if kind == "ct" else volume
    level = slices.levels(above, body & (volume > -100) & (volume < 200) if kind == "ct" else body)
    return {
        "modality": kind,
        "noise": noise.sigma,
        "noise_method": noise.method,
        "signal": signal,
        "snr": ratio,
        **_of_planes(above[chosen], inside, spacing_mm, kind, noise.sigma),
        "body_share": float(body.mean()),
        "cut_z": cut_z,
        "cut_y": cut_y,
        "cut_x": cut_x,
        "empty_slices": coverage.empty_slices(volume),
        "air_slices": int(np.count_nonzero(~body.any(axis=(1, 2)))),
        "padding": coverage.padding(volume),
        "clipped": coverage.clipped(volume),
        "centre_off_mm": coverage.centre_off_mm(body, spacing_mm),
        "slice_drift": slices.drift_per_cm(level, spacing_mm[0]),
        "slice_jump": slices.largest_jump(level),
        "echoes_wrong": math.nan,
    }


def _of_planes(
    part: Volume,
    inside: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    kind: Modality,
    sigma: float,
) -> Values:
    """Metrics of the texture, from evenly spaced slices."""
    air, plane = air_mask(part, inside), (spacing_mm[1], spacing_mm[2])
    ghosts = motion.ghosting(part, inside, air)
    # Air in CT has streaks and a table, but no ghosts.
    mr = kind == "mr"
    return {
        "contrast": tissue_contrast(part, inside),
        "air_contrast": air_contrast(part, inside, air),
        "focus_entropy": focus_entropy(part),
        "sharpness": sharpness(part, inside, plane, sigma),
        "ghosting": ghosts.ratio if mr else math.nan,
        "ghost_axis": ghosts.axis if mr else "",
        "gradient_entropy": motion.gradient_entropy(part, plane),
    }
