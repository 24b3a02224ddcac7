"""Every file of configs/pretrain takes real steps, and every loss of the library can be trained."""

import math
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.encoders import build_encoder
from spinmark_models.export import load_encoder
from spinmark_models.losses.registry import LOSSES
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.config import (
    DistilConfig,
    MonitorConfig,
    OptimConfig,
    PretrainConfig,
    TrainerConfig,
)
from spinmark_training.distil import distil
from spinmark_training.objectives import OBJECTIVES
from spinmark_training.objectives.settings import DEFAULTS
from spinmark_training.objectives.terms import TERMS
from spinmark_training.pretrain import pretrain

from .tabled_world import GRID, SEQUENCE, write_tabled

CONFIGS = Path(__file__).parents[3] / "configs"
FILES = sorted(path.stem for path in (CONFIGS / "pretrain").glob("*.yaml"))

# Losses that no image encoder can be trained with, and what trains them instead.
ELSEWHERE: Mapping[str, str] = {
    "vime": "asks for the cells of a table: configs/distil/vime.yaml fits the teacher with it"
}

World = tuple[Cohort, Split]


@pytest.fixture(scope="module")
def tabled(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_tabled(tmp_path_factory.mktemp("tabled") / "cohort")


def read(config: Any, tree: Mapping[str, Any]) -> Any:
    """A dataclass with the values of a file."""
    values = {
        name: read(getattr(config, name), value)
        if is_dataclass(getattr(config, name))
        else tuple(value)
        if isinstance(value, list)
        else value
        for name, value in tree.items()
    }
    return replace(config, **values)


def small(config: Any, steps: int) -> Any:
    """The same run in a size that takes a second: fewer, smaller and narrower."""
    data, own = config.data, config.objective
    stages = {"residual3d": 2, "resnet10": 4}.get(config.encoder.name, 0)
    stages = len(config.encoder.widths or range(stages))
    widths = (4, 8, 8, 8)[:stages] or None
    narrow = {
        name: least
        for name, least in (("queue", 16), ("prototypes", 8), ("predictor", 8), ("hardest", 4))
        if {**DEFAULTS[own.name], name: getattr(own, name) or DEFAULTS[own.name].get(name)}[name]
    }
    grid = {} if data.local_shape is None else {"local_shape": (4, 8, 8)}
    return replace(
        config,
        data=replace(data, sequence=SEQUENCE, subjects_per_batch=4, crop=None, **grid),
        encoder=replace(config.encoder, widths=widths, embedding=8, in_channels=1),
        projection=replace(config.projection, hidden=16, out=4),
        augment=AugmentConfig(),
        objective=replace(own, **narrow),
        optim=OptimConfig(steps=steps, lr=3e-3),
        trainer=TrainerConfig(threads=1, checkpoint_every_steps=2, log_every=1),
        monitor=MonitorConfig(every=0, variables=(), leakage=None, lidar_scans=0),
        **({"init_from": None} if isinstance(config, PretrainConfig) else {}),
    )


def config_of(name: str, steps: int = 3) -> PretrainConfig:
    tree = yaml.safe_load((CONFIGS / "pretrain" / f"{name}.yaml").read_text())
    config: PretrainConfig = small(read(PretrainConfig(), tree), steps)
    return config


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(load_encoder(run / "encoder")[0].state_dict())


@pytest.mark.parametrize("name", FILES)
def test_a_configuration_takes_real_steps(name: str, tabled: World, tmp_path: Path) -> None:
    summary = pretrain(*tabled, config_of(name), tmp_path / "run")
    losses = [row["loss"] for row in summary.rows if "loss" in row]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)
    config = config_of(name)
    torch.manual_seed(config.seed)
    before = build_encoder(config.encoder, GRID).state_dict()
    after = weights(tmp_path / "run")
    assert after.keys() == before.keys()
    assert any(not torch.equal(after[key], before[key]) for key in after)


@pytest.mark.parametrize("name", ["clip", "siglip", "sup_con", "kd"])
def test_one_process_has_the_negatives_that_it_expects(
    name: str, tabled: World, tmp_path: Path
) -> None:
    summary = pretrain(*tabled, config_of(name), tmp_path / "run")
    found = {f["check"]: f["verdict"] for f in summary.doctor["findings"]}
    assert found["negatives"] == "ok"
    row = summary.rows[0]
    assert row["negatives_expected"] == pytest.approx(row["negatives"])


class _StoppedError(Exception):
    pass


def _remembering() -> list[str]:
    """A file of each kind of objective that remembers something, or draws."""
    state = {"momentum", "queue", "prototypes", "bank_momentum"}
    kinds = {
        OBJECTIVES[name]: name
        for name in OBJECTIVES
        if state & set(DEFAULTS[name]) and name in FILES
    }
    return sorted({"mochi", "domain_adversarial", *kinds.values()})


@pytest.mark.parametrize("name", _remembering())
def test_what_an_objective_remembers_survives_an_interruption(
    name: str, tabled: World, tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise _StoppedError

    config = config_of(name, steps=4)
    with pytest.raises(_StoppedError):
        pretrain(*tabled, config, tmp_path / "broken", progress=stop)
    assert pretrain(*tabled, config, tmp_path / "broken").resumed_at == 2
    pretrain(*tabled, config, tmp_path / "calm")
    broken, calm = weights(tmp_path / "broken"), weights(tmp_path / "calm")
    assert all(torch.equal(broken[key], calm[key]) for key in calm)


def test_every_loss_of_the_library_can_be_trained() -> None:
    trainable = {*OBJECTIVES, *TERMS}
    assert set(LOSSES) - trainable == set(ELSEWHERE)
    named = {config_of(name).objective.name for name in FILES}
    beside = {term for name in FILES for term in config_of(name).objective.terms}
    assert set(OBJECTIVES) <= named
    assert set(LOSSES) - set(ELSEWHERE) <= named | beside


def test_every_objective_has_a_file_of_its_name_and_values_of_its_own() -> None:
    assert set(OBJECTIVES) <= set(FILES)
    assert all(config_of(name).objective.name == name for name in OBJECTIVES)
    assert set(OBJECTIVES) == set(DEFAULTS)


def test_the_loss_of_tables_is_trained_by_the_clinical_teacher(
    tabled: World, tmp_path: Path
) -> None:
    pretrain(*tabled, config_of("nt_xent", steps=1), tmp_path / "image")
    tree = yaml.safe_load((CONFIGS / "distil" / "vime.yaml").read_text())
    config: DistilConfig = small(read(DistilConfig(), tree), 2)
    assert config.teacher.encoder.pretext == "vime"
    config = replace(config, teacher=replace(config.teacher, steps=5))
    summary = distil(*tabled, tmp_path / "image", config, tmp_path / "run")
    assert math.isfinite(summary.rows[-1]["loss"])
