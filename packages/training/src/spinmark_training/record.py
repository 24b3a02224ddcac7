"""The record of a run: metrics by step, checkpoints that survive a kill, and where to resume."""

import csv
import io
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from spinmark_training.checkpoints import checkpoint_name
from spinmark_training.datamodule import Batch, SubjectDataModule
from spinmark_training.doctor import Watcher
from spinmark_training.launch.guard import mean_over_processes
from spinmark_training.loggers import Loggers
from spinmark_training.module import PretrainModule
from spinmark_training.monitor import Monitor
from spinmark_training.throughput import StepClock

logger = logging.getLogger(__name__)

TIMING = "timing"
"""The folder of a run for what depends on the machine and the hour; it is no part of the run's hash."""

_FIRST = ("step", "epoch", "loss", "loss_ssl", "chance", "lr")


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
        watcher: Names what goes wrong while it does.
        loggers: Show the figures elsewhere.
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
        watcher: Watcher,
        loggers: Loggers,
    ) -> None:
        self._out = out
        self._monitor = monitor
        self._steps = steps
        self._log_every = max(1, log_every)
        self._monitor_every = monitor_every
        self._checkpoint_every = checkpoint_every
        self._progress = progress
        self._watcher = watcher
        self._loggers = loggers
        self.rows: list[dict[str, float]] = []
        self.timed: list[dict[str, float]] = []
        self._clock = StepClock()
        self._rate = 0.0
        self._due = 0

    def resume(self, step: int) -> None:
        """Go on with the timing of an earlier part of the run.

        Args:
            step: The step that the run is resumed after; later ones are forgotten.
        """
        path = self._out / TIMING / "throughput.csv"
        if step and path.is_file():
            with path.open(newline="") as stream:
                rows = [
                    {k: float(v) for k, v in row.items() if v} for row in csv.DictReader(stream)
                ]
            self.timed = [row for row in rows if row["step"] <= step]

    def note_divergence(self) -> None:
        """Write into the last row that the loss is no number any more."""
        last = self.rows[-1] if self.rows else {"step": 0.0, "epoch": 0.0}
        self.rows.append(last | {"loss": float("nan")})

    def write(self) -> None:
        """Write `metrics.csv`, and apart from it what differs between two runs alike in all else."""
        write_atomically(self._out / "metrics.csv", metrics_text(self.rows))
        if self.timed:
            (self._out / TIMING).mkdir(exist_ok=True)
            write_atomically(self._out / TIMING / "throughput.csv", metrics_text(self.timed))

    def measure(self, module: PretrainModule, step: int, epoch: int) -> None:
        """Add a measurement to the row of a step, which is made if there is none."""
        figures: Mapping[str, float] = self._monitor.measure(module.exported)
        if not self.rows or self.rows[-1]["step"] != step:
            self.rows.append({"step": step, "epoch": epoch})
        self.rows[-1] |= figures
        self._loggers.log(step, figures)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Note the learning rate of the step; once it is over the schedule has moved on."""
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        assert isinstance(pl_module, PretrainModule)
        pl_module.recording = self._is_logged(trainer.global_step + 1)
        self._clock.arrived()

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
        self._clock.ended(len(batch), batch.waited)
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, SubjectDataModule)
        epoch = data.place.epoch
        # Only now has the batch been learnt from: the loader may already hold the next one.
        data.place = batch.after
        final = step == self._steps
        if self._is_logged(step):
            # Of all processes: each has the loss of its own rows.
            figures = mean_over_processes(pl_module.figures, pl_module.device)
            row = {"step": step, "epoch": epoch, "lr": self._rate}
            self.rows.append(row | {k: float(v) for k, v in figures.items()})
            self.timed.append({"step": step, **self._clock.figures()})
            if trainer.is_global_zero:
                self._watch(step)
        if trainer.is_global_zero:
            if (self._monitor_every and step % self._monitor_every == 0) or final:
                self.measure(pl_module, step, epoch)
            if final or (step % self._log_every == 0 and len(self.rows) >= self._due):
                self.write()
                # Written as a whole: a long run does so whenever it has become a hundredth longer.
                self._due = len(self.rows) + len(self.rows) // 100
        if (self._checkpoint_every and step % self._checkpoint_every == 0) or final:
            self.save(trainer, step)
        if self._progress is not None and trainer.is_global_zero:
            self._progress(step, self._steps)
        self._clock.asked()

    def _watch(self, step: int) -> None:
        """Say at once what is wrong, and show the figures where somebody looks."""
        for finding in self._watcher.watch([*self.rows, *self.timed]):
            logger.warning("step %d: %s: %s", step, finding.check, finding.text)
        self._loggers.log(step, self.rows[-1] | self.timed[-1])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to measure the time."""
        self._clock = StepClock(device=pl_module.device)
        self._clock.asked()

    def save(self, trainer: Trainer, step: int) -> None:
        """Write a checkpoint; called on every process."""
        trainer.save_checkpoint(self._out / "checkpoints" / checkpoint_name(step))

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far, so that a resumed run writes the same file.

        As tensors: as text they would take seconds to write in a run of many steps.
        """
        names = sorted({name for row in self.rows for name in row})
        there = torch.tensor([[n in row for n in names] for row in self.rows], dtype=torch.bool)
        values = [[row.get(n, 0.0) for n in names] for row in self.rows]
        return {"names": names, "there": there, "values": torch.tensor(values, dtype=torch.float64)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Return to the rows of a checkpoint."""
        names, there, values = (state_dict[key] for key in ("names", "there", "values"))
        self.rows = [
            {n: v for n, v, known in zip(names, row, mask, strict=True) if known}
            for row, mask in zip(values.tolist(), there.tolist(), strict=True)
        ]
