"""USR1 and SIGTERM: end the run at the next step, with a checkpoint, and tell the scheduler.

A scheduler sends USR1 some time before a job's time is over, if it is asked to, and SIGTERM when it takes
the machine back or the user cancels. Only after USR1 is the job queued again: a cancelled one is not
wanted, and one that was taken back is queued again by the scheduler itself.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch import distributed as dist

from spinmark_training.launch.guard import several_processes
from spinmark_training.launch.interrupted import InterruptedRun
from spinmark_training.launch.slurm import requeue

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


class StopAtSignal(Callback):
    """Ends a run at the boundary of a step once a signal has come, on all processes at the same one.

    Use `with stop.listening(): trainer.fit(...)` and then `stop.raise_if_stopped()`.

    Args:
        save: Writes a checkpoint of the step that is over; called on every process.
        steps: Steps in all, for the message.
        early: Whether signals are taken before the first step too. A process that waits for others must
            not: it cannot look at a flag then, and a launcher that ends it would wait in vain.
    """

    def __init__(
        self, save: Callable[[Trainer, int], None], steps: int, *, early: bool = True
    ) -> None:
        self._save = save
        self._steps = steps
        self._received = 0
        self._stopped_at: int | None = None
        self._is_main = True
        self._group: dist.ProcessGroup | None = None
        self._asked: tuple[Tensor, Any] | None = None
        self._listens = False
        self._early = early

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Nothing more: a handler may run in the middle of anything, and the step has to end first.
        # USR1 stays when SIGTERM follows it, since it is the one that asks for a requeue.
        if self._received != signal.SIGUSR1:
            self._received = number

    def _take_signals(self) -> None:
        for one in SIGNALS:
            signal.signal(one, self._note)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals instead of dying of them; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.getsignal(one) for one in SIGNALS}
        if self._early:
            self._take_signals()
        self._listens = True
        try:
            yield
        finally:
            self._listens = False
            for one, handler in before.items():
                signal.signal(one, handler)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back from the trainer, whose handler ends the step in its middle."""
        self._is_main = trainer.is_global_zero
        if self._listens:
            self._take_signals()
        if several_processes():
            # The trainer's own way to spread SIGTERM waits for the device at every step.
            loop: Any = trainer.fit_loop.epoch_loop
            loop._broadcast_sigterm_tensor = lambda: None
            # Apart from the gradients' group, and on the CPU, so that no step waits for its GPU.
            self._group = dist.new_group(backend="gloo")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save and stop if any process has had a signal."""
        if trainer.global_step >= self._steps:
            return
        agreed = self._agreed()
        if agreed and self._stopped_at is None:
            self._received = agreed
            self._stopped_at = trainer.global_step
            self._save(trainer, trainer.global_step)
            trainer.should_stop = True

    def _agreed(self) -> int:
        """Return the signal that the processes stop for, or 0.

        The answer to one step's question is read at the end of the next, so that nobody waits for it.
        """
        if self._group is None:
            return self._received
        answer = 0
        if self._asked is not None:
            flag, work = self._asked
            work.wait()
            answer = int(flag)
        flag = torch.tensor([_RANKS.get(self._received, 0)], dtype=torch.int64)
        self._asked = (flag, dist.all_reduce(flag, dist.ReduceOp.MAX, self._group, async_op=True))
        return _BY_RANK[answer] if answer else 0

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the last question, which the end of the process group would cut off."""
        if self._asked is not None:
            self._asked[1].wait()
            self._asked = None

    def raise_if_stopped(self) -> None:
        """End the run in the caller's words, and put the job back into its queue.

        Raises:
            InterruptedRun: A signal has ended the run.
        """
        if self._stopped_at is None:
            return
        again = self._is_main and self._received == signal.SIGUSR1 and requeue()
        raise InterruptedRun(
            self._stopped_at,
            self._steps,
            signal.Signals(self._received).name,
            requeued=again,
            is_main=self._is_main,
        )


# USR1 outranks SIGTERM.
_RANKS = {int(signal.SIGTERM): 1, int(signal.SIGUSR1): 2}
_BY_RANK = {rank: number for number, rank in _RANKS.items()}
