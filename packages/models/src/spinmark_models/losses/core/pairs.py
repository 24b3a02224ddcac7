"""Who is contrasted with whom: the batch's views over all processes, and rules about their pairs."""

from typing import NamedTuple

import torch
from torch import Tensor

from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.kernel import PairRule


class Views(NamedTuple):
    """Two views of N joints in this process, among those of all processes.

    Attributes:
        queries: This process's rows `(2N, D)`, first views and then second.
        keys: All rows `(2T, D)`, first views of all processes and then second.
        itself: Index of each query among the keys.
        partner: Index of its other view.
        pair: Which of the N pairs of this process each query belongs to.
    """

    queries: Tensor
    keys: Tensor
    itself: Tensor
    partner: Tensor
    pair: Tensor

    def own(self, value_N: Tensor) -> Tensor:
        """One value a pair of this process, as one a query `(2N,)`."""
        return value_N[self.pair]

    def everyone(self, value_N: Tensor) -> Tensor:
        """One value a pair of this process, as one a key of all `(2T,)`."""
        return gather_rows(value_N)[0].repeat(2)


def two_views(a_ND: Tensor, b_ND: Tensor) -> Views:
    """Lays out both views of a batch, gathered over processes with gradient.

    Args:
        a_ND: First views, as they are to be compared.
        b_ND: Second views.
    """
    n = len(a_ND)
    all_a, start = gather_rows(a_ND)
    all_b, _ = gather_rows(b_ND)
    total = len(all_a)
    own = torch.arange(start, start + n, device=a_ND.device)
    return Views(
        queries=torch.cat([a_ND, b_ND]),
        keys=torch.cat([all_a, all_b]),
        itself=torch.cat([own, own + total]),
        partner=torch.cat([own + total, own]),
        pair=torch.arange(n, device=a_ND.device).repeat(2),
    )


def same_group(views: Views, groups_N: Tensor) -> PairRule:
    """True where query and key are of one group; a negative number is no group."""
    return _equal(views.own(groups_N), views.everyone(groups_N))


def ignored_pairs(views: Views, groups_N: Tensor | None) -> PairRule | None:
    """Pairs of one group, which most losses ignore; none where no groups are given."""
    return None if groups_N is None else same_group(views, groups_N)


def rows_of_one_group(groups_N: Tensor) -> PairRule:
    """The same between the rows of this process and those of all, `(R, T)`."""
    return _equal(groups_N, gather_rows(groups_N)[0])


def _equal(own_Q: Tensor, everyone_M: Tensor) -> PairRule:
    # Short integers may have no place for the marks below.
    own, everyone = (x if x.is_floating_point() else x.long() for x in (own_Q, everyone_M))
    # Two marks, which are equal to nothing on the other side.
    own, everyone = own.masked_fill(own < 0, -1), everyone.masked_fill(everyone < 0, -2)

    def rule(rows: slice) -> Tensor:
        return own[rows, None] == everyone[None, :]

    return rule


def keep_negatives_(
    similarity_RM: Tensor,
    rows: slice,
    partner_N: Tensor,
    *,
    itself_N: Tensor | None = None,
    ignore: PairRule | None = None,
) -> Tensor:
    """Leaves the negatives of a block of rows, in place: all other keys become minus infinity.

    Args:
        similarity_RM: Similarities of the rows with all keys.
        rows: Which rows these are.
        partner_N: The index of each row's positive among the keys.
        itself_N: The index of each row among the keys, where it is one of them.
        ignore: True for other pairs that are no negatives.

    Returns:
        The similarities with the positives `(R, 1)`.
    """
    partner = partner_N[rows, None]
    near = similarity_RM.gather(1, partner)
    if ignore is not None:
        similarity_RM.masked_fill_(ignore(rows), -torch.inf)
    similarity_RM.scatter_(1, partner, -torch.inf)
    if itself_N is not None:
        similarity_RM.scatter_(1, itself_N[rows, None], -torch.inf)
    return near
