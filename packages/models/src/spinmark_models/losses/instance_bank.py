"""Instance discrimination: each example is a class of its own, and a memory bank holds the classes.

Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018,
arXiv:1805.01978. The softmax is the whole one over the bank, where the paper draws some thousand
negatives of a million; the proximal term of the paper is left out.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.losses.core.checks import check_groups, check_pair, check_temperature
from spinmark_models.losses.core.info_nce import one_positive
from spinmark_models.losses.core.kernel import contrast
from spinmark_models.losses.core.memory_bank import MemoryBank
from spinmark_models.losses.core.precision import exact, unit


def instance_bank_chance(filled: int) -> float:
    """The loss against so many slots, the own among them, that cannot be told apart: ln(filled)."""
    return math.log(filled)


def instance_bank(
    z_ND: Tensor,
    bank: MemoryBank,
    slots_N: Tensor,
    temperature: float = 0.07,
    *,
    groups: Tensor | None = None,
    substitute_ND: Tensor | None = None,
) -> Tensor:
    """The mean over rows of the cross-entropy of finding the own slot among those of a bank.

    The bank stays as it is: call `bank.update(z_ND, slots_N, groups)` afterwards. Slots that are still
    empty are nobody's negatives.

    Args:
        z_ND: Embeddings; normalised here.
        bank: One slot an example.
        slots_N: Integers `(N,)`: the slot of each row, from 0.
        temperature: Divides the cosines.
        groups: Integers `(N,)`; slots of the same group, such as the other knee of a person, are not
            negatives. A negative one is no group.
        substitute_ND: What stands for the own slot while it is empty, such as the other view; no
            gradient. Without it such a row contributes 0.

    Returns:
        A scalar. A row whose every negative is ignored contributes 0.

    Raises:
        InputError: Shapes differ or the temperature is not positive.
    """
    bank.check(z_ND, slots_N)
    check_temperature(temperature)
    check_groups(groups, len(z_ND))
    n = len(z_ND)
    queries, slots = unit(z_ND), slots_N.long()
    known = bank.filled[slots]
    own = bank.rows[slots].to(queries)
    if substitute_ND is not None:
        check_pair(z_ND, substitute_ND)
        substitute = F.normalize(exact(substitute_ND.detach()), dim=1)
        own, known = torch.where(known[:, None], own, substitute), torch.ones_like(known)
    keys = torch.cat([own, bank.rows.to(queries)])
    places = torch.arange(n, device=z_ND.device)
    every = torch.arange(len(bank.rows), device=z_ND.device)

    def ignore(rows: slice) -> Tensor:
        mine = places[rows]
        other = ~bank.filled | (slots[rows, None] == every) | ~known[rows, None]
        if groups is not None:
            # The bank writes -1 for no group.
            other |= (groups[rows, None] == bank.groups) & (bank.groups >= 0)
        batch = torch.ones(len(mine), n, dtype=torch.bool, device=mine.device)
        return torch.cat([batch, other], dim=1)

    total = contrast(queries, keys, one_positive(places, ignore=ignore), scale=1 / temperature)
    return total / n
