"""A projection followed by prototypes, and the smaller views that go with them: parts of SwAV and DINO."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ENCODERS, ImageEncoder
from spinmark_models.heads import ProjectionHead
from spinmark_models.losses.swav import Prototypes
from spinmark_training.errors import InputError
from spinmark_training.objectives.base import Views
from spinmark_training.objectives.slow_teacher import check_setting


class Said(NamedTuple):
    """What a `PrototypeHead` says.

    Attributes:
        projected: `(B, D)`.
        scores: Their cosines with the prototypes `(B, K)`.
    """

    projected: Tensor
    scores: Tensor


class PrototypeHead(nn.Module):
    """A projection, and its cosines with prototypes that are normalised at every use.

    Args:
        inside: Length of an embedding.
        projection: The perceptron before the prototypes.
        count: Number of prototypes.

    Attributes:
        held: Whether the prototypes take no gradient for now.

    Raises:
        InputError: There are fewer than 2 prototypes.
    """

    def __init__(self, inside: int, projection: ProjectionConfig, count: int) -> None:
        super().__init__()
        check_setting("prototypes", count, count >= 2, "2 and more")
        self.projector = ProjectionHead(inside, projection)
        self.prototypes = Prototypes(projection.out, count)
        self.held = False

    def forward(self, x_BE: Tensor) -> Said:
        """Project embeddings `(B, inside)` and compare them with the prototypes."""
        projected = self.projector(x_BE)
        return Said(projected, self.score(projected))

    def score(self, projected: Tensor) -> Tensor:
        """Return the cosines `(B, K)` of projections with the prototypes."""
        if not self.held:
            scores: Tensor = self.prototypes(projected)
            return scores
        # A gradient of 0, not none: processes that share gradients wait for one of every weight.
        weight = self.prototypes.weight
        fixed = F.normalize(weight.detach() + 0 * weight, dim=1)
        return F.linear(F.normalize(projected, dim=1), fixed)


def check_local_views(encoder: ImageEncoder, count: int | None) -> int:
    """Return how many smaller views of each joint an objective gets.

    Args:
        encoder: The encoder that will see them.
        count: How many were asked for; none for none.

    Raises:
        InputError: The number is negative, or the encoder takes one grid only.
    """
    number = count or 0
    check_setting("local_views", number, number >= 0, "0 and more")
    if number and encoder.fixed_grid:
        able = sorted(n for n, kind in ENCODERS.items() if not getattr(kind, "fixed_grid", False))
        raise InputError(
            f"objective.local_views: {number}; encoder {encoder.config.name!r} takes volumes of one "
            f"grid only, accepted are {', '.join(able)}"
        )
    return number


def all_views(student: Views, local_views: int) -> Tensor:
    """Return the embeddings of all views in one tensor, the whole ones first, `((2 + L) N, E)`.

    Raises:
        InputError: There are no smaller views where some were asked for.
    """
    if not local_views:
        return student.whole
    if student.local is None:
        raise InputError(
            f"objective.local_views: {local_views}; the batch brings no smaller views, data.local_shape "
            "gives their grid"
        )
    return torch.cat([student.whole, student.local])
