"""What every objective is: heads, and perhaps a teacher, that turn embeddings into a loss."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from spinmark_models.encoders import ImageEncoder
from spinmark_models.momentum import make_teacher, teacher_momentum, update_teacher
from spinmark_training.batch import Batch
from spinmark_training.errors import InputError


class Views(NamedTuple):
    """Embeddings of a batch of N joints.

    Attributes:
        whole: `(2N, E)`, all first views, then all second ones.
        local: `(L N, E)`, the smaller views, all first ones, then all second ones and so on; none where
            the objective asks for none.
    """

    whole: Tensor
    local: Tensor | None = None


class Scored(NamedTuple):
    """What an objective says of a batch.

    Attributes:
        loss: A scalar with a gradient.
        figures: Detached scalars for the record; `chance` is the loss of an encoder that tells nothing
            apart, where there is one.
        projected: The rows that the loss compared, `(2N, D)`, detached: first views, then second ones.
    """

    loss: Tensor
    figures: Mapping[str, Tensor | float]
    projected: Tensor


class MomentumTeacher(nn.Module):
    """The moving average of an encoder and of the heads behind it (arXiv:2006.07733).

    Args:
        encoder: The student's encoder.
        head: The student's head whose average the teacher has.
        momentum: Share that is kept at a step, at the start of the run; none takes `longest`, or less
            in a run so short that the teacher would hardly leave its random start.
        longest: The share of a long run.

    Raises:
        InputError: A share is out of [0, 1].
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        head: nn.Module,
        momentum: float | None = None,
        longest: float = 0.996,
    ) -> None:
        super().__init__()
        if momentum is not None and not 0 <= momentum <= 1:
            raise InputError(f"objective.momentum: {momentum}; accepted are numbers in [0, 1]")
        self.encoder = make_teacher(encoder)
        self.head = make_teacher(head)
        self._momentum, self._longest = momentum, longest

    def start(self, steps: int) -> float:
        """Return the share that is kept at the start of a run.

        The average looks back over `1 / (1 - share)` steps: here a tenth of the run at most.

        Args:
            steps: Steps in all.
        """
        if self._momentum is not None:
            return self._momentum
        return min(self._longest, max(0.0, 1 - 10 / steps))

    def update(self, encoder: ImageEncoder, head: nn.Module, step: int, steps: int) -> None:
        """Move towards the student.

        Args:
            encoder: The student's encoder.
            head: Its head.
            step: Steps taken, from 1.
            steps: Steps in all.
        """
        share = teacher_momentum(step, steps, self.start(steps))
        update_teacher(self.encoder, encoder, share)
        update_teacher(self.head, head, share)


class Objective(nn.Module, ABC):
    """Turns the embeddings of a batch into a loss; owns every network behind the encoder.

    The encoder itself stays outside, so that a batch may be embedded part by part. Whatever an
    objective remembers (queues, prototypes, centres, a teacher) is a parameter or a buffer of it, and
    so is part of every checkpoint.

    Attributes:
        local_views: Smaller views of each joint that it wants.
        uses: Variables of the tables, or the endpoint, that it learns from; none for a purely
            self-supervised one.
        teacher: A slow copy of encoder and head whose embeddings `forward` is given, or none.
    """

    local_views: int = 0
    uses: tuple[str, ...] = ()
    teacher: MomentumTeacher | None
    # Whether `teacher` looks at the smaller views too.
    teacher_sees_local: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        # Not of the class: an attribute of the class would hide the module of that name.
        self.teacher = None

    @abstractmethod
    def forward(self, student: Views, slow: Views | None, batch: Batch) -> Scored:
        """Score a batch.

        Args:
            student: The encoder's embeddings, with gradient.
            slow: Those of the teacher's encoder, without; none if there is no teacher.
            batch: Whose scans they are.
        """

    def before_step(self, progress: float) -> None:
        """Prepare for a step.

        Args:
            progress: Share of the run that is done, in [0, 1).
        """

    @torch.no_grad()
    def after_step(self, encoder: ImageEncoder, step: int, steps: int) -> None:
        """Follow a step of the optimiser; the teacher moves here.

        Args:
            encoder: The student's encoder.
            step: Steps taken, from 1.
            steps: Steps in all.
        """
