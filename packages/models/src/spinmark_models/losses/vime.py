"""VIME's pretext loss: which cells were corrupted, and what stood in them.

Yoon, Zhang, Jordon, van der Schaar, "VIME: Extending the Success of Self- and Semi-supervised
Learning to Tabular Domain", NeurIPS 2020: l_mask + alpha * l_feature.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses.core.batch import process_count, sum_processes
from spinmark_models.losses.core.precision import exact


def vime(
    mask_logits_NP: Tensor,
    changed_NP: Tensor,
    cell_losses_NP: Tensor,
    *,
    visible_NP: Tensor | None = None,
    observed_NP: Tensor | None = None,
    alpha: float = 2.0,
) -> Tensor:
    """The mean cross-entropy of the mask plus `alpha` times the mean loss of the features.

    Args:
        mask_logits_NP: For each cell, the log odds that it was corrupted.
        changed_NP: Whether it was: `corruption.Corrupted.changed`.
        cell_losses_NP: How badly each cell of the uncorrupted row is predicted, at least 0.
        visible_NP: Cells that the encoder saw, over which the mask is scored; None for all.
        observed_NP: Cells whose true value is known, over which features are scored; None for all.
        alpha: Weight of the features.

    Returns:
        A scalar; a term without a cell is 0.

    Raises:
        InputError: The shapes differ, there are no cells, or alpha is below 0.
    """
    shapes = [
        tuple(x.shape)
        for x in (mask_logits_NP, changed_NP, cell_losses_NP, visible_NP, observed_NP)
        if x is not None
    ]
    if mask_logits_NP.ndim != 2 or len(set(shapes)) > 1 or mask_logits_NP.numel() == 0:
        raise InputError(
            f"Mask, features and what is scored have shapes {shapes}; all must be (rows, columns)."
        )
    if not alpha >= 0:
        raise InputError(f"alpha is {alpha}; use a number of 0 or more.")
    logits = exact(mask_logits_NP)
    mask = F.binary_cross_entropy_with_logits(logits, changed_NP.to(logits.dtype), reduction="none")
    return _mean(mask, visible_NP) + alpha * _mean(exact(cell_losses_NP), observed_NP)


def vime_mask_chance(share: float) -> float:
    """The mask's loss of an encoder that only knows how many cells are corrupted: their entropy.

    Args:
        share: Share of the visible cells that were changed.

    >>> round(vime_mask_chance(0.3), 4)
    0.6109
    """
    p = torch.tensor(share, dtype=torch.float64)
    return float(-(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)))


def _mean(losses_NP: Tensor, scored_NP: Tensor | None) -> Tensor:
    """The mean over scored cells; over processes it averages to the mean over the whole batch's."""
    scored = torch.ones_like(losses_NP, dtype=torch.bool) if scored_NP is None else scored_NP
    count = sum_processes(scored.sum())
    # `where` and not a product: a cell that is not scored must add nothing even if its loss is inf.
    kept = torch.where(scored, losses_NP, torch.zeros_like(losses_NP))
    mean: Tensor = process_count() * kept.sum() / count.clamp_min(1)
    return mean
