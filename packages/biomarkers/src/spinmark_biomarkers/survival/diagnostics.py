"""Whether posterior draws can be trusted, in plain words, and what to do where they cannot.

R-hat and effective sample sizes after Vehtari et al. (Bayesian Analysis 2021), on ranks; divergences, cut
trees and the energy's fraction of missing information after Betancourt (2016, 2017).
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from spinmark_biomarkers.survival import _compat
from spinmark_biomarkers.survival.data import Floats

# Below this the momenta explore the energies too slowly (Betancourt 2016).
LEAST_BFMI = 0.3


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """Whether the draws can be trusted.

    Args:
        rhat: Largest R-hat; draws agree between chains below 1.01.
        ess: Smallest bulk effective sample size.
        divergences: Steps at which the sampler failed.
        draws: Draws kept over all chains.
        verdict: `good`, `doubtful` or `bad`, and why, in plain words.
        tail_ess: Smallest effective sample size in the tails, which intervals depend on.
        at_max_depth: Share of trajectories cut at the greatest depth.
        bfmi: Smallest fraction of missing information of the energy over the chains.
        worst: The parameter with the largest R-hat, or where all agree with the fewest effective draws.
        advice: What to do; empty for a good fit.
    """

    rhat: float
    ess: float
    divergences: int
    draws: int
    verdict: str
    tail_ess: float = float("inf")
    at_max_depth: float = 0.0
    bfmi: float = float("inf")
    worst: str = ""
    advice: str = ""

    @property
    def word(self) -> str:
        """`good`, `doubtful` or `bad`."""
        return self.verdict.split(":")[0].split(" ")[0]


def bfmi(energy: Floats) -> float:
    """Smallest Bayesian fraction of missing information over the chains.

    Args:
        energy: Of each step, shape (chain, draw).

    Returns:
        Mean squared step of the energy over its variance; infinite where it does not vary or is unknown.
    """
    spread = np.var(energy, axis=1)
    known = np.isfinite(spread) & (spread > 0)
    if not known.any():
        return float("inf")
    return float((np.mean(np.diff(energy[known], axis=1) ** 2, axis=1) / spread[known]).min())


def _named(posterior: xr.Dataset, name: str, place: int) -> str:
    found = posterior[name]
    dims = [d for d in found.dims if d not in ("chain", "draw")]
    if not dims:
        return name
    index = np.unravel_index(place, [found.sizes[d] for d in dims])
    labels = [
        found[d].to_numpy()[i] if d in found.coords else i for d, i in zip(dims, index, strict=True)
    ]
    shown = [f"{v:.3g}" if isinstance(v, float | np.floating) else str(v) for v in labels]
    return f"{name}[{', '.join(shown)}]"


def _extreme(
    posterior: xr.Dataset, values: dict[str, Floats], *, largest: bool
) -> tuple[float, str]:
    """Return the largest or smallest value over all parameters and whose it is; NaN counts as extreme."""
    worst, name = (-np.inf if largest else np.inf), ""
    for key, found in values.items():
        flat = np.ravel(found)
        if not flat.size:
            continue
        ordered = np.where(np.isnan(flat), np.inf if largest else -np.inf, flat)
        at = int(ordered.argmax() if largest else ordered.argmin())
        if (ordered[at] > worst) if largest else (ordered[at] < worst):
            worst, name = float(ordered[at]), _named(posterior, key, at)
    return worst, name


def diagnose(
    posterior: xr.Dataset, divergences: int = 0, *, steps: xr.Dataset | None = None
) -> Diagnostics:
    """Judge a fit.

    Args:
        posterior: Variables of `(chain, draw, ...)`.
        divergences: Number of diverging steps, where `steps` are not given.
        steps: `diverging`, `at_max_depth` and `energy` of `(chain, draw)`.

    Returns:
        Figures, verdict and advice. A chain that never moved, whose R-hat is not a number, is bad.
    """
    draws = posterior.sizes["chain"] * posterior.sizes["draw"]
    rhats, sizes = _compat.rhat_and_ess(posterior)
    rhat, most = _extreme(posterior, rhats, largest=True)
    ess, least = _extreme(posterior, sizes, largest=False)
    tail, least_tail = _extreme(posterior, _compat.tail_ess(posterior), largest=False)
    cut, energy = 0.0, float("inf")
    if steps is not None:
        divergences = int(steps["diverging"].sum())
        cut = float(steps["at_max_depth"].mean())
        energy = bfmi(steps["energy"].to_numpy())
    share = divergences / draws
    bad = not (rhat <= 1.05 and min(ess, tail) >= 100 and share <= 0.05)
    doubtful = (
        rhat > 1.01 or min(ess, tail) < 400 or divergences > 0 or cut > 0.01 or energy < LEAST_BFMI
    )
    word = "good"
    if bad:
        word = "bad: do not use these draws"
    elif doubtful:
        word = "doubtful: draw more before fine comparisons"
        if divergences:
            word = "doubtful: the sampler failed at some steps, and draws there may be missing"
    figures = f"R-hat {rhat:.3f}, effective draws {ess:.0f}, divergences {divergences}"
    return Diagnostics(
        rhat=rhat,
        ess=ess,
        divergences=divergences,
        draws=draws,
        verdict=f"{word} ({figures})",
        tail_ess=tail,
        at_max_depth=cut,
        bfmi=energy,
        worst=most if rhat > 1.01 else (least if ess <= tail else least_tail),
        advice=_advice(rhat, ess, tail, share, cut, energy, draws),
    )


def _advice(
    rhat: float, ess: float, tail: float, share: float, cut: float, energy: float, draws: int
) -> str:
    """Return what to do, the most pressing first."""
    found = []
    if share > 0:
        found.append(
            "raise target_accept towards 0.99"
            + ("; if they stay, take a tighter prior or fewer covariates" if share > 0.01 else "")
        )
    if cut > 0.01:
        found.append(
            "raise max_depth by 2, or reduce correlated covariates to principal components"
        )
    if rhat > 1.05:
        found.append(
            "double tune and draws; if the chains still disagree, take a tighter prior or fewer covariates"
        )
    elif rhat > 1.01 or min(ess, tail) < 400:
        factor = (
            2
            if not np.isfinite(min(ess, tail))
            else max(2, int(np.ceil(400 / max(min(ess, tail), 1))))
        )
        found.append(f"raise draws to about {min(factor, 10)} times as many ({draws} now)")
    if energy < LEAST_BFMI:
        found.append(
            "double tune; the frailty or a prior scale is hard to reach, so a tighter prior of it helps"
        )
    return "; ".join(found)
