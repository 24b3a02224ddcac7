"""The one intensity rule between a stored scan and an encoder's input."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_models.config import IntensityRule
from spinmark_models.errors import InputError


def as_rule(rule: IntensityRule | Mapping[str, Any]) -> IntensityRule:
    """Checks a rule, given as such or as the dictionary that a file holds.

    Raises:
        InputError: A key is unknown or a number is out of its range.
    """
    raw = asdict(rule) if isinstance(rule, IntensityRule) else dict(rule)
    valid = [f.name for f in fields(IntensityRule)]
    unknown = sorted(set(raw) - set(valid))
    if unknown:
        raise InputError(f"Unknown key(s) {unknown} of an intensity rule. Valid keys are {valid}.")
    checked = IntensityRule(**raw)
    if not 0 <= checked.low < checked.high <= 100:
        raise InputError(
            f"intensity percentiles are {checked.low} and {checked.high}; "
            "use 0 <= low < high <= 100."
        )
    if not checked.sd > 0 or checked.max_voxels < 1:
        raise InputError(
            f"intensity sd is {checked.sd} and max_voxels {checked.max_voxels}; "
            "both must be above 0."
        )
    return checked


def intensity_window(
    volume: NDArray[Any], rule: IntensityRule | Mapping[str, Any]
) -> tuple[float, float]:
    """The two percentiles of a scan between which it is scaled to [0, 1].

    They commute with the scan's `scale` and a zero `offset`, so that stored integers serve as well
    as values.

    Args:
        volume: A scan of any shape; only voxels above zero count.
        rule: The rule.

    Returns:
        The lower and the upper bound; `(0, 1)` where fewer than two values differ.
    """
    checked = as_rule(rule)
    flat = np.asarray(volume).reshape(-1)
    # An odd stride does not run in step with the even sizes of grids.
    stride = max(1, -(-flat.size // checked.max_voxels)) | 1 if flat.size else 1
    if flat.size <= checked.max_voxels:
        stride = 1
    sample = flat[::stride]
    sample = sample[sample > 0]
    if sample.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(sample.astype(np.float64), [checked.low, checked.high])
    return (float(low), float(high)) if high > low else (0.0, 1.0)


def normalise_intensity(
    volume: NDArray[Any],
    rule: IntensityRule | Mapping[str, Any],
    window: tuple[float, float] | None = None,
) -> NDArray[np.float32]:
    """Applies the rule to one scan.

    Args:
        volume: A scan of any shape, in values or in stored integers.
        rule: The rule.
        window: The two percentiles, where they are those of a scan that `volume` is a part of; None
            takes them from `volume`.

    Returns:
        An array of the same shape.
    """
    checked = as_rule(rule)
    low, high = intensity_window(volume, checked) if window is None else window
    scaled = (np.asarray(volume, np.float32) - np.float32(low)) * np.float32(1 / (high - low))
    unit = np.clip(scaled, 0, 1)
    normalised: NDArray[np.float32] = (unit - np.float32(checked.mean)) * np.float32(1 / checked.sd)
    return normalised
