"""Instance discrimination: every joint is a class of its own, with a slot in a memory bank."""

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.losses.core.memory_bank import MemoryBank
from spinmark_models.losses.instance_bank import instance_bank
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Objective, Scored, Views
from spinmark_training.objectives.candidate_figures import stored_figures
from spinmark_training.objectives.settings import given
from spinmark_training.objectives.slow_teacher import check_setting, plain_head
from spinmark_training.side_information import SideInformation


class InstanceBank(Objective):
    """Each view finds its joint among all joints met so far (Wu et al. 2018, arXiv:1805.01978).

    A joint that is met for the first time has no slot yet; its other view stands for it.

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss; it has no batch normalisation.
        config: `temperature`, `bank_momentum`, `ignore_same_subject`.
        joints: Number of the joint of each scan of the source `(scans,)`.

    Raises:
        InputError: A number is out of its range.
    """

    joints: Tensor

    def __init__(
        self,
        encoder: ImageEncoder,
        projection: ProjectionConfig,
        config: ObjectiveConfig,
        joints: Tensor,
    ) -> None:
        super().__init__()
        kept = given(config.bank_momentum)
        check_setting("bank_momentum", kept, 0 <= kept <= 1, "numbers in [0, 1]")
        self.projector = plain_head(encoder.embedding_size, projection)
        self.bank = MemoryBank(int(joints.max()) + 1, projection.out, kept)
        self.register_buffer("joints", joints, persistent=False)
        self._temperature = given(config.temperature)
        self._ignore = config.ignore_same_subject
        self._seen: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, student: Views, slow: Views | None, batch: Batch) -> Scored:
        """Score a batch."""
        projected: Tensor = self.projector(student.whole)
        first, second = projected.chunk(2)
        slots = self.joints[batch.first.to(projected.device)]
        subject = batch.subject.to(projected.device)
        loss = instance_bank(
            projected,
            self.bank,
            slots.repeat(2),
            self._temperature,
            groups=subject.repeat(2) if self._ignore else None,
            substitute_ND=torch.cat([second, first]),
        )
        between = F.normalize(first.detach(), dim=1) + F.normalize(second.detach(), dim=1)
        self._seen = (between, slots, subject)
        figures = stored_figures(self._negatives(slots, subject))
        return Scored(loss, figures, projected.detach())

    def _negatives(self, slots: Tensor, subject: Tensor) -> Tensor:
        """Return how many slots each joint is contrasted with, `(N,)` float64."""
        filled, owners = self.bank.filled, self.bank.groups
        own = filled[slots]
        if self._ignore:
            same = (subject[:, None] == owners[None, :]) & filled[None, :]
            # The own slot counts once, whoever it is said to belong to.
            mine = torch.arange(len(filled), device=slots.device) == slots[:, None]
            own = (same | (mine & filled[None, :])).sum(dim=1)
        return filled.sum().double() - own.double()

    @torch.no_grad()
    def after_step(self, encoder: ImageEncoder, step: int, steps: int) -> None:
        """Write what lies between both views into the joints' slots."""
        if self._seen is not None:
            self.bank.update(*self._seen)
        self._seen = None


def build_instance_bank(
    config: ObjectiveConfig,
    projection: ProjectionConfig,
    encoder: ImageEncoder,
    known: SideInformation,
) -> Objective:
    """Build instance discrimination with a bank of all joints of the sequence."""
    return InstanceBank(encoder, projection, config, known.joints())
