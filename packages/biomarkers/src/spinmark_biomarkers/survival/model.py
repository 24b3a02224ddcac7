"""A Bayesian piecewise-exponential model with a frailty shared by a person's joints.

Priors: log hazard ratios are normal with a scale learned for each block of covariates (clinical,
embedding, ...), so that a block that tells nothing is shrunk as a whole; the log baseline hazard is
a random walk around the crude rate; the frailty variance is half-normal. The covariates are padded to
a common width and every array is data of the compiled function, so that all models of one width
are compiled once; a padded coefficient meets only zeros and keeps its prior.
"""

import functools
import importlib
import importlib.util
import logging
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival import _compat
from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.likelihood import (
    NO_FRAILTY,
    Statistics,
    sufficient_statistics,
    tensor_log_likelihood,
)

logger = logging.getLogger(__name__)

MAX_BLOCKS = 4
_INTEGERS = {"subject", "first", "second", "block"}
_KEPT = ("beta", "log_hazard", "theta", "scale")


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """Whether the draws can be trusted.

    Args:
        rhat: Largest R-hat; draws agree between chains below 1.01.
        ess: Smallest bulk effective sample size.
        divergences: Steps at which the sampler failed.
        draws: Draws kept over all chains.
        verdict: `good`, `doubtful` or `bad`, and why, in plain words.
    """

    rhat: float
    ess: float
    divergences: int
    draws: int
    verdict: str


def diagnose(posterior: xr.Dataset, divergences: int) -> Diagnostics:
    """Judge a fit by R-hat and effective sample size (Vehtari et al., Bayesian Analysis 2021)."""
    draws = posterior.sizes["chain"] * posterior.sizes["draw"]
    rhats, sizes = _compat.rhat_and_ess(posterior)
    # NaN, from a chain that never moved, is kept: it must not pass for agreement.
    rhat = float(np.max([np.max(v) for v in rhats.values() if v.size], initial=-np.inf))
    ess = float(np.min([np.min(v) for v in sizes.values() if v.size], initial=np.inf))
    share = divergences / draws
    if not (rhat <= 1.05 and ess >= 100 and share <= 0.05):
        word = "bad: do not use these draws"
    elif rhat > 1.01 or ess < 400 or divergences > 0:
        word = "doubtful: draw more before fine comparisons"
    else:
        word = "good"
    verdict = f"{word} (R-hat {rhat:.3f}, effective draws {ess:.0f}, divergences {divergences})"
    return Diagnostics(rhat=rhat, ess=ess, divergences=divergences, draws=draws, verdict=verdict)


def interval_breaks(data: SurvivalData, intervals: int) -> Floats:
    """Left ends of the hazard's pieces, at quantiles of the event times.

    Args:
        data: Rows to fit.
        intervals: Number of pieces; where times tie, fewer distinct ones are padded by halving the last.

    Returns:
        Years, shape (intervals,), increasing from 0.
    """
    times = data.time[data.event]
    shares = np.linspace(0, 1, intervals + 1)[1:-1]
    inner: Floats = np.quantile(times, shares) if times.size else np.empty(0)
    breaks = np.unique(np.append(0.0, inner))
    while len(breaks) < intervals:
        # The number of pieces is part of the compiled function's shape.
        end = max(float(data.time.max()), breaks[-1] + 1.0)
        breaks = np.unique(np.append(breaks, (breaks[-1] + end) / 2))
    return breaks


def _arrays(data: SurvivalData, s: Statistics, width: int, block: Any, frailty: bool) -> Any:
    pad = width - data.covariates.shape[1]
    most = max(int(s.subject_events.max(initial=0)), 2)
    rising = [float(s.weight @ (s.subject_events > k)) for k in range(1, most)]
    years = float(s.exposure.sum())
    crude = np.log(max(float(data.event.sum()), 0.5) / years)
    floats = {
        "x": np.pad(data.covariates, ((0, 0), (0, pad))),
        "covariate_sum": np.pad(s.covariate_sum, (0, pad)),
        "exposure": s.exposure,
        "width": s.width,
        "events": s.events,
        "subject_events": s.subject_events,
        "weight": s.weight,
        "rising": np.array(rising),
        "crude": np.array(crude),
        "frailty": np.array(float(frailty)),
    }
    integers = {
        "subject": s.subject,
        "first": s.first,
        "second": s.second,
        "block": np.pad(np.asarray(block, dtype=np.int64), (0, pad)),
    }
    return {k: np.asarray(v, dtype=np.float64) for k, v in floats.items()} | integers


