import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_training.checkpoints import read_checkpoint
from spinmark_training.config import PretrainConfig
from spinmark_training.launch.interrupted import RETRY, InterruptedRun
from spinmark_training.launch.signals import SIGNALS, StopAtSignal
from spinmark_training.pretrain import pretrain

World = tuple[Cohort, Split]


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two trees differ, to the bit."""
    if isinstance(one, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [path]
    if isinstance(one, dict):
        keys = [path] if list(one) != list(other) else []
        return keys + [
            d for k in one if k in other for d in differences(one[k], other[k], f"{path}/{k}")
        ]
    if isinstance(one, list | tuple):
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{path}/{i}")]
    return [] if repr(one) == repr(other) else [path]


def test_a_signal_ends_a_run_after_its_step_and_nothing_differs_in_the_end(
    world: World, make_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    def told(done: int, steps: int) -> None:
        if done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = [signal.getsignal(one) for one in SIGNALS]
    with pytest.raises(
        InterruptedRun, match=r"^SIGTERM ended the run after step 3 of 8; [^\n]*$"
    ) as at:
        pretrain(*world, make_config(), tmp_path / "told", progress=told)
    assert (at.value.exit_status, at.value.step) == (RETRY, 3)
    assert [signal.getsignal(one) for one in SIGNALS] == before
    kept = sorted(p.name for p in (tmp_path / "told" / "checkpoints").iterdir())
    assert kept == ["step-00000002", "step-00000003"]
    assert not (tmp_path / "told" / "encoder").exists()

    assert pretrain(*world, make_config(), tmp_path / "told").resumed_at == 3
    pretrain(*world, make_config(), tmp_path / "calm")
    ends = [
        read_checkpoint(tmp_path / name / "checkpoints" / "step-00000008")
        for name in ("told", "calm")
    ]
    assert {"state_dict", "optimizer_states", "lr_schedulers", "callbacks", "loops"} <= set(ends[0])
    # Where the trainer counts what it fetched since it was started, the two have different histories.
    assert [d for d in differences(*ends) if not d.startswith("/loops")] == []
    for name in ("metrics.csv", "encoder/model.safetensors"):
        files = [(tmp_path / run / name).read_bytes() for run in ("told", "calm")]
        assert files[0] == files[1]


def test_only_the_main_thread_listens() -> None:
    before = [signal.getsignal(one) for one in SIGNALS]
    seen: list[Any] = []

    def work() -> None:
        with StopAtSignal(lambda trainer, step: None, 1).listening():
            seen.extend(signal.getsignal(one) for one in SIGNALS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == before


def test_a_request_to_queue_again_outlives_the_end_that_follows_it() -> None:
    stop = StopAtSignal(lambda trainer, step: None, 10)
    with stop.listening():
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop._received == signal.SIGUSR1
    stop.raise_if_stopped()  # no step has ended since


def test_a_helper_ends_quietly() -> None:
    assert InterruptedRun(3, 8, "SIGTERM", is_main=False).exit_status == 0
    line = str(InterruptedRun(3, 8, "SIGUSR1", requeued=True))
    assert line.endswith("its checkpoint is written and the job is queued again")
