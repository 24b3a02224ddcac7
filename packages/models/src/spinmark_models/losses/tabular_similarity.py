"""Contrast where joints with similar table rows are positives by degree.

Hasny et al., "Tables Guide Vision: Learning to See the Heart through Tabular Data", 2025,
arXiv:2503.14998, take positives from the rows of a clinical table. The similarity here is Gower's
("A General Coefficient of Similarity and Some of Its Properties", Biometrics 27, 1971), since clinical
rows mix numbers with names and have gaps: it is the mean over the columns that both rows have.
"""

import math

import torch
from torch import Tensor

from spinmark_models.errors import InputError
from spinmark_models.losses.core.checks import (
    check_between,
    check_groups,
    check_pair,
    check_temperature,
)
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.pairs import ignored_pairs, two_views
from spinmark_models.losses.core.positives import contrast_positives
from spinmark_models.losses.core.precision import unit


def tabular_similarity_chance(n: int) -> float:
    """The loss of an encoder that maps all `n` pairs to one point: ln(2n - 1)."""
    return math.log(2 * n - 1)


def gower(
    a_RF: Tensor, b_MF: Tensor, ranges_F: Tensor, nominal_F: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Gower's similarity of rows, and how many columns it rests on.

    A number adds 1 - |difference| / range, not less than 0; a name adds 1 if equal. A column counts
    where both rows have a value.

    Args:
        a_RF: Rows; NaN where a value is missing.
        b_MF: Other rows of the same columns.
        ranges_F: Range of each column among the training rows; where it is 0, only equal
            values are alike.
        nominal_F: True for columns that hold codes of names; none by default.

    Returns:
        Similarities in [0, 1] `(R, M)`, 0 where no column is shared, and shared columns `(R, M)`.
    """
    total = a_RF.new_zeros(len(a_RF), len(b_MF))
    shared = torch.zeros_like(total)
    names = [False] * a_RF.shape[1] if nominal_F is None else nominal_F.tolist()
    widths = ranges_F.clamp_min(torch.finfo(ranges_F.dtype).tiny)
    for column, is_name in enumerate(names):
        difference = (a_RF[:, column, None] - b_MF[None, :, column]).abs_()
        known = difference.isfinite()
        if is_name:
            alike = (difference == 0).to(total.dtype)
        else:
            alike = 1 - (difference / widths[column]).clamp_(max=1)
        total += alike.masked_fill_(~known, 0)
        shared += known
    return total / shared.clamp_min(1), shared


def tabular_similarity(
    z1_ND: Tensor,
    z2_ND: Tensor,
    table_NF: Tensor,
    ranges_F: Tensor,
    temperature: float = 0.1,
    *,
    nominal: Tensor | None = None,
    top_k: int | None = None,
    softness: float = 0.1,
    least_shared: float = 0.5,
    groups: Tensor | None = None,
) -> Tensor:
    """NT-Xent whose positives are also the views of joints with similar table rows.

    Args:
        z1_ND: First views; normalised here.
        z2_ND: Second views, row by row the partners of the first.
        table_NF: A row of the table for each pair; NaN where a value is missing.
        ranges_F: Range of each column among the training rows.
        temperature: Divides the cosines.
        nominal: True `(F,)` for columns that hold codes of names.
        top_k: If given, the positives are the `top_k` most similar other pairs, those that tie with
            the last among them, each with its similarity as weight. If not, all pairs count with
            the weight `exp((similarity - 1) / softness)`.
        softness: How fast the weight falls with the similarity, above 0.
        least_shared: Share of the columns that two rows must both have, in [0, 1]; pairs of rows
            with less are no positives.
        groups: Integers `(N,)`; views of other pairs of the same group are ignored. A negative one
            is no group.

    Returns:
        A scalar.

    Raises:
        InputError: The shapes do not fit, or a number is out of its range.
    """
    n = len(z1_ND)
    check_pair(z1_ND, z2_ND)
    check_temperature(temperature)
    check_between("least_shared", least_shared, 0, 1)
    check_groups(groups, n)
    _check_table(table_NF, ranges_F, nominal, n)
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k is {top_k}; use 1 or more, or None.")
    if not softness > 0:
        raise InputError(f"softness is {softness}; it must be above 0.")
    views = two_views(unit(z1_ND), unit(z2_ND))
    own = table_NF.to(torch.promote_types(table_NF.dtype, torch.float32))
    ranges = ranges_F.to(own)
    everyone, start = gather_rows(own)
    least = max(1.0, least_shared * own.shape[1])
    ignore = ignored_pairs(views, groups)

    def likeness(rows: slice) -> Tensor:
        pair = views.pair[rows]
        similarity, shared = gower(own[pair], everyone, ranges, nominal)
        enough = shared >= least
        if top_k is None:
            return ((similarity - 1) / softness).exp_().mul_(enough).repeat(1, 2)
        similarity.mul_(enough).scatter_(1, pair[:, None] + start, 0)
        if ignore is not None:
            similarity.masked_fill_(ignore(rows)[:, : len(everyone)], 0)
        # All that tie with the last are in, or the order of the batch would choose among them.
        last = similarity.topk(min(top_k, len(everyone)), dim=1).values[:, -1:]
        return similarity.masked_fill_(similarity < last, 0).repeat(1, 2)

    return contrast_positives(views, likeness, ignore, temperature)


def _check_table(table_NF: Tensor, ranges_F: Tensor, nominal: Tensor | None, n: int) -> None:
    if table_NF.ndim != 2 or len(table_NF) != n or not table_NF.shape[1]:
        raise InputError(f"table has shape {tuple(table_NF.shape)}; use ({n}, columns).")
    for name, given in (("ranges", ranges_F), ("nominal", nominal)):
        if given is not None and given.shape != table_NF.shape[1:]:
            raise InputError(
                f"{name} has shape {tuple(given.shape)}; use ({table_NF.shape[1]},), one a column."
            )
