"""What a prior of coefficients has to offer.

A prior is a small frozen object. Numbers that it holds (a scale, an expected R2) reach the compiled function as
data, so that only what changes the form of the model is compiled anew: `canonical` keeps no more than that.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats, Ints

# A squared ratio of estimate to error past which a column is sampled as one that the data decide.
CLEAR = 12.0


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What a prior may know of the columns that it is for.

    Args:
        names: The p covariates.
        block: Block of each, an index below `slots`, shape (p,).
        width: Number of columns that they are padded to.
        slots: Number of blocks that there is room for.
        events: Exact and interval-censored events, which decide how much the data can tell.
        estimate: Rough estimate of each coefficient without a prior, shape (p,).
        error: Its standard error, shape (p,).
    """

    names: tuple[str, ...]
    block: Ints
    width: int
    slots: int
    events: float
    estimate: Floats
    error: Floats

    def padded(self, values: Any, fill: float = 0.0) -> Floats:
        """Values of the p columns followed by `fill` up to the width."""
        pad = self.width - len(self.names)
        return np.pad(np.asarray(values, dtype=np.float64), (0, pad), constant_values=fill)

    @property
    def padded_block(self) -> Ints:
        """Block of each column, 0 for padding, shape (width,)."""
        return np.pad(np.asarray(self.block, dtype=np.int64), (0, self.width - len(self.names)))


class CoefficientPrior(ABC):
    """The prior of the log hazard ratios of some columns, which are about standardised.

    Attributes:
        name: What a configuration calls it.
        least_target_accept: The acceptance that its shape asks of the sampler.
    """

    name: ClassVar[str]
    least_target_accept: ClassVar[float] = 0.8

    @property
    def kept(self) -> dict[str, tuple[str, ...]]:
        """Variables beside beta that are kept, with their dimensions: none or `("block",)`."""
        return {}

    @abstractmethod
    def canonical(self) -> Self:
        """The same form with every number that is data at its default."""

    @abstractmethod
    def arrays(self, columns: Columns) -> dict[str, Any]:
        """What `build` takes as data.

        Args:
            columns: The columns that the prior is for.

        Returns:
            Arrays by name, whose shapes depend on the width and the slots alone.
        """

    @abstractmethod
    def build(self, d: dict[str, Any], width: int, slots: int, tag: str) -> Any:
        """Add the prior to the PyMC model that is open.

        Args:
            d: What `arrays` returned, as PyTensor variables.
            width: Number of coefficients.
            slots: Number of blocks that there is room for.
            tag: Ends the name of each variable, so that two priors can be in one model.

        Returns:
            The coefficients, a PyTensor vector of shape (width,).
        """


def clear(columns: Columns, past: float = CLEAR) -> Floats:
    """1 for columns whose effect the data show clearly, 0 for those that they do not, (p,).

    Args:
        columns: The columns.
        past: The squared ratio of estimate to error past which an effect is clear.
    """
    z = columns.estimate**2 / columns.error**2
    return np.asarray(1 / (1 + np.exp(np.clip((past - z) / 2, -50, 50))))


def partly_centred(pm: Any, name: str, scale: Any, centred: Any, width: int) -> Any:
    """Normal coefficients of given scales, in the form that suits what the data say of each.

    `u ~ Normal(0, s^c)` and `beta = s^(1 - c) u` is Normal(0, s) for every c: 1 samples well where the data
    decide a coefficient, 0 where its prior does (Papaspiliopoulos et al., Statistical Science 2007).

    Args:
        pm: PyMC.
        name: Name of the variable u.
        scale: Standard deviations s, positive, (width,).
        centred: c of each, between 0 and 1, (width,); it changes the geometry and no probability.
        width: Number of coefficients.

    Returns:
        The coefficients, (width,).
    """
    return scale ** (1 - centred) * pm.Normal(name, 0.0, scale**centred, shape=width)


def check_positive(prior: Any, *names: str) -> None:
    """Refuse a setting that is not a positive number.

    Args:
        prior: The object that holds the settings.
        names: Their names.

    Raises:
        InputError: Naming the setting.
    """
    for name in names:
        value = getattr(prior, name)
        if not (np.isfinite(value) and value > 0):
            raise InputError(
                f"{type(prior).__name__}.{name}: {value}; accepted is a positive number"
            )
