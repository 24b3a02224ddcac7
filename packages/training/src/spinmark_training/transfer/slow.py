"""Mutual learning: image encoder and clinical encoder each learn from the other's moving average.

Zhang, Xiang, Hospedales, Lu, "Deep Mutual Learning", 2017, arXiv:1706.00384, let networks teach each
other as they are. Here each teaches by its moving average, as in Grill et al. 2020, arXiv:2006.07733,
so that neither follows what the other does in a single step.
"""

import torch
from torch import Tensor, nn

from spinmark_models.encoders import ImageEncoder
from spinmark_models.momentum import make_teacher, teacher_momentum, update_teacher
from spinmark_training.transfer.alignment import Alignment
from spinmark_training.transfer.teachers import LearningRows

LONGEST = 0.996


class SlowSides(nn.Module):
    """The moving averages of both encoders and of the heads behind them.

    Args:
        image: The image encoder.
        rows: The clinical encoder.
        heads: The heads; none if no term has any.
        momentum: Share that is kept at a step, at the start; none takes 0.996, or less in a short run.
    """

    def __init__(
        self,
        image: ImageEncoder,
        rows: LearningRows,
        heads: Alignment | None,
        momentum: float | None,
    ) -> None:
        super().__init__()
        self.image = make_teacher(image)
        self.table = make_teacher(rows.encoder)
        self.heads = None if heads is None else make_teacher(heads)
        self._momentum = momentum

    def share(self, step: int, steps: int) -> float:
        """Return the share that is kept at a step.

        Args:
            step: Steps taken, from 1.
            steps: Steps in all.
        """
        start = self._momentum
        if start is None:
            # The average looks back over a tenth of the run at most.
            start = min(LONGEST, max(0.0, 1 - 10 / steps))
        return teacher_momentum(step, steps, start)

    @torch.no_grad()
    def image_side(self, embedding: Tensor) -> Tensor:
        """Project the average's embeddings `(2N, E)` by the average of the head."""
        assert isinstance(self.heads, Alignment)
        projected: Tensor = self.heads.image_head(embedding)
        return projected

    @torch.no_grad()
    def table_side(self, latent: Tensor) -> Tensor:
        """Project the average's latents `(2N, L)` by the average of the head."""
        assert isinstance(self.heads, Alignment)
        projected: Tensor = self.heads.table_head(latent)
        return projected

    def follow(
        self,
        image: ImageEncoder,
        rows: LearningRows,
        heads: Alignment | None,
        step: int,
        steps: int,
    ) -> None:
        """Move towards the networks after a step.

        Args:
            image: The image encoder.
            rows: The clinical encoder.
            heads: The heads.
            step: Steps taken, from 1.
            steps: Steps in all.
        """
        share = self.share(step, steps)
        update_teacher(self.image, image, share)
        update_teacher(self.table, rows.encoder, share)
        if self.heads is not None and heads is not None:
            update_teacher(self.heads, heads, share)
