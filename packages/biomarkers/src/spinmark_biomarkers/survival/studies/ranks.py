"""Ranks of a truth among posterior draws, and whether they are uniform.

If a parameter is drawn from the prior, data from the parameter and draws from the posterior given the data,
the rank of the parameter among L independent draws is uniform on 0, ..., L (Cook, Gelman and Rubin 2006; Talts
et al. 2018). Two tests ask whether ranks are: chi-square of a histogram, and the largest departure of
their empirical distribution from a straight line, with bands that hold at all ranks at once (Säilynoja,
Bürkner and Vehtari 2022).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, chisquare

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats, Ints

_NULL_DRAWS = 4000
_NULL_SEED = 2022


def rank(truth: float, draws: Floats, *, seed: int = 0) -> int:
    """Number of draws below the truth, from 0 to their number.

    Args:
        truth: The value that the data came from.
        draws: Posterior draws, about independent, shape (L,).
        seed: Where draws equal the truth, its place among them is drawn.

    Raises:
        InputError: A value is not finite.
    """
    if not (np.isfinite(truth) and np.isfinite(draws).all()):
        raise InputError(
            f"draws: not finite beside a truth of {truth}; accepted are finite numbers"
        )
    equal = int((draws == truth).sum())
    below = int((draws < truth).sum())
    return below + (int(np.random.default_rng(seed).integers(equal + 1)) if equal else 0)


def _check(ranks: npt.ArrayLike, draws: int) -> Ints:
    found = np.asarray(ranks, dtype=np.int64)
    if found.ndim != 1 or found.size == 0:
        raise InputError(f"ranks: shape {found.shape}; accepted is one a replicate")
    bad = (found < 0) | (found > draws)
    if bad.any():
        raise InputError(f"ranks: {found[bad][0]}; accepted are 0 to {draws}")
    return found


def _chances(counts: Ints, n: int, draws: int) -> Floats:
    """The smaller tail chance of each count of ranks below 1, ..., L; counts (..., L)."""
    share = np.arange(1, draws + 1) / (draws + 1)
    below, above = binom.cdf(counts, n, share), binom.sf(counts - 1, n, share)
    return np.asarray(np.minimum(below, above))


def _below(ranks: Ints, draws: int) -> Ints:
    """How many ranks are below 1, ..., L, for ranks of shape (..., n)."""
    flat = ranks.reshape(-1, ranks.shape[-1])
    cells = flat + (draws + 1) * np.arange(len(flat))[:, None]
    counts = np.bincount(cells.ravel(), minlength=(draws + 1) * len(flat))
    counts = counts.reshape(*ranks.shape[:-1], draws + 1)
    return np.asarray(counts.cumsum(axis=-1)[..., :-1], dtype=np.int64)


@lru_cache(maxsize=32)
def _null(n: int, draws: int) -> Floats:
    """The smallest pointwise chance of uniform ranks, sorted, simulated."""
    rng = np.random.default_rng([_NULL_SEED, n, draws])
    ranks = rng.integers(0, draws + 1, size=(_NULL_DRAWS, n))
    return np.sort(_chances(_below(ranks, draws), n, draws).min(axis=1))


@dataclass(frozen=True, kw_only=True)
class Uniformity:
    """Whether ranks are uniform.

    Args:
        n: Number of ranks.
        draws: Largest rank.
        p_histogram: p-value of the chi-square test.
        p_ecdf: p-value of the largest departure of the empirical distribution.
    """

    n: int
    draws: int
    p_histogram: float
    p_ecdf: float

    @property
    def p(self) -> float:
        """Both tests in one, by Bonferroni."""
        return min(1.0, 2 * min(self.p_histogram, self.p_ecdf))


def histogram(ranks: npt.ArrayLike, draws: int, bins: int) -> tuple[Ints, Floats]:
    """Count ranks in bins of about equal width.

    Args:
        ranks: One a replicate, 0 to `draws`.
        draws: Largest rank.
        bins: Number of bins, at most `draws` + 1.

    Returns:
        Counts and expected counts, each of shape (bins,).

    Raises:
        InputError: A rank or the number of bins is out of range.
    """
    found = _check(ranks, draws)
    if not 2 <= bins <= draws + 1:
        raise InputError(f"bins: {bins}; accepted are 2 to {draws + 1}")
    edges = np.round(np.linspace(0, draws + 1, bins + 1)).astype(np.int64)
    counts = np.histogram(found, bins=edges - 0.5)[0].astype(np.int64)
    return counts, len(found) * np.diff(edges) / (draws + 1)


def uniformity(ranks: npt.ArrayLike, draws: int, *, bins: int | None = None) -> Uniformity:
    """Test whether ranks are uniform on 0, ..., draws.

    Args:
        ranks: One a replicate.
        draws: Largest rank, the number of draws that each truth was ranked among.
        bins: Bins of the histogram; by default as many as hold at least 10 ranks each, 20 at most.

    Returns:
        Two p-values; that of the empirical distribution is simulated, to 1/4000.
    """
    found = _check(ranks, draws)
    n = len(found)
    if bins is None:
        bins = int(np.clip(n // 10, 2, min(20, draws + 1)))
    counts, expected = histogram(found, draws, bins)
    gamma = float(_chances(_below(found, draws), n, draws).min())
    null = _null(n, draws)
    # Equal chances count as extreme: the statistic is discrete.
    fewer = int(np.searchsorted(null, gamma * (1 + 1e-9), side="right"))
    return Uniformity(
        n=n,
        draws=draws,
        p_histogram=float(chisquare(counts, expected).pvalue),
        p_ecdf=(1 + fewer) / (1 + len(null)),
    )


def ecdf_band(n: int, draws: int, *, level: float = 0.95) -> tuple[Floats, Floats, Floats]:
    """Band that holds the empirical distribution of uniform ranks, everywhere at once.

    Args:
        n: Number of ranks.
        draws: Largest rank.
        level: Chance that uniform ranks stay within.

    Returns:
        Shares `1/(L+1), ..., L/(L+1)` and the band's lower and upper end at each, each of shape (L,).
    """
    share = np.arange(1, draws + 1) / (draws + 1)
    gamma = float(np.quantile(_null(n, draws), 1 - level))
    # Counts whose smaller tail is below gamma are outside.
    low = binom.ppf(gamma, n, share)
    high = binom.isf(gamma, n, share)
    return share, np.asarray(low / n), np.asarray(high / n)


def holm(p: npt.ArrayLike) -> Floats:
    """p-values adjusted for their number (Holm 1979), in the order given."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * (len(values) - np.arange(len(values)))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted
