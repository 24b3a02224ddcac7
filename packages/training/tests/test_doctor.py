import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.splits import Split
from spinmark_models.config import IntensityRule
from spinmark_models.encoders import build_encoder
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.config import MonitorConfig, PretrainConfig
from spinmark_training.doctor import CHECKS, Context, Watcher, diagnose, examine
from spinmark_training.doctor.learning_rate import _exploded
from spinmark_training.monitor import Monitor
from spinmark_training.pretrain import pretrain

World = tuple[Cohort, Split]
Make = Callable[..., PretrainConfig]

HEALTHY = {
    "step": 10.0,
    "loss_ssl": 2.0,
    "chance": 4.84,
    "loss": 2.0,
    "alignment": 0.8,
    "rankme": 40.0,
    "embedding_sd": 0.9,
    "view_difference": 0.6,
    "negatives": 60.0,
    "negatives_expected": 60.0,
    "teacher_moved": 0.004,
    "teacher_distance": 0.03,
    "update_ratio": 0.005,
    "grad_norm": 3.0,
    "idle_fraction": 0.01,
    "r2_XRKL": 0.3,
    "knn_SITE": 0.3,
    "knn_SITE_chance": 0.28,
}


def judge(rows: Sequence[dict[str, float]], **more: Any) -> dict[str, Any]:
    report = examine(rows, **({"width": 128, "leakage": "SITE"} | more))
    found = {f["check"]: f["verdict"] for f in report["findings"]}
    return found | {"healthy": report["healthy"]}


def verdicts(**changes: float) -> dict[str, Any]:
    return judge([HEALTHY, HEALTHY | changes, HEALTHY | changes])


def said(rows: Sequence[dict[str, float]], check: str, **more: Any) -> str:
    report = examine(rows, **({"width": 128, "leakage": "SITE"} | more))
    return next(f["text"] for f in report["findings"] if f["check"] == check)


def run(world: World, config: PretrainConfig, out: Path) -> list[dict[str, float]]:
    config.monitor.lidar_scans = 0
    return pretrain(*world, config, out).rows


def examined(rows: list[dict[str, float]], config: PretrainConfig) -> dict[str, Any]:
    return judge(rows, width=8, steps=config.optim.steps, warmup=config.optim.warmup)


def test_a_healthy_run_is_called_so() -> None:
    found = verdicts()
    assert set(found.values()) == {"ok", True}
    assert len(found) == len(CHECKS) + 1


@pytest.mark.parametrize(
    ("changes", "check", "verdict"),
    [
        ({"loss_ssl": 4.8}, "loss", "failure"),
        ({"rankme": 1.5}, "rank", "failure"),
        ({"rankme": 5.0}, "rank", "warning"),
        ({"loss": math.nan}, "finite", "failure"),
        ({"embedding_sd": 0.005}, "spread", "failure"),
        ({"embedding_sd": 0.15}, "spread", "warning"),
        ({"negatives": 30.0}, "negatives", "failure"),
        ({"grad_norm": math.inf}, "finite", "ok"),
        ({"update_ratio": 0.3}, "learning rate", "warning"),
        ({"idle_fraction": 0.1}, "feed", "note"),
        ({"idle_fraction": 0.4}, "feed", "warning"),
        ({"knn_SITE": 0.95}, "leakage", "note"),
        ({"knn_SITE": 0.95, "r2_XRKL": 0.01}, "leakage", "warning"),
    ],
)
def test_each_ailment_is_named(changes: dict[str, float], check: str, verdict: str) -> None:
    found = verdicts(**changes)
    assert found[check] == verdict
    assert found["healthy"] == (verdict != "failure")


@pytest.mark.parametrize(
    ("changes", "check", "verdict"),
    [
        ({"view_difference": 1e-6}, "views", "failure"),
        ({"alignment": 0.03}, "views", "warning"),
        ({"teacher_moved": 0.0}, "teacher", "failure"),
        ({"teacher_moved": 0.0, "teacher_distance": 0.0}, "teacher", "failure"),
        (
            {"teacher_moved": 0.0, "teacher_distance": 0.0, "update_ratio": 0.0},
            "teacher",
            "warning",
        ),
        ({"teacher_distance": 0.0}, "teacher", "warning"),
    ],
)
def test_what_holds_from_the_start_is_named(
    changes: dict[str, float], check: str, verdict: str
) -> None:
    assert judge([HEALTHY | changes] * 3)[check] == verdict


def test_the_same_views_are_named_from_the_embedding_alone() -> None:
    row = {k: v for k, v in HEALTHY.items() if k != "view_difference"}
    assert judge([row | {"alignment": 1e-6}])["views"] == "failure"


