"""What a check found, and on which machine."""

import platform
from dataclasses import dataclass
from typing import Literal

import torch

Verdict = Literal["pass", "fail", "skipped", "measured"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check.

    Args:
        name: What was compared with what.
        figure: What was found; NaN, which fails, where a result was no number.
        tolerance: The most that passes; None for a figure that is only measured.
        unit: What the figure counts.
        note: What a failure means, or why nothing was checked.
    """

    name: str
    figure: float | None = None
    tolerance: float | None = None
    unit: str = ""
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """`skipped` without a figure, `measured` without a tolerance."""
        if self.figure is None:
            return "skipped"
        if self.tolerance is None:
            return "measured"
        return "pass" if self.figure <= self.tolerance else "fail"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where the checks ran.

    Args:
        torch: Version of torch, with its build.
        system: Operating system and processor architecture.
        device: The device, as torch names it.
        name: The device's own name.
        threads: CPU threads of torch.
        memory_gb: Memory of the device in billions of bytes; None on a CPU.
        cuda: CUDA version of this torch, if it has one.
        cudnn: cuDNN version in use, if there is one.
    """

    torch: str
    system: str
    device: str
    name: str
    threads: int
    memory_gb: float | None = None
    cuda: str | None = None
    cudnn: str | None = None


def this_machine(device: torch.device) -> Machine:
    """Describe the machine.

    Args:
        device: The device that the checks run on.
    """
    on_gpu = device.type == "cuda"
    cudnn: int | None = torch.backends.cudnn.version() if on_gpu else None  # type: ignore[no-untyped-call]
    return Machine(
        torch=torch.__version__,
        system=f"{platform.system()} {platform.machine()}",
        device=str(device),
        name=torch.cuda.get_device_name(device)
        if on_gpu
        else torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        memory_gb=torch.cuda.get_device_properties(device).total_memory / 1e9 if on_gpu else None,
        cuda=torch.version.cuda if on_gpu else None,
        cudnn=None if cudnn is None else f"{cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}",
    )
