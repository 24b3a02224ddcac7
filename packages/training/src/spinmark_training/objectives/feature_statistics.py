"""Objectives without negatives that look at the statistics of a batch: its features, and not its pairs."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.losses.core.batch import batch_size
from spinmark_models.losses.registry import get_loss
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError
from spinmark_training.objectives.base import Objective
from spinmark_training.objectives.settings import DEFAULTS
from spinmark_training.objectives.two_views import Figures, TwoViewObjective
from spinmark_training.side_information import SideInformation


class FeatureStatistics(TwoViewObjective):
    """Two views that agree, and features that do not repeat each other.

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss.
        name: The loss: `barlow_twins`, `vicreg` or `w_mse`.
        options: What it is told.

    Raises:
        InputError: The head would fulfil a part of the loss by itself.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        projection: ProjectionConfig,
        name: str,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(encoder, projection)
        if name == "vicreg" and projection.final_norm:
            raise InputError(
                "projection.final_norm: True; vicreg asks for False, since a normalisation of the batch "
                "would fulfil its variance term"
            )
        self._loss = get_loss(name)
        self._options = dict(options)
        self._whitens = name == "w_mse"
        # Views that have nothing to do with each other: C_ii is 0, or the cosine is.
        chance = {"barlow_twins": float(projection.out), "w_mse": 2.0}.get(name)
        self._figures: Figures = {} if chance is None else {"chance": chance}

    def compare(self, first: Tensor, second: Tensor, batch: Batch) -> tuple[Tensor, Figures]:
        """Return the loss and, where there is one, its chance level; of whitening how many features it saw."""
        if not self._whitens:
            return self._loss(first, second, **self._options), self._figures
        # A batch at the end of an epoch may be too small for all of them. By a Cholesky factor, the first
        # whitened features are those of the first features alone.
        count = min(first.shape[1], batch_size(first, least=2) // 2)
        loss = self._loss(first[:, :count], second[:, :count], **self._options)
        return loss, {**self._figures, "features": float(count)}


def build_statistics(
    config: ObjectiveConfig,
    projection: ProjectionConfig,
    encoder: ImageEncoder,
    known: SideInformation,
) -> Objective:
    """Build the objective of a loss of features; the resolved fields are its options."""
    options = {name: getattr(config, name) for name in DEFAULTS[config.name]}
    return FeatureStatistics(encoder, projection, config.name, options)
