"""Ring: NT-Xent against the negatives in a ring around each view, neither nearest nor far.

Wu, Mosse, Zhuang, Yamins, Goodman, "Conditional Negative Sampling for Contrastive Learning of Visual
Representations", 2020, arXiv:2010.02037.
"""

import math

import torch
from torch import Tensor

from spinmark_models.errors import InputError
from spinmark_models.losses.core.checks import (
    check_between,
    check_groups,
    check_pair,
    check_temperature,
)
from spinmark_models.losses.core.info_nce import shifted_softmax_
from spinmark_models.losses.core.kernel import PairRule, RowLoss, contrast
from spinmark_models.losses.core.pairs import Views, ignored_pairs, keep_negatives_, two_views
from spinmark_models.losses.core.precision import unit


def ring_chance(n: int, inner: float = 0.01, outer: float = 0.1) -> float:
    """The loss where a view is no nearer to its partner than to the ring: ln(1 + its negatives).

    >>> round(ring_chance(64), 4)
    2.5649
    """
    first, last = (int(rank) for rank in _ranks(torch.tensor([2 * n - 2]), inner, outer))
    return math.log(1 + max(0, last - first))


def ring(
    z1_ND: Tensor,
    z2_ND: Tensor,
    temperature: float = 0.1,
    *,
    inner: float = 0.01,
    outer: float = 0.1,
    groups: Tensor | None = None,
) -> Tensor:
    """The mean over all 2N views of the cross-entropy of finding the partner among the ring.

    A view's K negatives are ranked by similarity, the nearest first; its ring is those of ranks
    `floor(inner K)` up to, not including, `ceil(outer K)`, at least one. Who is in the ring is not
    differentiated.

    Args:
        z1_ND: First views; normalised here.
        z2_ND: Second views, row by row the partners of the first.
        temperature: Divides the cosines.
        inner: The share of negatives that are too near, and left out, in [0, 1).
        outer: The share up to which negatives count, above `inner`, at most 1. Usual is to begin with
            1 and to lower it as training goes on. With `inner` 0, 1 gives NT-Xent.
        groups: Integers `(N,)`; views of other pairs of the same group are neither positives nor
            negatives. A negative one is no group.

    Returns:
        A scalar. A view without negatives contributes 0.

    Raises:
        InputError: Shapes differ, or a number is out of its range.
    """
    check_pair(z1_ND, z2_ND)
    check_temperature(temperature)
    check_between("inner", inner, 0, 1)
    check_between("outer", outer, 0, 1)
    if not inner < outer:
        raise InputError(f"inner is {inner} and outer {outer}; outer must be the larger one.")
    check_groups(groups, len(z1_ND))
    views = two_views(unit(z1_ND), unit(z2_ND))
    ignore = ignored_pairs(views, groups)
    row_loss = _row_loss(views, ignore, inner, outer)
    total = contrast(views.queries, views.keys, row_loss, scale=1 / temperature)
    return total / len(views.queries)


def _ranks(counts_R: Tensor, inner: float, outer: float) -> tuple[Tensor, Tensor]:
    """The first rank of the ring, and the one after its last, of rows with so many negatives."""
    # A share such as 0.07 times 100 must not become 8 by rounding.
    last = (counts_R.double() * outer - 1e-9).ceil().long().clamp_min(1)
    first = (counts_R.double() * inner + 1e-9).floor().long()
    return torch.minimum(first, last - 1), torch.minimum(last, counts_R)


def _row_loss(views: Views, ignore: PairRule | None, inner: float, outer: float) -> RowLoss:
    def row_loss(similarity_RM: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        partner = views.partner[rows, None]
        near = keep_negatives_(
            similarity_RM, rows, views.partner, itself_N=views.itself, ignore=ignore
        )
        counts = (similarity_RM > -torch.inf).sum(dim=1)
        first, last = _ranks(counts, inner, outer)
        reach = max(1, math.ceil(outer * similarity_RM.shape[1]))
        ranked = similarity_RM.topk(reach, dim=1).values
        highest = ranked.gather(1, first[:, None])
        lowest = ranked.gather(1, (last - 1).clamp_min(0)[:, None])
        outside = (similarity_RM > highest) | (similarity_RM < lowest)
        similarity_RM.masked_fill_(outside, -torch.inf).scatter_(1, partner, near)
        log_total, gradient = shifted_softmax_(similarity_RM)
        gradient.scatter_add_(1, partner, torch.full_like(near, -1))
        return log_total - near[:, 0], gradient

    return row_loss
