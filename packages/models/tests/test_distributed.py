from pathlib import Path

import pytest
import torch
from torch import multiprocessing as mp

from spinmark_models.losses.clip import clip_loss
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_models.losses.relational import relational_distance

GROUPS = torch.tensor([0, 0, 1, 2, 1, 3, 3, 3])


def losses(a: torch.Tensor, b: torch.Tensor, groups: torch.Tensor) -> list[torch.Tensor]:
    return [nt_xent(a, b, 0.2, groups), clip_loss(a, b, lam=0.3), relational_distance(a, b)]


def inputs() -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(8, 4, generator=g, dtype=torch.float64) for _ in range(2)]


def work(rank: int, folder: str) -> None:
    from torch import distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    rows = slice(4 * rank, 4 * rank + 4)
    results = []
    for k in range(3):
        a, b = (x[rows].clone().requires_grad_() for x in inputs())
        loss = losses(a, b, GROUPS[rows])[k]
        loss.backward()  # type: ignore[no-untyped-call]
        results.append((loss.detach(), a.grad, b.grad))
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.multiproc
def test_two_processes_equal_one_in_loss_and_gradient(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The spawned processes import this very file by its name below the root.
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath))
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for k in range(3):
        a, b = (x.requires_grad_() for x in inputs())
        loss = losses(a, b, GROUPS)[k]
        loss.backward()  # type: ignore[no-untyped-call]
        # Averaged over processes, as DistributedDataParallel does with gradients.
        torch.testing.assert_close((parts[0][k][0] + parts[1][k][0]) / 2, loss.detach())
        for i, x in ((1, a), (2, b)):
            got = torch.cat([parts[0][k][i], parts[1][k][i]]) if x.grad is not None else None
            if got is not None:
                torch.testing.assert_close(got / 2, x.grad)
