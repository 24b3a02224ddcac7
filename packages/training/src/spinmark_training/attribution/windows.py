"""An encoder as a differentiable function of whole volumes, in windows where its grid is smaller."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spinmark_models.encoders import ImageEncoder
from spinmark_training.config import WindowConfig
from spinmark_training.embedding.vectors import check_grid
from spinmark_training.embedding.windows import window_corners, window_weights
from spinmark_training.sources import ScanSource


@dataclass(frozen=True)
class Embedding:
    """From volumes to embeddings, as `spinmark embed` makes them, with gradients.

    Attributes:
        encoder: The encoder.
        corners: First voxels of the windows `(W, 3)`; none where it takes whole volumes.
        weights: The weight of each window in the embedding, `(W,)`.
    """

    encoder: ImageEncoder
    corners: Tensor | None = None
    weights: Tensor | None = None

    def __call__(self, volumes: Tensor) -> Tensor:
        """Embed volumes `(N, 1, D, H, W)`: `(N, E)`."""
        if self.corners is None or self.weights is None:
            return self.encoder(volumes).embedding  # type: ignore[no-any-return]
        d, h, w = self.encoder.input_shape
        # One window after another: together they may take many times the memory of the volume.
        parts = [
            self.encoder(volumes[:, :, z : z + d, y : y + h, x : x + w]).embedding
            for z, y, x in self.corners.tolist()
        ]
        mean: Tensor = torch.tensordot(self.weights, torch.stack(parts), dims=1)
        return mean

    def with_encoder(self, encoder: ImageEncoder) -> "Embedding":
        """Return the same with another encoder of the same grid."""
        return replace(self, encoder=encoder)


def embedding_for(
    encoder: ImageEncoder,
    source: ScanSource,
    device: torch.device | str,
    windows: WindowConfig,
) -> Embedding:
    """Choose windows for scans of a grid.

    Args:
        encoder: The encoder, on the device.
        source: The scans.
        device: Where to compute.
        windows: How windows lie.

    Raises:
        InputError: The encoder does not take the grid.
    """
    if not check_grid(encoder, source, windows):
        return Embedding(encoder)
    shape, size = source.shape, encoder.input_shape
    corners = window_corners(shape, size, windows.overlap)
    weights = window_weights(corners, shape, size, windows.weights).astype("float32")
    return Embedding(encoder, torch.from_numpy(corners), torch.from_numpy(weights).to(device))
