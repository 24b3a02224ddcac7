"""Convolutions in bf16 against float32, and float32 against products written out.

The shape `REPORTED` is the one for which cuDNN 9.10.2 gave wrong bf16 results without an error
(https://github.com/pytorch/pytorch/issues/163539).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.selftest.records import Check

Operator = Callable[..., Tensor]
Triple = tuple[int, int, int]

# Rounding to bf16 leaves 0.0017 of the length of a tensor and, at the tail of a normal distribution,
# 0.03 of its root mean square at one place. Wrong sums are off by about 1.
WORST_BF16 = 0.05
WORST_FLOAT32 = 1e-4
SAMPLES = 96


@dataclass(frozen=True)
class ConvCase:
    """A convolution with an odd kernel.

    Args:
        batch: Examples.
        inputs: Channels in.
        outputs: Channels out.
        grid: Voxels (z, y, x).
        kernel: Kernel (z, y, x).
        stride: Stride (z, y, x).
        padded: Whether half the kernel is padded with zeros.
        gradients: Whether its gradients are compared too.
    """

    batch: int
    inputs: int
    outputs: int
    grid: Triple
    kernel: Triple = (3, 3, 3)
    stride: Triple = (1, 1, 1)
    padded: bool = True
    gradients: bool = True

    def __str__(self) -> str:
        """Input, channels out, kernel and stride, as in 1x16x24x64x72 to 32, kernel 3x3x3, stride 2x2x2."""
        size = "x".join(map(str, (self.batch, self.inputs, *self.grid)))
        kernel, stride = ("x".join(map(str, x)) for x in (self.kernel, self.stride))
        edge = "" if self.padded else ", not padded"
        return f"{size} to {self.outputs}, kernel {kernel}, stride {stride}{edge}"

    @property
    def padding(self) -> Triple:
        """Half the kernel, or none."""
        z, y, x = self.kernel if self.padded else (0, 0, 0)
        return z // 2, y // 2, x // 2

    @property
    def out_grid(self) -> Triple:
        """Voxels of the output."""
        axes = zip(self.grid, self.padding, self.kernel, self.stride, strict=True)
        z, y, x = ((n + 2 * p - k) // s + 1 for n, p, k, s in axes)
        return z, y, x

    @property
    def bytes(self) -> int:
        """Roughly what a comparison needs on the device at once."""
        voxels = torch.Size(self.grid).numel() * self.inputs
        voxels += torch.Size(self.out_grid).numel() * self.outputs
        return self.batch * voxels * (20 if self.gradients else 8)


SMALL = (
    ConvCase(1, 1, 16, (24, 64, 72), (1, 3, 3)),
    ConvCase(2, 16, 32, (24, 64, 72), stride=(2, 2, 2)),
    ConvCase(1, 32, 32, (24, 32, 32)),
    ConvCase(1, 8, 16, (64, 96, 96), (1, 1, 1)),
    # A last stage, two voxels deep: oneDNN on AVX512-BF16 gets its weights' gradients wrong (torch 2.13).
    ConvCase(2, 32, 32, (2, 4, 5)),
)
LARGE = (
    ConvCase(1, 8, 8, (96, 96, 96)),
    # The grid of the OAI's DESS scans.
    ConvCase(1, 1, 4, (160, 384, 384), (1, 3, 3), (1, 2, 2)),
)
REPORTED = ConvCase(1, 16, 16, (124, 1282, 722), (1, 3, 3), padded=False, gradients=False)
LARGE_GPU = (
    ConvCase(2, 16, 32, (160, 384, 384), stride=(2, 2, 2)),
    ConvCase(4, 32, 32, (96, 96, 96)),
    REPORTED,
)


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Float32 that is float32, and the same algorithm every time."""
    with torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


class Drawn(NamedTuple):
    """What a case is tried on, as bf16 holds it.

    Attributes:
        x: Normal voxels.
        w: Weights that give outputs of about the size of the voxels.
        down: Normal gradients of the output; None where no gradients are compared.
    """

    x: Tensor
    w: Tensor
    down: Tensor | None

    def to(self, target: torch.device | torch.dtype) -> "Drawn":
        """The same elsewhere, or in another number format."""
        return Drawn(
            self.x.to(target),
            self.w.to(target),
            None if self.down is None else self.down.to(target),
        )


