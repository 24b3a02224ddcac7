"""Losses between image and table over two processes: those of one process that holds the whole batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import multiprocessing as mp

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_training.batch import Batch
from spinmark_training.config import PartsConfig
from spinmark_training.side_information import SideInformation
from spinmark_training.transfer import TRANSFERS, FittedTeacher, Transfer

from .embedded_batch import WIDTH, batch_of, embeddings
from .tabled_world import SEQUENCE, write_tabled
from .taught_world import fitted_teacher, self_supervised, transfer_of

World = tuple[FittedTeacher, SideInformation]
LEARNING = {"clip": 1.0, "near_tables": 0.5, "rkd_distance": 1.0, "soft_targets": 1.0}
CONFIGS: dict[str, dict[str, Any]] = {
    **{name: {"terms": {name: 1.0}} for name in TRANSFERS},
    **{
        f"{name}, subjects apart": {"terms": {name: 1.0}, "ignore_same_subject": True}
        for name in ("clip", "siglip", "near_tables", "crd")
    },
    "joint": {"terms": LEARNING, "teacher": "joint"},
    "mutual": {"terms": LEARNING, "teacher": "mutual"},
    "balanced": {"terms": LEARNING | {"vid": 0.5}, "balance": "gradients"},
    "parts": {
        "terms": {"clip": 1.0},
        "parts": PartsConfig(table=3, terms={"orthogonal": 1.0, "hsic": 10.0}),
    },
    "parts, given": {
        "terms": {"clip": 1.0},
        "parts": PartsConfig(table=3, terms={"conditional": 10.0}, given="SEX"),
    },
}


def plain(transfer: Transfer) -> Transfer:
    """With heads that know no batch, as a normalisation over processes would make them."""
    for number, heads in enumerate((transfer.heads, transfer.slow and transfer.slow.heads)):
        if heads:
            torch.manual_seed(number)
            features, latents = heads.widths
            heads.image_head, heads.table_head = nn.Linear(features, 4), nn.Linear(latents, 4)
    return transfer


def whole_batch(known: SideInformation) -> Batch:
    """Both joints of six subjects, one visit a view, so that subjects cross processes."""
    joint, subject = known.joints(), known.subjects()
    first, second, owner = [], [], []
    for number in [3, 0, 8, 5, 10, 1, 4, 9, 2, 6, 7, 11]:
        rows = torch.nonzero(joint == number)[:, 0].tolist()
        first.append(rows[number % 3])
        second.append(rows[(number + 1) % 3])
        owner.append(int(subject[rows[0]]))
    return batch_of(first, second, owner)


def score(name: str, taught: World, rows: slice) -> dict[str, Tensor]:
    """Loss, gradients and figures of some rows of the batch."""
    transfer = plain(transfer_of(taught, **CONFIGS[name]))
    everything = whole_batch(taught[1])
    batch = batch_of(
        *(getattr(everything, key)[rows].tolist() for key in ("first", "second", "subject"))
    )
    z, slow = (
        embeddings(everything, seed).whole.detach().unflatten(0, (2, -1))[:, rows].flatten(0, 1)
        for seed in (0, 7)
    )
    z.requires_grad_()
    torch.manual_seed(11)
    loss, figures = transfer(self_supervised(z, batch), z, batch, slow)
    loss.backward()
    assert z.grad is not None
    assert z.shape[1] == WIDTH
    of_weights = [p.grad.flatten() for p in transfer.parameters() if p.grad is not None]
    found = {key: torch.as_tensor(value).detach() for key, value in figures.items()}
    weights = torch.cat(of_weights) if of_weights else torch.zeros(1)
    return {"loss": loss.detach(), "gradient": z.grad, "weights": weights, **found}


def opened(folder: str) -> World:
    """What the processes know."""
    cohort = Cohort.open(Path(folder) / "cohort")
    frame = torch.load(Path(folder) / "split.pt", weights_only=False)
    return fitted_teacher((cohort, Split(frame=frame, hash="x")), SEQUENCE)


def work(rank: int, folder: str) -> None:
    from torch import distributed as dist

    torch.set_num_threads(1)
    taught = opened(folder)
    half = len(whole_batch(taught[1])) // 2
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    mine = slice(rank * half, (rank + 1) * half)
    torch.save({name: score(name, taught, mine) for name in CONFIGS}, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.multiproc
def test_two_processes_equal_one_in_loss_gradient_and_figures(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, split = write_tabled(tmp_path / "cohort")
    torch.save(split.frame, tmp_path / "split.pt")
    # The spawned processes import this very file by its name below the root.
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath))
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    taught = opened(str(tmp_path))
    for name in CONFIGS:
        one, two = (part[name] for part in parts)
        whole = score(name, taught, slice(None))
        close = {"rtol": 1e-4, "atol": 1e-5}
        halves = [part["gradient"].unflatten(0, (2, -1)) for part in (one, two)]
        got = torch.cat(halves, dim=1).flatten(0, 1) / 2
        torch.testing.assert_close(got, whole["gradient"], msg=f"{name}: gradient", **close)
        for key in set(whole) - {"gradient"}:
            value = (one[key] + two[key]) / 2
            torch.testing.assert_close(value, whole[key], msg=f"{name}: {key}", **close)