@given(st.lists(st.floats(1e-3, 1e3), min_size=6, max_size=60))
def test_a_gradient_is_compared_with_the_median_before_it(norms: list[float]) -> None:
    rows = [{"step": float(i), "grad_norm": norm} for i, norm in enumerate(norms)]
    most = max(norms[i] / statistics.median(norms[:i]) for i in range(5, len(norms)))
    assert _exploded(rows) == pytest.approx(most, rel=1e-12)


def test_a_long_run_is_looked_at_now_and_then() -> None:
    looked = set()

    class Rows(list[dict[str, float]]):
        def __iter__(self) -> Iterator[dict[str, float]]:
            looked.add(len(self))
            return super().__iter__()

    watcher = Watcher(Context(width=128))
    for count in range(1, 801):
        watcher.watch(Rows([HEALTHY] * count))
    assert set(range(1, 51)) <= looked
    assert max(b - a for a, b in itertools.pairwise(sorted(looked))) <= 800 // 50
    assert len(looked) < 250


def test_an_untrained_encoder_is_no_failure() -> None:
    report = examine([{"step": 0, "rankme": 30.0}], width=128, leakage=None)
    assert report["healthy"]
    assert "untrained" in said([{"step": 0, "rankme": 30.0}], "loss")


def test_an_objective_without_a_chance_level_is_not_called_untrained() -> None:
    row = {"step": 1.0, "loss": 3.0, "loss_ssl": 3.0}
    assert "no chance level" in said([row], "loss")


def test_the_chance_level_is_explained_by_the_candidates_that_were_counted() -> None:
    row = HEALTHY | {"loss_ssl": 4.2, "chance": math.log(63), "negatives": 62.0}
    assert "4.14, the logarithm of 63 candidates" in said([row], "loss")
    assert "candidates" not in said([row | {"chance": 3.0, "loss_ssl": 3.0}], "loss")


def test_a_loss_is_judged_between_its_floor_and_chance() -> None:
    row = HEALTHY | {"loss_ssl": 4.5, "chance": 4.84}
    assert judge([row] * 3)["loss"] == "ok"  # 4.5 is 7 % below chance
    assert judge([row | {"loss_ssl": 4.7}] * 3)["loss"] == "failure"
    assert judge([row | {"loss_ssl": 4.7, "floor": 4.4}] * 3)["loss"] == "ok"
    assert judge([row | {"loss_ssl": 4.83, "floor": 4.4}] * 3)["loss"] == "failure"


def test_a_starved_run_is_told_from_rows_that_are_kept_apart() -> None:
    timed = [{"step": 5.0 * i, "idle_fraction": 0.9 if i == 0 else 0.3} for i in range(4)]
    assert judge([HEALTHY | {"idle_fraction": 0.0}] * 2)["feed"] == "ok"
    rows = [{k: v for k, v in HEALTHY.items() if k != "idle_fraction"}] * 4
    assert "feed" not in judge(rows)
    assert judge([*rows, *timed])["feed"] == "warning"
    # The first row is the start, and one slow row is none.
    assert judge([*rows, *timed[:1], *[{"step": 5.0, "idle_fraction": 0.01}] * 3])["feed"] == "ok"
    watcher = Watcher(Context(width=128))
    assert [f.check for f in watcher.watch([*rows, *timed])] == ["feed"]


def test_a_value_that_is_not_finite_is_laid_to_its_source() -> None:
    rows = [HEALTHY, HEALTHY | {"step": 15.0, "loss_ssl": math.inf}]
    assert "at step 15; lower optim.lr" in said(rows, "finite")
    assert said(rows, "finite", source="layer stem overflows").endswith("15; layer stem overflows")


def losses(values: Sequence[float]) -> list[dict[str, float]]:
    return [
        {"step": 5.0 * i, "loss": v, "loss_ssl": v, "chance": 4.0} for i, v in enumerate(values)
    ]


def test_a_loss_that_rises_again_is_told_from_scatter() -> None:
    noise = 0.3 * np.random.default_rng(0).normal(size=40)
    fall = 1 + 3 * np.exp(-np.arange(40) / 8)
    rise = np.concatenate([fall[:20], np.linspace(fall[20], 3, 20)])
    assert judge(losses(fall + noise))["learning rate"] == "ok"
    assert judge(losses(rise + noise))["learning rate"] == "warning"
    assert "rose again" in said(losses(rise + noise), "learning rate")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.02, 0.5), st.integers(12, 200), st.floats(0.5, 6))
