"""CKA: student and teacher find the same examples alike, up to rotation and scale.

Kornblith, Norouzi, Lee, Hinton, "Similarity of Neural Network Representations Revisited", 2019,
arXiv:1905.00414. The plain form is biased upwards when the features are many and the batch is
small; the debiased one follows Nguyen, Raghu, Kornblith, "Do Wide and Deep Networks Learn the Same
Things?", 2020, arXiv:2010.15327.
"""

import torch
from torch import Tensor

from spinmark_models.losses.core.batch import batch_mean, batch_size, centred, sum_processes
from spinmark_models.losses.core.checks import check_same_rows
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.hsic import LEAST_ROWS, centred_product, u_centred
from spinmark_models.losses.core.precision import exact, without_autocast


def _ratio(both: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """`both / sqrt(first * second)`, and 0 where one of the two has no variation."""
    tiny = torch.finfo(both.dtype).tiny
    # Two roots, as the product of two small numbers would vanish.
    return both / (first.clamp_min(tiny).sqrt() * second.clamp_min(tiny).sqrt())


def _unit_scale(apart_ND: Tensor) -> Tensor:
    """The rows over their root mean square in the whole batch; CKA does not depend on it.

    Fourth powers of the rows follow, which would overflow or vanish.
    """
    mean_square = batch_mean(apart_ND.detach().square()).mean()
    return apart_ND / mean_square.sqrt().clamp_min(torch.finfo(apart_ND.dtype).tiny)


@without_autocast
def linear_cka(x_ND: Tensor, y_NE: Tensor) -> Tensor:
    """Linear CKA in [0, 1]: 1 for the same features up to rotation, shift and scale.

    Args:
        x_ND: Features.
        y_NE: Features of the same examples, of any width.

    Raises:
        InputError: The numbers of rows differ, or the whole batch has fewer than 2.
    """
    check_same_rows(x_ND, y_NE)
    batch_size(x_ND, least=2)
    x, y = (_unit_scale(centred(exact(z))) for z in (x_ND, y_NE))
    cross, first, second = (sum_processes(a.T @ b) for a, b in ((x, y), (x, x), (y, y)))
    return _ratio(cross.square().sum(), first.square().sum(), second.square().sum())


@without_autocast
def debiased_cka(x_ND: Tensor, y_NE: Tensor) -> Tensor:
    """Linear CKA from unbiased estimates of HSIC, in [-1, 1]; near 0 for independent features.

    Memory grows with the square of the whole batch, where the plain form's grows with the widths.

    Args:
        x_ND: Features.
        y_NE: Features of the same examples, of any width.

    Raises:
        InputError: The numbers of rows differ, or the whole batch has fewer than 4.
    """
    check_same_rows(x_ND, y_NE)
    batch_size(x_ND, least=LEAST_ROWS)
    x, y = (gather_rows(_unit_scale(centred(exact(z))))[0] for z in (x_ND, y_NE))
    first, second = u_centred(x @ x.T), u_centred(y @ y.T)
    return _ratio(
        centred_product(first, second),
        centred_product(first, first),
        centred_product(second, second),
    )


def cka_loss(student_NE: Tensor, teacher_NF: Tensor) -> Tensor:
    """1 - linear CKA of student and teacher; the teacher gets no gradient."""
    return 1 - linear_cka(student_NE, teacher_NF.detach())


def debiased_cka_loss(student_NE: Tensor, teacher_NF: Tensor) -> Tensor:
    """1 - debiased CKA of student and teacher; the teacher gets no gradient."""
    return 1 - debiased_cka(student_NE, teacher_NF.detach())
