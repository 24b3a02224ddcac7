"""Every option of how a run is trained really trains."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import EncoderConfig
from spinmark_training.config import PretrainConfig
from spinmark_training.pretrain import pretrain

World = tuple[Cohort, Split]
SMALL = EncoderConfig(name="resnet10", widths=(4, 4, 8, 8), groups=2, stem_kernel=(3, 3, 3))


def trained(
    world: World, config: PretrainConfig, out: Path, **options: Any
) -> dict[str, torch.Tensor]:
    """The weights after a few steps with some options of the optimiser and the trainer."""
    optim = {k: v for k, v in options.items() if hasattr(config.optim, k)}
    trainer = {k: v for k, v in options.items() if hasattr(config.trainer, k)}
    assert {*optim, *trainer} == {*options}
    config = replace(
        config,
        encoder=SMALL,
        optim=replace(config.optim, **optim),
        trainer=replace(config.trainer, **trainer),
    )
    summary = pretrain(*world, config, out)
    assert summary.steps == config.optim.steps
    assert all(row["loss"] == row["loss"] for row in summary.rows if "loss" in row)
    return load_file(out / "encoder" / "model.safetensors")


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [
        ({"name": "sgd"}, 1e-6, 1.0),
        ({"clip_norm": 1e-4, "name": "sgd"}, 1e-9, 1.0),
        ({"schedule": "linear", "final": 0.5}, 1e-6, 1.0),
        ({"ema": 0.9}, 1e-6, 1.0),
        ({"precision": "bf16-mixed"}, 1e-6, 1.0),
        # These change how a step is computed and not what it comes to.
        ({"micro_batch": 2}, 0.0, 2e-3),
        ({"checkpoint_activations": True}, 0.0, 1e-6),
        ({"channels_last": True}, 0.0, 2e-3),
        ({"fused": True}, 0.0, 2e-3),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_an_option_changes_what_it_should(
    world: World,
    make_config: Callable[..., PretrainConfig],
    tmp_path: Path,
    options: dict[str, Any],
    least: float,
    most: float,
) -> None:
    config = make_config(steps=3, lr=1e-4)
    plain = trained(world, config, tmp_path / "plain")
    found = trained(world, config, tmp_path / "found", **options)
    assert least <= difference(plain, found) <= most


@pytest.mark.slow
def test_a_compiled_encoder_learns_the_same(
    world: World, make_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    config = make_config(steps=2, lr=1e-4)
    plain = trained(world, config, tmp_path / "plain")
    found = trained(world, config, tmp_path / "found", compile=True)
    assert difference(plain, found) < 2e-3