def test_a_falling_loss_with_scatter_raises_nothing(
    seed: int, scatter: float, count: int, height: float
) -> None:
    noise = np.random.default_rng(seed).uniform(-scatter, scatter, count)
    fall = 1 + height * np.exp(-4 * np.arange(count) / count)
    # The scatter must leave the fall to be seen: below that every curve is flat.
    if scatter * 2 < height:
        assert judge(losses(fall + noise))["learning rate"] == "ok"


def test_a_loss_follows_its_chance_level_without_alarm() -> None:
    # A queue that fills: the level of guessing rises, and the loss with it.
    rows = [
        {"step": float(i), "loss": 0.6 * c, "loss_ssl": 0.6 * c, "chance": c}
        for i, c in enumerate(np.log(np.linspace(20, 4000, 30)))
    ]
    assert judge(rows)["learning rate"] == "ok"


def test_a_gradient_that_explodes_is_named() -> None:
    calm = [HEALTHY | {"step": float(i), "grad_norm": 2.0 + i % 5} for i in range(20)]
    assert judge(calm)["learning rate"] == "ok"
    rows = [*calm, HEALTHY | {"step": 20.0, "grad_norm": 900.0}]
    assert judge(rows)["learning rate"] == "warning"
    assert "gradient grew to" in said(rows, "learning rate")


def test_a_healthy_run_raises_nothing(world: World, make_config: Make, tmp_path: Path) -> None:
    config = make_config(steps=32)
    config.data.subjects_per_batch = 8
    rows = run(world, config, tmp_path)
    found = examined(rows, config)
    # The feed is judged on a quiet machine, by the benchmark.
    found.pop("feed", None)
    assert set(found.values()) <= {"ok", "note", True}
    watcher = Watcher(Context(width=8, leakage="SITE", steps=32))
    for count in range(1, len(rows) + 1):
        new = [f for f in watcher.watch(rows[:count]) if f.check != "feed"]
        assert new == []


def test_a_rate_that_is_far_too_low_leaves_the_loss_at_chance(
    world: World, make_config: Make, tmp_path: Path
) -> None:
    config = make_config(steps=20, lr=1e-7)
    found = examined(run(world, config, tmp_path), config)
    assert found["loss"] == "failure"
    assert not found["healthy"]


def test_dead_augmentation_is_named(world: World, make_config: Make, tmp_path: Path) -> None:
    config = make_config(steps=4)
    config.data.cross_visit = 0.0
    config.augment = AugmentConfig(
        rotation_deg=0,
        translation_mm=0,
        scale=0,
        log_gamma=0,
        contrast=0,
        brightness=0,
        noise_sd=0,
        bias=0,
    )
    found = examined(run(world, config, tmp_path), config)
    assert found["views"] == "failure"
    # Another visit is another picture, even unaugmented.
    config.data.cross_visit = 1.0
    assert examined(run(world, config, tmp_path / "visits"), config)["views"] == "ok"


@pytest.mark.parametrize(
    ("momentum", "verdict"), [(None, "ok"), (1.0, "failure"), (0.0, "warning")]
)
def test_a_teacher_that_stands_still_or_follows_at_once_is_named(
    world: World, make_config: Make, tmp_path: Path, momentum: float | None, verdict: str
) -> None:
    config = make_config(steps=24)
    config.objective.name = "byol"
    config.objective.momentum = momentum
    rows = run(world, config, tmp_path)
    assert examined(rows, config)["teacher"] == verdict


class SlowDisk:
    """A cohort whose voxels take their time."""

    def __init__(self, cohort: Cohort) -> None:
        self._cohort = cohort

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cohort, name)

    def read(self, *args: Any, **more: Any) -> Any:
        time.sleep(0.05)
        return self._cohort.read(*args, **more)

    def crop(self, *args: Any, **more: Any) -> Any:
        time.sleep(0.05)
        return self._cohort.crop(*args, **more)


def test_a_run_that_waits_for_its_disk_is_named(
    world: World, make_config: Make, tmp_path: Path
) -> None:
    config = make_config(steps=5)
    config.trainer.log_every = 1
    config.data.cache_gb = 0.0
    config.monitor.lidar_scans = 0
    doctor = pretrain(SlowDisk(world[0]), world[1], config, tmp_path).doctor
    (feed,) = [f for f in doctor["findings"] if f["check"] == "feed"]
    assert feed["verdict"] == "warning"
    assert "starved" in feed["text"]


def test_a_rate_that_is_far_too_high_is_named(
    world: World, make_config: Make, tmp_path: Path
) -> None:
    config = make_config(steps=12, lr=100.0)
    rows = run(world, config, tmp_path)
    assert examined(rows, config)["learning rate"] == "warning"


