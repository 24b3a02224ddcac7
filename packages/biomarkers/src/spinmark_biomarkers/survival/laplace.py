"""A fast approximation of the piecewise-exponential posterior, for studies that need very many fits.

Cross-validation, optimism and nested choices fit the same model tens of times. Here a fit costs a few
Newton steps in place of thousands of gradients:

1. The log-likelihood of (beta, log_hazard) is replaced by its expansion to second order at the posterior
   mode, at several frailty variances with a spline between them (Laplace's approximation; Tierney and
   Kadane, JASA 1986; nested in the scales as by Rue et al., JRSS B 2009).
2. Given the prior scales and the frailty variance the posterior is then normal, and the scales' own
   posterior has a closed form. Scales are drawn from Student t laws around it and resampled.
3. The draws are weighed by what the true likelihood says and resampled, which corrects them. The Pareto k
   of the weights tells whether it can (Vehtari et al., JMLR 2024). Above 0.7, or with under a fifth of
   the draws effective, the fit is refused.

The likelihood, priors and breaks are the defaults of `models.PiecewiseExponential`, which samples by NUTS and
is the reference. Use it for the fit that figures are read from.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy import optimize
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival import _compat
from spinmark_biomarkers.survival.data import Floats, Ints, SurvivalData
from spinmark_biomarkers.survival.hazards import PiecewiseHazard
from spinmark_biomarkers.survival.laplace_surface import (
    ScalePrior,
    Surface,
    fixed_surface,
    frailty_surface,
)
from spinmark_biomarkers.survival.likelihoods import LIKELIHOODS, interval_breaks

logger = logging.getLogger(__name__)

# Above this the weights' variance is too heavy for their averages to settle (Vehtari et al. 2024).
MOST_K = 0.7
# Share of the draws that the weights must leave; k itself is only an estimate.
LEAST_SHARE = 0.2
# Logarithms of scales and of the frailty variance that are looked at.
_LOGS = (-8.0, 3.0)
_NEVER = -1e10
_DEGREES = 5.0
_WIDTHS = (2.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class LaplaceDiagnostics:
    """Whether the approximation can be trusted.

    Args:
        k: Pareto k of the draws' weights; the approximation fails above 0.7.
        scale_k: The same of the prior scales and the frailty variance.
        ess: Effective number of draws that the weights leave.
        draws: Draws that were weighed.
        verdict: `good` or `bad`, and why.
    """

    k: float
    scale_k: float
    ess: float
    draws: int
    verdict: str


class LaplacePiecewiseExponential:
    """An approximation of the piecewise-exponential model's posterior by a corrected Gaussian mixture.

    Args:
        intervals: Pieces of the baseline hazard.
        frailty: Let the rows of a subject share a gamma frailty.
        draws: Draws from the approximation, and kept.
        seed: Seed of the draws.
        scale: Scale of the half-normal prior of each block's standard deviation.
        level_scale: Prior standard deviation of the mean log hazard around the log crude rate.
        step_scale: Scale of the half-normal prior of the random walk's standard deviation.
        frailty_scale: Scale of the half-normal prior of the frailty variance.

    Attributes:
        breaks_: Left ends of the pieces, years, shape (intervals,).
        names_: Names of the p covariates.
        blocks_: Names of the covariate blocks.
        posterior_: `beta(chain, draw, covariate)`, `log_hazard(chain, draw, interval)`,
            `frailty_variance(chain, draw)`, `scale(chain, draw, block)`, `roughness(chain, draw)`, in
            one chain.
        diagnostics_: Whether the approximation can be trusted.
    """

    def __init__(
        self,
        *,
        intervals: int = 6,
        frailty: bool = True,
        draws: int = 1000,
        seed: int = 0,
        scale: float = 0.5,
        level_scale: float = 2.0,
        step_scale: float = 0.5,
        frailty_scale: float = 1.0,
    ) -> None:
        self.intervals = intervals
        self.frailty = frailty
        self.draws = draws
        self.seed = seed
        self.scale = scale
        self.level_scale = level_scale
        self.step_scale = step_scale
        self.frailty_scale = frailty_scale

    def fit(
        self, data: SurvivalData, blocks: dict[str, str] | None = None
    ) -> "LaplacePiecewiseExponential":
        """Approximate the posterior.

        Args:
            data: Rows to fit, covariates about standardised.
            blocks: Covariate -> block that shares a prior scale; one block by default.

        Returns:
            Itself.

        Raises:
            InputError: For settings or data that it cannot take, and where the weights show that the
                approximation fails.
        """
        if self.intervals < 2:
            raise InputError(f"intervals: {self.intervals}; accepted is at least 2")
        if self.draws < 100:
            raise InputError(f"draws: {self.draws}; accepted is at least 100")
        of = [(blocks or {}).get(name, "covariates") for name in data.names]
        self.blocks_ = tuple(dict.fromkeys(of))
        self.names_ = data.names
        self.breaks_ = interval_breaks(data, self.intervals)
        d = LIKELIHOODS["piecewise"].arrays(data, breaks=self.breaks_)
        if self.frailty and len(d["many"]):
            raise InputError(
                f"outcomes: {len(d['many'])} subjects have three and more interval-censored events; "
                "accepted are two with this approximation (use PiecewiseExponential)"
            )
        crude = max(float(data.event.sum()), 0.5) / float(d["exposure"].sum())
        prior = ScalePrior(
            block=np.array([self.blocks_.index(name) for name in of], dtype=np.int64),
            blocks=len(self.blocks_),
            pieces=self.intervals,
            log_rate=float(np.log(crude)),
            scale=self.scale,
            level_scale=self.level_scale,
            step_scale=self.step_scale,
        )
        # One thread: studies run fits side by side, and sums do not hang on how many there are.
        with threadpool_limits(limits=1, user_api="blas"):
            self._approximate(d, prior)
        logger.info("fit: %s", self.diagnostics_.verdict)
        return self

    def _approximate(self, d: dict[str, Any], prior: ScalePrior) -> None:
        surface = self._surface(d, prior)
        rng = np.random.default_rng(self.seed)
        p = len(self.names_)
        # k is an estimate from the largest weights: where it looks bad, more draws tell it better.
        for times in (1, 4):
            size = times * self.draws
            scales, theta, scale_k = self._draw_scales(surface, prior, rng, size)
            v, expected = _draw_given(surface, prior, scales, theta, rng)
            spread = theta if self.frailty else None
            each = LIKELIHOODS["piecewise"].subject_log_likelihood(
                d, v[:, :p], {"log_hazard": v[:, p:]}, spread
            )
            log_weight, k = _smoothed(each @ d["weight"] - expected)
            if max(k, scale_k) <= MOST_K:
                break
        self.diagnostics_ = _judge(k, scale_k, log_weight)
        at = _resample(log_weight, self.draws, rng)
        self.posterior_ = self._tidy(v[at], scales[at], theta[at])

    def _surface(self, d: dict[str, Any], prior: ScalePrior) -> Surface:
        """Expand the log-likelihood at the mode, at all frailty variances that matter."""
        scales, theta = np.full(prior.blocks + 1, 0.3), 0.5 if self.frailty else None
        surface = fixed_surface(d, prior, scales, prior.mean, theta)
        scales = np.exp(self._mode_of_scales(surface, prior, len(scales)))
        if not self.frailty:
            return fixed_surface(d, prior, scales, surface.centre, None)
        return frailty_surface(d, prior, scales, surface.centre, self.frailty_scale)

    def _mode_of_scales(self, surface: Surface, prior: ScalePrior, size: int) -> Floats:
        """Logarithms of the scales, and of the frailty variance if the surface has one, at their mode."""
        found = optimize.minimize(
            lambda logs: -float(self._log_scales(surface, prior, logs[None])[0]),
            np.full(size, np.log(0.3)),
            method="Nelder-Mead",
            bounds=[(_LOGS[0] + 0.5, _LOGS[1] - 0.5)] * size,
            options={"xatol": 0.02, "fatol": 0.02, "maxiter": 400 * size},
        )
        return np.asarray(found.x, dtype=np.float64)

    def _log_scales(self, surface: Surface, prior: ScalePrior, logs: Floats) -> Floats:
        """Log posterior of the scales, with all else integrated out, for `logs (M, B + 1 [+ 1])`."""
        b = prior.blocks + 1
        theta = np.exp(logs[:, b]) if logs.shape[1] > b else np.zeros(len(logs))
        possible = ((logs > _LOGS[0]) & (logs < _LOGS[1])).all(axis=1) & surface.holds(theta)
        found = np.full(len(logs), _NEVER)
        logs, theta, scales = logs[possible], theta[possible], np.exp(logs[possible, :b])
        value = prior.log_density(scales)
        if logs.shape[1] > b:
            value = value + logs[:, b] - (theta / self.frailty_scale) ** 2 / 2
        c, gradient, information = surface.at(theta)
        precision, log_det = prior.precision(scales)
        away = prior.mean - surface.centre
        pull = precision @ away
        root = np.linalg.cholesky(information + precision)
        half = np.linalg.solve(root, (gradient + pull)[..., None])[..., 0]
        ridge = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
        found[possible] = value + c + ((half**2).sum(axis=1) - pull @ away + log_det) / 2 - ridge
        return found

    def _draw_scales(
        self, surface: Surface, prior: ScalePrior, rng: np.random.Generator, wanted: int
    ) -> tuple[Floats, Floats, float]:
        """Draw scales and frailty variances from Student t laws around their mode, and resample."""
        size = prior.blocks + 1 + (surface.spline is not None)
        mode = self._mode_of_scales(surface, prior, size)

        def target(logs: Floats) -> Floats:
            return self._log_scales(surface, prior, logs)

        middle, root = mode, _spread(target, mode)
        for draws in (1000, 1000, 1000, max(4000, 4 * wanted)):
            # Every other one from twice the spread: half-normal scales have a long tail towards zero.
            widths = np.where(np.arange(draws) % 2, *_WIDTHS)[:, None]
            chi = rng.chisquare(_DEGREES, draws)[:, None] / _DEGREES
            z = rng.normal(size=(draws, size)) * widths / np.sqrt(chi)
            logs = middle + z @ root.T
            density = _mixture(z)
            values = np.concatenate([target(part) for part in np.array_split(logs, 8)])
            inside = values > _NEVER
            logs = logs[inside]
            log_weight, k = _smoothed((values - density)[inside])
            # Draws tell the mean and spread, which a skewed posterior's mode does not.
            weight = np.exp(log_weight)
            middle = np.asarray(weight @ logs, dtype=np.float64)
            spread = (logs - middle).T @ (weight[:, None] * (logs - middle))
            root = np.asarray(np.linalg.cholesky(spread), dtype=np.float64)
        at = _resample(log_weight, wanted, rng)
        found = np.exp(logs[at])
        theta = found[:, -1] if surface.spline is not None else np.zeros(wanted)
        return found[:, : prior.blocks + 1], theta, k

    def _tidy(self, v: Floats, scales: Floats, theta: Floats) -> xr.Dataset:
        p, chains = len(self.names_), ("chain", "draw")
        return xr.Dataset(
            {
                "beta": ((*chains, "covariate"), v[None, :, :p]),
                "log_hazard": ((*chains, "interval"), v[None, :, p:]),
                "frailty_variance": (chains, theta[None]),
                "scale": ((*chains, "block"), scales[None, :, :-1]),
                "roughness": (chains, scales[None, :, -1]),
            },
            coords={
                "covariate": np.array(self.names_, dtype=object),
                "interval": self.breaks_,
                "block": np.array(self.blocks_, dtype=object),
            },
        )

    def linear_predictor(self, x: Floats) -> Floats:
        """Posterior mean of the log hazard ratio of each row of `x (n, p)`, shape (n,)."""
        mean = self.posterior_["beta"].mean(("chain", "draw")).to_numpy()
        return np.asarray(x @ mean, dtype=np.float64)

    def hazard(self, x: Floats, most: int | None = None) -> PiecewiseHazard:
        """Draws of the hazard of the rows of a design.

        Args:
            x: Covariates, (n, p).
            most: Number of draws, evenly thinned; all by default.

        Returns:
            The hazard of D draws and n rows.
        """
        size = self.posterior_.sizes["draw"]
        at = np.linspace(0, size - 1, min(size, most or size)).round().astype(int)
        drawn = {str(k): v.to_numpy()[0, at] for k, v in self.posterior_.data_vars.items()}
        return PiecewiseHazard(
            linear=drawn["beta"] @ np.asarray(x, dtype=np.float64).T,
            log_hazard=drawn["log_hazard"],
            breaks=self.breaks_,
            theta=drawn["frailty_variance"],
        )


def _draw_given(
    surface: Surface, prior: ScalePrior, scales: Floats, theta: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return draws of (beta, log_hazard) given the scales, (D, m), and the surface's height at each."""
    value, gradient, information = surface.at(theta)
    precision, _ = prior.precision(scales)
    root = np.linalg.cholesky(information + precision)
    away = gradient + precision @ (prior.mean - surface.centre)
    half = np.linalg.solve(root, away[..., None])[..., 0]
    z = half + rng.normal(size=half.shape)
    step = np.linalg.solve(root.transpose(0, 2, 1), z[..., None])[..., 0]
    height = value + (gradient * step).sum(axis=1)
    height -= np.einsum("da,dab,db->d", step, information, step, optimize=True) / 2
    return surface.centre + step, height


