"""Distillation losses with a teacher that is the moving average of the student and sees the other view.

Such a teacher knows no more than the student, so most of these losses have solutions that say nothing.
A predictor (arXiv:2006.07733) or negatives (`crd`) keep two of them from it; the others stand beside a
contrast of the two views, as consistency of similarities stands beside one in Wei et al. 2020,
arXiv:2010.02217.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.heads import ProjectionHead
from spinmark_models.losses.crd import crd
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_models.losses.registry import get_loss
from spinmark_models.losses.vid import ErrorVariance, vid
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Scored, Views
from spinmark_training.objectives.candidate_figures import one_key_negatives
from spinmark_training.objectives.chance import contrast_figures
from spinmark_training.objectives.predictive import build_predictor
from spinmark_training.objectives.settings import given
from spinmark_training.objectives.slow_teacher import TaughtObjective, check_setting


class Plain(nn.Module):
    """A loss of the student's and the teacher's rows as they are.

    Args:
        loss: Takes student and teacher.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self._loss = loss

    def prepare(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is compared of both views, `(2N, D)` each."""
        return student, teacher

    def forward(self, student: Tensor, teacher: Tensor, groups: Tensor | None) -> Tensor:
        """Compare the student's rows of one view with the teacher's of the other."""
        return self._loss(student, teacher)


class Predicted(Plain):
    """A regression of the teacher's rows from the student's, by a predictor.

    Args:
        features: Length of a row.
        hidden: Hidden width of the predictor.
        name: `cosine`, or `vid` with a learned variance for each feature.
    """

    def __init__(self, features: int, hidden: int, name: str) -> None:
        super().__init__(get_loss(name))
        self.predictor = build_predictor(features, hidden)
        self.variance = ErrorVariance(features) if name == "vid" else None

    def prepare(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Predict."""
        return self.predictor(student), teacher

    def forward(self, student: Tensor, teacher: Tensor, groups: Tensor | None) -> Tensor:
        """Compare the prediction from one view with the teacher's rows of the other."""
        if self.variance is None:
            return self._loss(student, teacher)
        return vid(student, teacher, self.variance())


class Mapped(Plain):
    """CRD, behind a linear map of each side; both maps learn, the teacher does not.

    Args:
        features: Length of a row.
        temperature: Divides the cosines.
    """

    def __init__(self, features: int, temperature: float) -> None:
        super().__init__(crd)
        self.of_student = nn.Linear(features, features)
        self.of_teacher = nn.Linear(features, features)
        self._temperature = temperature
        # The log of the mean of exp(cos / T) over directions that are drawn evenly: their cosine is
        # about normal, with the variance 1 / D.
        self._log_mean = 1 / (2 * features * temperature**2)

    def prepare(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Map both sides."""
        return self.of_student(student), self.of_teacher(teacher)

    def forward(self, student: Tensor, teacher: Tensor, groups: Tensor | None) -> Tensor:
        """Contrast the student's rows of one view with the teacher's of the other."""
        return crd(student, teacher, self._temperature, log_mean=self._log_mean, groups=groups)


def _compare(config: ObjectiveConfig, features: int) -> Plain:
    if config.name in ("cosine", "vid"):
        return Predicted(features, given(config.predictor), config.name)
    if config.name == "crd":
        return Mapped(features, given(config.temperature))
    function = get_loss(config.name)
    if config.name == "kd":
        temperature = given(config.temperature)
        return Plain(lambda student, teacher: function(student, teacher, temperature))
    return Plain(function)


class SelfDistillation(TaughtObjective):
    """`consistency` times a distillation loss, plus `contrast` times NT-Xent of the two views.

    The student's projections of one view are compared with the teacher's of the other, both ways.

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss, which the teacher has too.
        config: `name` is the loss; `momentum`, `consistency`, `contrast`, `contrast_temperature` and
            the loss's own fields.

    Raises:
        InputError: A number is out of its range.
    """

    def __init__(
        self, encoder: ImageEncoder, projection: ProjectionConfig, config: ObjectiveConfig
    ) -> None:
        head = ProjectionHead(encoder.embedding_size, projection)
        super().__init__(encoder, head, config.momentum)
        self.compare = _compare(config, projection.out)
        self._weights = given(config.consistency), given(config.contrast)
        for name, weight in zip(("consistency", "contrast"), self._weights, strict=True):
            check_setting(name, weight, weight >= 0, "0 and more")
        self._temperature = given(config.contrast_temperature)
        good = self._temperature > 0
        check_setting("contrast_temperature", self._temperature, good, "numbers above 0")
        self._ignore, self._negatives = config.ignore_same_subject, config.name == "crd"

    def forward(self, student: Views, slow: Views | None, batch: Batch) -> Scored:
        """Score a batch."""
        projected: Tensor = self.head(student.whole)
        subject = batch.subject.to(projected.device)
        groups = subject if self._ignore else None
        student_rows, teacher_rows = self.compare.prepare(projected, self.taught(slow))
        (s1, s2), (t1, t2) = student_rows.chunk(2), teacher_rows.chunk(2)
        distilled = (self.compare(s1, t2, groups) + self.compare(s2, t1, groups)) / 2
        consistency, contrast = self._weights
        loss = consistency * distilled
        figures: dict[str, Tensor | float] = {"loss_distilled": distilled.detach()}
        if contrast:
            first, second = projected.chunk(2)
            apart = nt_xent(first, second, self._temperature, groups)
            loss = loss + contrast * apart
            found = contrast_figures(subject, self._ignore)
            figures |= {
                "loss_contrast": apart.detach(),
                "chance_contrast": found["chance"],
                "negatives": found["negatives"],
                "negatives_expected": found["negatives_expected"],
            }
        elif self._negatives:
            count, found = one_key_negatives(subject, self._ignore)
            figures |= found | {"chance": consistency * _crd_chance(count)}
        return Scored(loss, figures, projected.detach())


def _crd_chance(count: Tensor) -> Tensor:
    """Return the mean of the least loss of a critic that gives all pairs of a row the same score."""
    # Without negatives it is 0, and their logarithm is not asked for.
    some = count.clamp_min(1)
    least = torch.log1p(some) + some * torch.log1p(1 / some)
    return torch.where(count > 0, least, torch.zeros_like(least)).mean()
