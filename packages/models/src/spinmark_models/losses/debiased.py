"""Debiased contrastive learning: negatives corrected for those that are positives unknown.

Chuang, Robinson, Lin, Torralba, Jegelka, "Debiased Contrastive Learning", 2020, arXiv:2007.00224.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from spinmark_models.losses.core.checks import (
    check_between,
    check_fixed,
    check_groups,
    check_pair,
    check_temperature,
)
from spinmark_models.losses.core.info_nce import shifted_softmax_
from spinmark_models.losses.core.kernel import PairRule, RowLoss, contrast
from spinmark_models.losses.core.pairs import Views, ignored_pairs, keep_negatives_, two_views
from spinmark_models.losses.core.precision import unit
from spinmark_models.losses.nt_xent import nt_xent_chance

Mass = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From similarities `(R, M)`, minus infinity where a key is no negative, and the number of each row's
negatives `(R,)`, to the log of their mass `(R,)` and its slope `(R, M)`. It may overwrite the
similarities."""


def debiased_chance(n: int) -> float:
    """The loss of an encoder that maps all views of `n` pairs to one point: that of NT-Xent."""
    return nt_xent_chance(n)


def debiased(
    z1_ND: Tensor,
    z2_ND: Tensor,
    temperature: float = 0.5,
    *,
    tau_plus: float = 0.1,
    groups: Tensor | None = None,
) -> Tensor:
    """The mean over all 2N views of `-log(p / (p + G))`, with `p = exp(s_positive)`.

    `G = max((sum over negatives of exp s - tau_plus K p) / (1 - tau_plus), K exp(-1 / temperature))`,
    where K is the number of the view's own negatives.

    Args:
        z1_ND: First views; normalised here.
        z2_ND: Second views, row by row the partners of the first.
        temperature: Divides the cosines.
        tau_plus: The share of negatives that are positives in truth, in [0, 1); 0 gives NT-Xent.
        groups: Integers `(N,)`; views of other pairs of the same group are neither positives nor
            negatives. A negative one is no group.

    Returns:
        A scalar. A view without negatives contributes 0.

    Raises:
        InputError: Shapes differ, or a number is out of its range.
    """

    def mass(similarity_RM: Tensor, counts_R: Tensor) -> tuple[Tensor, Tensor]:
        return shifted_softmax_(similarity_RM)

    return debiased_by(mass, z1_ND, z2_ND, temperature, tau_plus, groups)


def debiased_by(
    mass: Mass,
    z1_ND: Tensor,
    z2_ND: Tensor,
    temperature: float,
    tau_plus: float,
    groups: Tensor | None,
) -> Tensor:
    """The debiased loss with any weights of the negatives.

    Args:
        mass: How the log of the negatives' mass comes from their similarities.
        z1_ND: First views; normalised here.
        z2_ND: Second views.
        temperature: Divides the cosines.
        tau_plus: The share of false negatives.
        groups: As in `debiased`.

    Raises:
        InputError: Shapes differ, or a number is out of its range.
    """
    check_pair(z1_ND, z2_ND)
    check_temperature(temperature)
    check_fixed(temperature)
    _check_share(tau_plus)
    check_groups(groups, len(z1_ND))
    views = two_views(unit(z1_ND), unit(z2_ND))
    row_loss = _row_loss(mass, views, ignored_pairs(views, groups), temperature, tau_plus)
    total = contrast(views.queries, views.keys, row_loss, scale=1 / temperature)
    return total / len(views.queries)


def _check_share(tau_plus: float) -> None:
    """A share of false negatives, in [0, 1).

    Raises:
        InputError: It is not.
    """
    # So near 1 that only 1 itself is refused.
    check_between("tau_plus", tau_plus, 0, 1 - 1e-9)


class Corrected(NamedTuple):
    """Losses of rows, and their slopes.

    Attributes:
        losses: `(R,)`.
        by_mass: By the log of the negatives' mass `(R,)`.
        by_near: By the similarity of the positive `(R,)`.
    """

    losses: Tensor
    by_mass: Tensor
    by_near: Tensor


def corrected(
    log_mass_R: Tensor, near_R: Tensor, counts_R: Tensor, temperature: float, tau_plus: float
) -> Corrected:
    """The debiased loss of rows, in logarithms throughout.

    With `m` the mass of the negatives, `b = tau_plus K p` what is taken off it and
    `G = (m - b) / (1 - tau_plus)`, the slopes by `log m` and by `s_positive` hold the factor
    `m / ((1 - tau_plus) (p + G))` and not `m / (m - b)`, which overflows where G is small.

    Args:
        log_mass_R: The log of the (weighted) sum of the negatives' exponents.
        near_R: The similarity of each row's positive.
        counts_R: How many negatives each row has; rows with none get zeros.
        temperature: What the cosines were divided by.
        tau_plus: The share of false negatives.
    """
    none = counts_R == 0
    mass = log_mass_R.masked_fill(none, 0)
    log_count = counts_R.clamp_min(1).to(near_R.dtype).log()
    rest = math.log1p(-tau_plus)
    off = near_R + log_count + (math.log(tau_plus) if tau_plus > 0 else -math.inf)
    # Where more is taken off than there is, minus infinity, so that the floor holds.
    left = mass + torch.log(-torch.expm1((off - mass).clamp_max(0))) - rest
    floor = log_count - 1 / temperature
    free = left > floor
    log_negative = torch.where(free, left, floor)
    log_all = torch.logaddexp(near_R, log_negative)
    losses = log_all - near_R
    gone = ~free | none
    by_mass = (mass - rest - log_all).exp().masked_fill(gone, 0)
    by_off = (off - rest - log_all).exp().masked_fill(gone, 0)
    by_near = -(log_negative - log_all).exp() - by_off
    return Corrected(losses.masked_fill(none, 0), by_mass, by_near.masked_fill(none, 0))


def _row_loss(
    mass: Mass, views: Views, ignore: PairRule | None, temperature: float, tau_plus: float
) -> RowLoss:
    def row_loss(similarity_RM: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        near = keep_negatives_(
            similarity_RM, rows, views.partner, itself_N=views.itself, ignore=ignore
        )[:, 0]
        counts = (similarity_RM > -torch.inf).sum(dim=1)
        log_mass, gradient = mass(similarity_RM, counts)
        row = corrected(log_mass, near, counts, temperature, tau_plus)
        gradient.mul_(row.by_mass[:, None])
        gradient.scatter_(1, views.partner[rows, None], row.by_near[:, None])
        return row.losses, gradient

    return row_loss