def draw(case: ConvCase, device: torch.device, seed: int = 0) -> Drawn:
    """Draws a case's numbers on a device."""
    g = torch.Generator(device).manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=g, device=device, dtype=torch.bfloat16)

    x = normal(case.batch, case.inputs, *case.grid)
    w = normal(case.outputs, case.inputs, *case.kernel)
    down = normal(case.batch, case.outputs, *case.out_grid) if case.gradients else None
    return Drawn(x, w / w[0].numel() ** 0.5, down)


def results(case: ConvCase, drawn: Drawn, operator: Operator = F.conv3d) -> tuple[Tensor, ...]:
    """The output, and with gradients those of voxels and weights."""
    x, w, down = drawn
    with plain_arithmetic():
        if down is None:
            return (operator(x, w, stride=case.stride, padding=case.padding),)
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        y = operator(x, w, stride=case.stride, padding=case.padding)
        return (y.detach(), *torch.autograd.grad(y, (x, w), down))


def bf16_against_float32(
    case: ConvCase, device: torch.device, operator: Operator = F.conv3d
) -> Check:
    """Compares every number of a bf16 convolution with float32's from the same inputs.

    Args:
        case: The shape.
        device: Where.
        operator: What convolves in bf16; float32 is torch's own.
    """
    drawn = draw(case, device)
    short = results(case, drawn, operator)
    exact = results(case, drawn.to(torch.float32))
    return Check(
        name=f"Conv3d bf16 against float32, {case}",
        figure=worst_of_all(short, exact),
        tolerance=WORST_BF16,
        unit="worst error over root mean square",
        note="bf16 convolutions of this shape are wrong here: train in float32 "
        "(--trainer.precision 32-true) or use another release of torch and cuDNN",
    )


def float32_against_products(
    case: ConvCase, device: torch.device, operator: Operator = F.conv3d
) -> Check:
    """Compares float32 outputs, at corners and at random, with sums of products in float64.

    Args:
        case: The shape.
        device: Where.
        operator: What convolves.
    """
    x, w, _ = draw(case, device)
    with plain_arithmetic(), torch.no_grad():
        y = operator(x.float(), w.float(), stride=case.stride, padding=case.padding)
    size = (case.batch, case.outputs, *case.out_grid)
    g = torch.Generator().manual_seed(2)
    places = [tuple(0 for _ in size), tuple(n - 1 for n in size)]
    places += [tuple(int(torch.randint(n, (), generator=g)) for n in size) for _ in range(SAMPLES)]
    expected = torch.stack([_product(case, x, w, place) for place in places])
    got = torch.stack([y[place].cpu() for place in places])
    return Check(
        name=f"Conv3d float32 against products, {case}",
        figure=worst(got, expected),
        tolerance=WORST_FLOAT32,
        unit="worst error over root mean square",
        note="float32 convolutions of this shape are wrong here: use another release of torch",
    )


def _product(case: ConvCase, x: Tensor, w: Tensor, place: tuple[int, ...]) -> Tensor:
    """One output voxel, written out."""
    example, channel, *voxel = place
    patch, weights = x[example], w[channel]
    for axis in range(3):
        first = voxel[axis] * case.stride[axis] - case.padding[axis]
        inside = [k for k in range(case.kernel[axis]) if 0 <= first + k < case.grid[axis]]
        patch = patch.narrow(axis + 1, first + inside[0], len(inside))
        weights = weights.narrow(axis + 1, inside[0], len(inside))
    return (patch.cpu().double() * weights.cpu().double()).sum()


def worst(got: Tensor, expected: Tensor) -> float:
    """The largest difference over the root mean square of what was expected; NaN if any is none."""
    largest, squares = 0.0, 0.0
    # In parts, since tensors of many gigabytes have no room for another of their kind.
    parts = [torch.split(x.flatten(), 1 << 27) for x in (got, expected)]
    for a, b in zip(*parts, strict=True):
        difference = float((a.to(b) - b).abs().max())
        if math.isnan(difference):
            return difference
        largest = max(largest, difference)
        squares += float(b.square().sum(dtype=torch.float64))
    return largest / math.sqrt(squares / expected.numel()) if squares else math.inf


def worst_of_all(got: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """`worst` over several tensors."""
    found = [worst(a, b) for a, b in zip(got, expected, strict=True)]
    return math.nan if any(map(math.isnan, found)) else max(found)
