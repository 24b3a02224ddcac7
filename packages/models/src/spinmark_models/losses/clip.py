"""Contrast between two kinds of views, such as scans and table rows.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021,
arXiv:2103.00020; for images and clinical tables with the weight lambda: Hager, Menten, Rueckert,
"Best of Both Worlds: Multimodal Contrastive Learning With Tabular and Imaging Data", 2023,
arXiv:2303.14080.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses.gather import gather_rows


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
    if a_ND.ndim != 2 or a_ND.shape != b_ND.shape:
        raise InputError(
            f"The two sides have shapes {tuple(a_ND.shape)} and {tuple(b_ND.shape)}; "
            "both must be (pairs, features)."
        )
    if not temperature > 0:
        raise InputError(f"temperature is {temperature}; it must be above 0.")
    if not 0 <= lam <= 1:
        raise InputError(f"lam is {lam}; use a number from 0 to 1.")
    n = a_ND.shape[0]
    scale = 1 / temperature if logit_scale is None else logit_scale.clamp(max=100)
    a = F.normalize(a_ND, dim=1)
    b = F.normalize(b_ND, dim=1)
    all_a, start = gather_rows(a)
    all_b, _ = gather_rows(b)
    own = torch.arange(start, start + n, device=a.device)
    a_to_b = a @ all_b.T * scale
    b_to_a = b @ all_a.T * scale
    if groups is not None:
        if groups.shape != (n,):
            raise InputError(f"groups has shape {tuple(groups.shape)}; use ({n},).")
        ignore = groups[:, None] == gather_rows(groups)[0][None, :]
        ignore = ignore.scatter(1, own[:, None], False)
        a_to_b = a_to_b.masked_fill(ignore, -torch.inf)
        b_to_a = b_to_a.masked_fill(ignore, -torch.inf)
    return lam * F.cross_entropy(a_to_b, own) + (1 - lam) * F.cross_entropy(b_to_a, own)
