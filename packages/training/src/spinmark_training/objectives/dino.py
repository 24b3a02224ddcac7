"""DINO: the student's distribution over made-up classes follows a slow teacher's on other views."""

import math

import torch
from torch import Tensor

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.losses.dino import Centre, dino, dino_chance
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Scored, Views
from spinmark_training.objectives.prototype_head import (
    PrototypeHead,
    Said,
    all_views,
    check_local_views,
)
from spinmark_training.objectives.settings import given
from spinmark_training.objectives.slow_teacher import TaughtObjective, check_setting


class Dino(TaughtObjective):
    """Self-distillation without labels (Caron et al. 2021, arXiv:2104.14294).

    The teacher sees the whole views, the student those and the smaller ones. The teacher's output is
    centred by its running mean and sharpened by a low temperature, which rises at first.

    Args:
        encoder: The image encoder.
        projection: The head before the prototypes.
        config: `momentum`, `temperature`, `prototypes`, `freeze_prototypes`, `local_views`,
            `centre_momentum`, `teacher_temperature`, `teacher_temperature_start`, `teacher_warmup`.

    Raises:
        InputError: A number is out of its range, or the encoder cannot take smaller views.
    """

    head: PrototypeHead

    def __init__(
        self, encoder: ImageEncoder, projection: ProjectionConfig, config: ObjectiveConfig
    ) -> None:
        count = given(config.prototypes)
        head = PrototypeHead(encoder.embedding_size, projection, count)
        super().__init__(encoder, head, config.momentum)
        self.local_views = check_local_views(encoder, config.local_views)
        self._classes, self._temperature = count, given(config.temperature)
        self._range = given(config.teacher_temperature_start), given(config.teacher_temperature)
        for name in ("teacher_temperature_start", "teacher_temperature"):
            value = given(getattr(config, name))
            check_setting(name, value, value > 0, "numbers above 0")
        self._warmup, self._frozen = given(config.teacher_warmup), given(config.freeze_prototypes)
        for name in ("teacher_warmup", "freeze_prototypes", "centre_momentum"):
            value = given(getattr(config, name))
            check_setting(name, value, 0 <= value <= 1, "numbers in [0, 1]")
        self.centre = Centre(count, given(config.centre_momentum))
        self.teacher_temperature = self._range[0]
        self._seen: Tensor | None = None

    def before_step(self, progress: float) -> None:
        """Set the teacher's temperature, and hold the prototypes in the first steps."""
        start, end = self._range
        share = min(1.0, progress / self._warmup) if self._warmup else 1.0
        self.teacher_temperature = start + (end - start) * share
        self.head.held = progress < self._frozen

    @torch.no_grad()
    def taught(self, slow: Views | None) -> Tensor:
        """Return the teacher's scores of both views, `(2N, K)`."""
        if slow is None:
            raise AssertionError("an objective with a teacher was scored without its embeddings")
        said: Said = self.teacher.head(slow.whole)
        return said.scores

    def forward(self, student: Views, slow: Views | None, batch: Batch) -> Scored:
        """Score a batch."""
        views = 2 + self.local_views
        said: Said = self.head(all_views(student, self.local_views))
        outputs = self.taught(slow)
        loss = dino(
            said.scores.chunk(views),
            outputs.chunk(2),
            self.centre.value,
            self._temperature,
            self.teacher_temperature,
        )
        self._seen = outputs
        figures: dict[str, Tensor | float] = {
            "chance": dino_chance(self._classes),
            "teacher_entropy": self._entropy(outputs),
        }
        return Scored(loss, figures, said.projected[: len(student.whole)].detach())

    @torch.no_grad()
    def _entropy(self, outputs: Tensor) -> Tensor:
        """Return how undecided the teacher is: 0 for one class a view, 1 for all alike."""
        centred = (outputs.float() - self.centre.value) / self.teacher_temperature
        log_p = torch.log_softmax(centred, dim=1)
        return -(log_p.exp() * log_p).sum(dim=1).mean() / math.log(self._classes)

    def remember(self) -> None:
        """Move the centre towards the mean of the teacher's outputs."""
        if self._seen is not None:
            self.centre.update([self._seen])
        self._seen = None
