"""SP: each example's similarities with all others are the teacher's, up to a factor.

Tung, Mori, "Similarity-Preserving Knowledge Distillation", 2019, arXiv:1907.09682.
"""

from torch import Tensor
from torch.nn import functional as F

from spinmark_models.losses.core.checks import check_same_rows
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.kernel import contrast, differentiated
from spinmark_models.losses.core.precision import exact


def similarity_preserving(student_NE: Tensor, teacher_NF: Tensor) -> Tensor:
    """The squared difference of both sides' dot products, each row of them of unit length, over N^2.

    Args:
        student_NE: The student's embeddings; neither centred nor normalised, as in the paper.
        teacher_NF: The teacher's embeddings of the same examples, of any width; get no gradient.

    Returns:
        A scalar of the order of 1 / N, so that its weight beside other losses is large.

    Raises:
        InputError: The numbers of rows differ.
    """
    check_same_rows(student_NE, teacher_NF)
    student, teacher = exact(student_NE), exact(teacher_NF.detach())
    keys, _ = gather_rows(student)
    teachers, _ = gather_rows(teacher)

    def row_loss(similarity_RM: Tensor, rows: slice) -> Tensor:
        target = F.normalize(teacher[rows] @ teachers.T, dim=1)
        return (F.normalize(similarity_RM, dim=1) - target).square().sum(dim=1)

    total = contrast(student, keys, differentiated(row_loss))
    return total / (len(student) * len(keys))
