"""Posterior draws of one cause's hazard, for every row of a design.

A `Hazard` says how much cumulative hazard each row has gathered by a time, once for a frailty of 1
(`conditional`) and once with the gamma frailty of mean 1 and variance theta integrated out
(`cumulative`, the negative log of a Laplace transform; Clayton, Biometrika 1978). In every family a
higher `linear` is a higher risk:

- `PiecewiseHazard`: hazard `exp(linear + log_hazard[j])` in piece j.
- `WeibullHazard`: cumulative hazard `exp(level + linear) t^exp(log_shape)`.
- `LogNormalHazard`, `LogLogisticHazard`: `log T = level - linear + exp(log_scale) e`, with e standard
  normal or standard logistic (accelerated failure time).
- `BreslowHazard`: the steps that a Cox model leaves to be estimated after its coefficients.

Nothing here is a risk. An absolute risk needs the competing causes too: `prediction.incidence`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats, Ints

# Early times that a grid must hold where a hazard may begin at 0 or at infinity.
_EARLY = 2.0 ** np.arange(-14.0, 0.0)


def check_times(times: Floats, name: str = "times") -> Floats:
    """Times as an array.

    Args:
        times: Years, shape (T,).
        name: What the message calls them.

    Returns:
        The same as float64.

    Raises:
        InputError: Where they are not a vector of finite numbers of at least 0.
    """
    t = np.asarray(times, dtype=np.float64)
    if t.ndim != 1 or t.size == 0:
        raise InputError(f"{name}: shape {t.shape}; accepted is a vector of at least one time")
    bad = ~np.isfinite(t) | (t < 0)
    if bad.any():
        raise InputError(f"{name}: {t[bad][0]:g}; accepted are years of at least 0")
    return t


def _check(hazard: "Hazard", **shapes: tuple[int, ...]) -> None:
    kind = type(hazard).__name__
    if np.ndim(hazard.linear) != 2:
        raise InputError(f"{kind}: linear of shape {np.shape(hazard.linear)}; accepted is (D, n)")
    for name, shape in {"linear": np.shape(hazard.linear), **shapes}.items():
        values = np.asarray(getattr(hazard, name))
        if values.shape != shape:
            raise InputError(f"{kind}: {name} of shape {values.shape}; accepted is {shape}")
        if not np.isfinite(values).all():
            raise InputError(f"{kind}: {name} is not finite; accepted are finite numbers")
    if (np.asarray(hazard.theta) < 0).any():
        raise InputError(f"{kind}: theta {np.min(hazard.theta):g}; accepted is at least 0")


def _one_a_row(hazard: "Hazard", times: Floats) -> Floats:
    t = check_times(times)
    if len(t) != hazard.linear.shape[1]:
        raise InputError(
            f"times: {len(t)} for {hazard.linear.shape[1]} rows; accepted is one a row"
        )
    return t


class Hazard(ABC):
    """Draws of one cause's hazard for n rows.

    Attributes:
        linear: Log hazard ratios (or, in accelerated failure time, minus the shift of log time), shape
            (D, n).
        theta: Frailty variance of each draw, shape (D,); 0 for none.
    """

    linear: Floats
    theta: Floats

    @abstractmethod
    def conditional(self, times: Floats) -> Floats:
        """Cumulative hazard of a row whose frailty is 1.

        Args:
            times: Years from the origin, shape (T,).

        Returns:
            Shape (D, n, T).
        """

    def cumulative(self, times: Floats) -> Floats:
        """Marginal cumulative hazard, the negative log of the survival with frailty integrated out.

        Args:
            times: Years from the origin, shape (T,).

        Returns:
            Shape (D, n, T).
        """
        return without_frailty(self.conditional(times), self.theta)

    @abstractmethod
    def conditional_at(self, times: Floats) -> Floats:
        """Cumulative hazard for a frailty of 1, each row at a time of its own.

        Args:
            times: Years from the origin, shape (n,).

        Returns:
            Shape (D, n).
        """

    @property
    def knots(self) -> Floats:
        """Times that an integration grid must hold: where the hazard jumps or has no derivative."""
        return np.empty(0)

    @property
    def longest_step(self) -> float:
        """Years that one step of an integration may take; infinite where it is exact between knots."""
        return 0.25

    def rows(self, index: slice | Ints) -> Self:
        """The draws of some rows."""
        return self.with_linear(self.linear[:, index])

    def with_linear(self, linear: Floats) -> Self:
        """The same baseline and frailty with other linear predictors, shape (D, m)."""
        # Every subclass is a dataclass, which mypy cannot know of this one.
        return replace(self, linear=linear)  # type: ignore[type-var]


def without_frailty(conditional: Floats, theta: Floats) -> Floats:
    """Integrate a gamma frailty out of cumulative hazards.

    Args:
        conditional: Cumulative hazard for a frailty of 1, shape (D, ...).
        theta: Frailty variance, shape (D,).

    Returns:
        `log(1 + theta a) / theta`, which is `a` where theta is 0.
    """
    if not theta.any():
        return conditional
    t = theta.reshape(-1, *[1] * (conditional.ndim - 1))
    safe = np.where(t > 0, t, 1.0)
    return np.where(t > 0, np.log1p(safe * conditional) / safe, conditional)


class _Proportional(Hazard):
    @abstractmethod
    def _base(self, times: Floats) -> Floats:
        """Cumulative hazard for a linear predictor of 0, shape (D, T)."""

    def conditional(self, times: Floats) -> Floats:
        """Cumulative hazard for a frailty of 1, shape (D, n, T)."""
        return np.asarray(np.exp(self.linear)[:, :, None] * self._base(check_times(times))[:, None])

    def conditional_at(self, times: Floats) -> Floats:
        """Cumulative hazard for a frailty of 1, each row at its own time, shape (D, n)."""
        return np.asarray(np.exp(self.linear) * self._base(_one_a_row(self, times)))


@dataclass(frozen=True, eq=False)
class PiecewiseHazard(_Proportional):
    """Proportional hazards over a piecewise-constant baseline.

    Args:
        linear: Log hazard ratios, shape (D, n).
        log_hazard: Log baseline hazard a year, shape (D, J).
        breaks: Left ends of its intervals, years, the first being 0, shape (J,).
        theta: Frailty variance, shape (D,); 0 for none.
    """

    linear: Floats
    log_hazard: Floats
    breaks: Floats
    theta: Floats

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            InputError: Where they do not fit, or the breaks do not increase from 0.
        """
        d, j = len(self.linear), len(self.breaks)
        _check(self, log_hazard=(d, j), theta=(d,))
        if self.breaks[0] != 0 or (np.diff(self.breaks) <= 0).any():
            raise InputError(
                f"PiecewiseHazard: breaks {self.breaks.tolist()}; accepted are times rising from 0"
            )

    @classmethod
    def never(cls, draws: int, rows: int) -> "PiecewiseHazard":
        """A cause that none of the fitted people had; the risk of the others is then an upper bound.

        Args:
            draws: Number of draws D.
            rows: Number of rows n.
        """
        return cls(
            np.zeros((draws, rows)), np.full((draws, 1), -60.0), np.zeros(1), np.zeros(draws)
        )

    def _base(self, times: Floats) -> Floats:
        ends = np.append(self.breaks[1:], np.inf)
        years = np.clip(times[:, None], self.breaks, ends) - self.breaks
        return np.asarray(np.exp(self.log_hazard) @ years.T)

    @property
    def knots(self) -> Floats:
        """The breaks."""
        return self.breaks

    @property
    def longest_step(self) -> float:
        """Half a year with a frailty, which makes the marginal hazard fall within a piece."""
        return 0.5 if self.theta.any() else np.inf


