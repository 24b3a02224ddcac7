"""PKT: the student's neighbours are the teacher's, as conditional probabilities.

Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", 2018,
arXiv:1803.10837, with its cosine kernel, which needs no bandwidth.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.losses.core.batch import batch_size
from spinmark_models.losses.core.checks import check_same_rows
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.kernel import contrast
from spinmark_models.losses.core.precision import exact, unit

# Opposite rows have a kernel of 0, of which there is no logarithm.
_FLOOR = 1e-7


def pkt(student_NE: Tensor, teacher_NF: Tensor) -> Tensor:
    """The mean over rows of KL(teacher, student) between probabilities of the other rows.

    With the kernel `(cos + 1) / 2`, the probability of row j beside row i is its kernel over the sum
    of the kernels of all rows but i.

    Args:
        student_NE: The student's embeddings; normalised here.
        teacher_NF: The teacher's embeddings of the same examples, of any width; get no gradient.

    Returns:
        A scalar, 0 or more.

    Raises:
        InputError: The numbers of rows differ, or the whole batch has fewer than 2.
    """
    check_same_rows(student_NE, teacher_NF)
    batch_size(student_NE, least=2)
    student = unit(student_NE)
    teacher = F.normalize(exact(teacher_NF.detach()), dim=1)
    keys, start = gather_rows(student)
    teachers, _ = gather_rows(teacher)
    columns = torch.arange(len(keys), device=keys.device)

    def row_loss(similarity_RM: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        itself = columns[start : start + len(student)][rows, None] == columns[None, :]
        target = ((teacher[rows] @ teachers.T + 1) / 2).clamp_min(_FLOOR).masked_fill(itself, 0)
        target = target / target.sum(dim=1, keepdim=True)
        kernel = ((similarity_RM + 1) / 2).clamp_min(_FLOOR)
        total = kernel.masked_fill(itself, 0).sum(dim=1, keepdim=True)
        # xlogy: a row's own probability is 0, and 0 log 0 is 0.
        losses = (torch.xlogy(target, target) - target * kernel.log()).sum(dim=1)
        gradient = (1 / total - target / kernel).masked_fill(itself, 0) / 2
        return losses + total[:, 0].log(), gradient.masked_fill(kernel == _FLOOR, 0)

    return contrast(student, keys, row_loss) / len(student)
