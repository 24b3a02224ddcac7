"""SimSiam: a student predicts its own other view, through which no gradient flows.

Chen, He, "Exploring Simple Siamese Representation Learning", 2020, arXiv:2011.10566. There is no
teacher; without the stopped gradient it collapses.
"""

from torch import Tensor

from spinmark_models.losses.regression import cosine_regression


def simsiam(prediction1_ND: Tensor, prediction2_ND: Tensor, z1_ND: Tensor, z2_ND: Tensor) -> Tensor:
    """Minus the mean cosine of a prediction and the other view's projection.

    Args:
        prediction1_ND: The predictor on first views.
        prediction2_ND: The predictor on second views.
        z1_ND: Projections of first views; get no gradient here.
        z2_ND: Projections of second views; get no gradient here.

    Returns:
        A scalar from -1, where all agree, to 1; 0 where nothing does.

    Raises:
        InputError: The shapes differ.
    """
    forth = cosine_regression(prediction1_ND, z2_ND)
    back = cosine_regression(prediction2_ND, z1_ND)
    return (forth + back) / 4 - 1
