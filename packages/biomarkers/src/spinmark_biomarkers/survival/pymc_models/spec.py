"""What decides the form of a compiled model; everything else is data."""

import math
from dataclasses import dataclass

from spinmark_biomarkers.survival.priors.base import CoefficientPrior
from spinmark_biomarkers.survival.priors.baselines import LevelAndShape, PiecewiseBaseline

# Columns and blocks are padded to these, so that models of about one size share a compiled function.
COLUMNS = 8
BLOCKS = 8


@dataclass(frozen=True, kw_only=True)
class Part:
    """Columns that one prior is for.

    Args:
        prior: The prior in its canonical form.
        width: Number of columns, padded.
    """

    prior: CoefficientPrior
    width: int


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The form of a model. Two fits with equal specs share one compiled function.

    Args:
        family: Name in `LIKELIHOODS`.
        parts: The priors of the coefficients.
        slots: Number of blocks that there is room for.
        baseline: Prior of the baseline in its canonical form; None for Cox.
        pieces: Pieces of the baseline hazard; 0 where it has none.
        interval_censored: Whether an event may lie in an interval.
        delayed: Whether a row may start after 0.
        many: Whether a person may have three or more interval-censored events.
        frailty: `none`, `gamma` or `lognormal`; `switched` is gamma that data can turn off.
        subjects: Number of latent frailties; 0 unless the frailty is log-normal.
        ties: `efron` or `breslow`.
    """

    family: str
    parts: tuple[Part, ...]
    slots: int
    baseline: PiecewiseBaseline | LevelAndShape | None
    pieces: int
    interval_censored: bool
    delayed: bool
    many: bool
    frailty: str
    subjects: int
    ties: str

    @property
    def width(self) -> int:
        """Number of coefficients, padded."""
        return sum(part.width for part in self.parts)

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the variables whose draws are kept."""
        names = ["beta"]
        if self.family == "piecewise":
            names.append("log_hazard")
        elif self.family == "weibull":
            names += ["level", "log_shape"]
        elif self.family in ("lognormal", "loglogistic"):
            names += ["level", "log_scale"]
        if self.frailty in ("gamma", "switched"):
            names.append("frailty_variance")
        elif self.frailty == "lognormal":
            names.append("frailty_sd")
        for k, part in enumerate(self.parts):
            names += [f"{name}{tag(k)}" for name in part.prior.kept]
        return tuple(names)

    @property
    def target_accept(self) -> float:
        """The least acceptance that the priors ask for."""
        return max((part.prior.least_target_accept for part in self.parts), default=0.8)


def tag(part: int) -> str:
    """What ends the names of a part's variables: nothing for the first."""
    return f"_{part + 1}" if part else ""


def padded(count: int, step: int) -> int:
    """The next multiple of `step`, at least one."""
    return step * max(1, math.ceil(count / step))
