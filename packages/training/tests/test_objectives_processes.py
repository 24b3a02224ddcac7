"""Objectives over two processes: loss, gradient and figures of one process that holds the whole batch."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch import multiprocessing as mp

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives import Objective
from spinmark_training.objectives.terms import AGAINST_NUISANCE, TERMS, WithTerms
from spinmark_training.side_information import SideInformation

from .embedded_batch import PROJECTION, WIDTH, Views, batch_of, build, embeddings, known_of
from .tabled_world import SEQUENCE, write_tabled

NAMES = (
    *("nt_xent", "decoupled", "debiased", "hard_negative", "mochi", "ring", "semi_hard"),
    *("barlow_twins", "vicreg", "w_mse", "clip", "siglip"),
    *("sup_con", "rank_n_contrast", "rank_n_contrast_censored", "y_aware"),
    *("tabular_similarity", "metadata_enhanced", "supervised"),
)
CONFIGS = {name: ObjectiveConfig(name=name) for name in NAMES} | {
    f"+{name}": ObjectiveConfig(
        terms={name: 1.0}, severity="XRKL" if name in AGAINST_NUISANCE else None
    )
    for name in TERMS
}
# What a process says of its own rows only, so that it is the mean over processes that counts.
OWN = ("loss_",)


def plain(objective: Objective) -> Objective:
    """The objective with heads that know no batch, as a normalisation over processes would make them."""
    torch.manual_seed(9)
    inner = objective.objective if isinstance(objective, WithTerms) else objective
    if hasattr(inner, "projectors"):
        inner.projectors = nn.ModuleList([nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4)])
    else:
        inner.projector = nn.Linear(WIDTH, 4)
    objective.before_step(0.5)
    return objective


def whole_batch(known: SideInformation) -> Batch:
    """Both joints of six subjects, one visit a view, so that subjects cross processes."""
    joint, subject = known.joints(), known.subjects()
    first, second, owner = [], [], []
    for number in range(int(joint.max()) + 1):
        rows = torch.nonzero(joint == number)[:, 0].tolist()
        first.append(rows[number % 3])
        second.append(rows[(number + 1) % 3])
        owner.append(int(subject[rows[0]]))
    order = [3, 0, 8, 5, 10, 1, 4, 9, 2, 6, 7, 11]
    return batch_of(*([values[i] for i in order] for values in (first, second, owner)))


def forget(objective: Objective, rows: Tensor) -> None:
    """Nothing is known of some scans any more."""
    for name, buffer in objective.named_buffers():
        if name.split(".")[-1] in {"label0", "numbers", "table", "codes", "days"}:
            buffer[rows] = math.nan if buffer.is_floating_point() else -1


def score(name: str, known: SideInformation, lopsided: bool, rows: slice) -> dict[str, Tensor]:
    """Loss, gradient and figures of some rows of the batch."""
    projection = PROJECTION
    if name == "vicreg":
        projection = type(PROJECTION)(hidden=16, out=4, final_norm=False)
    objective = plain(build(CONFIGS[name], known, projection))
    everything = whole_batch(known)
    if lopsided:
        late = slice(len(everything) // 2, None)
        forget(objective, torch.cat([everything.first[late], everything.second[late]]))
    batch = batch_of(
        *(getattr(everything, key)[rows].tolist() for key in ("first", "second", "subject"))
    )
    student = embeddings(everything).whole.detach().unflatten(0, (2, -1))[:, rows].flatten(0, 1)
    student.requires_grad_()
    scored = objective(Views(student), None, batch)
    scored.loss.backward()
    assert student.grad is not None
    figures = {key: torch.as_tensor(value) for key, value in scored.figures.items()}
    return {"loss": scored.loss.detach(), "gradient": student.grad, **figures}


def opened(folder: str) -> SideInformation:
    """What the processes know."""
    cohort = Cohort.open(Path(folder) / "cohort")
    frame = torch.load(Path(folder) / "split.pt", weights_only=False)
    return known_of((cohort, Split(frame=frame, hash="x")), SEQUENCE)


def work(rank: int, folder: str) -> None:
    from torch import distributed as dist

    torch.set_num_threads(1)
    known = opened(folder)
    half = len(whole_batch(known)) // 2
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    mine = slice(rank * half, (rank + 1) * half)
    found = {
        (name, lopsided): score(name, known, lopsided, mine)
        for name in CONFIGS
        for lopsided in (False, True)
    }
    torch.save(found, f"{folder}/{rank}.pt")
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
    known = opened(str(tmp_path))
    for name in CONFIGS:
        for lopsided in (False, True):
            one, two = (part[name, lopsided] for part in parts)
            whole = score(name, known, lopsided, slice(None))
            said = f"{name}, {'lopsided' if lopsided else 'even'}: "
            torch.testing.assert_close((one["loss"] + two["loss"]) / 2, whole["loss"], msg=said)
            halves = [part["gradient"].unflatten(0, (2, -1)) for part in (one, two)]
            got = torch.cat(halves, dim=1).flatten(0, 1) / 2
            torch.testing.assert_close(got, whole["gradient"], msg=said + "gradient")
            # Each process expects what its own rows let it, and the doctor allows for a quarter.
            for part in (one, two):
                if "negatives" in whole:
                    assert part["negatives"] > 0.75 * part["negatives_expected"], said
            for key in set(whole) - {"loss", "gradient", "negatives_expected"}:
                value = (one[key] + two[key]) / 2
                torch.testing.assert_close(value, whole[key], msg=said + key)
                if not key.startswith(OWN):
                    torch.testing.assert_close(one[key], two[key], msg=said + key)
