"""Relational distillation: the student keeps the teacher's angles between three examples.

Park, Kim, Lu, Cho, "Relational Knowledge Distillation", 2019, arXiv:1904.05068 (angle-wise).
`spinmark_models.losses.relational` is its other half.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from spinmark_models.losses.core.batch import batch_size, process_count, sum_processes
from spinmark_models.losses.core.checks import check_same_rows
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.precision import exact, without_autocast

# Cosines, and numbers of differences, that are held at a time.
_BLOCK_NUMBERS = 1 << 22


def _directions(apex_RD: Tensor, all_MD: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors `(R, M, D)` from each apex to all rows, and whether there is one `(R, M)`.

    Where two points coincide there is none; it is zero there, and gets no gradient.
    """
    apart = all_MD[None] - apex_RD[:, None]
    squared = apart.square().sum(dim=2)
    exists = squared > 0
    length = squared.masked_fill(~exists, 1).sqrt()
    return apart / length[:, :, None], exists


def _block(student_MD: Tensor, teacher_ME: Tensor, start: int, stop: int) -> Tensor:
    """The summed Huber loss of all angles at the apexes `start` to `stop`."""
    with torch.no_grad():
        to_others, known = _directions(teacher_ME[start:stop], teacher_ME)
        wanted = to_others @ to_others.mT
        counts = known[:, :, None] & known[:, None, :]
        counts.diagonal(dim1=1, dim2=2).fill_(False)
    seen, _ = _directions(student_MD[start:stop], student_MD)
    losses = F.huber_loss(seen @ seen.mT, wanted, reduction="none")
    return losses.masked_fill(~counts, 0).sum()


@torch.no_grad()
def _angle_count(teacher_NE: Tensor, all_ME: Tensor, rows: int) -> Tensor:
    """The number of angles at this process's apexes that the teacher has."""
    total = torch.zeros((), dtype=teacher_NE.dtype, device=teacher_NE.device)
    for first in range(0, len(teacher_NE), rows):
        others = _directions(teacher_NE[first : first + rows], all_ME)[1].sum(dim=1)
        total += (others * (others - 1)).sum()
    return total


@without_autocast
def relational_angle(student_NE: Tensor, teacher_NF: Tensor) -> Tensor:
    """The mean Huber loss between cosines of the angles that student and teacher see.

    For three different rows i, j, k: the angle at j between i and k. Neither shift nor scale nor
    rotation of one side matters, and the widths may differ. The paper's weight for this term is 50.

    Angles that the teacher does not have, since two of its points coincide, are left out. One that
    only the student lacks counts as a right angle, so that a collapsed student is not at 0.

    Time grows with N^3 and the width; memory with N^2 and the width, as it is done in blocks whose
    gradient is worked out by doing them again.

    Args:
        student_NE: The student's embeddings.
        teacher_NF: The teacher's embeddings of the same examples; get no gradient.

    Returns:
        A scalar, the mean over all angles of all processes' rows together.

    Raises:
        InputError: The numbers of rows differ, or the whole batch has fewer than 3.
    """
    check_same_rows(student_NE, teacher_NF)
    total = batch_size(student_NE, least=3)
    n, width = len(student_NE), max(student_NE.shape[1], teacher_NF.shape[1])
    student, start = gather_rows(exact(student_NE))
    teacher, _ = gather_rows(exact(teacher_NF.detach()))
    rows = max(1, _BLOCK_NUMBERS // (total * max(total, width)))
    loss = student.new_zeros(())
    for first in range(start, start + n, rows):
        stop = min(first + rows, start + n)
        loss = loss + checkpoint(
            _block, student, teacher, first, stop, use_reentrant=False, preserve_rng_state=False
        )
    count = sum_processes(_angle_count(teacher[start : start + n], teacher, rows))
    # Averaged over processes, shares of the whole's count give the whole's mean.
    return loss * process_count() / count.clamp_min(1)
