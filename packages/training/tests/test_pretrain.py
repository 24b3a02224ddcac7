import hashlib
import json
import logging
import math
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split, read_split, write_split
from spinmark_models.export import load_encoder
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.checkpoints import read_checkpoint
from spinmark_training.config import PretrainConfig
from spinmark_training.errors import InputError
from spinmark_training.pretrain import pretrain
from spinmark_training.schedules import learning_rate_factor

World = tuple[Cohort, Split]
MakeWorld = Callable[..., World]
MakeConfig = Callable[..., PretrainConfig]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights(run: Path) -> str:
    return digest(run / "encoder" / "model.safetensors")


def outcome(run: Path) -> tuple[str, str, str, str]:
    """What must not depend on how a run came to its end."""
    names = ("encoder/encoder.json", "metrics.csv", "doctor.json")
    return (weights(run), *(digest(run / name) for name in names))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def calm(world: World, make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("calm") / "run"
    summary = pretrain(*world, make_config(), out)
    assert (summary.steps, summary.resumed_at) == (8, 0)
    return out


def test_a_run_folder_holds_what_its_schema_names(calm: Path, world: World) -> None:
    assert sorted(p.name for p in calm.iterdir()) == [
        "checkpoints",
        "doctor.json",
        "encoder",
        "metrics.csv",
        "split.parquet",
        "timing",
    ]
    assert read_split(calm).hash == world[1].hash
    encoder, spec = load_encoder(calm / "encoder")
    assert encoder.input_shape == (8, 16, 16)
    assert spec.spacing_mm == (3.0, 1.5, 1.5)
    assert spec.extra == {
        "sequence": "TINY",
        "sequences": [],
        "objective": "nt_xent",
        "uses": [],
        "steps": 8,
        "seed": 0,
        "training_subjects": 8,
    }
    assert {f["check"] for f in json.loads((calm / "doctor.json").read_text())["findings"]} >= {
        "finite",
        "loss",
        "rank",
    }


def test_the_metrics_stand_at_their_steps(calm: Path, make_config: MakeConfig) -> None:
    metrics = pd.read_csv(calm / "metrics.csv")
    assert list(metrics["step"]) == [1, 2, 4, 6, 8]
    assert list(metrics["epoch"]) == [0, 0, 1, 1, 2]  # three batches an epoch
    assert list(metrics.loc[metrics["rankme"].notna(), "step"]) == [4, 8]
    assert metrics["r2_XRKL"].notna().sum() == metrics["knn_SITE"].notna().sum() == 2
    config = make_config()
    factor = learning_rate_factor(config.optim)
    rates = [config.optim.lr * factor(step - 1) for step in metrics["step"]]
    np.testing.assert_allclose(metrics["lr"], rates, rtol=1e-5)
    # Batches of 3, 3 and 2 subjects with two joints each, that are no negatives of each other.
    assert set(metrics["chance"].round(4)) <= {round(math.log(9), 4), round(math.log(5), 4)}


def test_checkpoints_are_the_last_two_and_hold_plain_data(calm: Path) -> None:
    found = sorted((calm / "checkpoints").iterdir())
    assert [p.name for p in found] == ["step-00000006", "step-00000008"]
    assert read_checkpoint(found[-1])["global_step"] == 8


def test_the_seed_decides_every_bit(
    calm: Path, world: World, make_config: MakeConfig, tmp_path: Path
) -> None:
    pretrain(*world, make_config(), tmp_path / "again")
    assert outcome(tmp_path / "again") == outcome(calm)
    pretrain(*world, make_config(seed=1), tmp_path / "other")
    assert weights(tmp_path / "other") != weights(calm)
    assert digest(tmp_path / "other" / "metrics.csv") != digest(calm / "metrics.csv")


def stop_at(step: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        assert total == 8
        if done == step:
            raise InterruptedError("stopped by the test")

    return progress


@pytest.mark.parametrize("step", [1, 3, 4, 7, 8])
def test_an_interrupted_run_ends_as_an_undisturbed_one(
    calm: Path, world: World, make_config: MakeConfig, tmp_path: Path, step: int
) -> None:
    with pytest.raises(InterruptedError):
        pretrain(*world, make_config(), tmp_path, progress=stop_at(step))
    assert not (tmp_path / "encoder").exists()
    summary = pretrain(*world, make_config(), tmp_path)
    assert summary.resumed_at == step // 2 * 2
    assert outcome(tmp_path) == outcome(calm)


def test_interrupted_again_and_again(
    calm: Path, world: World, make_config: MakeConfig, tmp_path: Path
) -> None:
    for step in (3, 5, 7):
        with pytest.raises(InterruptedError):
            pretrain(*world, make_config(), tmp_path, progress=stop_at(step))
    pretrain(*world, make_config(), tmp_path)
    assert outcome(tmp_path) == outcome(calm)


def test_a_torn_checkpoint_gives_way_to_the_one_before(
    calm: Path,
    world: World,
    make_config: MakeConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(InterruptedError):
        pretrain(*world, make_config(), tmp_path, progress=stop_at(5))
    torn = tmp_path / "checkpoints" / "step-00000004" / "state.safetensors"
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    with caplog.at_level(logging.WARNING, logger="spinmark_training"):
        summary = pretrain(*world, make_config(), tmp_path)
    assert "step-00000004/state.safetensors: its content does not match" in caplog.text
    assert summary.resumed_at == 2
    assert outcome(tmp_path) == outcome(calm)


KILLED = """
import os, signal, sys
from pathlib import Path
from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import read_split
from spinmark_models.config import EncoderConfig, ProjectionConfig
from spinmark_training.config import *
from spinmark_training.pretrain import pretrain

cohort, split, out = map(Path, sys.argv[1:])
config = PretrainConfig(
    seed=0,
    data=DataConfig(sequence="TINY", subjects_per_batch=3),
    encoder=EncoderConfig(widths=(4, 8), embedding=8),
    projection=ProjectionConfig(hidden=16, out=8),
    optim=OptimConfig(steps=8, lr=3e-3),
    trainer=TrainerConfig(threads=1, checkpoint_every_steps=2, log_every=2),
    monitor=MonitorConfig(every=4),
)


def die(done, total):
    if done == 5:
        os.kill(os.getpid(), signal.SIGKILL)


pretrain(Cohort.open(cohort), read_split(split), config, out, progress=die)
"""


@pytest.mark.slow
@pytest.mark.multiproc
def test_a_killed_process_is_continued_by_another(
    calm: Path, world: World, make_config: MakeConfig, tmp_path: Path
) -> None:
    cohort, split = world
    write_split(tmp_path, split.frame)
    out = tmp_path / "run"
    command = [sys.executable, "-c", textwrap.dedent(KILLED)]
    done = subprocess.run([*command, str(cohort.path), str(tmp_path), str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (out / "encoder").exists()
    (out / "checkpoints" / ".step-00000006.partial").mkdir()
    assert pretrain(*world, make_config(), out).resumed_at == 4
    assert outcome(out) == outcome(calm)


def test_no_step_exports_the_encoder_as_initialised(
    calm: Path, world: World, make_config: MakeConfig, tmp_path: Path
) -> None:
    summary = pretrain(*world, make_config(steps=0), tmp_path)
    assert summary.steps == 0
    assert summary.doctor["healthy"]
    _, spec = load_encoder(tmp_path / "encoder")
    assert spec.extra["objective"] == "untrained"
    assert weights(tmp_path) != weights(calm)
    assert list(pd.read_csv(tmp_path / "metrics.csv")["step"]) == [0]
    pretrain(*world, make_config(steps=0), tmp_path / "again")
    assert weights(tmp_path / "again") == weights(tmp_path)


def test_a_run_is_continued_from_encoder_and_projection(
    calm: Path, world: World, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(steps=0)
    config.init_from = calm
    pretrain(*world, config, tmp_path / "none")
    assert weights(tmp_path / "none") == weights(calm)

    config = make_config(steps=1, lr=1e-30)
    config.init_from = calm
    pretrain(*world, config, tmp_path / "one")
    states = [
        read_checkpoint(path)["state_dict"]
        for path in (
            calm / "checkpoints" / "step-00000008",
            tmp_path / "one" / "checkpoints" / "step-00000001",
        )
    ]
    linear = [name for name in states[0] if name.endswith("weight") and "layers" in name]
    assert any(name.startswith("objective.projector.") for name in linear)
    for name in linear:
        assert torch.equal(states[0][name], states[1][name])


def test_a_run_that_has_seen_held_out_subjects_is_not_continued(
    calm: Path, world: World, make_config: MakeConfig, tmp_path: Path
) -> None:
    cohort, split = world
    frame = split.frame.copy()
    frame["set"] = frame["set"].replace({"train": "test", "test": "train"})
    config = make_config()
    config.init_from = calm
    with pytest.raises(InputError, match=r"init_from: .* subject s00, no training subject"):
        pretrain(cohort, Split(frame=frame, hash=""), config, tmp_path)


def test_test_subjects_are_never_read(
    world: World, make_config: MakeConfig, tmp_path: Path
) -> None:
    cohort, split = world
    read: set[int] = set()

    class Spy(Cohort):
        def read(self, sequence: str, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
            read.update(np.asarray(indices).tolist())
            return super().read(sequence, indices)

    pretrain(Spy(cohort.path, cohort.manifest), split, make_config(steps=2), tmp_path)
    subjects = cohort.scans("TINY")["subject_id"]
    seen = set(subjects.iloc[sorted(read)])
    assert seen == split.subjects("train", "val")


def test_what_is_held_out_cannot_reach_the_encoder(
    calm: Path, make_world: MakeWorld, make_config: MakeConfig, tmp_path: Path
) -> None:
    garbage = make_world(tmp_path / "cohort", garbage=True)
    pretrain(*garbage, make_config(), tmp_path / "run")
    assert weights(tmp_path / "run") == weights(calm)
    assert digest(tmp_path / "run" / "metrics.csv") != digest(calm / "metrics.csv")


def test_an_easy_cohort_is_learnt(world: World, make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(steps=60, lr=1e-2)
    config.data.subjects_per_batch = 8
    config.augment = AugmentConfig(
        rotation_deg=0, translation_mm=0, scale=0, log_gamma=0, contrast=0, brightness=0, bias=0
    )
    config.monitor.every = 0
    summary = pretrain(*world, config, tmp_path)
    last = summary.rows[-1]
    assert last["loss_ssl"] < 0.25 * last["chance"]
    verdicts = {f["check"]: f["verdict"] for f in summary.doctor["findings"]}
    assert verdicts["loss"] == "ok"


def test_divergence_names_the_learning_rate(
    world: World, make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"^optim\.lr: [^\n]*use a lower one \(layer [^\n]*\)$"):
        pretrain(*world, make_config(lr=1e30), tmp_path)
    assert not (tmp_path / "encoder").exists()
    assert not json.loads((tmp_path / "doctor.json").read_text())["healthy"]


def test_weights_that_overflow_at_the_last_step_leave_an_unhealthy_run(
    world: World, make_config: MakeConfig, tmp_path: Path
) -> None:
    assert not pretrain(*world, make_config(lr=1e30, steps=1), tmp_path).doctor["healthy"]


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("data", "sequence", "NONE"),
        ("data", "subjects_per_batch", 1),
        ("data", "cross_visit", 2.0),
        ("optim", "steps", -1),
        ("optim", "lr", -1.0),
        ("optim", "lr", math.nan),
        ("optim", "lr", 1e38),
        ("optim", "warmup", 1.5),
        ("optim", "weight_decay", -1.0),
        ("objective", "temperature", 0.0),
        ("trainer", "threads", -1),
    ],
)
def test_settings_out_of_range_are_named_in_one_line(
    world: World, make_config: MakeConfig, tmp_path: Path, part: str, name: str, value: object
) -> None:
    config = make_config()
    setattr(getattr(config, part), name, value)
    with pytest.raises(InputError, match=rf"^{part}\.{name}: [^\n]*$"):
        pretrain(*world, config, tmp_path / "run")
    assert not (tmp_path / "run" / "encoder").exists()


def test_a_subject_outside_the_split_ends_the_run(
    world: World, make_config: MakeConfig, tmp_path: Path
) -> None:
    cohort, split = world
    lacking = Split(frame=split.frame.iloc[:-1], hash="")
    with pytest.raises(InputError, match=r"^split: subject s15 [^\n]*$"):
        pretrain(cohort, lacking, make_config(), tmp_path / "run")
