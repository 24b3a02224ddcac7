"""Monotone effects of grades, such as Kellgren-Lawrence, by steps that all have one sign."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.priors.base import CoefficientPrior, Columns, check_positive

_SIGN = ">="


@dataclass(frozen=True, kw_only=True)
class Monotone(CoefficientPrior):
    """The effect of a grade as a size times a simplex of steps (Buerkner and Charpentier, BJMSP 2020).

    A grade of K + 1 levels is coded in K columns `NAME>=LEVEL` (`ordinal_columns`). Step k has the coefficient
    `b zeta_k` with zeta ~ Dirichlet(concentration) and b ~ Normal(0, scale), so that the risk rises with every
    level or falls with every level, by steps that the data choose; b is the effect from lowest to highest. Any
    other column of the block is a grade of one step, that is, normal with the same scale.

    Args:
        scale: Standard deviation of b.
        concentration: Of the Dirichlet; 1 lets every division of the steps be as likely, more makes them alike.
    """

    scale: float = 1.0
    concentration: float = 1.0

    name: ClassVar[str] = "monotone"
    least_target_accept: ClassVar[float] = 0.95

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: One is not positive.
        """
        check_positive(self, "scale", "concentration")

    def canonical(self) -> Self:
        """The same form with default numbers."""
        return replace(self, scale=1.0, concentration=1.0)

    def arrays(self, columns: Columns) -> dict[str, Any]:
        """The grade that each column is a step of, and the settings."""
        grades = [grade_of(name) or name for name in columns.names]
        at = {grade: k for k, grade in enumerate(dict.fromkeys(grades))}
        # Padding takes places of its own.
        free = range(len(at), columns.width)
        places = [at[grade] for grade in grades]
        padding = list(free)[: columns.width - len(places)]
        return {
            "grade": np.array(places + padding, dtype=np.int64),
            "settings": np.array([self.scale, self.concentration]),
        }

    def build(self, d: dict[str, Any], width: int, slots: int, tag: str) -> Any:
        """Add the prior to the open model; a Dirichlet is the ratio of gammas to their sum."""
        pm: Any = importlib.import_module("pymc")
        pt: Any = importlib.import_module("pytensor.tensor")

        grade = d["grade"]
        size = pm.Normal(f"size{tag}", shape=width) * d["settings"][0]
        # Chains start where the settings are not known yet.
        part = pm.Gamma(f"step{tag}", d["settings"][1], 1.0, shape=width, initval=np.ones(width))
        whole = pt.inc_subtensor(pt.zeros(width)[grade], part)
        return size[grade] * part / whole[grade]


def grade_of(column: str) -> str | None:
    """The grade that a column of `ordinal_columns` is a step of, or None for another column."""
    grade, sign, level = column.rpartition(_SIGN)
    try:
        float(level)
    except ValueError:
        return None
    return grade if sign and grade else None


def ordinal_columns(values: pd.Series, levels: Sequence[float] | None = None) -> pd.DataFrame:
    """Code a grade in one column for each level but the lowest: 1 where the grade is at least that.

    The coefficient of a column is the step from the level below to its own.

    Args:
        values: Grades, numbers, NaN where unknown; its name is kept.
        levels: All levels from low to high; those that occur by default. Give them where another data set
            must have the same columns.

    Returns:
        Columns `NAME>=LEVEL` with 0, 1 and NaN where the grade is unknown, same index.

    Raises:
        InputError: For a grade that is not among the levels, or fewer than two levels.
    """
    x = values.to_numpy(dtype=float)
    known = np.isfinite(x)
    order = np.unique(x[known]) if levels is None else np.asarray(levels, dtype=float)
    if len(order) < 2 or (np.diff(order) <= 0).any():
        raise InputError(
            f"{values.name}: levels {order.tolist()}; accepted are two and more, from low to high"
        )
    strange = known & ~np.isin(x, order)
    if strange.any():
        where = ", ".join(str(v) for v in values.index[strange][:3])
        raise InputError(
            f"{values.name}: grade {x[strange][0]:g} of {where}; accepted are "
            f"{', '.join(f'{v:g}' for v in order)}"
        )
    return pd.DataFrame(
        {
            f"{values.name}{_SIGN}{level:g}": np.where(known, (x >= level).astype(float), np.nan)
            for level in order[1:]
        },
        index=values.index,
    )