@dataclass(frozen=True, eq=False)
class WeibullHazard(_Proportional):
    """Proportional hazards over a Weibull baseline.

    Args:
        linear: Log hazard ratios, shape (D, n).
        level: Log cumulative baseline hazard at one year, shape (D,).
        log_shape: Log of the exponent of time, shape (D,).
        theta: Frailty variance, shape (D,); 0 for none.
    """

    linear: Floats
    level: Floats
    log_shape: Floats
    theta: Floats

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            InputError: Where they do not fit.
        """
        d = (len(self.linear),)
        _check(self, level=d, log_shape=d, theta=d)

    def _base(self, times: Floats) -> Floats:
        shape = np.exp(self.log_shape)[:, None]
        return np.asarray(np.exp(self.level)[:, None] * times**shape)

    @property
    def knots(self) -> Floats:
        """Early times, since the hazard may begin at 0 or at infinity."""
        return _EARLY


@dataclass(frozen=True, eq=False)
class _AcceleratedHazard(Hazard):
    linear: Floats
    level: Floats
    log_scale: Floats
    theta: Floats

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            InputError: Where they do not fit.
        """
        d = (len(self.linear),)
        _check(self, level=d, log_scale=d, theta=d)

    @staticmethod
    @abstractmethod
    def _of_standardised(z: Floats) -> Floats:
        """Cumulative hazard of the standard law of log time."""

    def _standardised(self, times: Floats, linear: Floats) -> Floats:
        log_time = np.log(times, out=np.full(times.shape, -np.inf), where=times > 0)
        over = (-1,) + (1,) * (linear.ndim - 1)
        late = log_time - self.level.reshape(over) + linear
        return np.asarray(late * np.exp(-self.log_scale).reshape(over))

    def conditional(self, times: Floats) -> Floats:
        """Cumulative hazard for a frailty of 1, shape (D, n, T)."""
        z = self._standardised(check_times(times), self.linear[:, :, None])
        return self._of_standardised(z)

    def conditional_at(self, times: Floats) -> Floats:
        """Cumulative hazard for a frailty of 1, each row at its own time, shape (D, n)."""
        return self._of_standardised(self._standardised(_one_a_row(self, times), self.linear))

    @property
    def knots(self) -> Floats:
        """Early times, since all may happen early."""
        return _EARLY


