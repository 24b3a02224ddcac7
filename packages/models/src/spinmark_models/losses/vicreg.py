"""VICReg: views agree, every feature varies, and no two features say the same.

Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised
Learning", 2021, arXiv:2105.04906.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.losses.core.batch import batch_size, centred, sum_processes
from spinmark_models.losses.core.checks import check_between, check_pair
from spinmark_models.losses.core.precision import exact, without_autocast


def variance_and_covariance(z_ND: Tensor, eps: float = 1e-4) -> tuple[Tensor, Tensor]:
    """The two terms that keep one view's features alive and apart.

    Args:
        z_ND: Projections; the batch is that of all processes.
        eps: Added to the variance under the root.

    Returns:
        The mean over features of how far the standard deviation falls short of 1, and the sum of
        the squared covariances of different features over their number. Both divide by N - 1.

    Raises:
        InputError: The whole batch has fewer than 2 rows.
    """
    n = batch_size(z_ND, least=2)
    apart = centred(exact(z_ND))
    covariance = sum_processes(apart.T @ apart) / (n - 1)
    variance = covariance.diagonal()
    shortfall = F.relu(1 - (variance + eps).sqrt()).mean()
    others = covariance - torch.diag(variance)
    return shortfall, others.square().sum() / z_ND.shape[1]


@without_autocast
def vicreg(
    z1_ND: Tensor,
    z2_ND: Tensor,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
) -> Tensor:
    """Weighted sum of the squared difference of views, the variance hinge and the covariances.

    The squared difference is the mean over rows and features. The hinge is the mean of both views'
    and the covariances are the sum of both views', as in the authors' code.

    Args:
        z1_ND: Projections of first views; neither centred nor normalised before.
        z2_ND: Projections of second views, row by row.
        invariance: Weight of the squared difference, at least 0.
        variance: Weight of the hinge, at least 0.
        covariance: Weight of the covariances, at least 0.
        eps: Added to each variance under the root, above 0.

    Raises:
        InputError: Shapes differ, a number is out of its range, or the whole batch has fewer than
            2 rows.
    """
    check_pair(z1_ND, z2_ND)
    for name, weight in (
        ("invariance", invariance),
        ("variance", variance),
        ("covariance", covariance),
    ):
        check_between(name, weight, 0, float("inf"))
    check_between("eps", eps, torch.finfo(torch.float32).tiny, float("inf"))
    shortfall1, redundant1 = variance_and_covariance(z1_ND, eps)
    shortfall2, redundant2 = variance_and_covariance(z2_ND, eps)
    # Each process's own mean: averaged over processes it is the mean of all.
    apart = F.mse_loss(exact(z1_ND), exact(z2_ND))
    return (
        invariance * apart
        + variance * (shortfall1 + shortfall2) / 2
        + covariance * (redundant1 + redundant2)
    )
