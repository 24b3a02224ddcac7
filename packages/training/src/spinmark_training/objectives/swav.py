"""SwAV: each view predicts the prototype that another view was assigned to, all being used alike."""

import torch
from torch import Tensor, nn

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.losses.core.batch import process_count
from spinmark_models.losses.core.gather import is_distributed
from spinmark_models.losses.core.negative_queue import NegativeQueue
from spinmark_models.losses.core.sinkhorn import sinkhorn
from spinmark_models.losses.swav import swapped_prediction, swav_chance
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Objective, Scored, Views
from spinmark_training.objectives.prototype_head import (
    PrototypeHead,
    Said,
    all_views,
    check_local_views,
)
from spinmark_training.objectives.settings import given
from spinmark_training.objectives.slow_teacher import check_setting


class Swav(Objective):
    """Swapped assignments to prototypes (Caron et al. 2020, arXiv:2006.09882).

    Whole views are assigned, every other view predicts. Projections of earlier batches may take part
    in the assignment, for batches with fewer joints than there are prototypes.

    Args:
        encoder: The image encoder.
        projection: The head before the prototypes.
        config: `temperature`, `epsilon`, `prototypes`, `freeze_prototypes`, `local_views`, `queue`.

    Raises:
        InputError: A number is out of its range, or the encoder cannot take smaller views.
    """

    def __init__(
        self, encoder: ImageEncoder, projection: ProjectionConfig, config: ObjectiveConfig
    ) -> None:
        super().__init__()
        count, kept = given(config.prototypes), given(config.queue)
        self.head = PrototypeHead(encoder.embedding_size, projection, count)
        self.local_views = check_local_views(encoder, config.local_views)
        check_setting("queue", kept, kept >= 0, "0, for none, and more")
        queues = [NegativeQueue(kept, projection.out) for _ in range(2 if kept else 0)]
        self.queues = nn.ModuleList(queues)
        self._count, self._temperature = count, given(config.temperature)
        self._epsilon, self._frozen = given(config.epsilon), given(config.freeze_prototypes)
        check_setting("epsilon", self._epsilon, self._epsilon > 0, "numbers above 0")
        check_setting(
            "freeze_prototypes", self._frozen, 0 <= self._frozen <= 1, "numbers in [0, 1]"
        )
        self._seen: Tensor | None = None

    def before_step(self, progress: float) -> None:
        """Hold the prototypes in the first steps."""
        self.head.held = progress < self._frozen

    def forward(self, student: Views, slow: Views | None, batch: Batch) -> Scored:
        """Score a batch."""
        views = 2 + self.local_views
        said: Said = self.head(all_views(student, self.local_views))
        scores = said.scores.chunk(views)
        terms = []
        for assigned in (0, 1):
            codes = self._codes(scores[assigned], assigned)
            terms += [
                swapped_prediction(scores[other], codes, self._temperature)
                for other in range(views)
                if other != assigned
            ]
        projected = said.projected[: len(student.whole)].detach()
        self._seen = projected
        return Scored(torch.stack(terms).mean(), {"chance": swav_chance(self._count)}, projected)

    @torch.no_grad()
    def _codes(self, scores: Tensor, view: int) -> Tensor:
        """Return the assignment of a view `(N, K)`, together with stored ones of that view."""
        rows = scores.detach()
        if len(self.queues):
            queue = self.queues[view]
            assert isinstance(queue, NegativeQueue)
            rows = torch.cat([rows, self.head.score(_share(queue.filled()[0])).to(rows)])
        return sinkhorn(rows, self._epsilon)[: len(scores)]

    @torch.no_grad()
    def after_step(self, encoder: ImageEncoder, step: int, steps: int) -> None:
        """Put the projections of the batch into the queues."""
        if self._seen is not None:
            for queue, rows in zip(self.queues, self._seen.chunk(2), strict=False):
                assert isinstance(queue, NegativeQueue)
                queue.enqueue(rows)
        self._seen = None


def _share(stored: Tensor) -> Tensor:
    """Return this process's part of rows that every process holds; all have equally many."""
    world = process_count()
    if world == 1:
        return stored
    each = len(stored) // world
    rank = torch.distributed.get_rank() if is_distributed() else 0
    return stored[rank * each : (rank + 1) * each]
