"""Encoders as ONNX files, for languages and machines without torch.

::

    from spinmark_models.onnx_file import write_onnx
    checked = write_onnx(Path("encoder"), Path("encoder.onnx"))

The graph goes from volumes that are normalised in intensity, `volume (batch, channels, z, y, x)`, to
`embedding (batch, E)`. The intensity rule stays outside: it needs percentiles of a number of voxels that
differs from scan to scan, which no two runtimes are sure to compute alike. The file's metadata hold the
rule, in numbers and in words, and a check to run. Needs the extra `spinmark-models[onnx]`.
"""

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spinmark_models.config import Shape3
from spinmark_models.embed import check_volume, embed_volumes
from spinmark_models.encoders import ImageEncoder
from spinmark_models.errors import InputError
from spinmark_models.export import EncoderSpec, load_encoder
from spinmark_models.onnx_graph import BATCHES, TOLERANCE, Graph, OnnxCheck, library, write_graph

ONNX_SCHEMA = "spinmark/encoder-onnx"
VERSION = 1
RULE_IN_WORDS = (
    "Input: float32 (batch, 1, z, y, x), each volume on the grid input_shape at spacing_mm, lying as the "
    "training volumes did, which the entry `axes` tells where it is there. Normalise each volume alone "
    "before the graph. Take its voxels in C order (x fastest); where there are more than max_voxels, take "
    "every k-th from the first on, k = ceil(voxels / max_voxels), plus 1 if that is even. Keep those above "
    "0. p_low and p_high are their percentiles `low` and `high`, linear between order statistics: percentile "
    "q stands at place q / 100 * (n - 1), counted from 0. With none kept, or p_low = p_high, they are 0 and "
    "1. Then x = (clip((value - p_low) / (p_high - p_low), 0, 1) - mean) / sd."
)


def write_onnx(
    encoder: Path | str | tuple[ImageEncoder, EncoderSpec],
    path: Path,
    *,
    tolerance: float = TOLERANCE,
    metadata: dict[str, str] | None = None,
) -> OnnxCheck:
    """Writes an encoder as one ONNX file, once onnxruntime has been seen to agree with torch.

    Args:
        encoder: An encoder's folder, or what `load_encoder` made of it, which stays as it is.
        path: The file; it is there whole or as it was before.
        tolerance: The largest difference accepted, in standard deviations of the embedding.
        metadata: Further entries of the file's metadata, such as `axes`.

    Returns:
        How well the two agree.

    Raises:
        InputError: The extra is not installed, the encoder cannot be read, is too large for one file or
            gives everything one vector, or the two disagree; nothing is written then.
    """
    library("onnx")
    network, spec = load_encoder(Path(encoder)) if isinstance(encoder, str | Path) else encoder
    plain = copy.deepcopy(network).to("cpu", torch.float32).eval()
    return write_graph(
        Path(path),
        Graph(plain, _embedding),
        {"volume": varied_volumes(spec.config.in_channels, spec.input_shape)},
        words=RULE_IN_WORDS,
        metadata={**_metadata(plain, spec), **(metadata or {})},
        tolerance=tolerance,
    )


def _embedding(network: ImageEncoder, volume: Tensor) -> Tensor:
    """The embedding alone: what an encoder gives beside it is no output of the graph."""
    embedding: Tensor = network(volume).embedding
    return embedding


def read_metadata(path: Path) -> dict[str, Any]:
    """Reads what an ONNX file says of itself; JSON values are parsed.

    Args:
        path: A file that `write_onnx` wrote.

    Raises:
        InputError: The extra is not installed, or the file is none of spinmark, or of another version.
    """
    onnx = library("onnx")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise InputError(f"{path} cannot be read as ONNX: {error}.") from error
    told = {entry.key: entry.value for entry in model.metadata_props}
    found = (told.get("schema"), told.get("version"))
    if found != (ONNX_SCHEMA, str(VERSION)):
        raise InputError(
            f"{path} says schema {found[0]!r}, version {found[1]!r}; this release reads "
            f"{ONNX_SCHEMA!r}, version {VERSION}."
        )
    return {key: json.loads(value) if value[:1] in "[{" else value for key, value in told.items()}


def _metadata(encoder: ImageEncoder, spec: EncoderSpec) -> dict[str, str]:
    """What a file says of itself, each a string; lists and objects are JSON."""
    told = {
        "schema": ONNX_SCHEMA,
        "version": str(VERSION),
        "config": json.dumps(asdict(spec.config)),
        "input_shape": json.dumps(spec.input_shape),
        "spacing_mm": json.dumps(spec.spacing_mm),
        "intensity": json.dumps(asdict(spec.intensity)),
        "intensity_in_words": RULE_IN_WORDS,
        "weights_sha256": spec.weights_sha256,
        "extra": json.dumps(spec.extra, sort_keys=True),
    }
    for key in ("sequence", "objective"):
        if key in spec.extra:
            told[key] = str(spec.extra[key])
    if "uses" in spec.extra:
        told["uses"] = json.dumps(spec.extra["uses"])
    if spec.config.in_channels == 1:
        told["check"] = json.dumps(check_of(encoder, spec))
    return told


def check_of(encoder: ImageEncoder, spec: EncoderSpec) -> dict[str, Any]:
    """A check for whoever embeds in another language: a volume by its formula, and its vector.

    Args:
        encoder: The encoder.
        spec: What goes with it.
    """
    volume = check_volume(spec.input_shape)
    vector = embed_volumes((encoder, spec), volume, spacing_mm=spec.spacing_mm)[0]
    return {
        "volume": "(37*z*y + 11*x*x + 5*z) mod 997 at z, y, x counted from 1, before normalisation",
        "embedding": [float(f"{v:.7g}") for v in vector],
    }


def varied_volumes(channels: int, grid: Shape3, seed: int = 0) -> NDArray[np.float32]:
    """Volumes that differ in coarse shape as well as voxel by voxel.

    Args:
        channels: Channels of each.
        grid: Their grid (z, y, x).
        seed: Fixes them.

    Returns:
        `(sum(BATCHES), channels, z, y, x)`, in the range of normalised intensities.
    """
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in grid), indexing="ij")
    made = []
    for _ in range(sum(BATCHES)):
        middle, width = rng.uniform(-0.6, 0.6, 3), rng.uniform(0.3, 0.9)
        square = sum((a - m) ** 2 for a, m in zip(axes, middle, strict=True))
        blob = 4 * np.exp(-square / width**2) - 1.4
        made.append(blob + rng.normal(0, 0.5, (channels, *grid)))
    return np.asarray(made, np.float32)
