"""What is drawn, from which numbers, and how it is kept."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from spinmark_training.augment.apply import apply
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.augment.counted import Stream, counted_noise, counted_uniform
from spinmark_training.augment.parameters import AugmentParameters, sample_parameters
from spinmark_training.augment.replay import read_parameters, write_parameters
from spinmark_training.errors import InputError

# Each change with the parameters that it touches.
ADDED: dict[str, tuple[dict[str, Any], set[str]]] = {
    "stretch": ({"stretch": 0.2}, {"stretch"}),
    "flip": ({"flip": ("z", "x")}, {"flip"}),
    "elastic": ({"elastic_mm": 3.0}, {"elastic"}),
    "motion": (
        {"motion_deg": 5.0, "motion_mm": 4.0},
        {"motion_rotation", "motion_translation", "motion_lines"},
    ),
    "blur": ({"blur_mm": 3.0}, {"blur"}),
    "low resolution": ({"low_resolution_mm": 8.0}, {"low_resolution"}),
    "histogram": ({"histogram": 0.7}, {"histogram"}),
    "rician": ({"rician": True}, {"rician"}),
    "cutout": ({"cutout": 0.6, "cutout_boxes": 2}, {"cutout"}),
}
ALL = {k: v for settings, _ in ADDED.values() for k, v in settings.items()}
MASK = 2**64 - 1


def drawn(n: int, seed: int = 3, **settings: Any) -> AugmentParameters:
    return sample_parameters(n, torch.Generator().manual_seed(seed), AugmentConfig(**settings))


def python_hash(state: int) -> int:
    """The hash in Python's integers."""
    h = state * 0x9E3779B97F4A7C15 & MASK
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 & MASK
    h = (h ^ h >> 27) * 0x94D049BB133111EB & MASK
    return h ^ h >> 31


def test_the_draws_of_the_defaults_stay() -> None:
    p = drawn(2, 7)
    degrees = torch.tensor([0.41907048, -3.614362, 1.9105403])
    torch.testing.assert_close(torch.rad2deg(p.rotation[0]), degrees)
    assert p.noise_seed.tolist() == [991310334879981959, 2415437571134316032]
    torch.testing.assert_close(p.bias[1, :2], torch.tensor([0.04592166, -0.011125803]))
    untouched = AugmentParameters.identity(2).tensors()
    for name in {name for _, names in ADDED.values() for name in names} | {"centre"}:
        assert torch.equal(p.tensors()[name], untouched[name])


@pytest.mark.parametrize("name", ADDED)
def test_what_is_switched_on_changes_no_other_number(name: str) -> None:
    settings, touched = ADDED[name]
    plain, one = drawn(50).tensors(), drawn(50, **settings).tensors()
    together = drawn(50, **ALL).tensors()
    assert {k for k, v in plain.items() if not torch.equal(v, one[k])} == touched
    assert all(torch.equal(one[k], together[k]) for k in touched)


def test_draws_stay_within_their_ranges() -> None:
    p = drawn(400, **ALL, elastic_chance=1, histogram_chance=1)
    assert float((p.stretch - 1).abs().max()) <= 0.2
    assert not p.flip[:, 1].any()
    assert p.elastic.shape == (400, 7, 7, 7, 3)
    assert 2.9 < float(p.elastic.abs().max()) <= 3
    assert float(p.motion_rotation.abs().max()) <= math.radians(5)
    assert float(p.motion_translation.abs().max()) <= 4
    share = p.motion_lines[:, 1] - p.motion_lines[:, 0]
    assert float(share.min()) == 0
    assert 0.45 < float(share.max()) <= 0.5 + 1e-6
    assert float(p.motion_lines.max()) <= 1 + 1e-6
    assert 2.9 < float(p.blur.max()) <= 3
    assert int((p.low_resolution > 0).sum(1).max()) == 1
    assert (p.low_resolution > 0).any(0).all()
    assert (p.histogram.diff(dim=1) > 0).all()
    torch.testing.assert_close(p.histogram[:, [0, -1]], torch.tensor([[0.0, 1.0]]).expand(400, 2))
    low, high = p.cutout[:, :, :3], p.cutout[:, :, 3:]
    assert (low >= 0).all()
    assert (high <= 1 + 1e-6).all()
    assert float((high - low).max()) <= 0.6


