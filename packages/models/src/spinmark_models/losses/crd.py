"""CRD: student and teacher agree on which of their embeddings are of the same example.

Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2019, arXiv:1910.10699. The paper
draws its negatives from a memory of the whole training set. Here they are the other rows of the
batch, and the rest of the objective, noise-contrastive estimation, is as it was.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.losses.core.checks import check_groups, check_pair, check_temperature
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.kernel import contrast
from spinmark_models.losses.core.pairs import rows_of_one_group
from spinmark_models.losses.core.precision import unit


def crd_chance(n: int) -> float:
    """The least loss of a critic that gives all pairs of a batch of `n` the same score.

    With k = n - 1 negatives: ln(1 + k) + k ln(1 + 1 / k).
    """
    k = n - 1
    return math.log1p(k) + k * math.log1p(1 / k) if k else 0.0


def crd(
    student_ND: Tensor,
    teacher_ND: Tensor,
    temperature: float = 0.07,
    *,
    log_mean: float = 0.0,
    groups: Tensor | None = None,
) -> Tensor:
    """Noise-contrastive estimation of which student and teacher rows belong together.

    With the score `s = cos / temperature - log_mean` and k negatives, the critic is
    `h = e^s / (e^s + k)`, and each row's loss is `-log h` of its partner minus the sum over the
    other rows of `log(1 - h)`.

    Args:
        student_ND: The student's embeddings after its own linear map; normalised here.
        teacher_ND: The teacher's after another linear map, to the same length; normalised here. The
            maps learn, the teacher does not: detach what goes into its map.
        temperature: Divides the cosines.
        log_mean: The log of the mean of exp(cos / temperature) over pairs, held fixed. The paper's
            code takes it from the first batch, times the number of examples, which then cancels.
        groups: Integers `(N,)`; other rows of the same group are no negatives. A negative one is no
            group.

    Returns:
        A scalar, the mean over rows. A row without negatives contributes 0.

    Raises:
        InputError: Shapes differ or the temperature is not positive.
    """
    check_pair(student_ND, teacher_ND)
    check_temperature(temperature)
    check_groups(groups, len(student_ND))
    n = len(student_ND)
    student = unit(student_ND)
    keys, start = gather_rows(unit(teacher_ND))
    same = None if groups is None else rows_of_one_group(groups)
    columns = torch.arange(len(keys), device=keys.device)

    def row_loss(similarity_RM: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        partner = columns[start : start + n][rows, None] == columns[None, :]
        negative = ~partner
        if same is not None:
            negative &= ~same(rows)
        # No negatives, no noise: the log is minus infinity, and the critic is sure of its partner.
        noise = negative.sum(dim=1, keepdim=True).to(similarity_RM.dtype).log()
        score = similarity_RM - noise
        signs = partner.to(score.dtype) - negative.to(score.dtype)
        # Where a pair is neither, its sign is 0, and the score must not be infinite.
        score = score.masked_fill(signs == 0, 0)
        taken = signs.abs()
        losses = -(F.logsigmoid(signs * score) * taken).sum(dim=1)
        return losses, -signs * torch.sigmoid(-signs * score)

    total = contrast(student, keys, row_loss, scale=1 / temperature, bias=-log_mean)
    return total / n
