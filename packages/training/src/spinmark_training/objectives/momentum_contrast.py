"""MoCo: queries of the student against keys of a slow teacher, with and without a queue of earlier keys."""

import torch
from torch import Tensor

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.heads import ProjectionHead
from spinmark_models.losses.core.negative_queue import NegativeQueue
from spinmark_models.losses.mochi import mochi
from spinmark_models.losses.moco import moco, moco_v3
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Scored, Views
from spinmark_training.objectives.candidate_figures import (
    one_key_negatives,
    stored_figures,
    stored_negatives,
)
from spinmark_training.objectives.predictive import build_predictor
from spinmark_training.objectives.settings import given
from spinmark_training.objectives.slow_teacher import TaughtObjective, check_setting, plain_head


class MomentumContrast(TaughtObjective):
    """Each view finds the other view's key among the keys of a queue (MoCo v2, arXiv:2003.04297).

    Both directions are taken and both keys are put in. With mixtures it is MoCHi (arXiv:2010.01028).

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss; it has no batch normalisation.
        config: `temperature`, `momentum`, `queue`, `ignore_same_subject`; for mixtures also
            `hardest`, `mixed` and `with_query`.

    Raises:
        InputError: A number is out of its range.
    """

    def __init__(
        self, encoder: ImageEncoder, projection: ProjectionConfig, config: ObjectiveConfig
    ) -> None:
        head = plain_head(encoder.embedding_size, projection)
        super().__init__(encoder, head, config.momentum, longest=0.999)
        size = given(config.queue)
        check_setting("queue", size, size >= 1, "1 and more")
        self.queue = NegativeQueue(size, projection.out)
        self._temperature = given(config.temperature)
        self._ignore = config.ignore_same_subject
        self._mixing = _mixing(config) if config.name == "mochi_queue" else None
        self._draw = 0
        self._seen: tuple[Tensor, Tensor] | None = None

    def before_step(self, progress: float) -> None:
        """Number the draws of a step: the same after a restart, and in every process."""
        # A generator on the CPU starts from 32 bits and no more.
        self._draw = round(progress * 2**31)

    def forward(self, student: Views, slow: Views | None, batch: Batch) -> Scored:
        """Score a batch."""
        queries: Tensor = self.head(student.whole)
        keys = self.taught(slow)
        subject = batch.subject.to(queries.device)
        groups = subject if self._ignore else None
        generator = torch.Generator().manual_seed(self._draw)

        def one_way(query: Tensor, key: Tensor) -> Tensor:
            if self._mixing is None:
                return moco(query, key, self.queue, self._temperature, groups)
            return mochi(
                query,
                key,
                self._temperature,
                queue=self.queue,
                groups=groups,
                generator=generator,
                **self._mixing,
            )

        (q1, q2), (k1, k2) = queries.chunk(2), keys.chunk(2)
        loss = (one_way(q1, k2) + one_way(q2, k1)) / 2
        count = stored_negatives(subject, self.queue.filled()[1], self._ignore)
        made = 0 if self._mixing is None else self._mixing["mixed"] + self._mixing["with_query"]
        self._seen = (keys, subject.repeat(2))
        return Scored(loss, stored_figures(count, made), queries.detach())

    def remember(self) -> None:
        """Put the keys of the batch into the queue."""
        if self._seen is not None:
            self.queue.enqueue(*self._seen)
        self._seen = None


def _mixing(config: ObjectiveConfig) -> dict[str, int]:
    names = ("hardest", "mixed", "with_query")
    numbers = {name: int(given(getattr(config, name))) for name in names}
    for name, value in numbers.items():
        least = 1 if name == "hardest" else 0
        check_setting(name, value, value >= least, f"{least} and more")
    return numbers


class MomentumContrastInBatch(TaughtObjective):
    """Predictions of the student against the batch's keys of the teacher (MoCo v3, arXiv:2104.02057).

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss.
        config: `temperature`, `momentum`, `predictor`, `ignore_same_subject`.

    Raises:
        InputError: A number is out of its range.
    """

    def __init__(
        self, encoder: ImageEncoder, projection: ProjectionConfig, config: ObjectiveConfig
    ) -> None:
        head = ProjectionHead(encoder.embedding_size, projection)
        super().__init__(encoder, head, config.momentum, longest=0.99)
        self.predictor = build_predictor(projection.out, given(config.predictor))
        self._temperature = given(config.temperature)
        self._ignore = config.ignore_same_subject

    def forward(self, student: Views, slow: Views | None, batch: Batch) -> Scored:
        """Score a batch."""
        queries: Tensor = self.predictor(self.head(student.whole))
        subject = batch.subject.to(queries.device)
        groups = subject if self._ignore else None
        (q1, q2), (k1, k2) = queries.chunk(2), self.taught(slow).chunk(2)
        loss = moco_v3(q1, q2, k1, k2, self._temperature, groups)
        count, figures = one_key_negatives(subject, self._ignore)
        figures["chance"] = 4 * self._temperature * torch.log1p(count).mean()
        return Scored(loss, figures, queries.detach())
