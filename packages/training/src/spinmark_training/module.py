"""The network in training: encoder, projection, and the objectives on a batch of two views."""

import math
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.heads import ProjectionHead
from spinmark_models.health import alignment, uniformity
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_training.config import ObjectiveConfig, OptimConfig
from spinmark_training.datamodule import Batch


class DivergedError(RuntimeError):
    """The loss is not a number; the weights are those of the step before."""


def chance_level(groups: Tensor, ignore_same: bool) -> float:
    """Return the NT-Xent of an encoder that cannot tell its pairs apart.

    Args:
        groups: The group of each pair, `(N,)`.
        ignore_same: Whether other pairs of a group are no negatives.

    Returns:
        The mean over pairs of the log of the number of candidates; ln(2N - 1) without groups.
    """
    n = len(groups)
    if not ignore_same:
        return math.log(2 * n - 1)
    same = (groups[:, None] == groups[None, :]).sum(dim=1).double()
    return float(torch.log(2 * n - 2 * same + 1).mean())


def learning_rate_factor(optim: OptimConfig) -> Callable[[int], float]:
    """Return the share of the highest learning rate at each step.

    Args:
        optim: `steps`, `warmup` and `schedule` are used.
    """
    warm = round(optim.warmup * optim.steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        if optim.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, optim.steps - warm)))

    return factor


class ContrastiveModule(LightningModule):
    """Self-supervised contrast of two views (SimCLR, Chen et al. 2020, arXiv:2002.05709).

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss.
        objective: Temperature and negatives.
        optim: The optimiser.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        projection: ProjectionConfig,
        objective: ObjectiveConfig,
        optim: OptimConfig,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = ProjectionHead(encoder.embedding_size, projection)
        self._objective = objective
        self._optim = optim
        self.figures: dict[str, float] = {}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, and keep its figures for the record.

        Raises:
            DivergedError: The loss is not a number.
        """
        embedding = self.encoder(batch.views).embedding
        projected = self.projector(embedding)
        first, second = projected.chunk(2)
        groups = batch.subject if self._objective.ignore_same_subject else None
        ssl = nt_xent(first, second, self._objective.temperature, groups)
        self.figures = {
            "loss_ssl": float(ssl.detach()),
            "chance": chance_level(batch.subject, groups is not None),
            "alignment": float(alignment(first.detach(), second.detach())),
            "uniformity": float(uniformity(first.detach())),
        }
        loss = self.combine(ssl, embedding, batch)
        self.figures["loss"] = float(loss.detach())
        if not math.isfinite(self.figures["loss"]):
            raise DivergedError(f"the loss is {self.figures['loss']}")
        return loss

    def combine(self, ssl: Tensor, embedding: Tensor, batch: Batch) -> Tensor:
        """Return the whole loss; distillation adds its terms here.

        Args:
            ssl: The self-supervised loss.
            embedding: Embeddings `(2N, E)`, all first views, then all second.
            batch: The batch.
        """
        return ssl

    def configure_optimizers(self) -> Any:
        """Return AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101) and its schedule."""
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            # Decay pulls on directions, not on the scales and shifts of a normalisation.
            {
                "params": [p for _, p in named if p.ndim > 1],
                "weight_decay": self._optim.weight_decay,
            },
            {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self._optim.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor(self._optim))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class DistilModule(ContrastiveModule):
    """Self-supervision together with a frozen clinical teacher.

    The contrast between image and table follows Hager et al. 2023, arXiv:2303.14080.

    Args:
        encoder: The image encoder.
        projection: The heads between embeddings and losses.
        objective: Temperature and negatives.
        optim: The optimiser.
        targets: The teacher's standardised latents, one row a scan of the source `(scans, L)`.
        ssl_weight: Weight of the self-supervised loss.
        clip_weight: Weight of the contrast between image and table.
        clip_temperature: Its temperature.
        term: The relational or regression loss.
        term_weight: Its weight.
    """

    targets: Tensor

    def __init__(
        self,
        encoder: ImageEncoder,
        projection: ProjectionConfig,
        objective: ObjectiveConfig,
        optim: OptimConfig,
        *,
        targets: Tensor,
        ssl_weight: float,
        clip_weight: float,
        clip_temperature: float,
        term: str,
        term_weight: float,
    ) -> None:
        super().__init__(encoder, projection, objective, optim)
        latent = targets.shape[1]
        self.image_head = ProjectionHead(encoder.embedding_size, projection)
        self.table_head = ProjectionHead(latent, projection)
        self.predictor = nn.Linear(encoder.embedding_size, latent) if term == "cosine" else None
        self.register_buffer("targets", targets, persistent=False)
        self._weights = (ssl_weight, clip_weight, term_weight)
        self._clip_temperature = clip_temperature

    def combine(self, ssl: Tensor, embedding: Tensor, batch: Batch) -> Tensor:
        """Return the weighted sum of self-supervision, image-table contrast and distillation term."""
        from spinmark_models.losses.clip import clip_chance, clip_loss
        from spinmark_models.losses.regression import cosine_regression
        from spinmark_models.losses.relational import relational_distance

        image = self.image_head(embedding).chunk(2)
        taught = [self.targets[batch.first], self.targets[batch.second]]
        table = self.table_head(torch.cat(taught)).chunk(2)
        # View by view: both views of a visit share one table row, which must not be its own negative.
        clip = torch.stack(
            [clip_loss(image[i], table[i], self._clip_temperature) for i in (0, 1)]
        ).mean()
        if self.predictor is None:
            halves = embedding.chunk(2)
            term = torch.stack([relational_distance(halves[i], taught[i]) for i in (0, 1)]).mean()
        else:
            term = cosine_regression(self.predictor(embedding), torch.cat(taught))
        self.figures |= {
            "loss_clip": float(clip.detach()),
            "chance_clip": clip_chance(len(batch.first)),
            "loss_distill": float(term.detach()),
        }
        weights = self._weights
        return weights[0] * ssl + weights[1] * clip + weights[2] * term