@functools.lru_cache(maxsize=4)
def _model(width: int, intervals: int, interval_censored: bool) -> Any:
    _compat.import_quietly()
    import pymc as pm

    pt: Any = importlib.import_module("pytensor.tensor")

    shapes: dict[str, tuple[int, ...]] = {
        "x": (2, width), "covariate_sum": (width,), "exposure": (2, intervals),
        "width": (2, intervals), "events": (intervals,), "subject_events": (2,), "weight": (2,),
        "rising": (1,), "crude": (), "frailty": (), "subject": (2,), "first": (2,), "second": (2,),
        "block": (width,),
    }  # fmt: skip
    if not interval_censored:
        for unused in ("width", "first", "second"):
            del shapes[unused]
    with pm.Model() as model:
        d = {
            name: pm.Data(name, np.zeros(shape, np.int64 if name in _INTEGERS else np.float64))
            for name, shape in shapes.items()
        }
        scale = pm.HalfNormal("scale", 0.5, shape=MAX_BLOCKS)
        z = pm.Normal("z", shape=width)
        beta = pm.Deterministic("beta", z * scale[d["block"]])
        level = pm.Normal("level")
        roughness = pm.HalfNormal("roughness", 0.5)
        steps = pm.Normal("steps", shape=intervals - 1)
        walk = pt.concatenate([pt.zeros(1), pt.cumsum(steps)]) * roughness
        log_hazard = pm.Deterministic("log_hazard", d["crude"] + 2 * level + walk)
        variance = pm.HalfNormal("variance", 1.0)
        theta = pm.Deterministic("theta", variance * d["frailty"] + NO_FRAILTY)
        pm.Potential(
            "likelihood",
            tensor_log_likelihood(d, beta, log_hazard, theta, interval_censored=interval_censored),
        )
    return model


