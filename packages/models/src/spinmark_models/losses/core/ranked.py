"""Ranked contrast of distances: for each anchor, some rows should lie nearer than others.

An anchor i, a row j that should be near and the rows k that should lie farther from i than j give

    loss_ij = -s_ij + log sum of exp(s_ik) over j and those k,    s = -distance / temperature

Which k belong to j is told by two numbers: k does if its `key_ik` is at least the `threshold_ij`. So a
sort of the keys and one running sum serve all j of an anchor, where a plain loop needs a mask for
each. Rows are taken in blocks; the memory is that of a block of pairs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.kernel import rows_per_block
from spinmark_models.losses.core.precision import exact


class Ranking(NamedTuple):
    """What is known of a block of anchors and all rows, each `(R, M)`.

    Attributes:
        key: How far k is known to lie from the anchor, in any unit.
        threshold: The key from which on k lies farther than j; None where it is j's own key.
        positive: Whether the loss of (i, j) counts.
        candidate: Whether k may be contrasted with; never the anchor itself.
    """

    key: Tensor
    threshold: Tensor | None
    positive: Tensor
    candidate: Tensor


RankRule = Callable[[slice], Ranking]
"""From a slice of the anchors to their ranking."""


def ranked_contrast(z_ND: Tensor, rule: RankRule, temperature: float) -> Tensor:
    """The sum of the losses of all pairs of this process's anchors and the rows of all.

    Args:
        z_ND: This process's rows, not normalised.
        rule: Told for slices of them.
        temperature: Divides the distances.
    """
    rows = exact(z_ND)
    everyone, _ = gather_rows(rows)
    total: Tensor = _Ranked.apply(rows, everyone, rule, temperature)  # type: ignore[no-untyped-call]
    return total


class _Ranked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, rule: RankRule, temperature: float
    ) -> Tensor:
        total = queries.new_zeros(())
        by_query, by_key = torch.zeros_like(queries), torch.zeros_like(keys)
        # Distances are those of differences; what all rows share would only add rounding.
        centre = keys.mean(dim=0)
        rows_here, rows_all = queries - centre, keys - centre
        block = rows_per_block(queries, keys, None)
        with torch.autocast(queries.device.type, enabled=False):
            for first in range(0, len(queries), block):
                rows = slice(first, min(first + block, len(queries)))
                here = rows_here[rows]
                distance = _distances(here, rows_all)
                losses, gradient = ranked_losses(distance.div(-temperature), rule(rows))
                total += losses.sum()
                # The slope of a distance at 0 is taken as 0.
                pull = gradient.div_(distance.mul_(-temperature)).masked_fill_(distance == 0, 0)
                by_query[rows] = pull.sum(dim=1, keepdim=True) * here - pull @ rows_all
                by_key += pull.sum(dim=0)[:, None] * rows_all - pull.T @ here
        ctx.save_for_backward(by_query, by_key)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        by_query, by_key = ctx.saved_tensors
        return gradients[0] * by_query, gradients[0] * by_key, None, None


def ranked_losses(similarity_RM: Tensor, ranking: Ranking) -> tuple[Tensor, Tensor]:
    """The loss of each anchor, and its gradient by the similarities `(R, M)`.

    All sums are of logarithms, so that no exponent overflows or vanishes.
    """
    key, threshold, positive, candidate = ranking
    similarity = similarity_RM.masked_fill(~candidate, -torch.inf)
    # What is no candidate has weight 0 wherever it stands; at the far end it splits no tie.
    ordered, place = key.masked_fill(~candidate, torch.inf).sort(dim=1)
    total = _sum_from(ordered, place, similarity, threshold)
    if threshold is not None:
        alone = threshold > key
        total = torch.where(alone, torch.logaddexp(total, similarity), total)
    losses = (total - similarity).masked_fill(~positive, 0)
    # A row k stands in the sums of all j whose threshold it reaches, and in its own.
    share = torch.where(positive, -total, -torch.inf)
    if threshold is None:
        reached = _sum_from(-ordered.flip(1), place.flip(1), share, None)
        gradient = reached.add_(similarity).exp_()
    else:
        ordered, place = (-threshold).masked_fill(~positive, torch.inf).sort(dim=1)
        reached = _sum_from(ordered, place, share, -key)
        gradient = reached.add_(similarity).exp_()
        gradient += (similarity + share).exp_().masked_fill_(~alone, 0)
    return losses.sum(dim=1), gradient.sub_(positive.to(gradient.dtype))


def _sum_from(
    ordered_RM: Tensor, place_RM: Tensor, logs_RM: Tensor, threshold_RM: Tensor | None
) -> Tensor:
    """For each threshold, the log of the sum of exponents of the logs whose key is at least that.

    Args:
        ordered_RM: The keys, sorted.
        place_RM: Where each of them stands.
        logs_RM: Unsorted.
        threshold_RM: Unsorted; the keys themselves if not given.
    """
    running = logs_RM.gather(1, place_RM).flip(1).logcumsumexp(dim=1).flip(1)
    if threshold_RM is None:
        index = torch.arange(1, ordered_RM.shape[1], device=ordered_RM.device)
        steps = index * (ordered_RM[:, 1:] != ordered_RM[:, :-1])
        first_of_ties = F.pad(steps, (1, 0)).cummax(dim=1).values
        return torch.empty_like(logs_RM).scatter_(1, place_RM, running.gather(1, first_of_ties))
    # Behind the last key there is nothing to sum.
    where = torch.searchsorted(ordered_RM, threshold_RM.contiguous())
    return F.pad(running, (0, 1), value=-torch.inf).gather(1, where)


def _distances(a_RD: Tensor, b_MD: Tensor) -> Tensor:
    """Euclidean distances; rows nearer than a millionth of their length are taken for equal."""
    # In float64 the products keep what float32 knows of near rows; differences would be slower.
    a, b = a_RD.double(), b_MD.double()
    lengths = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    squared = torch.addmm(lengths, a, b.T, alpha=-2)
    return squared.masked_fill_(squared < 1e-12 * lengths, 0).sqrt_().to(a_RD.dtype)
