"""One encoder over some scans: plain, in windows, and in random views."""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spinmark_models.config import IntensityRule
from spinmark_models.encoders import ImageEncoder
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.config import EmbedConfig, ViewsConfig, WindowConfig
from spinmark_training.embedding.windows import window_corners, window_weights
from spinmark_training.errors import InputError
from spinmark_training.sources import ScanSource
from spinmark_training.views import plain_views, random_views

Progress = Callable[[int, int], None]
Vectors32 = npt.NDArray[np.float32]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Vectors:
    """Embeddings of some scans.

    Args:
        plain: Of the scans as they are, `(n, E)`; NaN where `bad`.
        views: Of random views, `(n, V, E)`.
        bad: Scans whose voxels are not finite, `(n,)`.
    """

    plain: Vectors32
    views: Vectors32
    bad: npt.NDArray[np.bool_]


@contextlib.contextmanager
def evaluating(encoder: ImageEncoder) -> Iterator[None]:
    """Put an encoder in evaluation mode without gradients, and give back its mode."""
    training = encoder.training
    encoder.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        encoder.train(training)


def embed_rows(
    encoder: ImageEncoder,
    source: ScanSource,
    rows: npt.NDArray[np.int64],
    intensity: IntensityRule,
    *,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Vectors32:
    """Embed scans without augmentation, in evaluation mode; the encoder's mode is restored.

    Args:
        encoder: The encoder, on `device`.
        source: The scans.
        rows: Which, by row of the source.
        intensity: The rule the encoder was trained with.
        batch_size: Scans at a time.
        device: Where the encoder is.
        progress: Called with scans done and scans in all.

    Returns:
        `(n, E)`.
    """
    parts: list[Vectors32] = []
    with evaluating(encoder):
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            # Of scans larger than what the encoder takes, the middle.
            views = plain_views(source, some, intensity, encoder.input_shape)
            parts.append(encoder(views.to(device)).embedding.float().cpu().numpy())
            if progress is not None:
                progress(min(start + batch_size, len(rows)), len(rows))
    return np.concatenate(parts)


def scan_key(scan_id: str) -> int:
    """Return a number that stands for a scan, wherever it lies in a cohort."""
    return int.from_bytes(hashlib.sha256(scan_id.encode()).digest()[:8])


def check_grid(encoder: ImageEncoder, source: ScanSource, config: WindowConfig) -> bool:
    """Return whether volumes are looked at in windows.

    Raises:
        InputError: The encoder cannot take this grid in the way that is asked for.
    """
    grid, shape = encoder.input_shape, source.shape
    told = f"sequence {source.sequence}: its grid is {shape}; the encoder takes {grid}"
    if shape == grid:
        return False
    if config.mode == "whole":
        if encoder.fixed_grid:
            raise InputError(
                f"{told} alone, so windows.mode 'whole' is not possible; use 'sliding'"
            )
        return False
    if any(s < g for s, g in zip(shape, grid, strict=True)):
        hint = "" if encoder.fixed_grid else ", or windows.mode 'whole'"
        raise InputError(f"{told} and volumes larger than that, in windows{hint}")
    return True


class Embedder:
    """Embeds scans with one encoder.

    Args:
        encoder: The encoder; it is moved to the device.
        source: The scans.
        intensity: The rule the encoder was trained with.
        config: Batches, windows and views.
        augment: The random views.
        device: Where to compute.

    Raises:
        InputError: The encoder does not take the grid.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        source: ScanSource,
        intensity: IntensityRule,
        config: EmbedConfig,
        augment: AugmentConfig,
        device: torch.device | str = "cpu",
    ) -> None:
        self._sliding = check_grid(encoder, source, config.windows)
        self._encoder = encoder.to(device)
        self._source = source
        self._intensity = intensity
        self._config = config
        self._augment = augment
        self._device = device
        if self._sliding:
            shape, window = source.shape, encoder.input_shape
            self._corners = window_corners(shape, window, config.windows.overlap)
            self._weights = window_weights(self._corners, shape, window, config.windows.weights)

    def __call__(self, rows: npt.NDArray[np.int64]) -> Vectors:
        """Embed scans, by row of the source."""
        size, width = self._config.batch_size, self._encoder.embedding_size
        plain = np.full((len(rows), width), np.nan, np.float32)
        views = np.full((len(rows), self._config.views.count, width), np.nan, np.float32)
        bad = np.zeros(len(rows), bool)
        with evaluating(self._encoder):
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                volumes = plain_views(self._source, batch, self._intensity)
                finite = torch.isfinite(volumes).flatten(1).all(dim=1)
                place = start + np.flatnonzero(finite.numpy())
                bad[start : start + size] = ~finite.numpy()
                if not len(place):
                    continue
                plain[place] = self._embed(volumes[finite])
                for view in range(views.shape[1]):
                    views[place, view] = self._embed(self._views(rows[place], view))
        return Vectors(plain, views, bad)

    def _views(self, rows: npt.NDArray[np.int64], view: int) -> Tensor:
        """Make one random view of each scan, which follows from the scan's name and not from its batch."""
        names = self._source.scans["scan_id"].to_numpy()[rows]
        parts = [
            random_views(
                self._source,
                rows[i : i + 1],
                self._augment,
                self._intensity,
                key=(self._config.views.seed, scan_key(str(name)), view),
            )
            for i, name in enumerate(names)
        ]
        return torch.cat(parts)

    def _embed(self, volumes: Tensor) -> Vectors32:
        """Embed volumes `(n, 1, D, H, W)`: `(n, E)`."""
        if not self._sliding:
            return self._encode(volumes)
        size = self._encoder.input_shape
        windows = torch.stack(
            [
                volumes[:, :, z : z + size[0], y : y + size[1], x : x + size[2]]
                for z, y, x in self._corners.tolist()
            ],
            dim=1,
        ).flatten(0, 1)
        found = np.concatenate(
            [self._encode(part) for part in torch.split(windows, self._config.batch_size)]
        )
        each = found.reshape(len(volumes), len(self._corners), -1).astype(np.float64)
        mean: Vectors32 = np.einsum("w,nwe->ne", self._weights, each).astype(np.float32)
        return mean

    def _encode(self, batch: Tensor) -> Vectors32:
        found: Vectors32 = self._encoder(batch.to(self._device)).embedding.float().cpu().numpy()
        return found


def check_views(config: ViewsConfig) -> None:
    """Check the random views.

    Raises:
        InputError: A number that no spread can be told from, or a mean without views.
    """
    if config.count < 0 or config.count == 1:
        raise InputError(f"views.count: {config.count}; accepted are 0, and 2 and more")
    if config.seed < 0:
        raise InputError(f"views.seed: {config.seed}; accepted are 0 and more")
    if config.average and not config.count:
        raise InputError("views.average: needs views; set views.count to 2 or more")