def test_a_collapsed_encoder_is_named(world: World, make_config: Make) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(make_config().encoder, (8, 16, 16))
    monitor = Monitor(*world, "TINY", IntensityRule(), MonitorConfig(lidar_scans=0))
    row = dict(monitor.measure(encoder))
    found = judge([row], width=8)
    assert (found["rank"], found["spread"]) == ("ok", "ok")
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.fill_(0.5)
    row = dict(monitor.measure(encoder))
    found = judge([row], width=8)
    assert (found["rank"], found["spread"]) == ("failure", "failure")


def test_a_site_that_drowns_the_disease_is_named(make_config: Make, tmp_path: Path) -> None:
    """Volumes that hold the scanner's pattern and nothing of the grades."""
    rng = np.random.default_rng(0)
    people = 60
    scans = pd.DataFrame(
        {
            "subject_id": [f"s{i:02d}" for i in range(people)],
            "laterality": "R",
            "visit": "V00",
            "days": 0.0,
            "site": ["AB"[i % 2] for i in range(people)],
        }
    )
    patterns = rng.uniform(200, 900, (2, 8, 16, 16))
    volumes = np.stack([patterns[i % 2] + rng.uniform(0, 60, (8, 16, 16)) for i in range(people)])
    joints = scans[["subject_id", "laterality", "visit", "days"]].assign(
        XRKL=rng.integers(0, 5, people).astype(float)
    )
    subjects = scans[["subject_id"]].assign(SITE=scans["site"])
    write_cohort(
        tmp_path / "cohort",
        volumes={
            "TINY": SequenceVolumes(
                volume=volumes.astype(np.uint16), scans=scans, spacing_mm=(3.0, 1.5, 1.5)
            )
        },
        tables={"subjects": subjects, "joints": joints},
        provenance={},
    )
    frame = pd.DataFrame(
        {
            "subject_id": scans["subject_id"],
            "set": ["train" if i < 36 else "val" for i in range(people)],
            "fold": 0,
        }
    )
    torch.manual_seed(0)
    encoder = build_encoder(make_config().encoder, (8, 16, 16))
    monitor = Monitor(
        Cohort.open(tmp_path / "cohort"),
        Split(frame=frame, hash=""),
        "TINY",
        IntensityRule(),
        MonitorConfig(lidar_scans=0),
    )
    row = dict(monitor.measure(encoder))
    assert row["knn_SITE"] > 0.9
    assert row["linear_SITE"] > 0.9
    text = said([row], "leakage", width=8)
    assert judge([row], width=8)["leakage"] == "warning"
    assert "instead of the disease" in text


def test_a_running_run_is_not_judged_on_its_first_steps() -> None:
    rows = [
        {"step": float(s), "loss": 4.9, "loss_ssl": 4.9, "chance": 4.84} for s in range(5, 101, 5)
    ]
    watcher = Watcher(Context(width=128, steps=100))
    first = [count for count in range(1, 21) if watcher.watch(rows[:count])]
    # At a third of the steps, once.
    assert first == [7]


def test_a_running_run_that_still_comes_down_to_its_chance_level_is_left_alone() -> None:
    rows = [
        {"step": float(s), "loss": 9 - s / 25, "loss_ssl": 9 - s / 25, "chance": 4.84}
        for s in range(5, 101, 5)
    ]
    watcher = Watcher(Context(width=128, steps=100))
    assert [f for count in range(1, 21) for f in watcher.watch(rows[:count])] == []
    assert judge(rows)["loss"] == "failure"


def test_what_was_said_is_not_said_again_until_it_worsens_or_returns() -> None:
    watcher = Watcher(Context(width=128, leakage="SITE"))
    low, gone = HEALTHY | {"rankme": 5.0}, HEALTHY | {"rankme": 1.2}
    assert watcher.watch([HEALTHY]) == []
    assert [f.verdict for f in watcher.watch([HEALTHY, low])] == ["warning"]
    assert watcher.watch([HEALTHY, low, low]) == []
    assert [f.verdict for f in watcher.watch([HEALTHY, low, gone])] == ["failure"]
    assert watcher.watch([HEALTHY, low, gone, HEALTHY]) == []
    assert [f.check for f in watcher.watch([HEALTHY, low, gone, HEALTHY, low])] == ["rank"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(sorted(HEALTHY)),
            st.floats(allow_nan=True, allow_infinity=True),
        ),
        max_size=12,
    )
)
def test_any_rows_are_judged_without_an_error(rows: list[dict[str, float]]) -> None:
    numbered = [row | {"step": float(i)} for i, row in enumerate(rows)]
    for final in (True, False):
        context = Context(width=8, leakage="SITE", steps=10, final=final)
        for finding in diagnose(numbered, context):
            assert finding.text
            assert dataclasses.asdict(finding)["verdict"] in ("ok", "note", "warning", "failure")
