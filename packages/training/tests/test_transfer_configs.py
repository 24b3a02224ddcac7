"""Every file of configs/distil takes real steps, and every term between image and table has one."""

import json
import math
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
import yaml

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split, split_hash
from spinmark_models.config import EncoderConfig, ProjectionConfig
from spinmark_models.export import load_encoder
from spinmark_training.config import (
    DistilConfig,
    EmbedConfig,
    MonitorConfig,
    OptimConfig,
    PartsConfig,
    PretrainConfig,
    TrainerConfig,
)
from spinmark_training.distil import distil
from spinmark_training.embed import embed, write_embeddings
from spinmark_training.pretrain import pretrain
from spinmark_training.teacher import load_teacher
from spinmark_training.transfer import TRANSFERS, load_alignment
from spinmark_training.transfer.registry import CONTRASTS

from .tabled_world import SEQUENCE, write_tabled

CONFIGS = Path(__file__).parents[3] / "configs" / "distil"
FILES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
EMBEDDING = 8

World = tuple[Cohort, Split]


def read(config: Any, tree: Mapping[str, Any]) -> Any:
    """A dataclass with the values of a file."""
    values = {}
    for name, value in tree.items():
        default = getattr(config, name)
        if name == "parts":
            value = PartsConfig(**value)
        elif is_dataclass(default):
            value = read(default, value)
        elif isinstance(value, list):
            value = tuple(value)
        values[name] = value
    return replace(config, **values)


