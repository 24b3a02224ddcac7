"""Contrast between two kinds of views, such as scans and table rows.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021,
arXiv:2103.00020; for images and clinical tables with the weight lambda: Hager, Menten, Rueckert,
"Best of Both Worlds: Multimodal Contrastive Learning With Tabular and Imaging Data", 2023,
arXiv:2303.14080.
"""

import math
from typing import Any

import torch
from torch import Tensor

from spinmark_models.losses.core.checks import (
    check_between,
    check_groups,
    check_pair,
    check_temperature,
)
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.info_nce import one_positive
from spinmark_models.losses.core.kernel import contrast
from spinmark_models.losses.core.pairs import rows_of_one_group
from spinmark_models.losses.core.precision import unit

LARGEST_SCALE = 100.0
"""What a learned factor of the cosines is held to, as in the paper."""


def clip_chance(n: int) -> float:
    """The loss of an encoder that cannot tell its `n` pairs apart: ln(n)."""
    return math.log(n)


def clip_loss(
    a_ND: Tensor,
    b_ND: Tensor,
    temperature: float = 0.1,
    *,
    logit_scale: Tensor | None = None,
    lam: float = 0.5,
    groups: Tensor | None = None,
) -> Tensor:
    """`lam` times the cross-entropy from a to b plus `1 - lam` times that from b to a.

    Each direction is normalised by its own candidates.

    Args:
        a_ND: Embeddings of one kind; normalised here.
        b_ND: Their partners of the other kind, row by row.
        temperature: Divides the cosines, unless `logit_scale` is given.
        logit_scale: A learned factor of the cosines, held to at most 100; one beyond learns only to
            come back.
        lam: Weight of the direction from a to b, in [0, 1].
        groups: Integers `(N,)`; other pairs of the same group are not negatives. A negative one is
            no group.

    Raises:
        InputError: Shapes differ, or a number is out of its range.
    """
    check_pair(a_ND, b_ND)
    check_temperature(temperature)
    check_between("lam", lam, 0, 1)
    check_groups(groups, len(a_ND))
    n = len(a_ND)
    scale = 1 / temperature if logit_scale is None else _held(logit_scale)
    a, b = unit(a_ND), unit(b_ND)
    all_a, start = gather_rows(a)
    all_b, _ = gather_rows(b)
    own = torch.arange(start, start + n, device=a.device)
    ignore = None if groups is None else rows_of_one_group(groups)
    row_loss = one_positive(own, ignore=ignore)
    a_to_b = contrast(a, all_b, row_loss, scale=scale) / n
    b_to_a = contrast(b, all_a, row_loss, scale=scale) / n
    return lam * a_to_b + (1 - lam) * b_to_a


class _Held(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return scale.clamp(max=LARGEST_SCALE)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (scale,) = ctx.saved_tensors
        # `clamp` has no gradient beyond its limit, so that a step too far could not be undone.
        return gradients[0].masked_fill((scale > LARGEST_SCALE) & (gradients[0] < 0), 0)


def _held(logit_scale: Tensor) -> Tensor:
    held: Tensor = _Held.apply(logit_scale)  # type: ignore[no-untyped-call]
    return held
