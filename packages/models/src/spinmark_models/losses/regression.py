"""Cosine regression of a teacher's embedding.

The form 2 - 2 cos is that of Grill et al., "Bootstrap Your Own Latent", 2020, arXiv:2006.07733.
"""

from torch import Tensor
from torch.nn import functional as F

from spinmark_models.losses.core.checks import check_pair
from spinmark_models.losses.core.precision import exact


def unit_distance(x_ND: Tensor, y_ND: Tensor) -> Tensor:
    """The mean of 2 - 2 cos of partners: their squared distance on the unit sphere.

    Args:
        x_ND: Rows, of any length but zero.
        y_ND: Their partners; both get gradients.
    """
    cosine = F.cosine_similarity(exact(x_ND), exact(y_ND), dim=1)
    return (2 - 2 * cosine).mean()


def cosine_regression(prediction_ND: Tensor, target_ND: Tensor) -> Tensor:
    """The mean of 2 - 2 cos(prediction, target): 0 when aligned, 4 when opposite.

    Args:
        prediction_ND: Predictions, of any length but zero.
        target_ND: Targets of the same shape; get no gradient.

    Raises:
        InputError: The shapes differ.
    """
    check_pair(prediction_ND, target_ND)
    return unit_distance(prediction_ND, target_ND.detach())
