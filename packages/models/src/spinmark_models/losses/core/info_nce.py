"""InfoNCE with weights: the row loss that most contrastive losses are made of.

For a row with similarities `s_j`, weights of positives `p_j` and weights of candidates `w_j`

    loss = -sum_j p_j s_j + (sum_j p_j) log sum_j w_j exp(s_j)

Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018,
arXiv:1807.03748, is one positive of weight 1 and candidates of weight 1.
"""

import torch
from torch import Tensor

from spinmark_models.losses.core.kernel import PairRule, RowLoss


def shifted_softmax_(similarity_RM: Tensor) -> tuple[Tensor, Tensor]:
    """Turns similarities into probabilities, in place.

    Args:
        similarity_RM: Similarities; minus infinity where a key is no candidate.

    Returns:
        The log of the sum of exponents `(R,)`, minus infinity in a row without candidates, and the
        probabilities `(R, M)`, zeros in such a row.
    """
    highest = similarity_RM.amax(dim=1, keepdim=True)
    highest.masked_fill_(highest == -torch.inf, 0)
    powers = similarity_RM.sub_(highest).exp_()
    total = powers.sum(dim=1, keepdim=True)
    log_total = highest + total.log()
    return log_total[:, 0], powers.div_(total.masked_fill(total == 0, 1))


def one_positive(
    positive_N: Tensor, *, itself_N: Tensor | None = None, ignore: PairRule | None = None
) -> RowLoss:
    """One positive a row, all other keys negatives but those that are left out.

    Args:
        positive_N: The index of each row's positive among the keys.
        itself_N: The index of each row among the keys, where it is one of them.
        ignore: True for pairs that are neither; the positive counts in any case.
    """

    def row_loss(similarity_RM: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        partner = positive_N[rows, None]
        near = similarity_RM.gather(1, partner)
        if ignore is not None:
            similarity_RM.masked_fill_(ignore(rows), -torch.inf)
            similarity_RM.scatter_(1, partner, near)
        if itself_N is not None:
            similarity_RM.scatter_(1, itself_N[rows, None], -torch.inf)
        log_total, probability = shifted_softmax_(similarity_RM)
        probability.scatter_add_(1, partner, torch.full_like(near, -1))
        return log_total - near[:, 0], probability

    return row_loss


def weighted(positives: PairRule, candidates: PairRule, row_weight_N: Tensor) -> RowLoss:
    """Any weights of positives and candidates.

    Args:
        positives: Weights of the positives, 0 where a key is none.
        candidates: Weights of the candidates in the denominator, 0 where a key is none.
        row_weight_N: The weight of each row's loss, such as one over the number of rows that count.

    Returns:
        The row loss; a row without positives or without candidates contributes 0.
    """

    def row_loss(similarity_RM: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        attract = positives(rows).to(similarity_RM.dtype)
        weights = candidates(rows).to(similarity_RM.dtype)
        counts = (weights > 0).any(dim=1)
        # Factors of the row go into the weights, so that one product serves loss and gradient.
        attract = attract * (row_weight_N[rows] * counts).to(attract.dtype)[:, None]
        share = attract.sum(dim=1)
        near = (attract * similarity_RM).sum(dim=1)
        log_total, probability = shifted_softmax_(similarity_RM + weights.log())
        log_total = log_total.masked_fill(~counts, 0)
        gradient = probability.mul_(share[:, None]).sub_(attract)
        return share * log_total - near, gradient

    return row_loss
