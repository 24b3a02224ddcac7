"""Cosine regression of a teacher's embedding.

The form 2 - 2 cos is that of Grill et al., "Bootstrap Your Own Latent", 2020, arXiv:2006.07733.
"""

from torch import Tensor
from torch.nn import functional as F

from spinmark_models.errors import InputError


def cosine_regression(prediction_ND: Tensor, target_ND: Tensor) -> Tensor:
    """The mean of 2 - 2 cos(prediction, target): 0 when aligned, 4 when opposite.

    Args:
        prediction_ND: Predictions, of any length but zero.
        target_ND: Targets of the same shape; get no gradient.

    Raises:
        InputError: The shapes differ.
    """
    if prediction_ND.ndim != 2 or prediction_ND.shape != target_ND.shape:
        raise InputError(
            f"Prediction and target have shapes {tuple(prediction_ND.shape)} and "
            f"{tuple(target_ND.shape)}; both must be (examples, features)."
        )
    cosine = F.cosine_similarity(prediction_ND, target_ND.detach(), dim=1)
    return (2 - 2 * cosine).mean()
