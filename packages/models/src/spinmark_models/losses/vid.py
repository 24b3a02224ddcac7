"""VID: the student tells the teacher's features as well as it can, each with an error of its own.

Ahn, Hu, Damianou, Lawrence, Dai, "Variational Information Distillation for Knowledge Transfer",
2019, arXiv:1904.05835: a lower bound on what the two have in common.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses.core.checks import check_pair
from spinmark_models.losses.core.precision import exact

_LEAST_VARIANCE = 1e-5


class ErrorVariance(nn.Module):
    """A learned variance of the error for each of the teacher's features.

    Features that the student cannot tell get a large one and then weigh little.

    Args:
        features: Length of the teacher's embedding.
        initial: The variance to start from, above 0.00001.

    Raises:
        InputError: The variance is out of its range.
    """

    def __init__(self, features: int, initial: float = 5.0) -> None:
        super().__init__()
        if not initial > _LEAST_VARIANCE:
            raise InputError(f"initial variance is {initial}; use more than {_LEAST_VARIANCE:g}.")
        self.raw = nn.Parameter(
            torch.full((features,), _softplus_inverse(initial - _LEAST_VARIANCE))
        )

    def forward(self) -> Tensor:
        """The variances `(features,)`."""
        return F.softplus(self.raw) + _LEAST_VARIANCE


def _softplus_inverse(x: float) -> float:
    return x + math.log(-math.expm1(-x))


def vid(prediction_ND: Tensor, target_ND: Tensor, variance_D: Tensor) -> Tensor:
    """The mean of half of squared error over variance plus log variance.

    This is the negative log-likelihood of independent normal errors, less its constant.

    Args:
        prediction_ND: The teacher's features as predicted from the student's
            (`spinmark_models.heads.Predictor`).
        target_ND: The teacher's features; get no gradient.
        variance_D: A variance for each feature, above 0 (`ErrorVariance`).

    Returns:
        A scalar; it may be negative.

    Raises:
        InputError: The shapes do not fit.
    """
    check_pair(prediction_ND, target_ND)
    if variance_D.shape != prediction_ND.shape[1:]:
        raise InputError(
            f"variance has shape {tuple(variance_D.shape)}; use ({prediction_ND.shape[1]},)."
        )
    squared = (exact(prediction_ND) - exact(target_ND.detach())).square()
    variance = exact(variance_D)
    return ((squared / variance + variance.log()) / 2).mean()
