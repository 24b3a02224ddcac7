"""Priors of the baseline hazard.

All are centred on a crude rate of events, that of the data unless one is given. `RandomWalk` is the
default: neighbouring pieces are alike, by as much as the data say. `PSpline` is smoother; `Independent`
assumes nothing and wants many events in each piece.
"""

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy.interpolate import BSpline
from scipy.stats import norm

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats
from spinmark_biomarkers.survival.priors.base import check_positive

# About the standard error of a step with a hundred events in each piece; it changes no prior.
_TOLD = 0.15


class PiecewiseBaseline(ABC):
    """The prior of the log hazard of the pieces.

    Attributes:
        name: What a configuration calls it.
    """

    name: ClassVar[str]

    @abstractmethod
    def canonical(self) -> Self:
        """The same form with every number that is data at its default."""

    @abstractmethod
    def arrays(self, breaks: Floats, log_rate: float) -> dict[str, Any]:
        """What `build` takes as data, for the left ends of the pieces and the log crude rate."""

    @abstractmethod
    def build(self, d: dict[str, Any], pieces: int) -> Any:
        """Add the prior to the open model and return the log hazard of the pieces, shape (pieces,)."""


@dataclass(frozen=True, kw_only=True)
class RandomWalk(PiecewiseBaseline):
    """Steps from piece to piece are normal with a learnt scale.

    Args:
        level_scale: Standard deviation of the mean log hazard around the log crude rate.
        step_scale: Scale of the half-normal prior of the steps' standard deviation.
    """

    level_scale: float = 2.0
    step_scale: float = 0.5

    name: ClassVar[str] = "random_walk"

    def __post_init__(self) -> None:
        """Check the scales.

        Raises:
            InputError: One is not positive.
        """
        check_positive(self, "level_scale", "step_scale")

    def canonical(self) -> Self:
        """The same form with default numbers."""
        return replace(self, level_scale=2.0, step_scale=0.5)

    def arrays(self, breaks: Floats, log_rate: float) -> dict[str, Any]:
        """The settings."""
        return {"baseline": np.array([log_rate, self.level_scale, self.step_scale])}

    def build(self, d: dict[str, Any], pieces: int) -> Any:
        """Add the walk; its steps are drawn on their own scale and multiplied by the learnt one."""
        pm: Any = importlib.import_module("pymc")
        pt: Any = importlib.import_module("pytensor.tensor")

        log_rate, level_scale, step_scale = (d["baseline"][k] for k in range(3))
        level = pm.Normal("baseline_level") * level_scale
        if pieces == 1:
            return (log_rate + level) * pt.ones(1)
        roughness = pm.HalfNormal("roughness", 1.0) * step_scale
        # A step is sampled in units of its prior where that is narrow, and of what data tell where it is wide.
        wide = pt.sqrt(1 + (roughness / _TOLD) ** 2)
        steps = pm.Normal("steps", 0.0, wide, shape=pieces - 1)
        walk = pt.concatenate([pt.zeros(1), pt.cumsum(steps)]) * roughness / wide
        # About its mean, or level and walk would have to move against each other.
        return log_rate + level + walk - pt.mean(walk)


