"""Volumes to vectors with spinmark-models and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_models.config import EncoderConfig
from spinmark_models.embed import check_volume, embed_volumes
from spinmark_models.encoders import ImageEncoder, build_encoder
from spinmark_models.errors import InputError
from spinmark_models.export import EncoderSpec, load_encoder, save_encoder
from spinmark_models.intensity import intensity_window, normalise_intensity

from .alone import closure, run_alone

GRID = (4, 8, 12)
SPACING = (3.5, 1.5, 1.25)
RNG = np.random.default_rng(4)
VOLUMES = RNG.integers(0, 3000, (7, *GRID)).astype(np.int16)


def write(folder: Path, **fields: object) -> Path:
    torch.manual_seed(0)
    config = EncoderConfig(widths=(4, 8), embedding=6, **fields)  # type: ignore[arg-type]
    encoder = build_encoder(config, GRID)
    x = torch.randn(4, config.in_channels, *GRID)
    encoder.train()(x)  # Statistics of the batch normalisation that are not those of a fresh one.
    save_encoder(
        folder, encoder, config=config, input_shape=GRID, spacing_mm=SPACING, intensity={"low": 2.0}
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("encoder") / "encoder")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[ImageEncoder, EncoderSpec]:
    return load_encoder(folder)


def one_by_one(loaded: tuple[ImageEncoder, EncoderSpec], volumes: np.ndarray) -> np.ndarray:
    """The definition, written out: the rule, the encoder, a volume at a time."""
    encoder, spec = loaded
    with torch.no_grad():
        vectors = [
            encoder(torch.from_numpy(normalise_intensity(v, spec.intensity))[None, None]).embedding
            for v in volumes
        ]
    return torch.cat(vectors).numpy()


def test_a_vector_is_the_encoder_of_the_normalised_volume(
    folder: Path, loaded: tuple[ImageEncoder, EncoderSpec]
) -> None:
    expected = one_by_one(loaded, VOLUMES)
    found = embed_volumes(folder, VOLUMES, spacing_mm=SPACING)
    assert found.shape == (7, 6)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)
    one = embed_volumes(str(folder), VOLUMES[3], spacing_mm=[3.5, 1.5, 1.25])
    np.testing.assert_allclose(one, expected[3:4], atol=2e-6)
    assert embed_volumes(loaded, VOLUMES[:0], spacing_mm=SPACING).shape == (0, 6)


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(7)),
    batch_size=st.integers(1, 9),
    factor=st.floats(1e-3, 1e3),
)
def test_neither_batch_nor_order_nor_unit_matters(
    order: list[int], batch_size: int, factor: float, loaded: tuple[ImageEncoder, EncoderSpec]
) -> None:
    expected = embed_volumes(loaded, VOLUMES, spacing_mm=SPACING)
    scaled = VOLUMES[order].astype(np.float64) * factor
    found = embed_volumes(loaded, scaled, spacing_mm=SPACING, batch_size=batch_size)
    np.testing.assert_allclose(found, expected[order], atol=2e-4)


def test_mode_and_weights_stay_as_they_are(folder: Path) -> None:
    encoder, spec = load_encoder(folder)
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    embed_volumes((encoder, spec), VOLUMES, spacing_mm=SPACING)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_volumes_may_lie_in_a_file(
    folder: Path, tmp_path: Path, loaded: tuple[ImageEncoder, EncoderSpec]
) -> None:
    np.save(tmp_path / "volumes.npy", VOLUMES)
    mapped = np.load(tmp_path / "volumes.npy", mmap_mode="r")
    found = embed_volumes(loaded, mapped, spacing_mm=SPACING, batch_size=2)
    np.testing.assert_allclose(found, one_by_one(loaded, VOLUMES), atol=2e-6)


@pytest.mark.parametrize(
    ("volumes", "spacing", "batch_size", "message"),
    [
        (
            VOLUMES[:, :, :, :5],
            SPACING,
            8,
            r"shape \(7, 4, 8, 5\); this encoder takes \(4, 8, 12\)",
        ),
        (VOLUMES[0].T, SPACING, 8, r"shape \(12, 8, 4\); this encoder takes \(4, 8, 12\)"),
        (VOLUMES[None], SPACING, 8, r"\(1, 7, 4, 8, 12\)"),
        (VOLUMES, (3.5, 1.5, 1.5), 8, r"spacing_mm is \(3.5, 1.5, 1.5\); .* \(3.5, 1.5, 1.25\)"),
        (VOLUMES, SPACING[::-1], 8, "spacing_mm"),
        (VOLUMES, (1.5,), 8, "spacing_mm"),
        (VOLUMES, (float("nan"),) * 3, 8, "spacing_mm"),
        (VOLUMES * 1j, SPACING, 8, "complex128"),
        (VOLUMES.astype(str), SPACING, 8, "use integers or floating point numbers"),
        (VOLUMES, SPACING, 0, "batch_size is 0"),
        (np.where(np.arange(7)[:, None, None, None] == 5, np.nan, VOLUMES), SPACING, 2, "volume 5"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    folder: Path, volumes: np.ndarray, spacing: tuple[float, ...], batch_size: int, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        embed_volumes(folder, volumes, spacing_mm=spacing, batch_size=batch_size)
    assert "\n" not in str(caught.value)


def test_a_part_of_a_scan_may_be_seen_in_the_light_of_the_whole(
    loaded: tuple[ImageEncoder, EncoderSpec],
) -> None:
    encoder, spec = loaded
    whole = RNG.integers(0, 3000, (2, 8, 8, 12)) * np.linspace(1, 3, 8)[:, None, None]
    parts = whole[:, 2:6]
    windows = [intensity_window(scan, spec.intensity) for scan in whole]
    found = embed_volumes(loaded, parts, spacing_mm=SPACING, windows=windows)
    cut = np.stack([normalise_intensity(scan, spec.intensity)[2:6] for scan in whole])
    with torch.no_grad():
        expected = encoder(torch.from_numpy(cut)[:, None]).embedding.numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)
    alone = embed_volumes(loaded, parts, spacing_mm=SPACING)
    assert np.abs(alone - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([(0.0, 1.0)], r"windows have shape \(1, 2\); use \(7, 2\)"),
        ([(0.0, 1.0)] * 6 + [(1.0, 1.0)], r"windows\[6\] is \(1, 1\)"),
        ([(0.0, float("nan"))] * 7, r"windows\[0\]"),
    ],
)
def test_impossible_windows_are_refused(
    folder: Path, windows: list[tuple[float, float]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        embed_volumes(folder, VOLUMES, spacing_mm=SPACING, windows=windows)


def test_what_a_header_rounds_is_taken(folder: Path) -> None:
    embed_volumes(folder, VOLUMES, spacing_mm=(3.501, 1.4999, 1.25))


def test_an_encoder_of_echoes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the encoder takes 2 channels"):
        embed_volumes(write(tmp_path, in_channels=2), VOLUMES, spacing_mm=SPACING)


def test_weights_that_make_no_numbers_are_told_of(tmp_path: Path) -> None:
    encoder, spec = load_encoder(write(tmp_path))
    with torch.no_grad():
        next(encoder.parameters()).fill_(float("inf"))
    with pytest.raises(InputError, match="vectors that are not finite"):
        embed_volumes((encoder, spec), VOLUMES, spacing_mm=SPACING)


def test_the_made_up_volume_follows_its_formula() -> None:
    found = check_volume((3, 4, 50))
    for z, y, x in np.ndindex(3, 4, 50):
        a, b, c = z + 1, y + 1, x + 1
        assert found[z, y, x] == (37 * a * b + 11 * c * c + 5 * a) % 997


SCRIPT = """
from pathlib import Path
import numpy as np
from spinmark_models.embed import embed_volumes
vectors = embed_volumes(Path(sys.argv[1]), np.load(sys.argv[2]), spacing_mm=(3.5, 1.5, 1.25))
np.save(sys.argv[3], vectors)
for name in ("spinmark_data", "spinmark_training", "pandas", "lightning", "monai", "onnx"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(name)
"""


def test_no_other_package_is_needed(folder: Path, tmp_path: Path) -> None:
    assert {"torch", "numpy", "safetensors"} <= closure("spinmark-models")
    assert not {"pandas", "lightning", "spinmark-data", "monai"} & closure("spinmark-models")
    np.save(tmp_path / "volumes.npy", VOLUMES)
    run_alone(SCRIPT, folder, tmp_path / "volumes.npy", tmp_path / "vectors.npy")
    expected = embed_volumes(folder, VOLUMES, spacing_mm=SPACING)
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, atol=1e-6)


def test_the_intensity_rule_needs_no_torch(tmp_path: Path) -> None:
    np.save(tmp_path / "volumes.npy", VOLUMES)
    script = """
import numpy as np
from spinmark_models.intensity import intensity_window, normalise_intensity
np.save(sys.argv[2], normalise_intensity(np.load(sys.argv[1])[0], {"low": 2.0}))
assert "torch" not in sys.modules
"""
    run_alone(script, tmp_path / "volumes.npy", tmp_path / "x.npy")
    expected = normalise_intensity(VOLUMES[0], {"low": 2.0})
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected)


@pytest.mark.slow
def test_a_fresh_environment_embeds(folder: Path, tmp_path: Path) -> None:
    """With spinmark-models installed from this checkout into an environment that was empty."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv")
    package = Path(__file__).parents[1]
    root = package.parents[1]
    links = os.environ.get("UV_FIND_LINKS", os.environ.get("PIP_FIND_LINKS"))
    env = os.environ | ({"UV_FIND_LINKS": links} if links else {})
    env.pop("VIRTUAL_ENV", None)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = tmp_path / "venv"
    # A copy, so that the build leaves nothing in the checkout.
    shutil.copytree(package, tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__"))
    limits = ["-c", str(root / "constraints.txt")] if (root / "constraints.txt").is_file() else []
    subprocess.run([uv, "venv", "--quiet", "--python", version, str(home)], check=True, env=env)
    python = home / "bin" / "python"
    words = [
        "pip",
        "install",
        "--quiet",
        "--python",
        str(python),
        *limits,
        str(tmp_path / "models"),
    ]
    subprocess.run([uv, *words], check=True, env=env)
    names = subprocess.run(
        [uv, "pip", "list", "--python", str(python), "--format", "freeze"],
        check=True,
        env=env,
        capture_output=True,
        text=True,
    ).stdout
    assert "spinmark-models==" in names
    assert names.count("spinmark") == 1
    assert "pandas" not in names
    np.save(tmp_path / "volumes.npy", VOLUMES)
    script = "import sys\n" + SCRIPT
    given = [str(folder), str(tmp_path / "volumes.npy"), str(tmp_path / "vectors.npy")]
    subprocess.run(
        [str(python), "-I", "-W", "error", "-c", script, *given], check=True, cwd=tmp_path
    )
    expected = embed_volumes(folder, VOLUMES, spacing_mm=SPACING)
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, atol=1e-5)
