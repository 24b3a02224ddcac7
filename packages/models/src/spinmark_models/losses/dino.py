"""DINO: a student's distribution over made-up classes follows a teacher's on other views.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", 2021, arXiv:2104.14294.
The teacher is a moving average of the student (`spinmark_models.momentum`). Centring keeps one
class from taking all; sharpening keeps all from being alike.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses.core.batch import batch_mean
from spinmark_models.losses.core.checks import check_between, check_pair, check_temperature
from spinmark_models.losses.core.precision import exact


class Centre(nn.Module):
    """The running mean of what a teacher says, over all processes.

    Args:
        classes: Length of the teacher's output.
        momentum: Share of the old mean that is kept at each update, in [0, 1].

    Raises:
        InputError: The momentum is out of its range.
    """

    value: Tensor

    def __init__(self, classes: int, momentum: float = 0.9) -> None:
        super().__init__()
        check_between("centre momentum", momentum, 0, 1)
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(classes))

    @torch.no_grad()
    def update(self, teacher_crops: Sequence[Tensor]) -> None:
        """Moves towards the mean of a batch; call it once a step, after the loss.

        Args:
            teacher_crops: The teacher's outputs `(N, K)`, one a view.
        """
        rows = exact(torch.cat(list(teacher_crops)).detach())
        self.value.lerp_(batch_mean(rows).to(self.value.dtype), 1 - self.momentum)


def dino_chance(classes: int) -> float:
    """The loss of a student that finds all classes equally likely: ln(classes).

    A teacher that does so too, and one that always says the same class, give the collapsed ends:
    the loss stays at ln(classes), or falls to 0 while nothing is learnt.
    """
    return math.log(classes)


def dino(
    student_crops: Sequence[Tensor],
    teacher_crops: Sequence[Tensor],
    centre_K: Tensor,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Tensor:
    """The mean cross-entropy over all pairs of a teacher's view and another view of the student's.

    Args:
        student_crops: The student's outputs `(N, K)`, one a view, the teacher's views first and in
            the same order; further ones are small crops.
        teacher_crops: The teacher's outputs `(N, K)` of the large crops; get no gradient.
        centre_K: Taken from the teacher's outputs, `Centre.value`.
        student_temperature: Divides the student's outputs.
        teacher_temperature: Divides the teacher's centred outputs. The authors' code finds training
            unstable above 0.07.

    Returns:
        A scalar.

    Raises:
        InputError: Shapes differ, there is no pair of different views, or a temperature is not
            above 0.
    """
    check_temperature(student_temperature)
    check_temperature(teacher_temperature)
    _check_crops(student_crops, teacher_crops, centre_K)
    terms = []
    predictions = [F.log_softmax(exact(s) / student_temperature, dim=1) for s in student_crops]
    for t, output in enumerate(teacher_crops):
        centred = exact(output.detach()) - centre_K.detach()
        target = F.softmax(centred / teacher_temperature, dim=1)
        for s, log_probability in enumerate(predictions):
            if s != t:
                terms.append(-(target * log_probability).sum(dim=1).mean())
    return torch.stack(terms).mean()


def _check_crops(
    student_crops: Sequence[Tensor], teacher_crops: Sequence[Tensor], centre_K: Tensor
) -> None:
    students, teachers = len(student_crops), len(teacher_crops)
    if not 1 <= teachers <= students or students < 2:
        raise InputError(
            f"There are {students} student view(s) and {teachers} teacher view(s); use at least 2 of "
            "the student, the teacher's own among them."
        )
    for crop in (*student_crops, *teacher_crops):
        check_pair(crop, teacher_crops[0])
    if centre_K.shape != teacher_crops[0].shape[1:]:
        raise InputError(
            f"The centre has shape {tuple(centre_K.shape)}; use ({teacher_crops[0].shape[1]},)."
        )
