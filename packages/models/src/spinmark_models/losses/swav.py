"""SwAV: each view predicts the prototype that the other view was assigned to.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, "Unsupervised Learning of Visual Features by
Contrasting Cluster Assignments", 2020, arXiv:2006.09882.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses.core.checks import check_pair, check_rows, check_temperature
from spinmark_models.losses.core.precision import exact
from spinmark_models.losses.core.sinkhorn import sinkhorn


class Prototypes(nn.Module):
    """Directions on the unit sphere that embeddings are compared with.

    They are normalised whenever they are used, so no step after the optimiser's is needed.

    Args:
        inside: Length of an embedding.
        count: Number of prototypes; a few for each kind of example that there may be.

    Raises:
        InputError: The number is below 2.
    """

    def __init__(self, inside: int, count: int) -> None:
        super().__init__()
        if count < 2:
            raise InputError(f"prototypes count is {count}; use 2 or more.")
        self.weight = nn.Parameter(F.normalize(torch.randn(count, inside), dim=1))

    def forward(self, z_ND: Tensor) -> Tensor:
        """The cosines `(N, count)` of embeddings with prototypes, in [-1, 1]."""
        return F.linear(F.normalize(z_ND, dim=1), F.normalize(self.weight, dim=1))


def swav_chance(prototypes: int) -> float:
    """The loss of an encoder that gives all prototypes the same score: ln(prototypes)."""
    return math.log(prototypes)


def swapped_prediction(scores_NK: Tensor, codes_NK: Tensor, temperature: float) -> Tensor:
    """The mean cross-entropy of predicting assignments from the scores of another view.

    Args:
        scores_NK: Scores of one view.
        codes_NK: Assignments of the other view; rows sum to 1, and get no gradient.
        temperature: Divides the scores.
    """
    log_probability = F.log_softmax(exact(scores_NK) / temperature, dim=1)
    return -(codes_NK.detach() * log_probability).sum(dim=1).mean()


def _codes(scores_NK: Tensor, stored_MK: Tensor | None, epsilon: float, iterations: int) -> Tensor:
    if stored_MK is None:
        return sinkhorn(scores_NK, epsilon, iterations)
    check_rows(stored_MK)
    together = torch.cat([scores_NK.detach(), stored_MK.detach().to(scores_NK.dtype)])
    return sinkhorn(together, epsilon, iterations)[: len(scores_NK)]


def swav(
    scores1_NK: Tensor,
    scores2_NK: Tensor,
    temperature: float = 0.1,
    *,
    epsilon: float = 0.05,
    iterations: int = 3,
    stored1_MK: Tensor | None = None,
    stored2_MK: Tensor | None = None,
) -> Tensor:
    """The mean of both swapped cross-entropies.

    Args:
        scores1_NK: Cosines of first views with the prototypes, as `Prototypes` gives them.
        scores2_NK: Those of second views, row by row.
        temperature: Divides the scores that predict.
        epsilon: Softness of the assignments; see `sinkhorn`.
        iterations: Sinkhorn's iterations.
        stored1_MK: Scores of earlier first views, which take part in the assignment only: with a
            batch smaller than the number of prototypes, equal use of them makes no sense without.
        stored2_MK: Scores of earlier second views.

    Returns:
        A scalar; `swav_chance` is its value for an encoder that has learnt nothing.

    Raises:
        InputError: Shapes differ or a number is out of its range.
    """
    check_pair(scores1_NK, scores2_NK)
    check_temperature(temperature)
    codes1 = _codes(scores1_NK, stored1_MK, epsilon, iterations)
    codes2 = _codes(scores2_NK, stored2_MK, epsilon, iterations)
    forth = swapped_prediction(scores1_NK, codes2, temperature)
    back = swapped_prediction(scores2_NK, codes1, temperature)
    return (forth + back) / 2
