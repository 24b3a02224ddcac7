"""The contrastive kernel against the plain computation, and how fast a GPU runs it."""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.losses.core.info_nce import one_positive
from spinmark_models.losses.core.kernel import contrast
from spinmark_models.losses.core.pairs import two_views as two_views_of
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_models.selftest.records import Check

Loss = Callable[[Tensor, Tensor, float], Tensor]

PAIRS, WIDTH, TEMPERATURE = 512, 128, 0.1
# Of the loss, and of the gradient's length. A bf16 row is rounded when it is normalised and when its
# gradient is stored.
TOLERANCE = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (5e-3, 3e-2)}


def two_views(pairs: int = PAIRS, width: int = WIDTH, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows in float64, and others that resemble them."""
    g = torch.Generator().manual_seed(seed)
    first, noise = (torch.randn(pairs, width, generator=g, dtype=torch.float64) for _ in range(2))
    return first, first + noise


def dense(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """NT-Xent with the whole matrix of similarities, differentiated by autograd."""
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
    partner = torch.arange(len(z), device=z.device).roll(len(z1))
    return F.cross_entropy(logits, partner)


def in_own_format(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """NT-Xent whose rows stay in the number format that they came in.

    `nt_xent` itself compares them in float32. So only here does a GPU take the kernel's products in bf16.
    """
    views = two_views_of(F.normalize(z1, dim=1), F.normalize(z2, dim=1))
    row_loss = one_positive(views.partner, itself_N=views.itself)
    total = contrast(views.queries, views.keys, row_loss, scale=1 / temperature)
    return total / len(views.queries)


def loss_and_gradient(
    loss: Loss, z1: Tensor, z2: Tensor, temperature: float = TEMPERATURE
) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient by the first views."""
    leaf = z1.detach().requires_grad_()
    value = loss(leaf, z2, temperature)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


def against_float64(
    dtype: torch.dtype, device: torch.device, loss: Loss = nt_xent, what: str = "contrastive"
) -> list[Check]:
    """Compares loss and gradient with the plain computation in float64 on the CPU, from equal inputs.

    Args:
        dtype: Of the rows: float32 or bfloat16.
        device: Where the loss is computed.
        loss: What is tested.
        what: How the checks call it.
    """
    z1, z2 = (z.to(dtype) for z in two_views())
    expected, by_row = loss_and_gradient(dense, z1.double(), z2.double())
    got, gradient = loss_and_gradient(loss, z1.to(device), z2.to(device))
    name = f"{str(dtype).removeprefix('torch.')} against float64"
    figures = (
        float((got.cpu().double() - expected).abs() / expected),
        float((gradient.cpu().double() - by_row).norm() / by_row.norm()),
    )
    return [
        Check(
            name=f"{what} {part}, {name}",
            figure=figure,
            tolerance=tolerance,
            unit="relative error",
            note="products of this number format are wrong here; use another release of torch",
        )
        for part, figure, tolerance in zip(
            ("loss", "gradient"), figures, TOLERANCE[dtype], strict=True
        )
    ]


def share_of_peak(device: torch.device, pairs: int = 8192, width: int = 256) -> Check:
    """The bf16 arithmetic that the contrastive kernel reaches on a GPU, over a large product's there.

    The loss and both gradients take three products of all views with all views.
    """
    size = 8192
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    peak = 2 * size**3 / _seconds(lambda: a @ a, device)
    z1, z2 = (z.to(device, torch.bfloat16) for z in two_views(pairs, width))
    taken = _seconds(lambda: loss_and_gradient(in_own_format, z1, z2), device)
    reached = 3 * 2 * (2 * pairs) ** 2 * width / taken
    return Check(
        name=f"contrastive kernel, {pairs} pairs, width {width}, bf16",
        figure=reached / peak,
        unit=f"of the {peak / 1e12:.0f} TFLOP/s that a product of {size} reaches here",
    )


def _seconds(work: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    """The median time of a piece of work on a GPU."""
    taken = []
    for _ in range(repeats + 3):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    # The first ones still choose algorithms.
    return sorted(taken[3:])[repeats // 2]
