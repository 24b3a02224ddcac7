"""All checks, in order."""

import os
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from spinmark_models.losses.nt_xent import nt_xent
from spinmark_models.selftest import contrast, convolution
from spinmark_models.selftest.convolution import ConvCase
from spinmark_models.selftest.records import Check

Progress = Callable[[int, int], None]
Task = Callable[[], Sequence[Check]]
# Of the memory that is free, what a check may take.
SHARE_OF_MEMORY = 0.6
CPU = torch.device("cpu")


def run_checks(device: torch.device, progress: Progress | None = None) -> list[Check]:
    """Runs all checks.

    Args:
        device: What is checked: `cpu` or `cuda`.
        progress: Called with (done, total).

    Returns:
        What was found, in the order of the checks. A check that raises an error has failed, unless
        it ran out of memory.
    """
    tasks = _tasks(device)
    found: list[Check] = []
    for done, (name, task) in enumerate(tasks):
        if progress is not None:
            progress(done, len(tasks))
        found += attempt(name, task)
    if progress is not None:
        progress(len(tasks), len(tasks))
    return found


def attempt(name: str, task: Task) -> list[Check]:
    """Runs a check; what it raises becomes its finding."""
    try:
        return list(task())
    except (torch.OutOfMemoryError, MemoryError):
        return [Check(name=name, note="not enough memory")]
    except RuntimeError as error:
        line = str(error).strip().splitlines() or ["no message"]
        return [Check(name=name, figure=float("nan"), tolerance=0.0, note=line[0])]


def _tasks(device: torch.device) -> list[tuple[str, Task]]:
    on_gpu = device.type == "cuda"
    cases = convolution.SMALL + convolution.LARGE + (convolution.LARGE_GPU if on_gpu else ())
    tasks: list[tuple[str, Task]] = [
        (f"Conv3d, {case}", partial(_convolution, case, device)) for case in cases
    ]
    for dtype in contrast.TOLERANCE:
        task = partial(contrast.against_float64, dtype, device)
        tasks.append((f"contrastive loss, {dtype}", task))
    kernel = partial(
        contrast.against_float64,
        torch.bfloat16,
        device,
        contrast.in_own_format,
        "contrastive kernel's",
    )
    tasks.append(("contrastive kernel, bf16", kernel))
    tasks.append(("CPU against the accelerator", partial(_across, device)))
    tasks.append(("the same twice", partial(_twice, device)))
    if on_gpu:
        tasks.append(("arithmetic reached", partial(_arithmetic, device)))
    return tasks


def _arithmetic(device: torch.device) -> list[Check]:
    return [contrast.share_of_peak(device)]


def _convolution(case: ConvCase, device: torch.device) -> list[Check]:
    free = _free_bytes(device)
    if case.bytes > SHARE_OF_MEMORY * free:
        needs = f"takes about {case.bytes / 1e9:.0f} GB; {free / 1e9:.0f} GB are free"
        return [Check(name=f"Conv3d, {case}", note=needs)]
    return [
        convolution.float32_against_products(case, device),
        convolution.bf16_against_float32(case, device),
    ]


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    # Not every system tells what is free; then half of what there is.
    free = "SC_AVPHYS_PAGES" in os.sysconf_names
    pages = os.sysconf("SC_AVPHYS_PAGES") if free else os.sysconf("SC_PHYS_PAGES") // 2
    return pages * os.sysconf("SC_PAGE_SIZE")


def _across(device: torch.device) -> list[Check]:
    if device.type == "cpu":
        return [Check(name="CPU against the accelerator", note="the CPU alone was checked")]
    found = []
    for case in convolution.SMALL:
        drawn = convolution.draw(case, CPU).to(torch.float32)
        on_cpu = convolution.results(case, drawn)
        there = [x.cpu() for x in convolution.results(case, drawn.to(device))]
        found.append(_alike(f"Conv3d float32, {case}", convolution.worst_of_all(there, on_cpu)))
    here = _contrast(CPU, torch.float32)
    there = [x.cpu() for x in _contrast(device, torch.float32)]
    found.append(_alike("contrastive loss and gradient", convolution.worst_of_all(there, here)))
    return found


def _alike(name: str, figure: float) -> Check:
    return Check(
        name=f"CPU against the accelerator, {name}",
        figure=figure,
        tolerance=convolution.WORST_FLOAT32,
        unit="worst error over root mean square",
        note="CPU and accelerator differ; which of them is wrong, the checks above say",
    )


def _twice(device: torch.device) -> list[Check]:
    case = convolution.SMALL[1]
    drawn = convolution.draw(case, device)
    name = f"Conv3d bf16 with gradients, {case}"
    found = [same_twice(name, lambda: convolution.results(case, drawn))]
    for dtype in contrast.TOLERANCE:
        name = f"contrastive loss and gradient, {str(dtype).removeprefix('torch.')}"
        found.append(same_twice(name, partial(_contrast, device, dtype)))
    return found


def _contrast(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    z1, z2 = (z.to(device, dtype) for z in contrast.two_views())
    return contrast.loss_and_gradient(nt_xent, z1, z2)


def same_twice(name: str, work: Callable[[], Sequence[Tensor]]) -> Check:
    """Runs a piece of work twice and counts the numbers that differ.

    Args:
        name: What it is.
        work: Gives the same results every time, if the machine does.
    """
    differing = sum(int((a != b).sum()) for a, b in zip(work(), work(), strict=True))
    return Check(
        name=f"the same twice, {name}",
        figure=float(differing),
        tolerance=0.0,
        unit="numbers that differ",
        note="results change from run to run here; a seed will not bring a run back",
    )
