"""The network in training: an encoder, an objective, an optimiser, and what is recorded of a step."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from spinmark_models.encoders import ImageEncoder
from spinmark_models.health import alignment, uniformity
from spinmark_models.losses.core.batch import process_count
from spinmark_models.momentum import make_teacher, update_teacher
from spinmark_training.batch import Batch, Cut
from spinmark_training.config import OptimConfig, TrainerConfig
from spinmark_training.doctor.source import first_nonfinite_layer
from spinmark_training.encoder_run import embedding_of, lay_out_alike, recompute_blocks
from spinmark_training.finite_loss import FiniteLoss
from spinmark_training.large_batch import embed_cut, embed_in_parts, refuse_batch_norm
from spinmark_training.launch.guard import several_processes
from spinmark_training.objectives.base import Objective, Scored, Views
from spinmark_training.sampling import random_stream
from spinmark_training.schedules import learning_rate_factor
from spinmark_training.streams import Stream
from spinmark_training.transfer import Transfer

_MOST_ROWS = 512  # uniformity compares every row with every other


class DivergedError(RuntimeError):
    """The loss is not a number; the weights are those of the step before.

    Args:
        text: What is no number.
        source: Where that began, in words, or none.
    """

    def __init__(self, text: str, source: str | None = None) -> None:
        super().__init__(text)
        self.source = source


class PretrainModule(LightningModule):
    """An encoder that learns from an objective.

    Args:
        encoder: The image encoder.
        objective: What it learns from.
        optim: The optimiser.
        trainer: How the encoder is run.
        seed: Of whatever is random within a step; each step starts from its own number.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        objective: Objective,
        optim: OptimConfig,
        trainer: TrainerConfig | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        how = trainer or TrainerConfig()
        self.encoder = encoder
        self.objective = objective
        self.average = make_teacher(encoder) if optim.ema is not None else None
        self._optim = optim
        self._how = how
        self._seed = seed
        self.recording = True
        self.inherited: tuple[str, ...] = ()
        self.figures: dict[str, Tensor | float] = {}
        self._finite = FiniteLoss()
        self._before_step: list[Tensor] | None = None
        if how.micro_batch is not None:
            refuse_batch_norm(encoder)
        if how.checkpoint_activations:
            recompute_blocks(encoder)
        self._embed: Callable[[Tensor], Tensor] | None = None

    @property
    def uses(self) -> list[str]:
        """What the encoder learns from beside voxels, before this run or in it."""
        return sorted({*self.inherited, *self.objective.uses})

    @property
    def extra(self) -> dict[str, Any]:
        """What the encoder's page is to tell beside what every run tells."""
        return {}

    @property
    def exported(self) -> ImageEncoder:
        """The encoder that the run is for: the average of the weights, where one is kept."""
        return self.encoder if self.average is None else self.average  # type: ignore[return-value]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, and keep its figures where they are recorded.

        Raises:
            DivergedError: The loss is not a number.
        """
        step, steps = self.global_step, max(1, self._optim.steps)
        self._seed_step(step, 1 + self.global_rank)
        self.objective.before_step(step / steps)
        self.figures = {}
        student, slow = self._views(batch)
        # Alike on all processes: some objectives draw what all must agree on.
        self._seed_step(step, 0)
        scored = self.objective(student, slow, batch)
        loss = self.combine(scored, student.whole, batch)
        if self.recording:
            self._note(scored, student.whole, loss)
        self._refuse_nonfinite(loss, batch)
        return loss

    def _seed_step(self, step: int, stream: int) -> None:
        """A step's random numbers follow from its number, so that a resumed run draws the same ones."""
        key = random_stream(self._seed, Stream.STEP, step, stream)
        torch.manual_seed(int(key.integers(2**62)))

    def _refuse_nonfinite(self, loss: Tensor, batch: Batch) -> None:
        """End the run, on all processes at once, where the loss of any is no number."""
        asked = self._finite.ask(loss)
        if asked is None or math.isfinite(asked):
            return
        cut = next(iter(batch.stream(self.device)))

        def forward() -> None:
            student = Views(
                self.encoder(cut.whole).embedding,
                None if cut.local is None else self.encoder(cut.local).embedding,
            )
            # An objective that gathers rows would wait for a process whose heads have failed.
            if self.objective.teacher is None and batch.parts == 1 and not several_processes():
                self.objective(student, None, batch)

        source = first_nonfinite_layer(self, forward)
        raise DivergedError(f"the loss is {asked}", source.text if source else None)

    def _views(self, batch: Batch) -> tuple[Views, Views | None]:
        """Embed a batch by the encoder and, where there is one, by the slow teacher."""
        embed = self._embedding()
        slow = self.objective.teacher
        taught = None if slow is None else embedding_of(slow.encoder)  # type: ignore[arg-type]
        local = self.objective.teacher_sees_local
        if batch.parts == 1:
            cut = next(iter(batch.stream(self.device)))
            self._note_views(cut)
            student = embed_cut(embed, cut)
            with torch.no_grad():
                return student, None if taught is None else embed_cut(taught, cut, local=local)
        weights = list(self.encoder.parameters())
        student = embed_in_parts(embed, weights, batch, self.device, seen=self._note_views)
        with torch.no_grad():
            return student, (
                None
                if taught is None
                else embed_in_parts(taught, [], batch, self.device, local=local)
            )

    def _embedding(self) -> Callable[[Tensor], Tensor]:
        """The encoder's embedding; the first call lays the weights out where they now are."""
        if self._embed is None:
            self._embed = embedding_of(
                self.encoder, channels_last=self._how.channels_last, compiled=self._how.compile
            )
        return self._embed

    def on_train_start(self) -> None:
        """Lay the optimiser's moments out as the weights are: a checkpoint holds both row by row."""
        self._embedding()
        for optimizer in self.trainer.optimizers:
            lay_out_alike(optimizer)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move what a batch says of its joints; its views are cut on the device."""
        names = ("first", "second", "subject", "joint")
        moved = {name: getattr(batch, name).to(device) for name in names if hasattr(batch, name)}
        return dataclasses.replace(batch, **moved)

    def combine(self, scored: Scored, embedding: Tensor, batch: Batch) -> Tensor:
        """Return the whole loss; distillation adds its terms here.

        Args:
            scored: What the objective says.
            embedding: Embeddings `(2N, E)`, all first views, then all second.
            batch: The batch.
        """
        return scored.loss

    def _note_views(self, cut: Cut) -> None:
        if not self.recording:
            return
        first, second = cut.whole.chunk(2)
        self.figures["view_difference"] = (first - second).abs().mean()

    @torch.no_grad()
    def _note(self, scored: Scored, embedding: Tensor, loss: Tensor) -> None:
        first, second = scored.projected.float().chunk(2)
        rows = nn.functional.normalize(embedding.detach().float(), dim=1)
        self.figures |= {
            "loss_ssl": scored.loss.detach(),
            **scored.figures,
            "alignment": alignment(first, second),
            "uniformity": uniformity(first[:_MOST_ROWS]),
            # 1 where the rows point everywhere, 0 where all point one way.
            "embedding_sd": rows.std(dim=0).mean() * math.sqrt(rows.shape[1]),
            "loss": loss.detach(),
        }
        if "negatives_expected" in self.figures:
            # The objective counts the processes that joined; those that were asked for are expected.
            asked = self._how.devices * self._how.num_nodes
            expected = self.figures["negatives_expected"]
            # A new tensor: an objective may give one for both figures.
            self.figures["negatives_expected"] = expected * (asked / process_count())

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Keep the norm of the gradient, and the weights as they are before the step."""
        if self.recording:
            found = [p.grad for p in self.parameters() if p.grad is not None]
            self.figures["grad_norm"] = torch.nn.utils.get_total_norm(found)
            self._before_step = [p.detach().clone() for p in self.encoder.parameters()]

    def follow_step(self, step: int) -> None:
        """Move teacher and average after a step of the optimiser.

        Args:
            step: Steps taken, from 1.
        """
        teacher = self.objective.teacher
        if self._before_step is not None:
            now = list(self.encoder.parameters())
            self.figures["update_ratio"] = _relative(self._before_step, now)
            self._before_step = None
        before = None
        if self.recording and teacher is not None:
            before = [p.clone() for p in teacher.encoder.parameters()]
        self.objective.after_step(self.encoder, step, max(1, self._optim.steps))
        if self.average is not None and self._optim.ema is not None:
            # At first it looks back over a tenth of the steps so far, or the random start would stay in it:
            # of 110 steps at 0.999 nine tenths of what is exported.
            update_teacher(self.average, self.encoder, min(self._optim.ema, step / (step + 10)))
        if before is not None and teacher is not None:
            now = list(teacher.encoder.parameters())
            own = list(self.encoder.parameters())
            self.figures["teacher_moved"] = _relative(before, now)
            self.figures["teacher_distance"] = _relative(now, own)

    def configure_optimizers(self) -> Any:
        """Return the optimiser (AdamW: Loshchilov and Hutter 2017, arXiv:1711.05101) and its schedule."""
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            # Decay pulls on directions, not on the scales and shifts of a normalisation.
            {
                "params": [p for _, p in named if p.ndim > 1],
                "weight_decay": self._optim.weight_decay,
            },
            {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
        ]
        fused = self._optim.fused
        if fused is None:
            # A fused optimiser scales 16-bit gradients back within its step: too late for their norm.
            fused = self.device.type == "cuda" and self._how.precision != "16-mixed"
        optimizer: torch.optim.Optimizer
        if self._optim.name == "sgd":
            optimizer = torch.optim.SGD(groups, lr=self._optim.lr, momentum=0.9, fused=fused)
        else:
            optimizer = torch.optim.AdamW(groups, lr=self._optim.lr, fused=fused)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor(self._optim))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


