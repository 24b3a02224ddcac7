"""What a contrast comes to for an encoder that tells nothing apart, and how many it was contrasted with."""

from collections.abc import Callable

import torch
from torch import Tensor

from spinmark_models.losses.core.batch import process_count, sum_processes
from spinmark_models.losses.core.gather import gather_rows

Level = Callable[[Tensor], Tensor]
"""From the number of negatives of each pair, `(N,)` float64, to the chance level of its loss, `(N,)`."""


_ROWS = 512


def candidates(groups: Tensor, ignore_same: bool, views: int = 2) -> Tensor:
    """Return how many negatives each pair's views have, `(N,)` float64.

    Args:
        groups: The group of each pair, `(N,)`.
        ignore_same: Whether other pairs of a group are no negatives.
        views: Views of each other pair that are candidates: 2, or 1 where only the other side's are.
    """
    n = len(groups)
    if not ignore_same:
        return torch.full((n,), views * (n - 1.0), dtype=torch.float64, device=groups.device)
    # Some rows at a time: all pairs of a large batch take more memory than a part of it.
    some = [groups[start : start + _ROWS, None] for start in range(0, n, _ROWS)]
    same = torch.cat([(rows == groups).sum(dim=1) for rows in some])
    return views * (n - same.double())


def nt_xent_level(negatives: Tensor) -> Tensor:
    """The partner is one of so many: ln(1 + negatives)."""
    return torch.log1p(negatives)


def contrast_figures(
    groups: Tensor, ignore_same: bool, level: Level = nt_xent_level, views: int = 2
) -> dict[str, Tensor]:
    """Return `chance` and `negatives` of a batch over all processes, without waiting for the device.

    Args:
        groups: The group of each pair of this process, `(N,)`.
        ignore_same: Whether other pairs of a group are no negatives.
        level: What the loss comes to with so many negatives.
        views: Views of each other pair that are candidates.
    """
    everyone, _ = gather_rows(groups)
    count = candidates(everyone, ignore_same, views)
    own = candidates(groups, ignore_same, views).mean()
    return {
        "chance": level(count).mean(),
        "negatives": count.mean(),
        # From this process alone, so that a gathering that failed shows beside it.
        "negatives_expected": own + views * (process_count() - 1) * len(groups),
    }


def soft_floor(weights_TT: Tensor, groups_T: Tensor | None) -> Tensor:
    """Return the least that a contrast with positives by degree can come to: the entropy of their weights.

    Every other pair's two views carry its weight, the partner 1, and a row's weights are shares of their sum.

    Args:
        weights_TT: The weight of each pair of all processes as a positive of each other one.
        groups_T: Pairs of one group are no positives of each other.
    """
    weights = weights_TT.clone()
    if groups_T is not None:
        weights.masked_fill_(groups_T[:, None] == groups_T[None, :], 0)
    weights.fill_diagonal_(0)
    total = 1 + 2 * weights.sum(dim=1)
    return (total.log() - 2 * torch.xlogy(weights, weights).sum(dim=1) / total).mean()


@torch.no_grad()
def collapsed(loss: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Return the loss of an encoder that maps everything to one point, over all processes.

    For losses whose positives follow from what is known of the batch: the loss itself says it, with
    every rule that it has.

    Args:
        loss: From rows of any width to this process's loss.
        rows: As many rows as the loss is given, `(R, D)`; their values do not count.
    """
    value = loss(torch.ones_like(rows[:, :1])).detach()
    return sum_processes(value) / process_count()
