"""Semi-hard mining: a triplet loss against the nearest negative beyond the positive.

Schroff, Kalenichenko, Philbin, "FaceNet: A Unified Embedding for Face Recognition and Clustering",
2015, arXiv:1503.03832.
"""

import torch
from torch import Tensor

from spinmark_models.losses.core.checks import (
    check_fixed,
    check_groups,
    check_pair,
    check_temperature,
)
from spinmark_models.losses.core.kernel import PairRule, RowLoss, contrast
from spinmark_models.losses.core.pairs import Views, ignored_pairs, keep_negatives_, two_views
from spinmark_models.losses.core.precision import unit


def semi_hard_chance(margin: float = 0.2) -> float:
    """The loss of an encoder that maps all views to one point: the margin."""
    return margin


def semi_hard(
    z1_ND: Tensor, z2_ND: Tensor, margin: float = 0.2, groups: Tensor | None = None
) -> Tensor:
    """The mean over all 2N views of `max(0, d_positive - d_negative + margin)`.

    `d` is the squared distance on the unit sphere, 2 - 2 cosine. The negative is the nearest one
    that is farther than the positive; where all are nearer, it is the farthest. The choice is not
    differentiated.

    Args:
        z1_ND: First views; normalised here.
        z2_ND: Second views, row by row the partners of the first.
        margin: How much farther than the positive a negative should be, above 0 and below 4.
        groups: Integers `(N,)`; views of other pairs of the same group are neither positives nor
            negatives. A negative one is no group.

    Returns:
        A scalar. A view without negatives, or with all of them beyond the margin, contributes 0.

    Raises:
        InputError: Shapes differ or the margin is not positive.
    """
    check_pair(z1_ND, z2_ND)
    check_temperature(margin, "margin")
    check_fixed(margin, "margin")
    check_groups(groups, len(z1_ND))
    views = two_views(unit(z1_ND), unit(z2_ND))
    ignore = ignored_pairs(views, groups)
    return contrast(views.queries, views.keys, _row_loss(views, ignore, margin)) / len(
        views.queries
    )


def _row_loss(views: Views, ignore: PairRule | None, margin: float) -> RowLoss:
    def row_loss(cosine_RM: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        near = keep_negatives_(cosine_RM, rows, views.partner, itself_N=views.itself, ignore=ignore)
        negative = cosine_RM > -torch.inf
        beyond = cosine_RM.masked_fill(cosine_RM >= near, -torch.inf).max(dim=1, keepdim=True)
        farthest = cosine_RM.masked_fill_(~negative, torch.inf).min(dim=1, keepdim=True)
        found = beyond.values > -torch.inf
        chosen = torch.where(found, beyond.values, farthest.values)
        index = torch.where(found, beyond.indices, farthest.indices)
        hinge = margin + 2 * (chosen - near)
        active = negative.any(dim=1, keepdim=True) & (hinge > 0)
        slope = 2 * active.to(near.dtype)
        gradient = cosine_RM.zero_().scatter_(1, index, slope)
        gradient.scatter_add_(1, views.partner[rows, None], -slope)
        return hinge.masked_fill(~active, 0)[:, 0], gradient

    return row_loss
