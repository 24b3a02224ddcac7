"""Encoders as ONNX files, run by onnxruntime beside torch."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spinmark_models import onnx_graph
from spinmark_models.config import EncoderConfig, Shape3
from spinmark_models.embed import check_volume, embed_volumes
from spinmark_models.encoders import ENCODERS, ImageEncoder, build_encoder
from spinmark_models.errors import InputError
from spinmark_models.export import EncoderSpec, load_encoder, save_encoder
from spinmark_models.handover import hand_over
from spinmark_models.intensity import normalise_intensity
from spinmark_models.onnx_file import read_metadata, write_onnx
from spinmark_models.onnx_graph import TOLERANCE

from .encoder_cases import SMALL

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SPACING = (3.5, 1.5, 1.25)
# Smaller than elsewhere, since an export takes seconds a layer; every stride differs from its neighbour's.
TINY: dict[str, tuple[EncoderConfig, Shape3]] = {
    "residual3d": (EncoderConfig(widths=(4, 6), embedding=6), (4, 8, 12)),
    "resnet10": (SMALL["resnet10"], (8, 16, 20)),
    "resnet18": (SMALL["resnet18"], (8, 32, 40)),
    "resnet34": (SMALL["resnet34"], (8, 32, 40)),
    "resnet50": (SMALL["resnet50"], (8, 32, 40)),
    "resenc": (
        EncoderConfig(
            name="resenc", widths=(4, 6), depths=(1, 1), strides=((1, 1, 1), (1, 2, 3)), embedding=5
        ),
        (4, 9, 10),
    ),
    "vit3d": (
        EncoderConfig(name="vit3d", patch=(4, 8, 8), width=12, depth=1, heads=2),
        (6, 16, 20),
    ),
    "slices": (
        EncoderConfig(
            name="slices",
            widths=(4, 4, 4, 6),
            depths=(1, 1, 1, 1),
            stem_kernel=(1, 3, 3),
            attention=4,
        ),
        (4, 32, 40),
    ),
    "densenet121": (SMALL["densenet121"], (8, 32, 40)),
}
LONG = {*ENCODERS} - {"residual3d", "resenc", "vit3d"}


def write(folder: Path, name: str, **fields: object) -> tuple[ImageEncoder, EncoderSpec]:
    """Keeps a small encoder whose batch normalisations are not fresh ones."""
    if name == "densenet121":
        pytest.importorskip("monai")
    config, grid = TINY[name]
    torch.manual_seed(0)
    encoder = build_encoder(config, grid)
    with torch.no_grad():
        encoder.train()(torch.randn(4, config.in_channels, *grid))
    extra = {
        "sequence": "SAG_3D_DESS",
        "objective": "distilled",
        "uses": ["AGE", "WOMKP"],
        **fields,
    }
    save_encoder(
        folder,
        encoder,
        config=config,
        input_shape=grid,
        spacing_mm=SPACING,
        intensity={"low": 2.0},
        extra=extra,
    )
    return load_encoder(folder)


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"volume": x})
    return np.asarray(found)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in ENCODERS]
)
def test_every_encoder_agrees_in_batches_of_any_size(name: str, tmp_path: Path) -> None:
    encoder, spec = write(tmp_path, name)
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    checked = write_onnx((encoder, spec), tmp_path / "encoder.onnx")
    assert checked.difference <= checked.tolerance == TOLERANCE
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    encoder.eval()
    rng = np.random.default_rng(5)
    exact = encoder.double()
    for count in (1, 2, 7):
        x = rng.normal(size=(count, 1, *spec.input_shape)).astype(np.float32)
        found = run(tmp_path / "encoder.onnx", x)
        assert found.dtype == np.float32
        # What both should be: the same network in twice the precision.
        with torch.no_grad():
            expected = exact(torch.from_numpy(x).double()).embedding.numpy()
        assert np.abs(found - expected).max() <= TOLERANCE * max(checked.sd, 1e-3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    parts = {"table": [0, 4], "image": [4, 6]}
    write(folder / "encoder", "residual3d", parts=parts)
    hand_over(folder / "encoder", folder / "out", axes="as told", onnx=True, names=["S1234567"])
    return folder / "out"


def test_a_file_says_what_has_to_be_done(made: Path) -> None:
    spec = load_encoder(made)[1]
    told = read_metadata(made / "encoder.onnx")
    assert told["config"] == json.loads(json.dumps(asdict(spec.config)))
    assert told["input_shape"] == [4, 8, 12]
    assert told["spacing_mm"] == list(SPACING)
    assert told["intensity"] == asdict(spec.intensity)
    assert told["weights_sha256"] == spec.weights_sha256
    assert told["uses"] == ["AGE", "WOMKP"]
    assert told["sequence"] == "SAG_3D_DESS"
    assert told["extra"]["parts"] == {"table": [0, 4], "image": [4, 6]}
    assert told["axes"] == "as told"
    # A runtime shows the same entries to whoever has no other library.
    session = ort.InferenceSession(str(made / "encoder.onnx"), providers=["CPUExecutionProvider"])
    entries = session.get_modelmeta().custom_metadata_map
    assert json.loads(entries["intensity"]) == asdict(spec.intensity)
    (given,), (gives,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape[1:]) == ("volume", [1, 4, 8, 12])
    assert (gives.name, gives.shape[1:]) == ("embedding", [6])
    assert isinstance(given.shape[0], str)


def test_the_check_can_be_repeated_with_numpy_and_a_runtime(made: Path) -> None:
    told = read_metadata(made / "encoder.onnx")
    z, y, x = np.ogrid[1:5, 1:9, 1:13]
    volume = (37 * z * y + 11 * x * x + 5 * z) % 997
    inside = volume[volume > 0].astype(np.float64)
    low, high = np.percentile(inside, [told["intensity"]["low"], told["intensity"]["high"]])
    unit = np.clip((volume - low) / (high - low), 0, 1)
    normal = (unit - told["intensity"]["mean"]) / told["intensity"]["sd"]
    found = run(made / "encoder.onnx", normal[None, None].astype(np.float32))[0]
    np.testing.assert_allclose(found, told["check"]["embedding"], atol=1e-4)


def test_a_file_agrees_with_what_the_package_embeds(made: Path) -> None:
    spec = load_encoder(made)[1]
    volumes = np.random.default_rng(6).integers(0, 900, (5, 4, 8, 12))
    x = np.stack([normalise_intensity(v, spec.intensity) for v in volumes])[:, None]
    expected = embed_volumes(made, volumes, spacing_mm=SPACING)
    np.testing.assert_allclose(run(made / "encoder.onnx", x), expected, atol=1e-4)


def test_nothing_of_this_machine_is_in_the_file(made: Path, tmp_path: Path) -> None:
    content = (made / "encoder.onnx").read_bytes()
    here = (b".py", str(Path(__file__).parents[4]).encode(), b"site-packages", b"forward")
    assert not [word for word in here if word in content]
    write_onnx(made, tmp_path / "again.onnx", metadata={"axes": "as told"})
    assert (tmp_path / "again.onnx").read_bytes() == content


def test_a_file_that_disagrees_is_not_written(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (made / "encoder.onnx").read_bytes()
    monkeypatch.setattr(onnx_graph, "_exported", lambda *given: onnx.load_from_string(content))
    path = tmp_path / "encoder.onnx"
    with pytest.raises(
        InputError, match=r"not written; onnxruntime and torch differ by .* accepted"
    ):
        write_onnx(made, path, tolerance=-1.0)
    assert not path.exists()
    path.write_bytes(b"as before")
    encoder, spec = load_encoder(made)
    last = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm1d)][-1]
    # One feature of six is another by a hundredth.
    with torch.no_grad():
        last.bias[0] += 0.01
    with pytest.raises(InputError, match="not written"):
        write_onnx((encoder, spec), path)
    assert path.read_bytes() == b"as before"
    assert [p.name for p in tmp_path.iterdir()] == ["encoder.onnx"]
    write_onnx(made, path)
    assert path.read_bytes()[:20] == content[:20]


def test_an_encoder_without_a_word_to_say_is_refused(tmp_path: Path) -> None:
    encoder, spec = write(tmp_path, "residual3d")
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    with pytest.raises(InputError, match="every volume the same vector"):
        write_onnx((encoder, spec), tmp_path / "encoder.onnx")
    assert not (tmp_path / "encoder.onnx").exists()


def test_other_files_are_no_encoders(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="cannot be read as ONNX"):
        read_metadata(path)
    helper = onnx.helper
    graph = helper.make_graph([], "empty", [], [])
    onnx.save(helper.make_model(graph), path)
    with pytest.raises(InputError, match="schema None, version None"):
        read_metadata(path)


def test_without_the_extra_one_line_says_what_is_missing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(onnx_graph.importlib, "import_module", absent)
    with pytest.raises(InputError, match=r"need onnx, .* pip install 'spinmark-models\[onnx\]'"):
        write_onnx(made, tmp_path / "encoder.onnx")


def test_the_made_up_volume_is_on_the_grid(made: Path) -> None:
    assert check_volume(load_encoder(made)[1].input_shape).shape == (4, 8, 12)
