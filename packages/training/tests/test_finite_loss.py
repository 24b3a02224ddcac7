import math
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing as mp

from spinmark_training.finite_loss import FiniteLoss


def test_one_process_is_told_its_own_loss_of_this_step() -> None:
    asked = FiniteLoss()
    for value in (1.5, math.inf, 2.0):
        assert asked.ask(torch.tensor(value, requires_grad=True)) == value


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    asked = FiniteLoss()
    losses = [torch.tensor(1.0 + rank), torch.tensor(math.nan if rank else 1.0)]
    Path(f"{folder}/{rank}").write_text(" ".join(str(asked.ask(loss)) for loss in losses))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.multiproc
def test_all_processes_hear_of_the_loss_of_one(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath))
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == ["3.0 nan", "3.0 nan"]
