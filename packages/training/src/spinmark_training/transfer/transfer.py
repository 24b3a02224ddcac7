"""The weighted sum of self-supervision and the losses between image and table."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from spinmark_models.encoders import ImageEncoder
from spinmark_training.batch import Batch
from spinmark_training.config.transfer import PartsConfig
from spinmark_training.transfer.alignment import Alignment
from spinmark_training.transfer.balance import GradientBalance
from spinmark_training.transfer.base import SpaceTerm, Taught, TransferTerm
from spinmark_training.transfer.parts import PartPenalties
from spinmark_training.transfer.slow import SlowSides
from spinmark_training.transfer.teachers import FrozenRows, LearningRows

Figures = dict[str, Tensor | float]


class Transfer(nn.Module):
    """Adds the losses between image and table to a self-supervised one.

    Args:
        rows: What the teacher makes of a batch's rows.
        terms: The terms by name.
        weights: The weight of each.
        ssl_weight: That of the self-supervised loss.
        heads: The space in which images and tables are compared; none if no term does.
        balance: Brings gradients to one size; none for weights alone.
        penalties: What keeps the image part apart; none for a whole embedding.
        parts: The parts and the weights of their penalties.
        pretext: Weight of the pretext loss of a teacher that learns along.
        slow: The moving averages that each side learns from; none if the image alone learns, or both
            from each other as they are.
        back: With these, the terms by which the clinical encoder learns from embeddings.
    """

    def __init__(
        self,
        rows: FrozenRows | LearningRows,
        terms: Mapping[str, TransferTerm | SpaceTerm],
        weights: Mapping[str, float],
        ssl_weight: float,
        heads: Alignment | None,
        *,
        balance: GradientBalance | None = None,
        penalties: PartPenalties | None = None,
        parts: PartsConfig | None = None,
        pretext: float = 1.0,
        slow: SlowSides | None = None,
        back: Mapping[str, TransferTerm] | None = None,
    ) -> None:
        super().__init__()
        self.rows = rows
        self.heads = heads
        self.terms = nn.ModuleDict(dict(terms))
        self.balance = balance
        self.penalties = penalties
        self.slow = slow
        self.back = nn.ModuleDict(dict(back or {}))
        self.parts = parts
        self._weights = dict(weights)
        self._ssl_weight = ssl_weight
        self._pretext = pretext

    @property
    def learning(self) -> LearningRows | None:
        """The teacher, if it learns along."""
        return self.rows if isinstance(self.rows, LearningRows) else None

    @property
    def slow_encoder(self) -> ImageEncoder | None:
        """The moving average of the image encoder whose embeddings `forward` is to be given, if any."""
        return None if self.slow is None else self.slow.image  # type: ignore[return-value]

    def forward(
        self,
        ssl: Tensor,
        embedding: Tensor,
        batch: Batch,
        slow: Tensor | None = None,
        *,
        recording: bool = True,
    ) -> tuple[Tensor, Figures]:
        """Return the whole loss, and figures for the record.

        Args:
            ssl: The self-supervised loss.
            embedding: `(2N, E)`, all first views, then all second ones.
            batch: The batch.
            slow: The embeddings of the moving average, where there is one.
            recording: Whether figures beside the losses are wanted.
        """
        taught = self._taught(batch)
        losses = self._image_side(self._table_part(embedding), taught, batch)
        figures: Figures = {f"loss_{name}": value.detach() for name, value in losses.items()}
        weights: dict[str, Tensor | float] = dict(self._weights)
        if self.balance is not None:
            factors = self.balance(ssl, list(losses.values()), embedding).unbind()
            weights = {
                name: self._weights[name] * factor
                for name, factor in zip(losses, factors, strict=True)
            }
            figures |= {f"weight_{name}": weight for name, weight in weights.items()}
        loss = self._ssl_weight * ssl
        for name, value in losses.items():
            loss = loss + weights[name] * value
        if self.penalties is not None and self.parts is not None:
            for name, value in self.penalties(embedding, taught.target, batch).items():
                figures[f"loss_{name}"] = value.detach()
                loss = loss + self.parts.terms[name] * value
        if self.learning is not None:
            more, found = self._table_side(self.learning, batch, slow)
            loss, figures = loss + more, figures | found
        if recording:
            for term in self.terms.values():
                figures |= term.figures(batch)  # type: ignore[operator]
        return loss, figures

    def _taught(self, batch: Batch) -> Taught:
        if self.slow is None or self.learning is None:
            found: Taught = self.rows(batch)
            return found
        return self.learning.whole(batch, self.slow.table)  # type: ignore[arg-type]

    def _table_part(self, embedding: Tensor) -> Tensor:
        return embedding if self.parts is None else embedding[:, : self.parts.table]

    def _image_side(self, part: Tensor, taught: Taught, batch: Batch) -> dict[str, Tensor]:
        """The losses that teach the image encoder, and in joint learning the clinical one too."""
        image = table = part
        if self.heads is not None:
            image = self.heads.image_head(part)
            project = self.heads.table_head if self.slow is None else self.slow.table_side
            table = project(taught.latent)
        return {
            name: term(image, table, batch)
            if isinstance(term, SpaceTerm)
            else term(part, taught, batch)
            for name, term in self.terms.items()
        }

    def _table_side(
        self, rows: LearningRows, batch: Batch, slow: Tensor | None
    ) -> tuple[Tensor, Figures]:
        """The losses that teach the clinical encoder alone."""
        figures: Figures = {}
        loss = rows.unmoved()
        if self._pretext:
            own = rows.pretext_loss(batch)
            figures["loss_pretext"] = own.detach()
            loss = loss + self._pretext * own
        if self.slow is None:
            return loss, figures
        if slow is None:
            raise AssertionError("mutual learning was scored without the average's embeddings")
        latent, part = rows.seen(batch), self._table_part(slow.detach())
        image = table = part
        if self.heads is not None:
            image, table = self.slow.image_side(part), self.heads.table_head(latent)
        for name, term in self.terms.items():
            if isinstance(term, SpaceTerm):
                value = term(image, table, batch)
            elif name in self.back:
                value = self.back[name](latent, Taught(part, part), batch)
            else:
                continue
            figures[f"loss_{name}_table"] = value.detach()
            loss = loss + self._weights[name] * value
        return loss, figures

    @torch.no_grad()
    def after_step(self, encoder: ImageEncoder, step: int, steps: int) -> None:
        """Follow a step of the optimiser: averages move here.

        Args:
            encoder: The image encoder.
            step: Steps taken, from 1.
            steps: Steps in all.
        """
        if self.balance is not None:
            self.balance.after_step()
        if self.slow is not None and self.learning is not None:
            self.slow.follow(encoder, self.learning, self.heads, step, steps)
