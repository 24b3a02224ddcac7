"""Encoders of several sequences as ONNX files.

The inputs are `present (batch, sequences)`, bool, and a volume a sequence, `volume_0`, `volume_1`, ..., in the
order of the metadata's `sequences`; the output is `embedding`. Where a sequence is missing its volume may
hold anything. Needs the extra `spinmark-models[onnx]`.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spinmark_models.config import IntensityRule
from spinmark_models.encoders.fusion import FusionEncoder
from spinmark_models.onnx_file import RULE_IN_WORDS, varied_volumes
from spinmark_models.onnx_graph import BATCHES, TOLERANCE, Graph, OnnxCheck, write_graph

FUSED_SCHEMA = "spinmark/fused-encoder-onnx"
VERSION = 1


def write_fused_onnx(
    encoder: FusionEncoder,
    path: Path,
    *,
    spacing_mm: Mapping[str, tuple[float, float, float]],
    intensity: IntensityRule,
    tolerance: float = TOLERANCE,
) -> OnnxCheck:
    """Writes a fused encoder as one ONNX file, once onnxruntime has been seen to agree with torch.

    Args:
        encoder: The encoder, which stays as it is.
        path: The file; it is there whole or as it was before.
        spacing_mm: Voxel spacing (z, y, x) of each sequence in millimetres.
        intensity: The intensity rule, applied to each volume alone.
        tolerance: The largest difference accepted, in standard deviations of the embedding.

    Returns:
        How well the two agree, joints without some of the sequences among them.

    Raises:
        InputError: As for `write_onnx`.
    """
    plain = copy.deepcopy(encoder).to("cpu", torch.float32).eval()
    names = plain.config.sequences
    metadata = {
        "schema": FUSED_SCHEMA,
        "version": str(VERSION),
        "config": json.dumps(asdict(plain.config)),
        "sequences": json.dumps(names),
        "input_shape": json.dumps(plain.input_shapes),
        "spacing_mm": json.dumps({name: spacing_mm[name] for name in names}),
        "intensity": json.dumps(asdict(intensity)),
        "intensity_in_words": RULE_IN_WORDS,
    }
    return write_graph(
        Path(path),
        Graph(plain, _fused),
        _inputs(plain),
        words=RULE_IN_WORDS,
        metadata=metadata,
        tolerance=tolerance,
    )


def _fused(network: FusionEncoder, present_BS: Tensor, *volumes: Tensor) -> Tensor:
    """What `FusionEncoder.forward` gives, without choosing rows: a graph has no rows to leave out."""
    columns = []
    for i, volume in enumerate(volumes):
        # Of a volume that is missing nothing passes on, not even what is no number.
        vector = network._encoder(i)(volume).embedding
        columns.append(torch.where(present_BS[:, i, None], vector, network.missing_SE[i]))
    fused: Tensor = network.join(torch.cat(columns, dim=1))
    return fused


def _inputs(encoder: FusionEncoder) -> dict[str, NDArray[Any]]:
    """Joints of which each has the first sequence or the others, and one has all."""
    names, rows = encoder.config.sequences, np.arange(sum(BATCHES))
    present = np.ones((len(rows), len(names)), bool)
    if len(names) > 1:
        present[1::2, 0] = False
        present[2::2, 1:] = False
    channels = encoder.config.encoder.in_channels
    volumes = {
        f"volume_{i}": varied_volumes(channels, encoder.input_shapes[name], seed=i)
        for i, name in enumerate(names)
    }
    return {"present": present, **volumes}
