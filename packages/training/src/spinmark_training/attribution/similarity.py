"""How alike a scan and a table row are to a distilled run, as a differentiable score."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from spinmark_models.clinical import TabularEncoder, build_clinical_encoder
from spinmark_models.encoders import ImageEncoder, build_encoder
from spinmark_models.tables import EncodedTable
from spinmark_training.attribution.cells import Visits, latents
from spinmark_training.attribution.path import Score
from spinmark_training.attribution.windows import Embedding
from spinmark_training.teacher import Teacher
from spinmark_training.transfer.alignment import Alignment, untrained_alignment


class RidgeHeads(nn.Module):
    """Embeddings mapped linearly onto latents, where a run has no heads of its own.

    Args:
        weight: `(L, E)`.
        bias: `(L,)`.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.map = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.map.weight.copy_(weight)
            self.map.bias.copy_(bias)

    def image(self, embedding: Tensor) -> Tensor:
        """Predict latents `(N, L)` from embeddings `(N, E)`, rows of unit length."""
        return nn.functional.normalize(self.map(embedding), dim=1)

    def table(self, latent: Tensor) -> Tensor:
        """Return latents `(N, L)` as rows of unit length."""
        return nn.functional.normalize(latent, dim=1)

    def drawn_anew(self, seed: int) -> "RidgeHeads":
        """Return a map of the same shape with random weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = nn.Linear(self.map.in_features, self.map.out_features)
        return RidgeHeads(fresh.weight.detach(), fresh.bias.detach())


Heads = Alignment | RidgeHeads


@dataclass(frozen=True)
class Similarity:
    """The cosine between a scan and a table row in the space where a run compares them.

    Attributes:
        embedding: From volumes to embeddings.
        clinical: The teacher's encoder.
        mean: Mean of its latents, `(L,)`.
        sd: Their standard deviation, `(L,)`.
        heads: From embeddings and latents into one space.
    """

    embedding: Embedding
    clinical: TabularEncoder
    mean: Tensor
    sd: Tensor
    heads: Heads

    def __post_init__(self) -> None:
        # What is drawn along a path is the input alone.
        for part in (self.embedding.encoder, self.clinical, self.heads):
            part.eval().requires_grad_(False)

    @property
    def space(self) -> str:
        """Where images and tables are compared: in the heads of the run, or by a ridge regression."""
        return "alignment" if isinstance(self.heads, Alignment) else "ridge"

    def image(self, volumes: Tensor) -> Tensor:
        """Place volumes `(N, 1, D, H, W)`: `(N, D)`, rows of unit length."""
        return self.heads.image(self.embedding(volumes))

    def rows(self, rows: EncodedTable) -> Tensor:
        """Place table rows: `(N, D)`, rows of unit length."""
        return self._table(self.clinical(rows))

    def _table(self, latent: Tensor) -> Tensor:
        return self.heads.table((latent - self.mean) / self.sd)

    def to_row(self, row: EncodedTable) -> Score:
        """Return how alike volumes `(B, 1, D, H, W)` are to a row, alone in its table."""
        with torch.no_grad():
            there = self.rows(row)[0]
        return lambda volumes: self.image(volumes) @ there

    def to_volume(self, volume: Tensor, visits: Visits | None = None) -> Score:
        """Return how alike rows are to a volume `(1, D, H, W)`.

        Args:
            volume: The volume.
            visits: Those of a row that is a sequence.

        Returns:
            From cells as vectors, `CellPath.tokens` of B rows, to `(B,)`.
        """
        with torch.no_grad():
            there = self.image(volume[None])[0]
        return lambda tokens: self._table(latents(self.clinical, tokens, visits)) @ there


def similarity_of(
    teacher: Teacher, embedding: Embedding, heads: Heads, device: torch.device | str
) -> Similarity:
    """Put the parts of a run together on a device.

    Args:
        teacher: The teacher.
        embedding: The image encoder, on the device.
        heads: The heads.
        device: Where to compute.
    """
    mean, sd = (
        torch.from_numpy(v.astype(np.float32)).to(device) for v in (teacher.mean, teacher.sd)
    )
    return Similarity(embedding, teacher.encoder.to(device), mean, sd, heads.to(device))


def drawn_anew(similarity: Similarity, seed: int) -> Similarity:
    """Return the same with random weights in the image encoder, the teacher and the heads.

    Args:
        similarity: The trained one, which stays as it is.
        seed: Draws the weights.
    """
    device = similarity.mean.device
    old = similarity.clinical
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = _fresh(similarity.embedding.encoder)
        clinical = build_clinical_encoder(old.schema, old.config)
    return replace(
        similarity,
        embedding=similarity.embedding.with_encoder(encoder.to(device)),
        clinical=clinical.to(device),
        heads=_fresh_heads(similarity.heads, seed).to(device),
    )


def _fresh_heads(heads: Heads, seed: int) -> Heads:
    if isinstance(heads, RidgeHeads):
        return heads.drawn_anew(seed)
    return untrained_alignment(heads, seed)


def _fresh(encoder: ImageEncoder) -> ImageEncoder:
    return build_encoder(encoder.config, encoder.input_shape)


def cascade(similarity: Similarity, seed: int) -> list[tuple[str, Similarity]]:
    """Draw weights anew from the output on: the heads, then one block of the encoder more each time.

    Adebayo et al. 2018, arXiv:1810.03292. Blocks are taken in the order in which the encoder holds
    them, which is that of its layers.

    Args:
        similarity: The trained one, which stays as it is.
        seed: Draws the weights.

    Returns:
        The name of the block that was reached, and what it is like up to there; teacher as trained.
    """
    random_ = drawn_anew(similarity, seed)
    found = [("heads", replace(similarity, heads=random_.heads))]
    encoder = copy.deepcopy(similarity.embedding.encoder)
    fresh = dict(_blocks(random_.embedding.encoder))
    for name, block in reversed(_blocks(encoder)):
        block.load_state_dict(fresh[name].state_dict())
        so_far = similarity.embedding.with_encoder(copy.deepcopy(encoder))
        found.append((name, replace(similarity, heads=random_.heads, embedding=so_far)))
    return found


def _blocks(encoder: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers of an encoder that hold weights; a list of layers counts as its layers."""
    found: list[tuple[str, nn.Module]] = []
    for name, child in encoder.named_children():
        inside = isinstance(child, nn.ModuleList)
        parts = (
            [(f"{name}.{key}", one) for key, one in child.named_children()]
            if inside
            else [(name, child)]
        )
        found += [(key, one) for key, one in parts if one.state_dict()]
    return found