@pytest.mark.parametrize(
    ("name", "settings", "happens"),
    [
        ("flip", {"flip": ("z",)}, lambda p: p.flip[:, 0]),
        ("elastic", {"elastic_mm": 1.0}, lambda p: (p.elastic != 0).flatten(1).any(1)),
        ("motion", {"motion_mm": 1.0}, lambda p: p.motion_lines[:, 1] > 0),
        ("blur", {"blur_mm": 1.0}, lambda p: (p.blur > 0).any(1)),
        ("low_resolution", {"low_resolution_mm": 1.0}, lambda p: p.low_resolution.any(1)),
        ("histogram", {"histogram": 1.0}, lambda p: p.histogram[:, 1] != 1 / 8),
        ("cutout", {"cutout": 0.5}, lambda p: p.cutout.flatten(1).any(1)),
    ],
)
def test_chances_are_kept(name: str, settings: dict[str, Any], happens: Any) -> None:
    for chance in (0.0, 0.2, 1.0):
        share = float(happens(drawn(2000, **settings, **{f"{name}_chance": chance})).float().mean())
        assert abs(share - chance) <= 5 * math.sqrt(chance * (1 - chance) / 2000)


def test_a_view_is_drawn_from_its_own_seed() -> None:
    seeds = drawn(5).noise_seed
    few = counted_uniform(seeds[2:4], Stream.ELASTIC, 7)
    assert torch.equal(counted_uniform(seeds, Stream.ELASTIC, 20)[2:4, :7], few)


def test_counted_numbers_are_the_hash_in_integers() -> None:
    seed = 2**61 + 12345
    state = seed - 2**62 + int(Stream.BLUR) * 2**40
    expected = [(python_hash((state + i) & MASK) >> 40) / 2**24 for i in (1, 2, 3)]
    assert counted_uniform(torch.tensor([seed]), Stream.BLUR, 3)[0].tolist() == expected
    parts = [python_hash(seed + 1) >> shift & 0xFFFF for shift in (0, 16, 32, 48)]
    unit = (sum(parts) - 2 * 65535) / math.sqrt((65536**2 - 1) / 3)
    assert float(counted_noise(torch.tensor([seed]), 1)) == pytest.approx(unit, abs=1e-6)


def test_counted_numbers_are_uniform_and_the_kinds_apart() -> None:
    seeds = torch.tensor([3, 4])
    u = torch.cat([counted_uniform(seeds, stream, 50_000).double() for stream in Stream])
    n = u.shape[1]
    assert 0 <= float(u.min()) < float(u.max()) < 1
    assert ((u.mean(1) - 0.5).abs() < 5 * (1 / 12 / n) ** 0.5).all()
    assert ((u.var(1) - 1 / 12).abs() < 5 * (1 / 180 / n) ** 0.5).all()
    # Seeds 3 and 4 share their numbers, moved by one place: the correlation is taken in place.
    gram = torch.corrcoef(u) - torch.eye(len(u), dtype=torch.float64)
    assert float(gram.abs().max()) < 5 / n**0.5


def test_a_file_of_parameters_is_applied_again(tmp_path: Path) -> None:
    volumes = torch.rand(3, 6, 8, 9, generator=torch.Generator().manual_seed(0))
    for settings in ({}, ALL):
        p = drawn(3, **settings)
        write_parameters(tmp_path / "views.safetensors", p)
        again = read_parameters(tmp_path / "views.safetensors")
        for name, values in p.tensors().items():
            assert torch.equal(values, again.tensors()[name])
            assert values.dtype == again.tensors()[name].dtype
        assert torch.equal(apply(volumes, p), apply(volumes, again))
    assert [path.name for path in tmp_path.iterdir()] == ["views.safetensors"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    text, bare = tmp_path / "text.safetensors", tmp_path / "bare.safetensors"
    text.write_text("not a safetensors file")
    save_file({"scale": torch.ones(2)}, bare)
    for path in (text, bare, tmp_path / "none.safetensors"):
        with pytest.raises(InputError, match=path.name) as caught:
            read_parameters(path)
        assert "\n" not in str(caught.value)
