import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_training.config import (
    DataConfig,
    MonitorConfig,
    OptimConfig,
    PretrainConfig,
    TrainerConfig,
)
from spinmark_training.config.plan import PlanConfig
from spinmark_training.errors import InputError
from spinmark_training.forecast import Costs, forecast, measure, share_of_one

World = tuple[Cohort, Split]

COSTS = Costs(
    start=1000.0,
    step=1.0,
    measurement=1e5,
    checkpoint=1e8,
    peak_mb=7.0,
    weights_mb=500.0,
    disk_mb=3.0,
    subjects=40,
)


@given(
    steps=st.integers(1, 60),
    every=st.integers(0, 20),
    saving=st.integers(0, 20),
)
def test_a_run_is_counted_as_it_goes(steps: int, every: int, saving: int) -> None:
    config = PretrainConfig(
        optim=OptimConfig(steps=steps),
        monitor=MonitorConfig(every=every),
        trainer=TrainerConfig(checkpoint_every_steps=saving),
    )
    seconds = COSTS.start
    for step in range(1, steps + 1):
        seconds += COSTS.step
        if (every and step % every == 0) or step == steps:
            seconds += COSTS.measurement
        if (saving and step % saving == 0) or step == steps:
            seconds += COSTS.checkpoint
    found = forecast(COSTS, config, PlanConfig())
    assert found.seconds == pytest.approx(seconds)
    assert (found.exchange, found.peak_mb, found.disk_mb) == (0, 7.0, 3.0)


def test_several_processes_share_the_batch_and_exchange_gradients() -> None:
    config = PretrainConfig(
        data=DataConfig(subjects_per_batch=32),
        optim=OptimConfig(steps=100),
        trainer=TrainerConfig(devices=2, num_nodes=4),
    )
    mine = share_of_one(config)
    assert mine.data.subjects_per_batch == 4
    assert (mine.trainer.devices, mine.trainer.num_nodes) == (1, 1)
    assert config.data.subjects_per_batch == 32
    # Each of 8 sends and receives 2 * 7 / 8 of half a gigabyte, at 2 GB/s.
    found = forecast(COSTS, config, PlanConfig(gigabytes_per_second=2.0))
    assert found.exchange == pytest.approx(100 * 2 * 7 / 8 * 0.5 / 2)
    assert found.epochs == pytest.approx(100 * 32 / 40)


def test_the_parts_are_measured_and_nothing_is_left(
    world: World,
    make_config: Callable[..., PretrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = make_config(steps=1000)
    # A run that is thrown away goes to no server: without a name of one this would be refused.
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config.monitor.loggers, config.monitor.online = ("mlflow",), True
    before = replace(config)
    costs = measure(*world, config, PlanConfig(steps=4))
    assert config == before
    assert not list(tmp_path.iterdir())
    assert costs.step > 0
    assert costs.measurement > 0
    assert costs.peak_mb > 50
    assert 0 < costs.weights_mb < costs.disk_mb
    assert costs.subjects == 8
    assert forecast(costs, config, PlanConfig()).seconds > 1000 * costs.step


def test_too_few_steps_are_refused(
    world: World, make_config: Callable[..., PretrainConfig]
) -> None:
    with pytest.raises(InputError, match=r"^plan\.steps: 3; accepted are 4 and more$"):
        measure(*world, make_config(), PlanConfig(steps=3))
