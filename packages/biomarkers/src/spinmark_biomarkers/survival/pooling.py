"""Results of several imputed data sets brought together.

Posteriors are stacked: the draws of all imputations together are the posterior with the missing values
integrated out (Zhou and Reiter, The American Statistician 2010). Estimates with variances are pooled by
Rubin's rules (Multiple Imputation for Nonresponse in Surveys, 1987) with the degrees of freedom of Barnard
and Rubin (Biometrika 1999). The two should agree, and that is the check.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """Estimates with their covariance, as every analysis of one data set gives them.

    Args:
        names: The p quantities.
        value: Shape (p,).
        covariance: Shape (p, p).
    """

    names: tuple[str, ...]
    value: Floats
    covariance: Floats

    @property
    def se(self) -> Floats:
        """Standard errors, shape (p,)."""
        return np.sqrt(np.diag(self.covariance))

    def interval(self, level: float = 0.95) -> Floats:
        """Normal bounds, shape (p, 2)."""
        half = stats.norm.ppf((1 + level) / 2) * self.se
        return np.column_stack([self.value - half, self.value + half])


@dataclass(frozen=True, kw_only=True, eq=False)
class Pooled:
    """Estimates over imputations.

    Args:
        names: The p quantities.
        value: Mean of the estimates, shape (p,).
        covariance: Within plus (1 + 1/m) between, shape (p, p).
        df: Degrees of freedom of the t interval, shape (p,).
        missing_information: Share of the information that the missing values took, shape (p,).
        imputations: Number of data sets, m.
    """

    names: tuple[str, ...]
    value: Floats
    covariance: Floats
    df: Floats
    missing_information: Floats
    imputations: int

    @property
    def se(self) -> Floats:
        """Standard errors, shape (p,)."""
        return np.sqrt(np.diag(self.covariance))

    def interval(self, level: float = 0.95) -> Floats:
        """Bounds from the t distribution, shape (p, 2)."""
        half = stats.t.ppf((1 + level) / 2, self.df) * self.se
        return np.column_stack([self.value - half, self.value + half])

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """One row a quantity: `value`, `se`, `low`, `high`, `df`, `missing_information`."""
        low, high = self.interval(level).T
        return pd.DataFrame(
            {
                "value": self.value, "se": self.se, "low": low, "high": high, "df": self.df,
                "missing_information": self.missing_information,
            },
            index=pd.Index(self.names, name="name"),
        )  # fmt: skip


def pool(estimates: Sequence[Estimate], *, complete_df: float = np.inf) -> Pooled:
    """Pool by Rubin's rules.

    Args:
        estimates: One an imputed data set, of the same quantities.
        complete_df: Degrees of freedom had nothing been missing; about subjects less parameters.

    Returns:
        The pooled estimates.

    Raises:
        InputError: For fewer than two, or different quantities.
    """
    m = len(estimates)
    if m < 2:
        raise InputError(f"imputations: {m}; accepted are 2 and more")
    names = estimates[0].names
    if any(e.names != names for e in estimates):
        raise InputError(
            "imputations: they estimate different quantities; accepted is one set of names"
        )
    values = np.stack([e.value for e in estimates])
    within = np.mean([e.covariance for e in estimates], axis=0)
    centred = values - values.mean(axis=0)
    between = centred.T @ centred / (m - 1)
    total = within + (1 + 1 / m) * between
    share = (1 + 1 / m) * np.diag(between) / np.maximum(np.diag(total), 1e-300)
    with np.errstate(divide="ignore"):
        df = (m - 1) / share**2
    if np.isfinite(complete_df):
        observed = (complete_df + 1) / (complete_df + 3) * complete_df * (1 - share)
        df = 1 / (1 / df + 1 / np.maximum(observed, 1e-300))
    ratio = share / np.maximum(1 - share, 1e-300)
    return Pooled(
        names=names,
        value=values.mean(axis=0),
        covariance=total,
        df=df,
        missing_information=np.where(share > 0, (ratio + 2 / (df + 3)) / (ratio + 1), 0.0),
        imputations=m,
    )


def estimate_of_draws(posterior: xr.Dataset, name: str = "beta") -> Estimate:
    """Mean and covariance of a posterior's draws of a vector, for `pool`.

    Args:
        posterior: With dimensions chain and draw.
        name: Variable with one further dimension, labelled.
    """
    values = posterior[name]
    (dim,) = (d for d in values.dims if d not in ("chain", "draw"))
    flat = values.transpose("chain", "draw", dim).to_numpy().reshape(-1, values.sizes[dim])
    return Estimate(
        names=tuple(str(v) for v in values[dim].to_numpy()),
        value=flat.mean(axis=0),
        covariance=np.atleast_2d(np.cov(flat, rowvar=False)),
    )


def stack_posteriors(posteriors: Sequence[xr.Dataset]) -> xr.Dataset:
    """Put the draws of all imputations together, as chains of one posterior.

    Chains of different imputations explore different posteriors, so R-hat across them measures missing
    information and not convergence: judge each fit before stacking.

    Args:
        posteriors: One an imputed data set, of one model: the same variables, coordinates and numbers of draws.

    Returns:
        All chains, with a coordinate `imputation(chain)`.

    Raises:
        InputError: For none, or posteriors that do not match.
    """
    if not posteriors:
        raise InputError("posteriors: none; accepted is one at least")
    first = posteriors[0]
    for k, other in enumerate(posteriors[1:], 1):
        different = set(first.data_vars) ^ set(other.data_vars)
        if different:
            raise InputError(
                f"posteriors: {sorted(map(str, different))[0]!r} is not in all; accepted is "
                "one model"
            )
        sizes = {str(d): (first.sizes[d], other.sizes.get(d)) for d in first.sizes if d != "chain"}
        uneven = [d for d, (a, b) in sizes.items() if a != b]
        if uneven:
            a, b = sizes[uneven[0]]
            raise InputError(
                f"posteriors: {uneven[0]} has {a} and (number {k}) {b}; accepted is one size"
            )
        for dim in first.dims:
            if dim in ("chain", "draw") or dim not in first.coords:
                continue
            if dim not in other.coords or not first[dim].equals(other[dim]):
                raise InputError(
                    f"posteriors: the labels of {dim!r} differ in number {k}; accepted is one model"
                )
    chains = [p.drop_vars(["chain", "draw"], errors="ignore") for p in posteriors]
    stacked = xr.concat(chains, dim="chain", join="exact", combine_attrs="drop_conflicts")
    numbers = np.repeat(np.arange(len(posteriors)), [p.sizes["chain"] for p in posteriors])
    return stacked.assign_coords(
        chain=np.arange(stacked.sizes["chain"]),
        draw=np.arange(stacked.sizes["draw"]),
        imputation=("chain", numbers),
    )
