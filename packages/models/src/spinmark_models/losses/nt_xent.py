"""NT-Xent: the normalised, temperature-scaled cross-entropy of SimCLR.

Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual
Representations", 2020, arXiv:2002.05709.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses.gather import gather_rows


def nt_xent_chance(n: int) -> float:
    """The loss of an encoder that cannot tell its `n` pairs apart: ln(2n - 1).

    >>> round(nt_xent_chance(64), 4)
    4.8442
    """
    return math.log(2 * n - 1)


def _check_pair(z1_ND: Tensor, z2_ND: Tensor, temperature: float) -> None:
    if z1_ND.ndim != 2 or z1_ND.shape != z2_ND.shape:
        raise InputError(
            f"The two views have shapes {tuple(z1_ND.shape)} and {tuple(z2_ND.shape)}; "
            "both must be (pairs, features)."
        )
    if not temperature > 0:
        raise InputError(f"temperature is {temperature}; it must be above 0.")


def nt_xent(
    z1_ND: Tensor, z2_ND: Tensor, temperature: float = 0.1, groups: Tensor | None = None
) -> Tensor:
    """The mean over all 2N views of the cross-entropy of finding a view's partner.

    Every exponent is shifted by its row's maximum, so that small temperatures are safe in float32.

    Args:
        z1_ND: First views; normalised here.
        z2_ND: Second views, row by row the partners of the first.
        temperature: Divides the cosines.
        groups: Integers `(N,)`; views of other pairs of the same group, such as the other knee
            of a person, are neither positives nor negatives.

    Returns:
        A scalar. A view whose every negative is ignored contributes 0.

    Raises:
        InputError: Shapes differ or the temperature is not positive.
    """
    _check_pair(z1_ND, z2_ND, temperature)
    n = z1_ND.shape[0]
    all1, start = gather_rows(F.normalize(z1_ND, dim=1))
    all2, _ = gather_rows(F.normalize(z2_ND, dim=1))
    total = all1.shape[0]
    keys = torch.cat([all1, all2])
    own = torch.arange(start, start + n, device=z1_ND.device)
    rows = torch.cat([own, own + total])
    partners = torch.cat([own + total, own])
    similarity = keys[rows] @ keys.T / temperature

    ignore = torch.zeros_like(similarity, dtype=torch.bool)
    if groups is not None:
        if groups.shape != (n,):
            raise InputError(f"groups has shape {tuple(groups.shape)}; use ({n},).")
        everyone = gather_rows(groups)[0].repeat(2)
        ignore = everyone[rows][:, None] == everyone[None, :]
        ignore = ignore.scatter(1, partners[:, None], False)
    ignore = ignore.scatter(1, rows[:, None], True)
    return F.cross_entropy(similarity.masked_fill(ignore, -torch.inf), partners)
