"""NT-Xent: the normalised, temperature-scaled cross-entropy of SimCLR.

Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual
Representations", 2020, arXiv:2002.05709.
"""

import math

from torch import Tensor

from spinmark_models.losses.core.checks import check_groups, check_pair, check_temperature
from spinmark_models.losses.core.info_nce import one_positive
from spinmark_models.losses.core.kernel import contrast
from spinmark_models.losses.core.pairs import ignored_pairs, two_views
from spinmark_models.losses.core.precision import unit


def nt_xent_chance(n: int) -> float:
    """The loss of an encoder that cannot tell its `n` pairs apart: ln(2n - 1).

    >>> round(nt_xent_chance(64), 4)
    4.8442
    """
    return math.log(2 * n - 1)


def nt_xent(
    z1_ND: Tensor, z2_ND: Tensor, temperature: float = 0.1, groups: Tensor | None = None
) -> Tensor:
    """The mean over all 2N views of the cross-entropy of finding a view's partner.

    Every exponent is shifted by its row's maximum, so that small temperatures are safe in float32.

    Args:
        z1_ND: First views; normalised here.
        z2_ND: Second views, row by row the partners of the first.
        temperature: Divides the cosines.
        groups: Integers `(N,)`; views of other pairs of the same group, such as the other knee
            of a person, are neither positives nor negatives. A negative one is no group.

    Returns:
        A scalar. A view whose every negative is ignored contributes 0.

    Raises:
        InputError: Shapes differ or the temperature is not positive.
    """
    check_pair(z1_ND, z2_ND)
    check_temperature(temperature)
    check_groups(groups, len(z1_ND))
    views = two_views(unit(z1_ND), unit(z2_ND))
    ignore = ignored_pairs(views, groups)
    row_loss = one_positive(views.partner, itself_N=views.itself, ignore=ignore)
    total = contrast(views.queries, views.keys, row_loss, scale=1 / temperature)
    return total / len(views.queries)
