import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import EncoderConfig
from spinmark_models.encoders import build_encoder
from spinmark_models.export import load_encoder
from spinmark_training.config import ObjectiveConfig, PretrainConfig
from spinmark_training.errors import InputError
from spinmark_training.pretrain import pretrain
from spinmark_training.start import load_foreign

World = tuple[Cohort, Split]
MakeConfig = Callable[..., PretrainConfig]
SMALL = EncoderConfig(name="resnet10", widths=(4, 4, 8, 8), groups=2, stem_kernel=(3, 3, 3))


def untrained(make_config: MakeConfig, weights: Path) -> PretrainConfig:
    return replace(make_config(steps=0, seed=5), encoder=SMALL, init_from=weights)


def test_weights_of_volumes_are_taken_as_they_are(
    world: World, make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(11)
    donor = build_encoder(SMALL, (8, 16, 16))
    save_file(
        {f"module.encoder.{k}": v.contiguous() for k, v in donor.state_dict().items()},
        tmp_path / "donor.safetensors",
    )
    with caplog.at_level(logging.INFO, logger="spinmark_training"):
        config = untrained(make_config, tmp_path / "donor.safetensors")
        pretrain(*world, config, tmp_path / "run")
    encoder, _ = load_encoder(tmp_path / "run" / "encoder")
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, donor.state_dict()[name])
    count = len(donor.state_dict())
    assert f"{count} of {count} tensors loaded, 0 of them inflated" in caplog.text
    told = json.loads((tmp_path / "run" / "start.json").read_text())
    assert told["file"] == "donor.safetensors"
    assert sorted(told["matched"]) == sorted(donor.state_dict())
    assert told["missing"] == told["unexpected"] == told["mismatched"] == []


def test_kernels_of_pictures_are_spread_along_z(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(SMALL, (8, 16, 16))
    own = {k: v.clone() for k, v in encoder.state_dict().items()}
    name = next(k for k, v in own.items() if v.ndim == 5 and v.shape[2] == 3 and v.shape[1] == 1)
    out, _, depth, height, width = own[name].shape
    kernel = torch.randn(out, 3, height, width)
    save_file({name: kernel, "fc.weight": torch.zeros(2, 2)}, tmp_path / "flat.safetensors")
    report = load_foreign(encoder, tmp_path / "flat.safetensors")
    assert report.inflated == (name,)
    assert report.unexpected == ("fc.weight",)
    assert len(report.missing) == len(own) - 1
    grey = kernel.sum(1, keepdim=True)[:, :, None] / depth
    assert torch.allclose(encoder.state_dict()[name], grey.expand_as(own[name]))
    for other, value in own.items():
        if other != name:
            assert torch.equal(encoder.state_dict()[other], value)


@pytest.mark.parametrize("content", ["absent", "pickle", "strange"])
def test_a_file_that_cannot_be_used_is_named(
    world: World, make_config: MakeConfig, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "weights.safetensors"
    if content == "pickle":
        torch.save({"a": torch.zeros(2)}, path)
    if content == "strange":
        save_file({"other": torch.zeros(2)}, path)
    with pytest.raises(
        InputError, match=r"^weights to start from: [^\n]*weights\.safetensors[^\n]*$"
    ):
        pretrain(*world, untrained(make_config, path), tmp_path / "run")


def test_what_an_encoder_learnt_from_stays_with_it(
    world: World, make_config: MakeConfig, tmp_path: Path
) -> None:
    """The run after it says so too, whatever it learns from itself."""
    config = replace(
        make_config(steps=1), objective=ObjectiveConfig(name="rank_n_contrast", labels=("XRKL",))
    )
    pretrain(*world, make_config(steps=1), tmp_path / "plain")
    pretrain(*world, config, tmp_path / "graded")
    after = replace(make_config(steps=1), init_from=tmp_path / "graded")
    pretrain(*world, after, tmp_path / "after")
    uses = [
        load_encoder(tmp_path / name / "encoder")[1].extra["uses"]
        for name in ("plain", "graded", "after")
    ]
    assert uses == [[], ["XRKL"], ["XRKL"]]
