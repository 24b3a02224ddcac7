"""Simulation-based calibration: does a sampler draw from the posterior of the model that it claims to fit?

Draw parameters from the prior, data from the parameters, draws from the posterior; rank the parameters among
the draws (Talts, Betancourt, Simpson, Vehtari and Gelman 2018). Over many replicates each rank is uniform
if likelihood, prior and sampler are what they should be, whatever the number of people. Beside the
parameters themselves, quantities that depend on several of them and on the data (a ten-year risk, the
log-likelihood) are ranked, since they see mistakes that no single parameter shows (Modrák et al. 2023).

Replicates whose data the model does not take (too few events) are drawn anew: this depends on the data
alone, so that it leaves the ranks uniform.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import xarray as xr

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival import _compat
from spinmark_biomarkers.survival.data import Floats
from spinmark_biomarkers.survival.studies.ranks import holm, rank, uniformity

COLUMNS = ("parameter", "n", "p_histogram", "p_ecdf", "p_holm", "mean", "spread", "verdict")
_MOST_TRIES = 200


class Generative(Protocol):
    """A model that data can be drawn from and that can be fitted to them."""

    name: str

    def prior(self, rng: np.random.Generator) -> Mapping[str, Any]:
        """Draw all parameters from the prior."""

    def simulate(self, parameters: Mapping[str, Any], seed: int) -> Any:
        """Draw data; None where the model does not take such data."""

    def truth(self, parameters: Mapping[str, Any], data: Any) -> dict[str, float]:
        """The scalars that are ranked, by name."""

    def posterior(self, data: Any, *, seed: int, draws: int) -> xr.Dataset:
        """Draws of the same scalars: a variable (chain, draw) each; `draws` of them over all chains."""


@dataclass(frozen=True, kw_only=True)
class Replicate:
    """One truth, ranked.

    Args:
        seed: Seed of the replicate.
        ranks: Rank of each scalar among the thinned draws.
        ess: Smallest effective sample size of the draws before thinning.
        tries: Parameters that were drawn until the model took the data.
    """

    seed: int
    ranks: dict[str, int]
    ess: float
    tries: int


def thin(values: Floats, draws: int) -> Floats:
    """Keep so many draws, evenly spaced over each chain; values (chain, draw)."""
    chains, length = values.shape
    if draws > chains * length:
        raise InputError(f"draws: {draws} of {chains * length}; accepted are as many or fewer")
    each = np.array_split(np.arange(draws), chains)
    parts = [
        row[np.linspace(0, length - 1, len(part)).round().astype(int)]
        for row, part in zip(values, each, strict=True)
    ]
    return np.concatenate(parts)


def replicate(model: Generative, seed: int, *, draws: int = 63, most: int = 16) -> Replicate:
    """Draw one truth and rank it.

    Args:
        model: The model.
        seed: Seed of everything in this replicate.
        draws: Number of thinned draws, L.
        most: The sampler runs on, doubling, until the smallest effective sample size reaches `draws`, at
            most `most` times as long as at first.

    Returns:
        Its ranks.

    Raises:
        InputError: The model takes none of many data sets, or draws other scalars than it has truths of.
    """
    rng = np.random.default_rng([seed, 2018])
    data, tries = None, 0
    while data is None:
        if tries == _MOST_TRIES:
            raise InputError(
                f"{model.name}: none of {_MOST_TRIES} data sets is accepted; accepted is a milder prior"
            )
        parameters = model.prior(rng)
        data = model.simulate(parameters, int(rng.integers(2**31)))
        tries += 1
    truth = model.truth(parameters, data)
    sampler_seed = int(rng.integers(2**31))
    factor = 1
    while True:
        found = model.posterior(data, seed=sampler_seed, draws=8 * draws * factor)
        if set(map(str, found.data_vars)) != set(truth):
            raise InputError(
                f"{model.name}: draws of {sorted(map(str, found.data_vars))}; accepted are {sorted(truth)}"
            )
        ess = float(min(np.min(v) for v in _compat.rhat_and_ess(found)[1].values()))
        if ess >= draws or factor * 2 > most:
            break
        factor *= 2
    ranks = {
        name: rank(value, thin(found[name].to_numpy(), draws), seed=seed)
        for name, value in truth.items()
    }
    return Replicate(seed=seed, ranks=ranks, ess=ess, tries=tries)


def calibrate(
    model: Generative,
    *,
    replicates: int = 200,
    draws: int = 63,
    seed: int = 0,
    kept: Sequence[Replicate] = (),
    progress: Callable[[Replicate], None] | None = None,
) -> pd.DataFrame:
    """Rank many truths.

    Args:
        model: The model.
        replicates: Number of truths.
        draws: Number of thinned draws that each is ranked among, L.
        seed: Seed of the first replicate; each following one has the next.
        kept: Replicates of an earlier run, which are not drawn again.
        progress: Called with each new replicate.

    Returns:
        A row a replicate with its `seed`, `ess`, and a column of ranks for each scalar.
    """
    done = {one.seed: one for one in kept}
    for number in range(seed, seed + replicates):
        if number not in done:
            done[number] = replicate(model, number, draws=draws)
            if progress is not None:
                progress(done[number])
    chosen = [done[number] for number in range(seed, seed + replicates)]
    return pd.DataFrame([{"seed": one.seed, "ess": one.ess, **one.ranks} for one in chosen])


def verdicts(ranks: pd.DataFrame, draws: int, *, level: float = 0.05) -> pd.DataFrame:
    """Judge every scalar, with p-values adjusted for their number (Holm).

    Args:
        ranks: From `calibrate`; columns other than `seed` and `ess` hold ranks.
        draws: Number of draws that truths were ranked among.
        level: Chance of a false alarm over all scalars.

    Returns:
        A row a scalar: both p-values, `p_holm` of the smaller one counted twice, the mean rank and its
        spread as shares (uniform: 0.5 and 0.289), and in words `uniform`, or how it departs.
    """
    names = [str(c) for c in ranks.columns if c not in ("seed", "ess")]
    tests = [uniformity(ranks[name].to_numpy(), draws) for name in names]
    adjusted = holm([one.p for one in tests])
    rows = []
    for name, test, p in zip(names, tests, adjusted, strict=True):
        share = (ranks[name].to_numpy(np.float64) + 0.5) / (draws + 1)
        words = "uniform" if p >= level else _departure(share)
        rows.append(
            (name, test.n, test.p_histogram, test.p_ecdf, p, share.mean(), share.std(), words)
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _departure(share: Floats) -> str:
    n = len(share)
    shift = (share.mean() - 0.5) * np.sqrt(12 * n)
    # The variance of (u - 1/2)^2 of a uniform u is 1/180.
    spread = (np.mean((share - 0.5) ** 2) - 1 / 12) * np.sqrt(180 * n)
    if abs(shift) >= abs(spread):
        return "posterior too low" if shift > 0 else "posterior too high"
    return "posterior too narrow" if spread > 0 else "posterior too wide"
