"""Momentum contrast: keys from a slow copy of the encoder, against a queue or within the batch.

Version 2: Chen, Fan, Girshick, He, "Improved Baselines with Momentum Contrastive Learning", 2020,
arXiv:2003.04297. Version 3: Chen, Xie, He, "An Empirical Study of Training Self-Supervised Vision
Transformers", 2021, arXiv:2104.02057.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.losses.core.checks import check_groups, check_pair, check_temperature
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.info_nce import one_positive
from spinmark_models.losses.core.kernel import contrast
from spinmark_models.losses.core.negative_queue import Candidates, NegativeQueue
from spinmark_models.losses.core.pairs import rows_of_one_group
from spinmark_models.losses.core.precision import exact, unit


def moco_chance(queued: int) -> float:
    """The loss against so many queued keys of an encoder that cannot tell them apart: ln(1 + K)."""
    return math.log(1 + queued)


def moco_v3_chance(n: int, temperature: float = 0.2) -> float:
    """The loss of an encoder that cannot tell its `n` pairs apart: 4 temperature ln(n)."""
    return 4 * temperature * math.log(n)


def moco(
    queries_ND: Tensor,
    keys_ND: Tensor,
    queue: NegativeQueue,
    temperature: float = 0.2,
    groups: Tensor | None = None,
) -> Tensor:
    """The mean over queries of the cross-entropy of finding the own key among those of a queue.

    The queue stays as it is: call `queue.enqueue(keys_ND, groups)` afterwards.

    Args:
        queries_ND: What the encoder says of one view; normalised here.
        keys_ND: What its slow copy says of the other, row by row; normalised here, no gradient.
        queue: Keys of earlier batches, the negatives.
        temperature: Divides the cosines.
        groups: Integers `(N,)`; keys of the same group in the queue, such as those of the other knee
            of a person or of the last epoch, are not negatives. A negative one is no group.

    Returns:
        A scalar; 0 while the queue is empty. A query whose every negative is ignored contributes 0.

    Raises:
        InputError: Shapes differ or the temperature is not positive.
    """
    check_pair(queries_ND, keys_ND)
    check_temperature(temperature)
    check_groups(groups, len(queries_ND))
    queue.check(keys_ND)
    candidates = Candidates(_key(keys_ND), queue, groups)
    row_loss = one_positive(candidates.own, ignore=candidates.ignore)
    queries = unit(queries_ND)
    return contrast(queries, candidates.keys, row_loss, scale=1 / temperature) / len(queries)


def moco_v3(
    q1_ND: Tensor,
    q2_ND: Tensor,
    k1_ND: Tensor,
    k2_ND: Tensor,
    temperature: float = 0.2,
    groups: Tensor | None = None,
) -> Tensor:
    """Twice the temperature times the cross-entropies from q1 to k2 and from q2 to k1, added.

    Args:
        q1_ND: What encoder and predictor say of the first views; normalised here.
        q2_ND: The same of the second views.
        k1_ND: What the slow copy says of the first views; normalised here, no gradient.
        k2_ND: The same of the second views.
        temperature: Divides the cosines.
        groups: Integers `(N,)`; other pairs of the same group are not negatives. A negative one is
            no group.

    Returns:
        A scalar. A query whose every negative is ignored contributes 0.

    Raises:
        InputError: Shapes differ or the temperature is not positive.
    """
    check_pair(q1_ND, q2_ND)
    check_pair(q1_ND, k1_ND)
    check_pair(q2_ND, k2_ND)
    check_temperature(temperature)
    check_groups(groups, len(q1_ND))
    ignore = None if groups is None else rows_of_one_group(groups)

    def one_way(q_ND: Tensor, k_ND: Tensor) -> Tensor:
        keys, start = gather_rows(_key(k_ND))
        own = torch.arange(start, start + len(q_ND), device=q_ND.device)
        row_loss = one_positive(own, ignore=ignore)
        queries = unit(q_ND)
        return contrast(queries, keys, row_loss, scale=1 / temperature) / len(q_ND)

    return 2 * temperature * (one_way(q1_ND, k2_ND) + one_way(q2_ND, k1_ND))


def _key(k_ND: Tensor) -> Tensor:
    return F.normalize(exact(k_ND.detach()), dim=1)
