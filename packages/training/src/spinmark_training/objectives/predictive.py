"""BYOL and SimSiam: one view predicts the other, and no gradient flows through what is predicted."""

import torch
from torch import Tensor

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.heads import Predictor, ProjectionHead
from spinmark_models.losses.byol import byol
from spinmark_models.losses.simsiam import simsiam
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Objective, Scored, Views
from spinmark_training.objectives.settings import given
from spinmark_training.objectives.slow_teacher import TaughtObjective, check_setting


def build_predictor(features: int, hidden: int) -> Predictor:
    """Return a predictor of a projection from another.

    Args:
        features: Length of a projection.
        hidden: Width of the hidden layer; 0 for a linear map.

    Raises:
        InputError: The width is below 0.
    """
    check_setting("predictor", hidden, hidden >= 0, "0, for a linear one, and more")
    return Predictor(features, features, hidden)


class PredictedTeacher(TaughtObjective):
    """A student predicts what a slow teacher says of the other view (BYOL, arXiv:2006.07733).

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss, which the teacher has too.
        config: `momentum`, `predictor`.

    Raises:
        InputError: A number is out of its range.
    """

    def __init__(
        self, encoder: ImageEncoder, projection: ProjectionConfig, config: ObjectiveConfig
    ) -> None:
        head = ProjectionHead(encoder.embedding_size, projection)
        super().__init__(encoder, head, config.momentum)
        self.predictor = build_predictor(projection.out, given(config.predictor))

    def forward(self, student: Views, slow: Views | None, batch: Batch) -> Scored:
        """Score a batch."""
        projected: Tensor = self.head(student.whole)
        p1, p2 = torch.chunk(self.predictor(projected), 2)
        loss = byol(p1, p2, *self.taught(slow).chunk(2))
        return Scored(loss, {}, projected.detach())


class PredictedSelf(Objective):
    """A student predicts its own other view (SimSiam, arXiv:2011.10566).

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss.
        config: `predictor`.

    Raises:
        InputError: A number is out of its range.
    """

    def __init__(
        self, encoder: ImageEncoder, projection: ProjectionConfig, config: ObjectiveConfig
    ) -> None:
        super().__init__()
        self.projector = ProjectionHead(encoder.embedding_size, projection)
        self.predictor = build_predictor(projection.out, given(config.predictor))

    def forward(self, student: Views, slow: Views | None, batch: Batch) -> Scored:
        """Score a batch."""
        projected: Tensor = self.projector(student.whole)
        p1, p2 = torch.chunk(self.predictor(projected), 2)
        loss = simsiam(p1, p2, *projected.chunk(2))
        return Scored(loss, {}, projected.detach())