def _spread(target: Callable[[Floats], Floats], mode: Floats) -> Floats:
    """Return a root of the covariance at the mode of a log density, by differences, (k, k)."""
    k, step = len(mode), 0.1
    e = step * np.eye(k)
    corners = [
        mode + a * e[i] + b * e[j]
        for i in range(k)
        for j in range(k)
        for a in (1, -1)
        for b in (1, -1)
    ]
    values = target(np.array(corners)).reshape(k, k, 2, 2)
    bend = -(values[..., 0, 0] - values[..., 0, 1] - values[..., 1, 0] + values[..., 1, 1]) / (
        4 * step**2
    )
    size, way = np.linalg.eigh((bend + bend.T) / 2)
    # A direction that is nearly flat at the mode still falls, by its prior, within some units.
    return np.asarray(way / np.sqrt(np.maximum(size, 0.3)))


def _mixture(z: Floats) -> Floats:
    """Return the log density of Student t of two widths in equal parts, without constants, for `z (M, k)`."""
    k, squared = z.shape[1], (z**2).sum(axis=1)
    parts = [
        -(_DEGREES + k) / 2 * np.log1p(squared / (_DEGREES * width**2)) - k * np.log(width)
        for width in _WIDTHS
    ]
    return np.asarray(np.logaddexp(*parts), dtype=np.float64)


