"""What objectives share that remember something: a slow teacher, ranges of settings, a head without batches."""

import torch
from torch import Tensor, nn

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_training.errors import InputError
from spinmark_training.objectives.base import MomentumTeacher, Objective, Views


def check_setting(field: str, value: float, good: bool, accepted: str) -> None:
    """Refuse a setting that is out of its range.

    Args:
        field: Its name in the objective's configuration.
        value: What was given.
        good: Whether it is accepted.
        accepted: What is.

    Raises:
        InputError: It is not.
    """
    if not good:
        raise InputError(f"objective.{field}: {value}; accepted are {accepted}")


def plain_head(inside: int, projection: ProjectionConfig) -> nn.Sequential:
    """Return a perceptron without batch normalisation, `(B, inside)` to `(B, out)`.

    Keys of earlier batches carry the statistics of their own batch. With batch normalisation a row
    would know its partner, which is of the same batch, by these and not by what it shows (He et al.
    2019, arXiv:1911.05722, shuffle the rows over devices for that reason).

    Args:
        inside: Length of the input.
        projection: `hidden`, `out` and `layers` are used; there is no `final_norm`.

    Raises:
        InputError: The number of layers is below 1.
    """
    check_setting("projection.layers", projection.layers, projection.layers >= 1, "1 and more")
    parts: list[nn.Module] = []
    width = inside
    for _ in range(projection.layers - 1):
        parts += [nn.Linear(width, projection.hidden), nn.ReLU(inplace=True)]
        width = projection.hidden
    return nn.Sequential(*parts, nn.Linear(width, projection.out))


class TaughtObjective(Objective):
    """An objective with a slow teacher: the moving average of the encoder and of `head`.

    What `forward` sees is remembered only once the step has been taken, so that a batch may be scored
    twice, or its step be refused, without a trace.

    Args:
        encoder: The image encoder.
        head: The student's network behind it whose average the teacher has.
        momentum: Share of the teacher that is kept at a step, at the start; none takes the usual one.
        longest: The usual one, in a long run.

    Raises:
        InputError: The momentum is out of its range.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        head: nn.Module,
        momentum: float | None,
        longest: float = 0.996,
    ) -> None:
        super().__init__()
        self.head = head
        self.teacher: MomentumTeacher = MomentumTeacher(encoder, head, momentum, longest)

    @torch.no_grad()
    def taught(self, slow: Views | None) -> Tensor:
        """Return what the teacher's head says of both views, `(2N, D)`.

        Raises:
            AssertionError: The teacher's encoder was not asked: a defect.
        """
        if slow is None:
            raise AssertionError("an objective with a teacher was scored without its embeddings")
        said: Tensor = self.teacher.head(slow.whole)
        return said

    @torch.no_grad()
    def after_step(self, encoder: ImageEncoder, step: int, steps: int) -> None:
        """Move the teacher, and remember what the step was taken on."""
        self.teacher.update(encoder, self.head, step, steps)
        self.remember()

    def remember(self) -> None:
        """Keep what `forward` saw for the steps that follow; nothing, unless an objective says so."""