@dataclass(frozen=True, kw_only=True)
class PSpline(PiecewiseBaseline):
    """A cubic B-spline over time whose second differences are penalised (Lang and Brezger, JCGS 2004).

    Args:
        coefficients: Number of B-splines.
        level_scale: Standard deviation of the mean log hazard around the log crude rate.
        slope_scale: Standard deviation of the mean difference of neighbouring coefficients.
        bend_scale: Scale of the half-normal prior of the second differences' standard deviation.
    """

    coefficients: int = 8
    level_scale: float = 2.0
    slope_scale: float = 0.5
    bend_scale: float = 0.3

    name: ClassVar[str] = "spline"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: A scale is not positive, or there are fewer than four coefficients.
        """
        check_positive(self, "level_scale", "slope_scale", "bend_scale")
        if self.coefficients < 4:
            raise InputError(
                f"PSpline.coefficients: {self.coefficients}; accepted is at least 4 (cubic)"
            )

    def canonical(self) -> Self:
        """The same form with default numbers; the number of coefficients is part of the form."""
        return replace(self, level_scale=2.0, slope_scale=0.5, bend_scale=0.3)

    def basis(self, breaks: Floats) -> Floats:
        """The B-splines at the middle of each piece.

        Args:
            breaks: Left ends of the pieces, years, shape (J,); the last is taken to be as long as the one
                before.

        Returns:
            Shape (J, coefficients); rows add to 1.
        """
        last = breaks[-1] - breaks[-2] if len(breaks) > 1 else 1.0
        middle = (breaks + np.append(breaks[1:], breaks[-1] + last)) / 2
        inner = self.coefficients - 3
        width = max(float(middle[-1] - middle[0]), 1e-9) / inner
        knots = middle[0] + width * np.arange(-3, inner + 4)
        at = np.clip(middle, knots[3], knots[-4])
        return np.asarray(BSpline.design_matrix(at, knots, 3).toarray())

    def arrays(self, breaks: Floats, log_rate: float) -> dict[str, Any]:
        """The settings and the basis."""
        settings = [log_rate, self.level_scale, self.slope_scale, self.bend_scale]
        return {"baseline": np.array(settings), "basis": self.basis(breaks)}

    def build(self, d: dict[str, Any], pieces: int) -> Any:
        """Add the coefficients, not centred: a line and the sums of sums of their second differences."""
        pm: Any = importlib.import_module("pymc")
        pt: Any = importlib.import_module("pytensor.tensor")

        k = self.coefficients
        log_rate, level_scale, slope_scale, bend_scale = (d["baseline"][i] for i in range(4))
        level = pm.Normal("baseline_level") * level_scale
        slope = pm.Normal("slope") * slope_scale
        bend = pm.HalfNormal("bend", 1.0) * bend_scale
        # Without their mean and line, which level and slope hold already.
        twice = np.tril(np.ones((k, k)), -1)
        sums = (twice @ twice)[:, : k - 2]
        line = np.column_stack([np.ones(k), np.arange(k) - (k - 1) / 2])
        sums = sums - line @ np.linalg.lstsq(line, sums, rcond=None)[0]
        curve = pt.as_tensor(sums) @ pm.Normal("bends", shape=k - 2)
        coefficients = log_rate + level + slope * pt.as_tensor(line[:, 1]) + bend * curve
        return d["basis"] @ coefficients


@dataclass(frozen=True, kw_only=True)
class Independent(PiecewiseBaseline):
    """Every piece's log hazard for itself.

    Args:
        scale: Standard deviation of a piece's log hazard around the log crude rate.
    """

    scale: float = 2.0

    name: ClassVar[str] = "independent"

    def __post_init__(self) -> None:
        """Check the scale.

        Raises:
            InputError: It is not positive.
        """
        check_positive(self, "scale")

    def canonical(self) -> Self:
        """The same form at the default scale."""
        return replace(self, scale=2.0)

    def arrays(self, breaks: Floats, log_rate: float) -> dict[str, Any]:
        """The settings."""
        return {"baseline": np.array([log_rate, self.scale])}

    def build(self, d: dict[str, Any], pieces: int) -> Any:
        """Add the pieces, not centred."""
        pm: Any = importlib.import_module("pymc")

        return d["baseline"][0] + d["baseline"][1] * pm.Normal("piece", shape=pieces)


BASELINES: dict[str, type[PiecewiseBaseline]] = {
    baseline.name: baseline for baseline in (RandomWalk, PSpline, Independent)
}


@dataclass(frozen=True, kw_only=True)
class LevelAndShape:
    """The baseline of the Weibull, log-normal and log-logistic families.

    The level is set where the data are: the standardised log time z of a typical event time (for the
    Weibull family the log cumulative hazard there) is normal around what the crude rate gives, since the
    level at one year and the shape would depend on each other strongly.

    Args:
        level_scale: Standard deviation of z.
        shape_scale: Standard deviation of the log shape, or of the log scale, around 0.
    """

    level_scale: float = 2.0
    shape_scale: float = 0.5

    def __post_init__(self) -> None:
        """Check the scales.

        Raises:
            InputError: One is not positive.
        """
        check_positive(self, "level_scale", "shape_scale")

    def canonical(self) -> "LevelAndShape":
        """The same form with default numbers."""
        return LevelAndShape()

    def arrays(self, family: str, rate: float, years: float) -> dict[str, Any]:
        """The settings.

        Args:
            family: `weibull`, `lognormal` or `loglogistic`.
            rate: Events a year that the prior is centred on.
            years: The typical event time.
        """
        hazard = rate * years
        if family == "weibull":
            z = np.log(hazard)
        elif family == "lognormal":
            z = -norm.isf(-np.expm1(-hazard))
        else:
            z = np.log(np.expm1(hazard))
        return {"baseline": np.array([z, self.level_scale, self.shape_scale, np.log(years)])}

    def build(self, d: dict[str, Any], family: str) -> dict[str, Any]:
        """Add the two parameters to the open model and return them by the names the family gives them."""
        pm: Any = importlib.import_module("pymc")
        pt: Any = importlib.import_module("pytensor.tensor")

        centre, level_scale, shape_scale, log_years = (d["baseline"][k] for k in range(4))
        z = centre + level_scale * pm.Normal("baseline_level")
        name = "log_shape" if family == "weibull" else "log_scale"
        log_spread = pm.Deterministic(name, shape_scale * pm.Normal("shape_unit"))
        if family == "weibull":
            level = z - pt.exp(log_spread) * log_years
        else:
            level = log_years - pt.exp(log_spread) * z
        return {"level": pm.Deterministic("level", level), name: log_spread}