def config_of(name: str, steps: int = 2) -> DistilConfig:
    """A file's run in a size that takes a second."""
    config = read(DistilConfig(), yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))
    teacher, transfer = config.teacher, config.transfer
    clinical = replace(teacher.encoder, hidden=8, latent=3, token=4)
    if transfer.parts is not None:
        transfer = replace(transfer, parts=replace(transfer.parts, table=EMBEDDING // 2))
    made: DistilConfig = replace(
        config,
        data=replace(config.data, sequence=SEQUENCE, subjects_per_batch=4),
        encoder=EncoderConfig(widths=(4, 8), embedding=EMBEDDING),
        projection=ProjectionConfig(hidden=16, out=4),
        optim=OptimConfig(steps=steps, lr=3e-3),
        trainer=TrainerConfig(threads=1, checkpoint_every_steps=2, log_every=1),
        monitor=MonitorConfig(every=0, variables=(), leakage=None, lidar_scans=0),
        teacher=replace(teacher, encoder=clinical, steps=min(4, teacher.steps)),
        transfer=transfer,
    )
    return made


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(load_encoder(run / "encoder")[0].state_dict())


@pytest.fixture(scope="module")
def tabled(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Without validation subjects, on whom each teacher would be measured for longer than it is fitted."""
    cohort, split = write_tabled(tmp_path_factory.mktemp("tabled") / "cohort")
    frame = split.frame.replace({"set": {"val": "test"}})
    return cohort, Split(frame=frame, hash=split_hash(frame))


@pytest.fixture(scope="module")
def image_run(tabled: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of another objective that is continued."""
    like = config_of("demo", steps=1)
    common = {n: getattr(like, n) for n in ("data", "encoder", "projection", "trainer", "monitor")}
    out = tmp_path_factory.mktemp("runs") / "image"
    pretrain(*tabled, PretrainConfig(optim=OptimConfig(steps=1), **common), out)
    return out


def start_of(name: str, run: Path) -> Path | None:
    return None if name == "from-scratch" else run


@pytest.mark.parametrize("name", FILES)
def test_a_configuration_takes_real_steps(
    name: str, tabled: World, image_run: Path, tmp_path: Path
) -> None:
    config, out = config_of(name), tmp_path / "run"
    start = start_of(name, image_run)
    summary = distil(*tabled, start, config, out)
    row = summary.rows[-1]
    told = {f"loss_{term}" for term in config.transfer.terms}
    assert told <= row.keys()
    assert all(math.isfinite(value) for value in row.values())
    if start is not None:
        before = weights(image_run)
        assert any(not torch.equal(value, before[key]) for key, value in weights(out).items())
    extra = json.loads((out / "encoder" / "encoder.json").read_text())["extra"]
    teacher = load_teacher(out / "teacher")
    assert set(teacher.encoder.schema.names) <= set(extra["uses"])
    heads = load_alignment(out)
    assert (heads is not None) == bool(CONTRASTS.keys() & config.transfer.terms.keys())
    if heads is not None:
        assert heads.image(torch.randn(3, EMBEDDING)).norm(dim=1).tolist() == pytest.approx([1] * 3)
    half = EMBEDDING // 2
    parts = {"table": [0, half], "image": [half, EMBEDDING]}
    assert extra.get("parts") == (None if config.transfer.parts is None else parts)


def test_every_term_has_a_file() -> None:
    named = {term for name in FILES for term in config_of(name).transfer.terms}
    assert set(TRANSFERS) == named


def test_embeddings_say_which_features_the_table_explains(
    tabled: World, image_run: Path, tmp_path: Path
) -> None:
    distil(*tabled, image_run, config_of("parts"), tmp_path / "run")
    found = embed(tabled[0], tmp_path / "run", EmbedConfig())
    half = EMBEDDING // 2
    assert found["part"].to_numpy().tolist() == ["table"] * half + ["image"] * half
    write_embeddings(tmp_path, found)
    again = xr.open_zarr(tmp_path / "embeddings.zarr", consolidated=False)
    assert again["part"].to_numpy().tolist() == found["part"].to_numpy().tolist()
    # Without a step nothing was learnt of the table, and a whole embedding has no parts.
    distil(*tabled, image_run, config_of("parts", steps=0), tmp_path / "none")
    assert "part" not in embed(tabled[0], tmp_path / "none", EmbedConfig()).coords


@pytest.mark.slow
@pytest.mark.parametrize("name", ["balanced", "mutual"])
def test_a_batch_in_parts_gives_the_same_run(name: str, tabled: World, tmp_path: Path) -> None:
    encoder = EncoderConfig(
        name="resnet10", widths=(4, 4, 8, 8), norm="group", groups=2, stem_kernel=(3, 3, 3)
    )
    config = replace(config_of(name), encoder=encoder)
    whole = distil(*tabled, None, config, tmp_path / "whole").rows
    trainer = replace(config.trainer, micro_batch=2)
    some = distil(*tabled, None, replace(config, trainer=trainer), tmp_path / "some").rows
    for one, two in zip(whole, some, strict=True):
        # Measured of the first part alone.
        del one["view_difference"], two["view_difference"]
        assert two == pytest.approx(one, rel=1e-3, abs=1e-5)


def test_a_run_starts_from_scratch_or_from_weights_from_elsewhere(
    tabled: World, image_run: Path, tmp_path: Path
) -> None:
    distil(*tabled, None, config_of("demo", steps=0), tmp_path / "none")
    page = json.loads((tmp_path / "none" / "encoder" / "encoder.json").read_text())
    assert page["extra"]["objective"] == "untrained"
    file = image_run / "encoder" / "model.safetensors"
    distil(*tabled, file, config_of("demo", steps=0), tmp_path / "file")
    before, after = weights(image_run), weights(tmp_path / "file")
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert json.loads((tmp_path / "file" / "start.json").read_text())["missing"] == []


def test_a_teacher_that_learnt_along_is_kept_as_it_became(
    tabled: World, image_run: Path, tmp_path: Path
) -> None:
    for name in ("demo", "joint"):
        distil(*tabled, image_run, config_of(name), tmp_path / name)
    started, learnt = (load_teacher(tmp_path / name / "teacher") for name in ("demo", "joint"))
    assert not torch.equal(started.encoder.weight, learnt.encoder.weight)
    assert (started.mean == learnt.mean).all()
    assert (
        json.loads((tmp_path / "joint" / "teacher" / "teacher.json").read_text())["learning"]
        == "joint"
    )


class _StoppedError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joint", "mutual", "balanced", "parts-given"])
def test_what_is_learnt_along_survives_an_interruption(
    name: str, tabled: World, image_run: Path, tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise _StoppedError

    config = config_of(name, steps=4)
    with pytest.raises(_StoppedError):
        distil(*tabled, image_run, config, tmp_path / "broken", progress=stop)
    assert distil(*tabled, image_run, config, tmp_path / "broken").resumed_at == 2
    distil(*tabled, image_run, config, tmp_path / "calm")
    broken, calm = weights(tmp_path / "broken"), weights(tmp_path / "calm")
    assert all(torch.equal(broken[key], calm[key]) for key in calm)
    for file in ("teacher/model.safetensors", "alignment/model.safetensors"):
        assert (tmp_path / "broken" / file).read_bytes() == (tmp_path / "calm" / file).read_bytes()