def _smoothed(log_ratios: Floats) -> tuple[Floats, float]:
    """Return Pareto-smoothed log weights that add to 1, and their k."""
    log_weight, k = _compat.psis(log_ratios[None])
    return log_weight[0], float(k[0])


def _resample(log_weight: Floats, draws: int, rng: np.random.Generator) -> Ints:
    """Return places drawn by weight, systematically, in random order."""
    ends = np.cumsum(np.exp(log_weight))
    points = (rng.random() + np.arange(draws)) / draws * ends[-1]
    return rng.permutation(np.searchsorted(ends, points).clip(max=len(ends) - 1))


def _judge(k: float, scale_k: float, log_weight: Floats) -> LaplaceDiagnostics:
    ess = float(1 / np.exp(2 * log_weight).sum())
    worst = max(k, scale_k)
    figures = f"Pareto k {worst:.2f}, effective draws {ess:.0f}"
    least = len(log_weight) * LEAST_SHARE
    if not (worst <= MOST_K and ess >= least):
        raise InputError(
            f"data: the approximation fails ({figures}); accepted is a k of at most {MOST_K} and at "
            f"least {least:.0f} effective draws (use PiecewiseExponential, sampled by NUTS)"
        )
    return LaplaceDiagnostics(
        k=k, scale_k=scale_k, ess=ess, draws=len(log_weight), verdict=f"good ({figures})"
    )
