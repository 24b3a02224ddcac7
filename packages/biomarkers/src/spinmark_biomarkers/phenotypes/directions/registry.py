"""Axis models by name."""

from collections.abc import Callable

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.directions.archetypes import ArchetypeAxes
from spinmark_biomarkers.phenotypes.directions.base import Axes
from spinmark_biomarkers.phenotypes.directions.config import DirectionsConfig
from spinmark_biomarkers.phenotypes.directions.independent import IndependentAxes
from spinmark_biomarkers.phenotypes.directions.principal import PrincipalAxes
from spinmark_biomarkers.phenotypes.directions.reliable import ReliableAxes
from spinmark_biomarkers.phenotypes.directions.sparse import SparseAxes

Maker = Callable[[DirectionsConfig, int, int], Axes]
METHODS: dict[str, Maker] = {
    "pca": lambda c, n, restarts: PrincipalAxes(n),
    "ica": lambda c, n, restarts: IndependentAxes(n, restarts=restarts, seed=c.seed),
    "sparse": lambda c, n, restarts: SparseAxes(
        n, sparsity=c.sparsity, penalty=c.penalty, seed=c.seed
    ),
    "archetypes": lambda c, n, restarts: ArchetypeAxes(
        n, components=c.components, restarts=restarts, seed=c.seed
    ),
    "reliable": lambda c, n, restarts: ReliableAxes(
        n, components=c.components, independent=c.independent, restarts=restarts, seed=c.seed
    ),
}


def make_axes(config: DirectionsConfig, n_axes: int, *, restarts: int | None = None) -> Axes:
    """Make an axis model from settings.

    Args:
        config: Settings.
        n_axes: Number of axes or archetypes.
        restarts: Starts in place of those of the settings, as for refits.

    Raises:
        InputError: An unknown method.
    """
    if config.method not in METHODS:
        raise InputError(f"method: '{config.method}'; accepted are {', '.join(METHODS)}")
    starts = config.restarts if restarts is None else restarts
    return METHODS[config.method](config, n_axes, starts)
