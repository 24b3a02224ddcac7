"""Barlow Twins: the two views' features correlate each with itself and with no other.

Zbontar, Jing, Misra, LeCun, Deny, "Barlow Twins: Self-Supervised Learning via Redundancy
Reduction", 2021, arXiv:2103.03230.
"""

import torch
from torch import Tensor

from spinmark_models.losses.core.batch import batch_mean, batch_size, centred, sum_processes
from spinmark_models.losses.core.checks import check_between, check_pair
from spinmark_models.losses.core.precision import exact, without_autocast


def _standardised(z_ND: Tensor, eps: float) -> Tensor:
    apart = centred(exact(z_ND))
    # The floor keeps the root's slope finite where a feature is constant.
    variance = batch_mean(apart.square()) + max(eps, torch.finfo(apart.dtype).tiny)
    return apart / variance.sqrt()


@without_autocast
def barlow_twins(
    z1_ND: Tensor, z2_ND: Tensor, redundancy: float = 5e-3, eps: float = 1e-5
) -> Tensor:
    """Squared distance of the views' cross-correlation from the identity.

    With `C` the mean over the batch of the products of standardised features,
    `sum_i (1 - C_ii)^2 + redundancy * sum_{i != j} C_ij^2`.

    Args:
        z1_ND: Projections of first views; standardised here over the batch of all processes, with
            the variance divided by N.
        z2_ND: Projections of second views, row by row.
        redundancy: Weight of the terms off the diagonal, at least 0.
        eps: Added to each variance, as batch normalisation does.

    Returns:
        A scalar, 0 at best; a sum over features, so it grows with their number.

    Raises:
        InputError: Shapes differ, a number is below 0, or the whole batch has fewer than 2 rows.
    """
    check_pair(z1_ND, z2_ND)
    check_between("redundancy", redundancy, 0, float("inf"))
    check_between("eps", eps, 0, float("inf"))
    n = batch_size(z1_ND, least=2)
    first, second = _standardised(z1_ND, eps), _standardised(z2_ND, eps)
    correlation = sum_processes(first.T @ second) / n
    own = correlation.diagonal()
    others = correlation - torch.diag(own)
    return (1 - own).square().sum() + redundancy * others.square().sum()
