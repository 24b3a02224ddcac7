"""BYOL: a student predicts what a slowly moving teacher says of the other view.

Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", 2020,
arXiv:2006.07733. The teacher is a moving average of the student; see `spinmark_models.momentum`.
"""

from torch import Tensor

from spinmark_models.losses.regression import cosine_regression


def byol(
    prediction1_ND: Tensor, prediction2_ND: Tensor, target1_ND: Tensor, target2_ND: Tensor
) -> Tensor:
    """The sum over both views of the mean of 2 - 2 cos(prediction, target of the other view).

    Args:
        prediction1_ND: The student's predictor on first views.
        prediction2_ND: The student's predictor on second views.
        target1_ND: The teacher's projection of first views; gets no gradient.
        target2_ND: The teacher's projection of second views; gets no gradient.

    Returns:
        A scalar: 0 where all agree, 4 where nothing does, at most 8.

    Raises:
        InputError: The shapes differ.
    """
    forth = cosine_regression(prediction1_ND, target2_ND)
    back = cosine_regression(prediction2_ND, target1_ND)
    return forth + back
