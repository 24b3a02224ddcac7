"""Contrast between two kinds of views, such as scans and table rows.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021,
arXiv:2103.00020; for images and clinical tables with the weight lambda: Hager, Menten, Rueckert,
"Best of Both Worlds: Multimodal Contrastive Learning With Tabular and Imaging Data", 2023,
arXiv:2303.14080.
"""

import math

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
from spinmark_models.losses.core.precision import unit


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
        logit_scale: A learned factor of the cosines, held to at most 100.
        lam: Weight of the direction from a to b, in [0, 1].
        groups: Integers `(N,)`; other pairs of the same group are not negatives.

    Raises:
        InputError: Shapes differ, or a number is out of its range.
    """
    check_pair(a_ND, b_ND)
    check_temperature(temperature)
    check_between("lam", lam, 0, 1)
    check_groups(groups, len(a_ND))
    n = len(a_ND)
    scale = 1 / temperature if logit_scale is None else logit_scale.clamp(max=100)
    a, b = unit(a_ND), unit(b_ND)
    all_a, start = gather_rows(a)
    all_b, _ = gather_rows(b)
    own = torch.arange(start, start + n, device=a.device)
    everyone = None if groups is None else gather_rows(groups)[0]

    def same(rows: slice) -> Tensor:
        assert groups is not None
        assert everyone is not None
        return groups[rows, None] == everyone[None, :]

    row_loss = one_positive(own, ignore=None if groups is None else same)
    a_to_b = contrast(a, all_b, row_loss, scale=scale) / n
    b_to_a = contrast(b, all_a, row_loss, scale=scale) / n
    return lam * a_to_b + (1 - lam) * b_to_a
