"""From volumes to vectors with an encoder from a folder, and nothing else of spinmark.

::

    from spinmark_models.embed import embed_volumes
    vectors = embed_volumes(Path("encoder"), volume, spacing_mm=(0.7, 0.36, 0.36))   # (1, E)

A volume must lie as those that the encoder learnt from: on its grid, at its spacing, its axes in the
same order and direction, left joints mirrored. Grid and spacing are checked; no array tells how its
axes run.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from spinmark_models.encoders import ImageEncoder, Shape3
from spinmark_models.errors import InputError
from spinmark_models.export import EncoderSpec, load_encoder
from spinmark_models.intensity import normalise_intensity

SPACING_TOLERANCE = 0.01
"""Relative; headers round the spacing of one protocol by less."""


def embed_volumes(
    encoder: Path | str | tuple[ImageEncoder, EncoderSpec],
    volumes: ArrayLike,
    *,
    spacing_mm: Sequence[float],
    windows: Sequence[tuple[float, float]] | None = None,
    batch_size: int = 8,
) -> NDArray[np.float32]:
    """Embeds volumes that are already on the encoder's grid.

    The encoder's own intensity rule is applied to each volume, so that values in any unit serve, or
    stored integers whose offset is zero.

    Args:
        encoder: A folder with `encoder.json` and `model.safetensors`, or what `load_encoder` made of
            it; that one's mode and device stay as they are.
        volumes: `(z, y, x)` or `(n, z, y, x)`, real numbers; the whole may be memory-mapped.
        spacing_mm: Their voxel spacing (z, y, x) in millimetres.
        windows: The `intensity_window` of each, where the volumes are parts of larger scans and the
            encoder learnt from such parts; None finds it from the volumes themselves.
        batch_size: Volumes at a time.

    Returns:
        `(n, E)`; `n` is 1 for a single volume. A vector does not depend on the rest of its batch,
        beyond rounding.

    Raises:
        InputError: The folder cannot be read, or a volume does not fit it.
    """
    network, spec = load_encoder(Path(encoder)) if isinstance(encoder, str | Path) else encoder
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; use 1 or more.")
    stack = _on_grid(np.asarray(volumes), spec)
    check_spacing(spacing_mm, spec)
    known = _windows(windows, len(stack))
    device = next(network.parameters()).device
    parts = [np.empty((0, network.embedding_size), np.float32)]
    with _evaluating(network):
        for start in range(0, len(stack), batch_size):
            some = stack[start : start + batch_size]
            _check_finite(some, start)
            pairs = zip(some, known[start : start + batch_size], strict=True)
            x = np.stack(
                [normalise_intensity(one, spec.intensity, window) for one, window in pairs]
            )
            found = network(torch.from_numpy(x[:, None]).to(device)).embedding.float().cpu().numpy()
            if not np.isfinite(found).all():
                raise InputError(
                    f"the encoder {spec.weights_sha256[:12]}... makes vectors that are not finite of "
                    "finite volumes; its weights are damaged, or its training failed."
                )
            parts.append(found)
    return np.concatenate(parts)


def check_spacing(spacing_mm: Sequence[float], spec: EncoderSpec) -> None:
    """Makes sure that voxels are as large as those that the encoder learnt from.

    Raises:
        InputError: They are not, by more than `SPACING_TOLERANCE`.
    """
    found = tuple(float(s) for s in spacing_mm)
    if len(found) == 3 and np.allclose(found, spec.spacing_mm, rtol=SPACING_TOLERANCE, atol=0):
        return
    raise InputError(
        f"spacing_mm is {_numbers(found)}; this encoder takes {_numbers(spec.spacing_mm)} (z, y, x), "
        f"within {SPACING_TOLERANCE:.0%}: resample to its grid first."
    )


def check_volume(shape: Shape3) -> NDArray[np.int16]:
    """A made-up volume that any language can make, to compare vectors across machines with.

    Its voxel `(z, y, x)`, counted from 1, is `(37 z y + 11 x x + 5 z) mod 997`: no two axes are alike,
    so that axes in another order or direction show.

    Args:
        shape: Grid (z, y, x).
    """
    z, y, x = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1, 1 : shape[2] + 1]
    return np.asarray((37 * z * y + 11 * x * x + 5 * z) % 997, dtype=np.int16)


def _numbers(values: Iterable[float]) -> str:
    return f"({', '.join(f'{v:g}' for v in values)})"


def _on_grid(volumes: NDArray[Any], spec: EncoderSpec) -> NDArray[Any]:
    """Returns `(n, z, y, x)`."""
    if spec.config.in_channels != 1:
        raise InputError(
            f"the encoder takes {spec.config.in_channels} channels; embed_volumes takes encoders of 1."
        )
    if volumes.dtype.kind not in "buif":
        raise InputError(f"volumes are of {volumes.dtype}; use integers or floating point numbers.")
    if volumes.ndim not in (3, 4) or volumes.shape[-3:] != spec.input_shape:
        raise InputError(
            f"volumes have shape {volumes.shape}; this encoder takes {spec.input_shape} (z, y, x) at "
            f"{_numbers(spec.spacing_mm)} mm, one or several: resample or crop to that grid first."
        )
    return volumes[None] if volumes.ndim == 3 else volumes


def _windows(
    windows: Sequence[tuple[float, float]] | None, count: int
) -> Sequence[tuple[float, float] | None]:
    if windows is None:
        return [None] * count
    pairs = np.asarray(windows, np.float64)
    if pairs.shape != (count, 2):
        raise InputError(
            f"windows have shape {pairs.shape}; use ({count}, 2), a lower and an upper bound a volume."
        )
    wrong = ~(np.isfinite(pairs).all(axis=1) & (pairs[:, 0] < pairs[:, 1]))
    if wrong.any():
        i = int(wrong.argmax())
        raise InputError(
            f"windows[{i}] is {_numbers(pairs[i])}; use two finite numbers, the lower one first."
        )
    return [(float(low), float(high)) for low, high in pairs]


def _check_finite(volumes: NDArray[Any], start: int) -> None:
    if volumes.dtype.kind != "f":
        return
    for i, one in enumerate(volumes):
        if not np.isfinite(one).all():
            raise InputError(f"volume {start + i} has voxels that are not finite; leave it out.")


@contextlib.contextmanager
def _evaluating(network: ImageEncoder) -> Iterator[None]:
    """In evaluation mode and without gradients; gives the mode back."""
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(training)
