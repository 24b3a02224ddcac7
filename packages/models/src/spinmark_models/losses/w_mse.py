"""W-MSE: views agree after the batch has been whitened, so that they cannot all be one.

Ermolov, Siarohin, Sangineto, Sebe, "Whitening for Self-Supervised Representation Learning", 2020,
arXiv:2007.06346. The whole batch is whitened at once; the paper's random sub-batches are left out.
"""

import torch
from torch import Tensor

from spinmark_models.errors import InputError
from spinmark_models.losses.core.batch import batch_size, centred, sum_processes
from spinmark_models.losses.core.checks import check_between, check_pair
from spinmark_models.losses.core.precision import exact, without_autocast
from spinmark_models.losses.regression import unit_distance


def whitened(x_ND: Tensor, shrinkage: float = 1e-3) -> Tensor:
    """This process's rows, after the batch of all processes has been given unit covariance.

    By the Cholesky factor of the covariance, which divides by N - 1. The covariance is first mixed
    with the identity times its own mean variance, so that it can be inverted whatever the scale.

    Args:
        x_ND: Embeddings.
        shrinkage: Share of the identity, in [0, 1].

    Raises:
        InputError: The whole batch has no more rows than features, or they are dependent and there
            is no shrinkage.
    """
    check_between("shrinkage", shrinkage, 0, 1)
    n, d = batch_size(x_ND), x_ND.shape[1]
    if n <= d:
        raise InputError(
            f"A batch of {n} cannot be whitened in {d} features; use more than {d} examples."
        )
    apart = centred(exact(x_ND))
    covariance = sum_processes(apart.T @ apart) / (n - 1)
    scale = covariance.diagonal().mean() + torch.finfo(apart.dtype).eps
    identity = torch.eye(d, dtype=apart.dtype, device=apart.device)
    mixed = (1 - shrinkage) * covariance + shrinkage * scale * identity
    factor, failed = torch.linalg.cholesky_ex(mixed)
    if int(failed):
        raise InputError(
            f"The covariance of {d} features cannot be inverted at shrinkage {shrinkage}; use more."
        )
    white: Tensor = torch.linalg.solve_triangular(factor, apart.T, upper=False).T
    return white


@without_autocast
def w_mse(z1_ND: Tensor, z2_ND: Tensor, shrinkage: float = 1e-3) -> Tensor:
    """The mean of 2 - 2 cos of whitened first and second views, each whitened by itself.

    Args:
        z1_ND: Projections of first views.
        z2_ND: Projections of second views, row by row.
        shrinkage: Share of the identity in the covariance, in [0, 1]; 0 is the paper's form.

    Returns:
        A scalar from 0 to 4.

    Raises:
        InputError: Shapes differ, or the whole batch has no more rows than features.
    """
    check_pair(z1_ND, z2_ND)
    return unit_distance(whitened(z1_ND, shrinkage), whitened(z2_ND, shrinkage))