def has_nutpie() -> bool:
    """Whether the fast sampler is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("nutpie", "numba"))


@functools.lru_cache(maxsize=4)
def _compiled(width: int, intervals: int, interval_censored: bool) -> Any:
    _compat.import_quietly()
    import nutpie

    model = _model(width, intervals, interval_censored)
    with warnings.catch_warnings():
        # Numba says which functions it cannot keep on disk; those are then compiled again.
        warnings.filterwarnings("ignore", message="Cannot cache compiled function")
        return nutpie.compile_pymc_model(model, var_names=list(_KEPT), cache=True)


def _sample(arrays: dict[str, Any], key: tuple[int, int, bool], config: SamplerConfig) -> Any:
    used = {k: v for k, v in arrays.items() if key[2] or k not in ("width", "first", "second")}
    if has_nutpie():
        import nutpie

        compiled = _compiled(*key)
        # Every name must be known to the compiled function: what it does not take, it would sample
        # without, from the prior. `with_data` refuses an unknown name in every nutpie; the count
        # catches one left at its placeholder.
        if len(compiled.shared_data) != len(used):
            raise RuntimeError(
                f"the compiled model takes {len(compiled.shared_data)} arrays, {len(used)} are given"
            )
        return nutpie.sample(
            compiled.with_data(**used),
            draws=config.draws,
            tune=config.tune,
            chains=config.chains,
            cores=config.cores,
            seed=config.seed,
            target_accept=config.target_accept,
            save_warmup=False,
            progress_bar=False,
        )
    import pymc as pm

    logger.warning("nutpie is not installed; PyMC's own sampler is slower")
    with _model(*key):
        pm.set_data(used)
        return pm.sample(
            draws=config.draws,
            tune=config.tune,
            chains=config.chains,
            cores=1,
            random_seed=config.seed,
            target_accept=config.target_accept,
            progressbar=False,
            compute_convergence_checks=False,
        )


class PiecewiseExponentialFrailty:
    """Proportional hazards with a piecewise-constant baseline and a shared gamma frailty.

    Args:
        intervals: Pieces of the baseline hazard.
        frailty: Let the rows of a subject share a frailty.
        width: Common width that covariates are padded to; the next multiple of 8 by default.
        interval_censored: Compile the likelihood with interval censoring even where no row needs it,
            so that several fits share one compiled function; as the rows need by default.
        sampler: How the posterior is drawn.

    Attributes:
        breaks_: Left ends of the pieces, years, shape (intervals,).
        names_: Names of the p covariates.
        blocks_: Names of the covariate blocks.
        posterior_: `beta(chain, draw, covariate)`, `log_hazard(chain, draw, interval)`,
            `frailty_variance(chain, draw)`, `scale(chain, draw, block)`.
        diagnostics_: Whether the draws can be trusted.
    """

    def __init__(
        self,
        *,
        intervals: int = 6,
        frailty: bool = True,
        width: int | None = None,
        interval_censored: bool = False,
        sampler: SamplerConfig | None = None,
    ) -> None:
        self.intervals = intervals
        self.frailty = frailty
        self.width = width
        self.interval_censored = interval_censored
        self.sampler = sampler

    def fit(
        self, data: SurvivalData, blocks: dict[str, str] | None = None
    ) -> "PiecewiseExponentialFrailty":
        """Draw from the posterior.

        Args:
            data: Rows to fit, covariates about standardised.
            blocks: Covariate -> block that shares a prior scale; one block by default.

        Returns:
            Itself.

        Raises:
            InputError: Where there are too many covariates, blocks, or too few intervals.
        """
        if self.intervals < 2:
            raise InputError(f"intervals: {self.intervals}; accepted is at least 2")
        p = len(data.names)
        width = self.width if self.width is not None else 8 * max(1, -(-p // 8))
        if p > width:
            raise InputError(f"width: {width} for {p} covariates; accepted is at least as many")
        of = [(blocks or {}).get(name, "covariates") for name in data.names]
        self.blocks_ = tuple(dict.fromkeys(of))
        if len(self.blocks_) > MAX_BLOCKS:
            raise InputError(f"blocks: {len(self.blocks_)}; accepted are at most {MAX_BLOCKS}")
        self.names_ = data.names
        self.breaks_ = interval_breaks(data, self.intervals)
        stats = sufficient_statistics(data, self.breaks_)
        block = [self.blocks_.index(name) for name in of]
        arrays = _arrays(data, stats, width, block, self.frailty)
        config = self.sampler or SamplerConfig()
        key = (width, self.intervals, self.interval_censored or bool(data.interval.any()))
        drawn, steps = _compat.groups(_sample(arrays, key, config))
        self.posterior_ = self._tidy(drawn)
        judged = self.posterior_ if self.frailty else self.posterior_.drop_vars("frailty_variance")
        self.diagnostics_ = diagnose(judged, int(steps["diverging"].sum()))
        logger.info("fit: %s", self.diagnostics_.verdict)
        return self

    def _tidy(self, drawn: xr.Dataset) -> xr.Dataset:
        chains = ("chain", "draw")
        p = len(self.names_)
        variance = drawn["theta"].to_numpy() if self.frailty else np.zeros(drawn["theta"].shape)
        scale = drawn["scale"].to_numpy()[..., : len(self.blocks_)]
        return xr.Dataset(
            {
                "beta": ((*chains, "covariate"), drawn["beta"].to_numpy()[..., :p]),
                "log_hazard": ((*chains, "interval"), drawn["log_hazard"].to_numpy()),
                "frailty_variance": (chains, variance),
                "scale": ((*chains, "block"), scale),
            },
            coords={
                "covariate": np.array(self.names_, dtype=object),
                "interval": self.breaks_,
                "block": np.array(self.blocks_, dtype=object),
            },
        )

    def linear_predictor(self, x: Floats) -> Floats:
        """Posterior mean of the log hazard ratio of each row, shape (n,)."""
        mean = self.posterior_["beta"].mean(("chain", "draw")).to_numpy()
        return np.asarray(x @ mean, dtype=np.float64)

    def draws(self, most: int | None = None) -> tuple[Floats, Floats, Floats]:
        """Draws as `beta (D, p)`, `log_hazard (D, J)`, `frailty_variance (D,)`, evenly thinned."""
        size = self.posterior_.sizes["chain"] * self.posterior_.sizes["draw"]
        at = np.linspace(0, size - 1, min(size, most or size)).round().astype(int)
        found = []
        for name in ("beta", "log_hazard", "frailty_variance"):
            values = self.posterior_[name].to_numpy()
            found.append(values.reshape(size, *values.shape[2:])[at])
        return found[0], found[1], found[2]
