"""KD: the student's softened class probabilities follow the teacher's.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531.
"""

from torch import Tensor
from torch.nn import functional as F

from spinmark_models.losses.core.checks import check_pair, check_temperature
from spinmark_models.losses.core.precision import exact


def kd(student_NK: Tensor, teacher_NK: Tensor, temperature: float = 4.0) -> Tensor:
    """The mean over examples of KL(teacher, student) at a temperature, times its square.

    The square keeps the size of the gradient about the same at any temperature.

    Args:
        student_NK: The student's logits.
        teacher_NK: The teacher's logits of the same examples and classes; get no gradient.
        temperature: Divides both; the higher, the more the small probabilities count.

    Returns:
        A scalar, 0 exactly where the logits agree up to a constant in each row.

    Raises:
        InputError: The shapes differ or the temperature is not positive.
    """
    check_pair(student_NK, teacher_NK)
    check_temperature(temperature)
    student = F.log_softmax(exact(student_NK) / temperature, dim=1)
    teacher = F.log_softmax(exact(teacher_NK.detach()) / temperature, dim=1)
    divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2
