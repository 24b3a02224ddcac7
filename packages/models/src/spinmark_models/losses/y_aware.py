"""y-aware InfoNCE: examples with similar metadata, such as age, are positives by degree.

Dufumier et al., "Contrastive Learning with Continuous Proxy Meta-Data for 3D MRI Classification",
2021, arXiv:2106.08808. Each view's weights sum to 1 over its own row.
"""

import math

import torch
from torch import Tensor

from spinmark_models.errors import InputError
from spinmark_models.losses.core.checks import check_groups, check_pair, check_temperature
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.pairs import ignored_pairs, two_views
from spinmark_models.losses.core.positives import contrast_positives
from spinmark_models.losses.core.precision import unit


def y_aware_chance(n: int) -> float:
    """The loss of an encoder that maps all `n` pairs to one point: ln(2n - 1)."""
    return math.log(2 * n - 1)


def y_aware(
    z1_ND: Tensor,
    z2_ND: Tensor,
    values_NF: Tensor,
    temperature: float = 0.1,
    *,
    bandwidth: float = 1.0,
    groups: Tensor | None = None,
) -> Tensor:
    """NT-Xent whose positives are all views, weighted by how near their metadata are.

    The weight of two examples is `exp(-|y_i - y_k|^2 / (2 bandwidth^2))`. A bandwidth near 0 gives
    NT-Xent.

    Args:
        z1_ND: First views; normalised here.
        z2_ND: Second views, row by row the partners of the first.
        values_NF: Metadata of each pair, `(N,)` or `(N, F)`; columns on one scale, such as
            standard deviations of the training subjects. An example with a value missing (NaN) has
            its partner as its only positive, and is a negative of all others.
        temperature: Divides the cosines.
        bandwidth: In the unit of the values, above 0.
        groups: Integers `(N,)`; views of other pairs of the same group are ignored. A negative one
            is no group.

    Returns:
        A scalar.

    Raises:
        InputError: The shapes do not fit, or a number is not positive.
    """
    check_pair(z1_ND, z2_ND)
    check_temperature(temperature)
    check_groups(groups, len(z1_ND))
    if not bandwidth > 0:
        raise InputError(f"bandwidth is {bandwidth}; it must be above 0.")
    if values_NF.ndim not in (1, 2) or len(values_NF) != len(z1_ND):
        raise InputError(
            f"values has shape {tuple(values_NF.shape)}; use ({len(z1_ND)},) or "
            f"({len(z1_ND)}, columns)."
        )
    views = two_views(unit(z1_ND), unit(z2_ND))
    exact = torch.promote_types(values_NF.dtype, torch.float32)
    own = values_NF.to(exact).reshape(len(z1_ND), -1) / bandwidth
    everyone, _ = gather_rows(own)

    def near(rows: slice) -> Tensor:
        mine = own[views.pair[rows]]
        squared = mine.new_zeros(len(mine), len(everyone))
        for column in range(own.shape[1]):
            squared += (mine[:, column, None] - everyone[None, :, column]).square_()
        # A missing value makes the sum NaN, and the weight none.
        return squared.mul_(-0.5).exp_().nan_to_num_(0).repeat(1, 2)

    ignore = ignored_pairs(views, groups)
    return contrast_positives(views, near, ignore, temperature)
