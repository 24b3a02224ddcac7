"""HSIC: how much two kernels of the same examples have in common, without bias.

Song, Smola, Gretton, Bedo, Borgwardt, "Feature Selection via Dependence Maximization", 2012, give
the unbiased estimator; that it is an inner product of centred matrices is from Szekely, Rizzo,
"Partial Distance Correlation with Methods for Dissimilarities", 2014, arXiv:1310.2926.
"""

import torch
from torch import Tensor

from spinmark_models.errors import InputError

LEAST_ROWS = 4
"""Fewest examples for which the estimator is defined."""

_MEDIAN_ROWS = 1024


def squared_distances(x_ND: Tensor, y_MD: Tensor | None = None) -> Tensor:
    """Squared Euclidean distances `(N, M)`, 0 or more."""
    y = x_ND if y_MD is None else y_MD
    # From a common origin near both, so that the difference of squares keeps its digits.
    origin = y.detach().mean(dim=0)
    x, y = x_ND - origin, y - origin
    lengths = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)[None, :]
    return (lengths - 2 * x @ y.T).clamp_min(0)


@torch.no_grad()
def median_bandwidth(x_ND: Tensor) -> Tensor:
    """The median distance of different rows, the usual rule for a Gaussian kernel.

    Of at most 1,024 rows, evenly spread over the batch. 1 if there is no distance above 0.

    Args:
        x_ND: Rows.
    """
    step = -(-len(x_ND) // _MEDIAN_ROWS)
    few = x_ND.detach()[::step]
    i, j = torch.triu_indices(len(few), len(few), offset=1, device=few.device)
    distances = squared_distances(few)[i, j].sqrt()
    middle = distances.median() if len(distances) else few.new_zeros(())
    return torch.where(middle > 0, middle, torch.ones_like(middle))


def gaussian_kernel(x_ND: Tensor, bandwidth: float | Tensor, y_MD: Tensor | None = None) -> Tensor:
    """`exp(-d^2 / (2 bandwidth^2))` of all pairs, `(N, M)`.

    Args:
        x_ND: Rows.
        bandwidth: In the units of the rows, above 0.
        y_MD: Rows of the other side; the same ones if none are given.
    """
    return torch.exp(squared_distances(x_ND, y_MD) / (-2 * bandwidth**2))


def u_centred(kernel_NN: Tensor) -> Tensor:
    """A symmetric matrix with its diagonal and its row and column effects taken out.

    Rows and columns of the result sum to 0, and so do products with a constant matrix.

    Args:
        kernel_NN: A symmetric matrix of at least 4 rows; its diagonal does not matter.

    Raises:
        InputError: There are fewer rows.
    """
    n = len(kernel_NN)
    if n < LEAST_ROWS:
        raise InputError(f"A batch has {n} example(s); unbiased HSIC takes at least {LEAST_ROWS}.")
    itself = torch.eye(n, dtype=torch.bool, device=kernel_NN.device)
    hollow = kernel_NN.masked_fill(itself, 0)
    rows = hollow.sum(dim=1, keepdim=True)
    centred = hollow - (rows + rows.T) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    return centred.masked_fill(itself, 0)


def centred_product(a_NN: Tensor, b_NN: Tensor) -> Tensor:
    """The inner product of two matrices from `u_centred`: the unbiased HSIC of their kernels."""
    n = len(a_NN)
    return (a_NN * b_NN).sum() / (n * (n - 3))
