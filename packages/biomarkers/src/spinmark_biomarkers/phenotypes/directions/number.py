"""How many axes: given, or what exceeds chance."""

from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.directions.archetypes import elbow, held_out_errors
from spinmark_biomarkers.phenotypes.directions.base import Floats
from spinmark_biomarkers.phenotypes.directions.config import DirectionsConfig
from spinmark_biomarkers.phenotypes.directions.parallel import parallel_analysis


def choose_number(
    x: Floats, codes: npt.NDArray[np.int64], config: DirectionsConfig
) -> tuple[int, dict[str, Any]]:
    """Return the number of axes and how it was chosen.

    Args:
        x: The fitted rows, shape (n, feature).
        codes: Their subjects, from 0, shape (n,).
        config: Settings.

    Raises:
        InputError: No axis exceeds chance, or a number out of range.
    """
    if config.axes is not None:
        if config.axes < 1:
            raise InputError(f"axes: {config.axes}; accepted is null or at least 1")
        return config.axes, {"how": "given"}
    if config.axes_max < 2:
        raise InputError(f"axes_max: {config.axes_max}; accepted is at least 2")
    if config.method == "archetypes":
        ks = list(range(1, min(config.axes_max, int(codes.max()) // 4) + 1))
        errors = held_out_errors(x, codes, ks, components=config.components, seed=config.seed)
        # One archetype is the mean: no direction.
        chosen = max(2, elbow(ks, errors))
        told = {str(k): float(e) for k, e in zip(ks, errors, strict=True)}
        return chosen, {"how": "the elbow of the error on held-out subjects", "error": told}
    found = parallel_analysis(x, codes.astype(str), draws=config.null_draws, seed=config.seed)
    most = (
        min(config.axes_max, config.components) if config.method == "reliable" else config.axes_max
    )
    facts: dict[str, Any] = {"how": "parallel analysis", "parallel": found.to_dict()}
    if found.axes == 0:
        raise InputError(
            "axes: null, but no axis exceeds chance (parallel analysis): there is no direction to speak of; "
            "accepted is a number, where one is wanted all the same"
        )
    if found.axes > most:
        facts["how"] = (
            f"parallel analysis found {found.axes}; kept to {most}, the most that is asked for"
        )
    return min(found.axes, most), facts
