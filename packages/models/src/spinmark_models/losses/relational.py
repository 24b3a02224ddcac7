"""Relational distillation: the student keeps the teacher's distances between examples.

Park, Kim, Lu, Cho, "Relational Knowledge Distillation", 2019, arXiv:1904.05068 (distance-wise).
No projector is needed where the widths of the two differ.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.losses.core.checks import check_same_rows
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.precision import exact


def _relative_distances(x_ND: Tensor) -> Tensor:
    """Distances of all pairs i < j over their mean; zeros where all rows are equal."""
    # Rows picked by index would be added up by threads in any order on the way back; pdist goes by
    # columns, and gives equal rows, where the root's slope is infinite, no gradient.
    distances = F.pdist(x_ND)
    return distances / distances.mean().clamp_min(torch.finfo(x_ND.dtype).tiny)


def relational_distance(student_NE: Tensor, teacher_NF: Tensor) -> Tensor:
    """The mean Huber loss between the relative distances of student and teacher.

    The distances of each side are divided by their mean, so the two spaces may differ in scale
    and in width. The paper's weight for this term is 25.

    Args:
        student_NE: The student's embeddings.
        teacher_NF: The teacher's embeddings of the same examples; gets no gradient.

    Returns:
        A scalar, the mean over pairs i < j, of all processes together.

    Raises:
        InputError: The numbers of rows differ or are below 2.
    """
    check_same_rows(student_NE, teacher_NF, least=2)
    student, _ = gather_rows(exact(student_NE))
    teacher, _ = gather_rows(exact(teacher_NF.detach()))
    return F.huber_loss(_relative_distances(student), _relative_distances(teacher))
