"""Encoders of several sequences as ONNX files, beside `FusionEncoder` itself."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spinmark_models.config import EncoderConfig, FusionConfig, IntensityRule
from spinmark_models.encoders.fusion import FusionEncoder
from spinmark_models.onnx_fused import write_fused_onnx

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

GRIDS = {"SAG.3D": (4, 8, 12), "COR": (4, 8, 8)}


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_a_fused_encoder_agrees_whatever_is_missing(shared: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    inside = EncoderConfig(name="vit3d", patch=(4, 8, 4), width=12, depth=1, heads=2)
    config = FusionConfig(sequences=tuple(GRIDS), encoder=inside, shared=shared, embedding=5)
    encoder = FusionEncoder(config, GRIDS).eval()
    path = tmp_path / "fused.onnx"
    spacing = dict.fromkeys(GRIDS, (3.0, 1.0, 1.0))
    checked = write_fused_onnx(encoder, path, spacing_mm=spacing, intensity=IntensityRule())
    assert checked.difference <= checked.tolerance
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["sequences"]) == list(GRIDS)
    rng = np.random.default_rng(1)
    for rows in ([(True, True)], [(True, False)], [(False, True), (True, True), (True, False)]):
        present = np.array(rows)
        given = {}
        for i, grid in enumerate(GRIDS.values()):
            x = rng.normal(size=(len(rows), 1, *grid)).astype(np.float32)
            x[~present[:, i]] = np.nan
            given[f"volume_{i}"] = x
        # `forward` leaves the rows out that a sequence lacks; it is the oracle here.
        with torch.no_grad():
            expected = encoder(
                {n: torch.from_numpy(given[f"volume_{i}"]) for i, n in enumerate(GRIDS)},
                {n: torch.from_numpy(present[:, i].copy()) for i, n in enumerate(GRIDS)},
            ).numpy()
        (found,) = session.run(None, {"present": present, **given})
        np.testing.assert_allclose(found, expected, atol=1e-5)
