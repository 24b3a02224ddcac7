"""Decoupled contrastive learning: NT-Xent without the positive in the denominator.

Yeh, Hong, Hsu, Liu, Chen, LeCun, "Decoupled Contrastive Learning", 2021, arXiv:2110.06848. With a
width `sigma`, its weighted variant: pairs that agree already are pulled less.
"""

import math

import torch
from torch import Tensor

from spinmark_models.losses.core.checks import check_groups, check_pair, check_temperature
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.info_nce import shifted_softmax_
from spinmark_models.losses.core.kernel import PairRule, RowLoss, contrast
from spinmark_models.losses.core.pairs import Views, ignored_pairs, keep_negatives_, two_views
from spinmark_models.losses.core.precision import unit


def decoupled_chance(n: int) -> float:
    """The loss of an encoder that maps all views of `n` pairs to one point: ln(2n - 2).

    >>> round(decoupled_chance(64), 4)
    4.8363
    """
    return math.log(2 * n - 2)


def decoupled(
    z1_ND: Tensor,
    z2_ND: Tensor,
    temperature: float = 0.1,
    *,
    sigma: float | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """The mean over all 2N views of `-w s_positive + log sum over negatives of exp s`.

    Args:
        z1_ND: First views; normalised here.
        z2_ND: Second views, row by row the partners of the first.
        temperature: Divides the cosines.
        sigma: Width of the weights `w` of the positives; the paper's is 0.5. None weights all by 1.
        groups: Integers `(N,)`; views of other pairs of the same group are neither positives nor
            negatives. A negative one is no group.

    Returns:
        A scalar, without a lower bound of 0. A view without negatives contributes 0.

    Raises:
        InputError: Shapes differ, or a number is not positive.
    """
    check_pair(z1_ND, z2_ND)
    check_temperature(temperature)
    check_groups(groups, len(z1_ND))
    a, b = unit(z1_ND), unit(z2_ND)
    views = two_views(a, b)
    ignore = ignored_pairs(views, groups)
    weight_N = torch.ones_like(a[:, 0]) if sigma is None else agreement_weights(a, b, sigma)
    row_loss = _row_loss(views, views.own(weight_N.detach()), ignore)
    total = contrast(views.queries, views.keys, row_loss, scale=1 / temperature)
    return total / len(views.queries)


def agreement_weights(a_ND: Tensor, b_ND: Tensor, sigma: float) -> Tensor:
    """Two minus each pair's share of `exp(cosine / sigma)`, relative to the mean over all pairs.

    Args:
        a_ND: First views, normalised.
        b_ND: Second views, normalised.
        sigma: Width of the von Mises-Fisher density that the shares follow.

    Returns:
        Weights `(N,)` with a mean of 1 over the pairs of all processes; one may be negative.

    Raises:
        InputError: `sigma` is not positive.
    """
    check_temperature(sigma, "sigma")
    agreement, start = gather_rows((a_ND.detach() * b_ND.detach()).sum(dim=1) / sigma)
    share = torch.softmax(agreement, dim=0) * len(agreement)
    return 2 - share[start : start + len(a_ND)]


def _row_loss(views: Views, weight_Q: Tensor, ignore: PairRule | None) -> RowLoss:
    def row_loss(similarity_RM: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        near = keep_negatives_(
            similarity_RM, rows, views.partner, itself_N=views.itself, ignore=ignore
        )
        log_total, gradient = shifted_softmax_(similarity_RM)
        none = log_total == -torch.inf
        weight = weight_Q[rows].to(near.dtype).masked_fill(none, 0)
        gradient.scatter_(1, views.partner[rows, None], -weight[:, None])
        return log_total.masked_fill(none, 0) - weight * near[:, 0], gradient

    return row_loss
