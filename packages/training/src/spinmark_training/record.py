"""The record of a run: metrics by step, checkpoints that survive a kill, and where to resume."""

import csv
import io
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from spinmark_training.datamodule import Batch, SubjectDataModule
from spinmark_training.module import PretrainModule
from spinmark_training.monitor import Monitor

logger = logging.getLogger(__name__)

_FIRST = ("step", "epoch", "loss", "loss_ssl", "chance", "lr")
_KEEP = 2  # the newest may have been cut short by a full disk; the one before is whole


def write_atomically(path: Path, text: str) -> None:
    """Write a file beside its name and move it into place, so that readers see all or the old one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


def metrics_text(rows: list[dict[str, float]]) -> str:
    """Return the rows as CSV: `step` and `epoch` first, one column a metric, blank where not measured."""
    names = [name for name in _FIRST if any(name in row for row in rows)]
    names += sorted({name for row in rows for name in row} - set(names))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names or ["step", "epoch"], restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {k: int(v) if k in ("step", "epoch") else f"{v:.6g}" for k, v in row.items()}
        )
    return stream.getvalue()


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that can be read, or none.

    Args:
        folder: The folder of checkpoints; it need not exist.
    """
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a torn file raises: the one before is tried
            logger.warning("checkpoint %s cannot be read (%s); trying an older one", path, error)
            continue
        return path
    return None


def newest_weights(folder: Path, prefix: str) -> dict[str, torch.Tensor] | None:
    """Return the tensors of the newest checkpoint whose names begin with a prefix, without it.

    Args:
        folder: The folder of checkpoints; it need not exist.
        prefix: Such as `objective.`.

    Returns:
        The tensors, or none if there is no checkpoint that can be read.
    """
    path = newest_checkpoint(folder)
    if path is None:
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


class Recorder(Callback):
    """Keeps the metrics, measures on validation subjects, saves checkpoints, reports progress.

    Args:
        out: The run's folder.
        monitor: Measures the encoder.
        steps: Steps in all.
        log_every: Steps between two rows.
        monitor_every: Steps between two measurements; 0 for the end alone.
        checkpoint_every: Steps between two checkpoints; 0 for none.
        progress: Called with steps done and steps in all.
    """

    def __init__(
        self,
        out: Path,
        monitor: Monitor,
        *,
        steps: int,
        log_every: int,
        monitor_every: int,
        checkpoint_every: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._out = out
        self._monitor = monitor
        self._steps = steps
        self._log_every = max(1, log_every)
        self._monitor_every = monitor_every
        self._checkpoint_every = checkpoint_every
        self._progress = progress
        self.rows: list[dict[str, float]] = []
        self._rate = 0.0

    def write(self) -> None:
        """Write `metrics.csv`."""
        write_atomically(self._out / "metrics.csv", metrics_text(self.rows))

    def measure(self, module: PretrainModule, step: int, epoch: int) -> None:
        """Add a measurement to the row of a step, which is made if there is none."""
        figures: Mapping[str, float] = self._monitor.measure(module.exported)
        if not self.rows or self.rows[-1]["step"] != step:
            self.rows.append({"step": step, "epoch": epoch})
        self.rows[-1] |= figures

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Note the learning rate of the step; once it is over the schedule has moved on."""
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        assert isinstance(pl_module, PretrainModule)
        pl_module.recording = self._is_logged(trainer.global_step + 1)

    def _is_logged(self, step: int) -> bool:
        return step % self._log_every == 0 or step in (1, self._steps)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Keep the books after a step."""
        assert isinstance(pl_module, PretrainModule)
        step = trainer.global_step
        pl_module.follow_step(step)
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, SubjectDataModule)
        epoch = data.place.epoch
        # Only now has the batch been learnt from: the loader may already hold the next one.
        data.place = batch.after
        final = step == self._steps
        if trainer.is_global_zero:
            if self._is_logged(step):
                row = {"step": step, "epoch": epoch, "lr": self._rate}
                self.rows.append(row | {k: float(v) for k, v in pl_module.figures.items()})
            if (self._monitor_every and step % self._monitor_every == 0) or final:
                self.measure(pl_module, step, epoch)
            if step % self._log_every == 0 or final:
                self.write()
        if (self._checkpoint_every and step % self._checkpoint_every == 0) or final:
            self._save(trainer, step)
        if self._progress is not None and trainer.is_global_zero:
            self._progress(step, self._steps)

    def _save(self, trainer: Trainer, step: int) -> None:
        folder = self._out / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        final = folder / f"step-{step:08d}.ckpt"
        partial = folder / f".{final.name}.partial"
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
            partial.replace(final)
            for old in sorted(folder.glob("step-*.ckpt"))[:-_KEEP]:
                old.unlink()

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far, so that a resumed run writes the same file."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Return to the rows of a checkpoint."""
        self.rows = [dict(row) for row in state_dict["rows"]]
