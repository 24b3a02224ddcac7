"""SigLIP: every pair of two kinds of views is judged by itself, match or no match.

Zhai, Mustafa, Kolesnikov, Beyer, "Sigmoid Loss for Language Image Pre-Training", 2023,
arXiv:2303.15343.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.losses.core.checks import check_groups, check_pair
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.kernel import PairRule, RowLoss, contrast
from spinmark_models.losses.core.pairs import rows_of_one_group
from spinmark_models.losses.core.precision import unit


def siglip_chance(n: int) -> float:
    """The least loss of an encoder that cannot tell its `n` pairs apart.

    All logits are then one number, best where its sigmoid is 1/n.

    >>> round(siglip_chance(64), 4)
    5.151
    """
    return math.log(n) + ((n - 1) * math.log(n / (n - 1)) if n > 1 else 0.0)


class SigmoidScale(nn.Module):
    """The learnt scale and bias of the logits, with the paper's start.

    Args:
        scale: First factor of the cosines; its logarithm is the parameter.
        bias: First bias. Well below 0, since nearly all pairs are no matches.
    """

    def __init__(self, scale: float = 10.0, bias: float = -10.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self) -> tuple[Tensor, Tensor]:
        """The scale, above 0, and the bias."""
        return self.log_scale.exp(), self.bias


def siglip(
    a_ND: Tensor,
    b_ND: Tensor,
    scale: float | Tensor = 10.0,
    bias: float | Tensor = -10.0,
    *,
    groups: Tensor | None = None,
) -> Tensor:
    """Over N, the sum over all pairs of `-log sigmoid(y (scale cos + bias))`, y 1 for partners, else -1.

    Args:
        a_ND: Embeddings of one kind; normalised here.
        b_ND: Their partners of the other kind, row by row.
        scale: Factor of the cosines; `SigmoidScale` learns it and the bias.
        bias: Added to the logits.
        groups: Integers `(N,)`; other pairs of the same group are left out. A negative one is no
            group.

    Returns:
        A scalar. It grows with the number of pairs of all processes, as the paper's does.

    Raises:
        InputError: The shapes do not fit.
    """
    check_pair(a_ND, b_ND)
    check_groups(groups, len(a_ND))
    n = len(a_ND)
    a, b = unit(a_ND), unit(b_ND)
    all_b, start = gather_rows(b)
    own = torch.arange(start, start + n, device=a.device)
    row_loss = _one_match(own, None if groups is None else rows_of_one_group(groups))
    return contrast(a, all_b, row_loss, scale=scale, bias=bias) / n


def _one_match(own_N: Tensor, ignore: PairRule | None) -> RowLoss:
    def row_loss(logit_RM: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        partner = own_N[rows, None]
        match = logit_RM.gather(1, partner)
        if ignore is not None:
            logit_RM.masked_fill_(ignore(rows), -torch.inf)
        # Apart from the rest: log(1 + e^x) - x would lose a well-found match to rounding.
        logit_RM.scatter_(1, partner, -torch.inf)
        # Not softplus, which takes x for itself above 20 and is 2e-9 short there.
        losses = -F.logsigmoid(-logit_RM).sum(dim=1) - F.logsigmoid(match[:, 0])
        gradient = logit_RM.sigmoid_().scatter_(1, partner, -torch.sigmoid(-match))
        return losses, gradient

    return row_loss