@torch.no_grad()
def _relative(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """The norm of a difference over that of what was there."""
    apart = torch.stack([(a - b).square().sum() for a, b in zip(after, before, strict=True)])
    size = torch.stack([b.square().sum() for b in before])
    return (apart.sum() / size.sum().clamp_min(1e-30)).sqrt()


class DistilModule(PretrainModule):
    """Self-supervision together with a clinical teacher.

    Args:
        encoder: The image encoder.
        objective: The self-supervised objective.
        optim: The optimiser.
        trainer: How the encoder is run.
        seed: Of whatever is random within a step.
        transfer: The terms between image and table.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        objective: Objective,
        optim: OptimConfig,
        trainer: TrainerConfig | None = None,
        seed: int = 0,
        *,
        transfer: Transfer,
    ) -> None:
        super().__init__(encoder, objective, optim, trainer, seed)
        self.transfer = transfer
        self._slow: Tensor | None = None

    @property
    def extra(self) -> dict[str, Any]:
        """What the encoder's page tells beside: which features the table explains, if it is a part of them."""
        parts = self.transfer.parts
        if parts is None or not self._optim.steps:
            return {}
        width = self.encoder.embedding_size
        return {"parts": {"table": [0, parts.table], "image": [parts.table, width]}}

    def _views(self, batch: Batch) -> tuple[Views, Views | None]:
        """Embed a batch, and where image and table teach each other by the image's moving average too."""
        slow = self.transfer.slow_encoder
        if slow is None:
            return super()._views(batch)
        with views_cut_once(batch):
            found = super()._views(batch)
            embed = embedding_of(slow)
            with torch.no_grad():
                if batch.parts == 1:
                    cut = next(iter(batch.stream(self.device)))
                    self._slow = embed_cut(embed, cut, local=False).whole
                else:
                    self._slow = embed_in_parts(embed, [], batch, self.device, local=False).whole
        return found

    def combine(self, scored: Scored, embedding: Tensor, batch: Batch) -> Tensor:
        """Return the weighted sum of self-supervision and the terms between image and table."""
        loss: Tensor
        loss, figures = self.transfer(
            scored.loss, embedding, batch, self._slow, recording=self.recording
        )
        self._slow = None
        if self.recording:
            self.figures |= figures
        return loss

    def follow_step(self, step: int) -> None:
        """Move averages after a step of the optimiser.

        Args:
            step: Steps taken, from 1.
        """
        super().follow_step(step)
        self.transfer.after_step(self.encoder, step, max(1, self._optim.steps))


@contextlib.contextmanager
def views_cut_once(batch: Batch) -> Iterator[None]:
    """Keep the views of a batch that comes in one part, for who embeds them twice.

    Args:
        batch: The batch; afterwards it cuts its views anew.
    """
    cut, kept = batch.cut, dict[int, Cut]()

    def once(part: int, device: torch.device) -> Cut:
        if part not in kept:
            kept[part] = cut(part, device)
        return kept[part]

    if batch.parts == 1:
        batch.cut = once
    try:
        yield
    finally:
        batch.cut = cut
