"""The posterior of a conditional logistic regression, by importance sampling from Laplace's approximation.

Log odds ratios are Normal(0, s) with `s` half-normal, as for a block of covariates in the main model. `s`
is set on a grid; given it the posterior is close to normal, since the likelihood of a pair is log-concave.
Draws come from the mixture of these normals over the grid (Tierney and Kadane, Journal of the American
Statistical Association 1986; Rue, Martino and Chopin 2009), and importance weights correct what is not
normal; their effective number says how much there was to correct. Draws are independent.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import special

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats
from spinmark_biomarkers.survival.matched import MatchedPairs, pair_differences

_GRID = 24
_STEPS = 100
_TRIES = 10
# Tails of the proposal wider than the normal's bound the weights.
_DEGREES = 15


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchedPosterior:
    """Draws of the log odds ratios within a person.

    Args:
        posterior: `beta(chain, draw, covariate)` and `scale(chain, draw)`.
        effective_draws: Number of independent draws that the importance weights are worth.
        pairs: Discordant pairs.
        verdict: Whether the draws can be trusted, in words.
    """

    posterior: xr.Dataset
    effective_draws: float
    pairs: int
    verdict: str

    def interval(self, level: float = 0.95) -> Floats:
        """Median and equal-tailed bounds of each coefficient, shape (p, 3)."""
        beta = self.posterior["beta"].to_numpy().reshape(-1, self.posterior.sizes["covariate"])
        tail = (1 - level) / 2
        return np.asarray(np.quantile(beta, [0.5, tail, 1 - tail], axis=0).T)


def _mode(d: Floats, w: Floats, scale: float) -> tuple[Floats, Floats]:
    """Mode and curvature of the log posterior for one scale; Newton on a strictly concave function."""
    beta, flat = np.zeros(d.shape[1]), np.eye(d.shape[1]) / scale**2
    value = -np.inf
    curve = flat
    for _ in range(_STEPS):
        chance = special.expit(d @ beta)
        curve = (d * (w * chance * (1 - chance))[:, None]).T @ d + flat
        step = np.linalg.solve(curve, d.T @ (w * (1 - chance)) - beta / scale**2)
        size = 1.0

        def at(b: Floats) -> float:
            return float(w @ special.log_expit(d @ b) - 0.5 * b @ b / scale**2)

        while not at(beta + size * step) >= at(beta) and size > 1e-8:
            size /= 2
        beta = beta + size * step
        before, value = value, at(beta)
        if value - before < 1e-12 * max(1.0, abs(value)):
            break
    chance = special.expit(d @ beta)
    return beta, (d * (w * chance * (1 - chance))[:, None]).T @ d + flat


def _log_t(z: Floats, p: int) -> Floats:
    """Log density of a multivariate t at squared distances, up to the determinant."""
    v = _DEGREES
    constant = special.gammaln((v + p) / 2) - special.gammaln(v / 2) - p / 2 * np.log(v * np.pi)
    return np.asarray(constant - (v + p) / 2 * np.log1p(z / v))


def matched_posterior(
    pairs: MatchedPairs,
    x: Floats,
    names: tuple[str, ...],
    *,
    prior_scale: float = 0.5,
    draws: int = 2000,
    seed: int = 0,
) -> MatchedPosterior:
    """Draw from the posterior; works for separated pairs and for more covariates than pairs.

    Args:
        pairs: Discordant pairs.
        x: Covariates of the rows that the pairs were found in, about standardised, shape (n, p).
        names: Their names.
        prior_scale: Scale of the half-normal prior of the coefficients' standard deviation.
        draws: Draws to return.
        seed: Seed.

    Returns:
        The draws, as one chain.

    Raises:
        InputError: For a scale that is not positive, or covariates that a person's knees share.
    """
    if not prior_scale > 0:
        raise InputError(f"prior_scale: {prior_scale}; accepted is a positive number")
    d, w = pair_differences(pairs, x, names), pairs.weight
    p = d.shape[1]
    rng = np.random.default_rng(seed)
    # Equal steps in log scale, from coefficients that are all but zero to four prior scales.
    logs = np.linspace(np.log(prior_scale / 25), np.log(4 * prior_scale), _GRID)
    modes, roots, evidence = [], [], []
    for s in np.exp(logs):
        mode, curve = _mode(d, w, float(s))
        root = np.linalg.cholesky(curve)
        height = float(w @ special.log_expit(d @ mode)) - 0.5 * mode @ mode / s**2 - p * np.log(s)
        evidence.append(
            height - np.log(np.diag(root)).sum() - 0.5 * (s / prior_scale) ** 2 + np.log(s)
        )
        modes.append(mode)
        roots.append(root)
    chance = special.softmax(np.array(evidence))
    # A share of every scale keeps weights bounded where Laplace's evidence is off.
    chance = 0.95 * chance + 0.05 / _GRID
    tries = _TRIES * draws
    which = rng.choice(_GRID, size=tries, p=chance)
    z = rng.normal(size=(tries, p)) / np.sqrt(rng.chisquare(_DEGREES, tries) / _DEGREES)[:, None]
    beta, log_weight = np.empty((tries, p)), np.empty(tries)
    for k in np.unique(which):
        mine = np.flatnonzero(which == k)
        s, root = float(np.exp(logs[k])), roots[k]
        b = modes[k] + np.linalg.solve(root.T, z[mine].T).T
        target = special.log_expit(b @ d.T) @ w - 0.5 * np.sum(b**2, axis=1) / s**2 - p * np.log(s)
        target += -0.5 * (s / prior_scale) ** 2 + np.log(s)
        proposal = _log_t(np.sum(z[mine] ** 2, axis=1), p) + np.log(np.diag(root)).sum()
        beta[mine] = b
        log_weight[mine] = target - proposal - np.log(chance[k])
    weight = special.softmax(log_weight)
    effective = float(1 / np.sum(weight**2))
    # Systematic resampling adds the least noise to weighted draws.
    places = (rng.random() + np.arange(draws)) / draws
    chosen = np.minimum(np.searchsorted(np.cumsum(weight), places), tries - 1)
    chosen = rng.permutation(chosen)
    word = "good" if effective >= 400 else "doubtful" if effective >= 100 else "bad: do not use"
    return MatchedPosterior(
        posterior=xr.Dataset(
            {
                "beta": (("chain", "draw", "covariate"), beta[chosen][None]),
                "scale": (("chain", "draw"), np.exp(logs)[which[chosen]][None]),
            },
            coords={"covariate": np.array(names, dtype=object)},
        ),
        effective_draws=effective,
        pairs=len(d),
        verdict=f"{word} (effective draws {effective:.0f})",
    )
