"""The heads in whose space images and tables are compared, kept with a run."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spinmark_models.config import ProjectionConfig
from spinmark_models.heads import ProjectionHead
from spinmark_training.errors import InputError

SCHEMA = "spinmark/alignment"
VERSION = 1


class Alignment(nn.Module):
    """A head for embeddings and one for the teacher's latents, into one space.

    Args:
        features: Length of an embedding.
        latents: Length of a latent of the teacher.
        projection: Widths of both heads.
    """

    def __init__(self, features: int, latents: int, projection: ProjectionConfig) -> None:
        super().__init__()
        self.widths = (features, latents)
        self.projection = projection
        self.image_head = ProjectionHead(features, projection)
        self.table_head = ProjectionHead(latents, projection)

    def image(self, embedding: Tensor) -> Tensor:
        """Project embeddings `(N, E)` to `(N, D)`, rows of unit length; of one in parts, the table part."""
        own = embedding[:, : self.widths[0]]
        return nn.functional.normalize(self.image_head(own), dim=1)

    def table(self, latent: Tensor) -> Tensor:
        """Project the teacher's standardised latents `(N, L)` to `(N, D)`, rows of unit length."""
        return nn.functional.normalize(self.table_head(latent), dim=1)


def save_alignment(folder: Path, alignment: Alignment) -> None:
    """Write `model.safetensors` and `alignment.json`.

    Args:
        folder: Made if absent; `alignment` in a run.
        alignment: The heads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in alignment.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    features, latents = alignment.widths
    page = {
        "schema": SCHEMA,
        "version": VERSION,
        "features": features,
        "latents": latents,
        "projection": asdict(alignment.projection),
    }
    (folder / "alignment.json").write_text(json.dumps(page, indent=2) + "\n")


def load_alignment(run: Path) -> Alignment | None:
    """Read the heads of a distilled run; none if it compared images and tables in no such space.

    Args:
        run: The run.

    Returns:
        The heads, in evaluation mode.

    Raises:
        InputError: A file is damaged or of another version.
    """
    path = run / "alignment" / "alignment.json"
    if not path.is_file():
        return None
    try:
        page = json.loads(path.read_text())
        found = (page.get("schema"), page.get("version"))
        if found != (SCHEMA, VERSION):
            raise InputError(
                f"{path}: schema {found[0]!r}, version {found[1]!r}; accepted is {SCHEMA!r}, version "
                f"{VERSION}"
            )
        alignment = Alignment(
            int(page["features"]), int(page["latents"]), ProjectionConfig(**page["projection"])
        )
        alignment.load_state_dict(load_file(path.with_name("model.safetensors")))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: {error}; make the run again with `spinmark distil`") from error
    return alignment.eval()


def untrained_alignment(alignment: Alignment, seed: int) -> Alignment:
    """Return heads of the same shape with random weights, for sanity checks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Alignment(*alignment.widths, alignment.projection).eval()
