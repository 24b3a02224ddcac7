"""A folder for somebody who has no cohort."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spinmark_models.embed import check_volume, embed_volumes
from spinmark_models.encoders import build_encoder
from spinmark_models.errors import InputError
from spinmark_models.export import load_encoder, save_encoder
from spinmark_models.handover import check_folder, hand_over, refuse_names

from .encoder_cases import SMALL

GRID = (4, 8, 12)
AXES = "z from right to left, y from superior to inferior, x from anterior to posterior"


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    made = build_encoder(SMALL["residual3d"], GRID)
    save_encoder(
        tmp_path / "run" / "encoder",
        made,
        config=made.config,
        input_shape=GRID,
        spacing_mm=(3.5, 1.5, 1.25),
        intensity={},
        extra={"sequence": "SAG_3D_DESS", "uses": ["WOMKP"], "seed": 3},
    )
    # What lies beside an encoder in a run stays there.
    (tmp_path / "run" / "encoder" / "notes.txt").write_text("S1234567")
    return tmp_path / "run" / "encoder"


def test_the_folder_holds_the_encoder_and_how_to_use_it(encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = hand_over(encoder, out, axes=AXES, names=["S1234567"])
    assert sorted(p.name for p in out.iterdir()) == [
        *("README.md", "encoder.json", "model.safetensors", "use.json")
    ]
    for name in ("encoder.json", "model.safetensors"):
        assert (out / name).read_bytes() == (encoder / name).read_bytes()
    use = json.loads((out / "use.json").read_text())
    assert use["axes"] == AXES
    vector = embed_volumes(out, check_volume(GRID), spacing_mm=(3.5, 1.5, 1.25))[0]
    np.testing.assert_allclose(use["check"]["embedding"], vector, rtol=1e-6)
    assert made.onnx is use["onnx"] is None
    readme = (out / "README.md").read_text()
    assert made.spec.weights_sha256 in readme
    assert AXES in readme
    assert "4 x 8 x 12 voxels (z, y, x), at 3.5 x 1.5 x 1.25 mm" in readme
    assert check_folder(out) < 1e-6


def test_the_same_encoder_makes_the_same_folder(encoder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        hand_over(encoder, tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    assert "not told" in (tmp_path / "a" / "README.md").read_text()


def test_a_folder_that_was_changed_is_noticed(encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hand_over(encoder, out)
    good = {p.name: p.read_bytes() for p in out.iterdir()}
    page, use = json.loads(good["encoder.json"]), json.loads(good["use.json"])

    def refused(name: str, content: object, words: str) -> None:
        (out / name).write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(InputError, match=words) as caught:
            check_folder(out)
        assert "\n" not in str(caught.value)
        for known, before in good.items():
            (out / known).write_bytes(before)

    # The weights are as they were, and the vectors are others: only the check sees it.
    changed = {**page, "intensity": {**page["intensity"], "high": 90.0}}
    refused("encoder.json", changed, "the check's vector differs by")
    refused("use.json", {**use, "weights_sha256": "0" * 64}, "copy the whole folder again")
    refused("use.json", {**use, "version": 2}, "version 2")
    refused("use.json", {**use, "check": {"embedding": [1.0]}}, "holds 1 features")
    refused("use.json", {**use, "check": None}, "absent or damaged")
    refused("use.json", "{", "absent or damaged")
    (out / "use.json").unlink()
    with pytest.raises(InputError, match="absent or damaged"):
        check_folder(out)


@pytest.mark.parametrize(
    ("extra", "where"),
    [
        ({"left_out": ["S1234567"]}, r"extra\.left_out\[0\]"),
        ({"first": {"S1234567": 1}}, r"extra\.first"),
        ({"S1234567": 1}, "extra"),
        ({"scan": "S1234567:R:V00:SAG_3D_DESS:0"}, r"extra\.scan"),
        ({"file": "data/S1234567/001.dcm"}, r"extra\.file"),
        ({"rows": [[7654321]]}, r"extra\.rows\[0\]\[0\]"),
        ({"who": "12"}, r"extra\.who"),
    ],
)
def test_a_participant_in_the_page_is_refused(
    encoder: Path, tmp_path: Path, extra: dict[str, object], where: str
) -> None:
    network, spec = load_encoder(encoder)
    save_encoder(
        encoder,
        network,
        config=spec.config,
        input_shape=spec.input_shape,
        spacing_mm=spec.spacing_mm,
        intensity=spec.intensity,
        extra={**spec.extra, **extra},
    )
    names = ["S1234567", "7654321", "12"]
    with pytest.raises(InputError, match=rf"{where} names participant"):
        hand_over(encoder, tmp_path / "out", names=names)
    assert not (tmp_path / "out").exists()
    hand_over(encoder, tmp_path / "out", names=["S7", "8", "12345"])


def test_short_identifiers_are_not_seen_everywhere(encoder: Path) -> None:
    # 6 features, a patch of 2, 4, 4: numbers of the page that are also somebody's.
    refuse_names(encoder / "encoder.json", [str(i) for i in range(2000)])
