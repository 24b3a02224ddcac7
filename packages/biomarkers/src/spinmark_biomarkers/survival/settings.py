"""The settings of a prognosis, checked before anything is fitted or an outcome is read."""

import math
from collections.abc import Collection
from itertools import pairwise

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.config import PrognoseConfig
from spinmark_biomarkers.survival.engines import ENGINES
from spinmark_biomarkers.survival.models import MODELS
from spinmark_biomarkers.survival.priors import BASELINES, PRIORS

# What `design.prepare_design` may call the block of a column.
BLOCKS = ("clinical", "structure", "morphometry", "phenotype", "embedding")
_ABOVE_ZERO = (
    "intervals", "embedding_components", "morphometry_components", "min_at_risk", "bootstrap", "cif_draws",
)  # fmt: skip


def check_settings(config: PrognoseConfig) -> None:
    """Refuse settings that no prognosis can be made with.

    Args:
        config: The settings.

    Raises:
        InputError: In one line that names the value and what is accepted.
    """
    check_horizons(config)
    _named("likelihood", config.likelihood, MODELS)
    _named("baseline", config.baseline, BASELINES)
    _named("prior", config.prior, PRIORS)
    for block, prior in config.priors.items():
        if block not in BLOCKS:
            raise InputError(
                f"priors: no block is called {block!r}; accepted are {', '.join(BLOCKS)}"
            )
        _named(f"priors: {block}", prior, PRIORS)
    _named("engine", config.sampler.engine, ("auto", *ENGINES))
    if config.imputations < 0 or config.imputations == 1:
        raise InputError(f"imputations: {config.imputations}; accepted are 0, or 2 and more")
    for name in _ABOVE_ZERO:
        if getattr(config, name) < 1:
            raise InputError(f"{name}: {getattr(config, name)}; accepted is at least 1")
    if config.min_events < 2:
        raise InputError(f"min_events: {config.min_events}; accepted is at least 2")
    if not 0 < config.level < 1:
        raise InputError(f"level: {config.level:g}; accepted is above 0 and below 1, such as 0.95")
    if bad := [risk for risk in config.thresholds if not 0 < risk < 1]:
        raise InputError(f"thresholds: {bad[0]:g}; accepted are risks above 0 and below 1")


def check_horizons(config: PrognoseConfig) -> None:
    """Refuse horizons at which nothing can be predicted, and primary ones that nothing is scored at.

    Raises:
        InputError: For such horizons.
    """
    years = config.horizons_years
    rising = all(a < b for a, b in pairwise(years))
    if not years or not rising or not all(math.isfinite(y) and y > 0 for y in years):
        raise InputError(
            f"horizons_years: {_years(years) or 'none'}; accepted are increasing years above 0, such as 4, 8, 9"
        )
    if config.primary_years == PrognoseConfig().primary_years:
        return
    if strange := [year for year in config.primary_years if year not in years]:
        raise InputError(
            f"primary_years: {_years(strange)}; accepted are among horizons_years: {_years(years)}"
        )


def primary_years(config: PrognoseConfig) -> list[float]:
    """The primary horizons among those asked for; of the default ones, those that are."""
    return [year for year in config.horizons_years if year in config.primary_years]


def main_years(config: PrognoseConfig) -> float:
    """The horizon of pictures and sentences: eight years where it is primary, else the last primary one.

    Where none is primary, eight years or the last of all.
    """
    years = primary_years(config) or config.horizons_years
    return 8.0 if 8.0 in years else max(years)


def _years(years: list[float]) -> str:
    return ", ".join(f"{year:g}" for year in years)


def _named(what: str, value: str, accepted: Collection[str]) -> None:
    if value not in accepted:
        raise InputError(f"{what}: {value!r}; accepted are {', '.join(accepted)}")
