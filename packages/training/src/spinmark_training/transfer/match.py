"""Losses that hold embeddings to a teacher's latents, row by row or in how rows lie.

Relational terms compare rows among themselves and take any widths. The others need a linear map, since an
embedding is wider than a latent.
"""

import torch
from torch import Tensor, nn

from spinmark_models.losses.core.batch import batch_size
from spinmark_models.losses.core.hsic import LEAST_ROWS
from spinmark_models.losses.crd import crd
from spinmark_models.losses.kd import kd
from spinmark_models.losses.registry import get_loss
from spinmark_models.losses.vid import ErrorVariance, vid
from spinmark_training.batch import Batch
from spinmark_training.objectives.chance import contrast_figures
from spinmark_training.objectives.two_sides import siglip_level
from spinmark_training.transfer.base import Taught, TransferTerm

# Fewest rows of the whole batch for which a relation is defined; a smaller one says nothing.
RELATIONS = {
    "rkd_distance": 2,
    "rkd_angle": 3,
    "cka": 2,
    "cka_debiased": LEAST_ROWS,
    "pkt": 2,
    "similarity_preserving": 1,
}


class Relational(TransferTerm):
    """How embeddings lie among themselves should be how latents lie.

    Args:
        name: A loss that takes two sets of rows of any widths, a key of `RELATIONS`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._loss = get_loss(name)
        self._least = RELATIONS[name]

    def forward(self, embedding: Tensor, taught: Taught, batch: Batch) -> Tensor:
        """Return the mean over the two views; 0 for a batch that is too small."""
        student, teacher = embedding.chunk(2), taught.target.chunk(2)
        if batch_size(student[0]) < self._least or len(student[0]) < min(2, self._least):
            return 0 * embedding.sum()
        return torch.stack([self._loss(student[i], teacher[i]) for i in (0, 1)]).mean()


class Regression(TransferTerm):
    """The direction of the latents is predicted by a linear map of the embeddings (`cosine`).

    Args:
        features: Length of an embedding.
        latents: Length of a latent.
    """

    def __init__(self, features: int, latents: int) -> None:
        super().__init__()
        self.predictor = nn.Linear(features, latents)
        self._loss = get_loss("cosine")

    def forward(self, embedding: Tensor, taught: Taught, batch: Batch) -> Tensor:
        """Return two less twice the mean cosine."""
        loss: Tensor = self._loss(self.predictor(embedding), taught.target)
        return loss


class Likelihood(TransferTerm):
    """The latents are predicted by a linear map, each with an error of its own (VID, arXiv:1904.05835).

    Args:
        features: Length of an embedding.
        latents: Length of a latent.
    """

    def __init__(self, features: int, latents: int) -> None:
        super().__init__()
        self.predictor = nn.Linear(features, latents)
        self.variance = ErrorVariance(latents)

    def forward(self, embedding: Tensor, taught: Taught, batch: Batch) -> Tensor:
        """Return the negative log-likelihood of normal errors, less its constant; it may be negative."""
        return vid(self.predictor(embedding), taught.target, self.variance())


class Softened(TransferTerm):
    """The numbers of a latent are taken for logits, and its probabilities are followed (KD, arXiv:1503.02531).

    Args:
        features: Length of an embedding.
        latents: Length of a latent.
        temperature: Divides both sides' logits.
    """

    def __init__(self, features: int, latents: int, temperature: float) -> None:
        super().__init__()
        self.predictor = nn.Linear(features, latents)
        self._temperature = temperature

    def forward(self, embedding: Tensor, taught: Taught, batch: Batch) -> Tensor:
        """Return the mean divergence, times the squared temperature."""
        return kd(self.predictor(embedding), taught.target, self._temperature)


class Mapped(TransferTerm):
    """Which latent belongs to which embedding, behind a linear map of each (CRD, arXiv:1910.10699).

    Args:
        features: Length of an embedding.
        latents: Length of a latent.
        width: What both are mapped to.
        temperature: Divides the cosines.
        ignore_same_subject: Whether a subject's other joints are no negatives.
    """

    def __init__(
        self,
        features: int,
        latents: int,
        width: int,
        temperature: float,
        *,
        ignore_same_subject: bool = False,
    ) -> None:
        super().__init__()
        self.of_student = nn.Linear(features, width)
        self.of_teacher = nn.Linear(latents, width)
        self._temperature, self._ignore = temperature, ignore_same_subject
        # The log of the mean of exp(cos / T) over directions that are drawn evenly: their cosine is
        # about normal, with the variance 1 / width.
        self._log_mean = 1 / (2 * width * temperature**2)

    def forward(self, embedding: Tensor, taught: Taught, batch: Batch) -> Tensor:
        """Return the mean over the two views."""
        groups = batch.subject.to(embedding.device) if self._ignore else None
        student = self.of_student(embedding).chunk(2)
        teacher = self.of_teacher(taught.target).chunk(2)
        losses = [
            crd(student[i], teacher[i], self._temperature, log_mean=self._log_mean, groups=groups)
            for i in (0, 1)
        ]
        return torch.stack(losses).mean()

    def figures(self, batch: Batch) -> dict[str, Tensor | float]:
        """Return the least loss of a critic that gives all pairs the same score."""
        return {
            "chance_crd": contrast_figures(batch.subject, self._ignore, siglip_level, views=1)[
                "chance"
            ]
        }
