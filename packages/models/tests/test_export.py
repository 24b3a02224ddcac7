import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spinmark_models.clinical import ClinicalEncoder
from spinmark_models.config import ClinicalEncoderConfig, EncoderConfig, IntensityRule
from spinmark_models.encoders import ENCODERS, ImageEncoder, build_encoder
from spinmark_models.errors import InputError
from spinmark_models.export import load_clinical, load_encoder, save_clinical, save_encoder
from spinmark_models.intensity import as_rule, intensity_window, normalise_intensity
from spinmark_models.tables import TableSchema

from .encoder_cases import GRID, SMALL, small, volumes

CONFIG = EncoderConfig(widths=(4, 8), embedding=6)


def write(folder: Path, seed: int = 0) -> tuple[ImageEncoder, str]:
    torch.manual_seed(seed)
    encoder = build_encoder(CONFIG, (4, 8, 8))
    digest = save_encoder(
        folder,
        encoder,
        config=CONFIG,
        input_shape=(4, 8, 8),
        spacing_mm=(3.5, 1.5, 1.5),
        intensity={"low": 2.0},
        extra={"objective": "ssl"},
    )
    return encoder, digest


def test_a_loaded_encoder_gives_the_same_embedding(tmp_path: Path) -> None:
    encoder, digest = write(tmp_path / "encoder")
    loaded, spec = load_encoder(tmp_path / "encoder")
    x = torch.randn(2, 1, 4, 8, 8)
    assert torch.equal(encoder.eval()(x).embedding, loaded(x).embedding)
    assert spec.weights_sha256 == digest
    assert spec.config == loaded.config == encoder.config
    assert spec.spacing_mm == (3.5, 1.5, 1.5)
    assert spec.intensity == IntensityRule(low=2.0)
    assert spec.extra == {"objective": "ssl"}


@pytest.mark.parametrize("name", list(ENCODERS))
def test_every_encoder_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    encoder = small(name)
    encoder.train()(volumes(2, 1, *GRID))  # Statistics of a batch normalisation are kept too.
    save_encoder(
        tmp_path,
        encoder,
        config=SMALL[name],
        input_shape=GRID,
        spacing_mm=(1.0, 1.0, 1.0),
        intensity={},
    )
    loaded, spec = load_encoder(tmp_path)
    x = volumes(2, 1, *GRID, seed=2)
    one, two = encoder.eval()(x), loaded(x)
    assert torch.equal(one.embedding, two.embedding)
    assert all(torch.equal(a, b) for a, b in zip(one.pyramid, two.pyramid, strict=True))
    assert spec.config == loaded.config == encoder.config
    assert (loaded.strides, loaded.channels) == (encoder.strides, encoder.channels)


def test_a_page_of_release_0_1_is_read(tmp_path: Path) -> None:
    encoder, _ = write(tmp_path)
    path = tmp_path / "encoder.json"
    page = json.loads(path.read_text())
    page["config"] = {
        "name": "residual3d",
        "widths": [4, 8],
        "patch": [2, 4, 4],
        "stem_kernel": [1, 3, 3],
        "embedding": 6,
        "norm": "group",
        "groups": 8,
        "in_channels": 1,
    }
    path.write_text(json.dumps(page))
    loaded, spec = load_encoder(tmp_path)
    x = torch.randn(2, 1, 4, 8, 8)
    assert torch.equal(encoder.eval()(x).embedding, loaded(x).embedding)
    assert spec.config == encoder.config


def test_the_same_weights_make_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a")[1] == write(tmp_path / "b")[1]
    for name in ("model.safetensors", "encoder.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_damage_is_explained(tmp_path: Path) -> None:
    write(tmp_path)
    page = tmp_path / "encoder.json"
    weights = tmp_path / "model.safetensors"
    good_page, good_weights = page.read_text(), weights.read_bytes()
    raw = json.loads(good_page)

    def refused(words: str) -> None:
        with pytest.raises(InputError, match=words) as caught:
            load_encoder(tmp_path)
        assert "\n" not in str(caught.value)
        page.write_text(good_page)
        weights.write_bytes(good_weights)

    page.write_text("{")
    refused("cannot be read as JSON")
    page.write_text(json.dumps({**raw, "version": 9}))
    refused("version 9")
    page.write_text(json.dumps({**raw, "config": {"depth": 3}}))
    refused("damaged")
    page.write_text(json.dumps({**raw, "config": {**raw["config"], "embedding": 7}}))
    refused("does not fit")
    page.write_text(json.dumps({**raw, "config": {**raw["config"], "depth": 3}}))
    refused("names no encoder: encoder depth is 3, which residual3d does not use")
    page.write_text(json.dumps({**raw, "config": {**raw["config"], "widths": ["a"]}}))
    refused("names no encoder")
    weights.write_bytes(good_weights[:100])
    refused("cannot be read")
    weights.write_bytes(good_weights[:-1] + bytes([good_weights[-1] ^ 1]))
    refused("not of one encoder")
    page.unlink()
    with pytest.raises(InputError, match="absent"):
        load_encoder(tmp_path)


def test_a_clinical_encoder_round_trips(tmp_path: Path) -> None:
    values = np.column_stack([np.arange(20.0), np.arange(20) % 2])
    schema = TableSchema.fit(values, ["AGE", "SEX"], ["continuous", "binary"])
    encoder = ClinicalEncoder(schema, ClinicalEncoderConfig(hidden=8, latent=3))
    save_clinical(tmp_path, encoder)
    loaded = load_clinical(tmp_path)
    assert loaded.schema == schema
    names = ["AGE", "SEX"]
    np.testing.assert_array_equal(loaded.embed(values, names), encoder.embed(values, names))
    with pytest.raises(InputError, match=r"encoder\.json is absent"):
        load_encoder(tmp_path)


def test_intensity_follows_its_formula_and_ignores_scale() -> None:
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 2000, (6, 20, 20)).astype(np.int16)
    rule = IntensityRule(low=5, high=95, mean=0.3, sd=0.2)
    low, high = np.percentile(volume[volume > 0], [5, 95])
    expected = (np.clip((volume - low) / (high - low), 0, 1) - 0.3) / 0.2
    np.testing.assert_allclose(normalise_intensity(volume, rule), expected, atol=1e-5)
    scaled = normalise_intensity(volume * np.float32(0.37), rule)
    np.testing.assert_allclose(scaled, expected, atol=1e-4)


def test_an_empty_or_flat_volume_stays_finite() -> None:
    assert intensity_window(np.zeros((2, 2, 2)), {}) == (0.0, 1.0)
    assert np.isfinite(normalise_intensity(np.full((2, 2, 2), 7), {})).all()


@pytest.mark.parametrize("rule", [{"lo": 1}, {"low": 99, "high": 1}, {"sd": 0}])
def test_impossible_rules_are_refused(rule: dict[str, float]) -> None:
    with pytest.raises(InputError):
        as_rule(rule)
