"""Every term between image and table by its name. Adding one is its class and its line here."""

from collections.abc import Callable

from spinmark_training.config.transfer import TransferConfig
from spinmark_training.transfer.alignment import Alignment
from spinmark_training.transfer.base import TransferTerm
from spinmark_training.transfer.contrast import Clip
from spinmark_training.transfer.match import Regression, Relational

TransferBuilder = Callable[[str, TransferConfig, Alignment], TransferTerm]


def _clip(name: str, config: TransferConfig, heads: Alignment) -> TransferTerm:
    return Clip(heads, config.temperature, config.direction)


def _relational(name: str, config: TransferConfig, heads: Alignment) -> TransferTerm:
    return Relational(name)


def _regression(name: str, config: TransferConfig, heads: Alignment) -> TransferTerm:
    return Regression(*heads.widths)


IN_HEADS = frozenset({"clip"})
"""Terms that compare images and tables in the space of the heads."""

TRANSFERS: dict[str, TransferBuilder] = {
    "clip": _clip,
    "rkd_distance": _relational,
    "cosine": _regression,
}
"""Every term by its name."""
