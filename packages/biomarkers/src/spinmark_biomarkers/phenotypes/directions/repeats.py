"""Which scans are repeats of one another for reliable axes, and whether there are enough of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.directions.reliability import KINDS, MEANING, repeated


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """Repeated scans of the fitted subjects.

    Args:
        kind: `rescans`, `visits` or `sides`.
        rows: Their rows among all scans, shape (m,).
        units: What each is a repeat of, shape (m,).
    """

    kind: str
    rows: npt.NDArray[np.intp]
    units: npt.NDArray[np.int64]


def choose_repeats(
    scans: pd.DataFrame,
    allowed: npt.NDArray[np.bool_],
    used: npt.NDArray[np.bool_],
    *,
    kind: str,
    components: int,
) -> Repeats:
    """Choose what reliable axes take for repeats.

    Args:
        scans: The scan coordinates, a row a scan.
        allowed: Scans of subjects who may be fitted, shape (n,).
        used: Scans that define joints; sides are compared among these alone, shape (n,).
        kind: A kind, or `auto` for the first of which there are enough.
        components: Components that the axes are sought in; there must be twice as many units and repeats.

    Raises:
        InputError: Too few repeats of the kind, or of every kind.
    """
    if kind != "auto" and kind not in KINDS:
        raise InputError(f"repeats: '{kind}'; accepted are auto, {', '.join(KINDS)}")
    counted = []
    for name in KINDS if kind == "auto" else (kind,):
        kept = np.flatnonzero(allowed & used if name == "sides" else allowed)
        rows, units = repeated(scans.iloc[kept], name)
        n_units = int(units.max()) + 1 if units.size else 0
        if min(n_units, units.size - n_units) >= 2 * components:
            return Repeats(kind=name, rows=kept[rows], units=units)
        counted.append(f"{name} ({MEANING[name]}): {n_units}")
    raise InputError(
        f"embeddings: reliable axes need repeated scans of train and val subjects; found {', '.join(counted)}; "
        f"accepted are at least {2 * components} with two or more scans, or fewer components"
    )
