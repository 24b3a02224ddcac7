"""Relational distillation: the student keeps the teacher's distances between examples.

Park, Kim, Lu, Cho, "Relational Knowledge Distillation", 2019, arXiv:1904.05068 (distance-wise).
No projector is needed where the widths of the two differ.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses.gather import gather_rows


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
    if student_NE.ndim != 2 or teacher_NF.ndim != 2 or len(student_NE) != len(teacher_NF):
        raise InputError(
            f"Student and teacher have shapes {tuple(student_NE.shape)} and "
            f"{tuple(teacher_NF.shape)}; both must be (examples, features), equally many."
        )
    if len(student_NE) < 2:
        raise InputError(f"The batch has {len(student_NE)} example(s); distances need 2 or more.")
    student, _ = gather_rows(student_NE)
    teacher, _ = gather_rows(teacher_NF.detach())
    return F.huber_loss(_relative_distances(student), _relative_distances(teacher))
