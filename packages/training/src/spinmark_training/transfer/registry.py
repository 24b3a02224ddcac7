"""Every term between image and table by its name. Adding one is its class and its line here."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from spinmark_training.config.transfer import TransferConfig
from spinmark_training.transfer.base import SpaceTerm, TransferTerm
from spinmark_training.transfer.contrast import Clip, SigLip
from spinmark_training.transfer.match import (
    RELATIONS,
    Likelihood,
    Mapped,
    Regression,
    Relational,
    Softened,
)
from spinmark_training.transfer.near_tables import NearTables
from spinmark_training.transfer.soft_targets import SoftTargets
from spinmark_training.transfer.tables import CellColumns, ScanTables


@dataclass(frozen=True)
class Sides:
    """What a term is built between.

    Attributes:
        features: Length of what learns, as a rule of an embedding.
        latents: Length of what it is held to.
        space: Length of a row in the space of the heads.
        tables: The table rows; none if no term asked for them.
        sizes: Number of categories of each variable of `soft_targets`; 0 for a number.
        said: What the teacher says of them at the start, `(scans, W)`.
    """

    features: int
    latents: int
    space: int
    tables: ScanTables | None = None
    sizes: tuple[int, ...] = ()
    said: Tensor | None = None


Builder = Callable[[str, TransferConfig, Sides], TransferTerm]
SpaceBuilder = Callable[[TransferConfig, Sides], SpaceTerm]


def _clip(config: TransferConfig, sides: Sides) -> SpaceTerm:
    return Clip(
        config.temperature,
        config.direction,
        learn=config.learn_temperature,
        ignore_same_subject=config.ignore_same_subject,
    )


def _siglip(config: TransferConfig, sides: Sides) -> SpaceTerm:
    return SigLip(config.temperature, ignore_same_subject=config.ignore_same_subject)


def _near_tables(config: TransferConfig, sides: Sides) -> SpaceTerm:
    assert sides.tables is not None
    return NearTables(
        CellColumns(sides.tables),
        config.temperature,
        config.softness,
        config.direction,
        ignore_same_subject=config.ignore_same_subject,
    )


def _relational(name: str, config: TransferConfig, sides: Sides) -> TransferTerm:
    return Relational(name)


def _cosine(name: str, config: TransferConfig, sides: Sides) -> TransferTerm:
    return Regression(sides.features, sides.latents)


def _vid(name: str, config: TransferConfig, sides: Sides) -> TransferTerm:
    return Likelihood(sides.features, sides.latents)


def _kd(name: str, config: TransferConfig, sides: Sides) -> TransferTerm:
    return Softened(sides.features, sides.latents, config.kd_temperature)


def _crd(name: str, config: TransferConfig, sides: Sides) -> TransferTerm:
    return Mapped(
        sides.features,
        sides.latents,
        sides.space,
        config.crd_temperature,
        ignore_same_subject=config.ignore_same_subject,
    )


def _soft_targets(name: str, config: TransferConfig, sides: Sides) -> TransferTerm:
    assert sides.said is not None
    return SoftTargets(sides.features, sides.sizes, config.soft_temperature, sides.said)


CONTRASTS: dict[str, SpaceBuilder] = {
    "clip": _clip,
    "siglip": _siglip,
    "near_tables": _near_tables,
}
"""Terms that compare images and tables in the space of the heads; they teach a clinical encoder too."""

MATCHES: dict[str, Builder] = {
    **dict.fromkeys(RELATIONS, _relational),
    "cosine": _cosine,
    "vid": _vid,
    "kd": _kd,
    "crd": _crd,
}
"""Terms that hold embeddings to latents; between two sides that learn they go both ways."""

TRANSFERS: tuple[str, ...] = (*CONTRASTS, *MATCHES, "soft_targets")
"""Every term by its name."""


def build_match(name: str, config: TransferConfig, sides: Sides) -> TransferTerm:
    """Build a term that needs no heads.

    Args:
        name: A key of `MATCHES`, or `soft_targets`.
        config: Its settings.
        sides: What it is built between.
    """
    build = _soft_targets if name == "soft_targets" else MATCHES[name]
    return build(name, config, sides)
