"""Terms of embeddings alone: they spread, or the two views see the same batch."""

from torch import Tensor

from spinmark_models.encoders import ImageEncoder
from spinmark_models.losses.koleo import koleo
from spinmark_models.losses.registry import get_loss
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Views
from spinmark_training.objectives.term import Term, too_few
from spinmark_training.side_information import SideInformation

AGREEMENTS = (
    "cka",
    "cka_debiased",
    "pkt",
    "rkd_angle",
    "rkd_distance",
    "similarity_preserving",
)
"""Losses that compare how two sets of rows lie among themselves; none of them needs a head."""


class Spread(Term):
    """KoLeo (arXiv:1806.03198): embeddings of one view lie far from their nearest neighbour.

    Args:
        ignore_same_subject: Whether a subject's joints are no neighbours.
    """

    def __init__(self, *, ignore_same_subject: bool) -> None:
        super().__init__()
        self._ignore = ignore_same_subject

    def forward(self, student: Views, batch: Batch) -> Tensor:
        """Return the mean over both views."""
        first, second = student.whole.chunk(2)
        groups = batch.subject.to(first.device) if self._ignore else None
        return (koleo(first, groups) + koleo(second, groups)) / 2


class Agreement(Term):
    """Both views find the same joints alike; each is in turn the teacher, without gradient.

    It says nothing against a collapse, so it stands beside an objective and never alone.

    Args:
        name: One of `AGREEMENTS`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._loss = get_loss(name)

    def forward(self, student: Views, batch: Batch) -> Tensor:
        """Return the mean of both directions; 0 in a batch that is too small."""
        first, second = student.whole.chunk(2)
        if too_few(first):
            return 0 * student.whole.sum()
        one: Tensor = self._loss(first, second.detach())
        other: Tensor = self._loss(second, first.detach())
        return (one + other) / 2


def build_spread(
    name: str, config: ObjectiveConfig, encoder: ImageEncoder, known: SideInformation
) -> Term:
    """Build KoLeo."""
    return Spread(ignore_same_subject=config.ignore_same_subject)


def build_agreement(
    name: str, config: ObjectiveConfig, encoder: ImageEncoder, known: SideInformation
) -> Term:
    """Build the agreement of a name."""
    return Agreement(name)
