"""Embeddings of a batch, as objectives get them, without an encoder having made them."""

import numpy as np
import torch
from torch import Tensor, nn

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import EncoderConfig, ProjectionConfig
from spinmark_models.encoders import ImageEncoder, build_encoder
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives import Objective, Views, build_objective
from spinmark_training.sampling import Place
from spinmark_training.side_information import SideInformation
from spinmark_training.sources import ScanSource

WIDTH = 8
PROJECTION = ProjectionConfig(hidden=16, out=4)


def known_of(world: tuple[Cohort, Split], sequence: str) -> SideInformation:
    """What is known of a world's training scans."""
    cohort, split = world
    return SideInformation(cohort, ScanSource(cohort, sequence, split))


def small_encoder() -> ImageEncoder:
    """An encoder with the width of the embeddings below."""
    torch.manual_seed(3)
    return build_encoder(EncoderConfig(widths=(4, 8), embedding=WIDTH), (8, 16, 16))


def build(
    config: ObjectiveConfig, known: SideInformation, projection: ProjectionConfig = PROJECTION
) -> Objective:
    """An objective behind the small encoder."""
    return build_objective(config, projection, small_encoder(), known)


def joint_batch(known: SideInformation, *, subjects: int = 4, seed: int = 0) -> Batch:
    """A batch of all joints of some training subjects, each at one visit or at two."""
    rng = np.random.default_rng(seed)
    subject, joint = known.subjects(), known.joints()
    first, second, owner = [], [], []
    for number in range(subjects):
        for each in joint[subject == number].unique():
            rows = torch.nonzero(joint == each)[:, 0].numpy()
            first.append(int(rng.choice(rows)))
            second.append(int(rng.choice(rows)))
            owner.append(number)
    return batch_of(first, second, owner)


def batch_of(first: list[int], second: list[int], subject: list[int]) -> Batch:
    """A batch of some rows, whose views nobody asks for."""

    def cut(part: int, device: torch.device) -> None:
        raise AssertionError("no view is cut here")

    return Batch(
        first=torch.tensor(first),
        second=torch.tensor(second),
        subject=torch.tensor(subject),
        after=Place(1, 3),
        cut=cut,  # type: ignore[arg-type]
    )


def embeddings(batch: Batch, seed: int = 0) -> Views:
    """Partners that are a little alike, with gradient."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(len(batch), WIDTH, generator=generator).repeat(2, 1)
    whole = centre + 0.7 * torch.randn(2 * len(batch), WIDTH, generator=generator)
    return Views(whole.requires_grad_())


class OnePoint(nn.Module):
    """A head that maps everything to one point."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ones, with a gradient that is 0."""
        return torch.ones(len(x), 4) + 0 * x.sum()