class LogNormalHazard(_AcceleratedHazard):
    """Accelerated failure time with normal errors of log time.

    Args:
        linear: How much sooner, in log time, shape (D, n); higher is a higher risk.
        level: Mean log time (years) at a linear predictor of 0, shape (D,).
        log_scale: Log standard deviation of log time, shape (D,).
        theta: Frailty variance, shape (D,); 0 for none. It multiplies the hazard, not the time.
    """

    @staticmethod
    def _of_standardised(z: Floats) -> Floats:
        from scipy.special import log_ndtr

        return np.asarray(-log_ndtr(-z))


class LogLogisticHazard(_AcceleratedHazard):
    """Accelerated failure time with logistic errors of log time.

    Args:
        linear: How much sooner, in log time, shape (D, n); higher is a higher risk.
        level: Median log time (years) at a linear predictor of 0, shape (D,).
        log_scale: Log scale of log time, shape (D,).
        theta: Frailty variance, shape (D,); 0 for none. It multiplies the hazard, not the time.
    """

    @staticmethod
    def _of_standardised(z: Floats) -> Floats:
        return np.asarray(np.logaddexp(0.0, z))


class BreslowHazard(_Proportional):
    """Proportional hazards over the steps of a Breslow estimate (Breslow 1972), without frailty.

    Past the last step the hazard is 0: no one was seen there, and a prediction is an extrapolation.

    Args:
        linear: Log hazard ratios, shape (D, n).
        times: Times of the steps, years, increasing and positive, shape (U,).
        cumulative: Cumulative baseline hazard at and after each step, shape (D, U).

    Raises:
        InputError: Where the shapes do not fit, or times or steps do not rise.
    """

    def __init__(self, linear: Floats, times: Floats, cumulative: Floats) -> None:
        self.linear, self.times, self.steps = linear, times, cumulative
        self.theta = np.zeros(len(linear))
        _check(self, steps=(len(linear), len(times)))
        if (np.diff(times, prepend=0.0) <= 0).any():
            raise InputError("BreslowHazard: times do not rise; accepted are rising positive years")
        if (np.diff(cumulative, axis=1, prepend=0.0) < 0).any():
            raise InputError("BreslowHazard: cumulative falls; accepted are hazards that rise")

    def _base(self, times: Floats) -> Floats:
        at = np.searchsorted(self.times, times, side="right")
        return np.asarray(np.pad(self.steps, ((0, 0), (1, 0)))[:, at])

    @property
    def knots(self) -> Floats:
        """Each step and the instant before it, so that what happens at a step is not spread out."""
        return np.concatenate([np.nextafter(self.times, 0.0), self.times])

    @property
    def longest_step(self) -> float:
        """Infinite: between two knots the hazard is 0 or one jump."""
        return np.inf

    def with_linear(self, linear: Floats) -> "BreslowHazard":
        """The same steps with other linear predictors, shape (D, m)."""
        return BreslowHazard(linear, self.times, self.steps)
