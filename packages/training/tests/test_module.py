import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spinmark_models.config import EncoderConfig, ProjectionConfig
from spinmark_models.encoders import build_encoder
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_training.batch import Batch, Cut
from spinmark_training.config import OptimConfig, PretrainConfig, TrainerConfig
from spinmark_training.doctor import Context
from spinmark_training.doctor.negatives import check_negatives
from spinmark_training.engine import check_config
from spinmark_training.errors import InputError
from spinmark_training.module import PretrainModule
from spinmark_training.objectives.chance import contrast_figures
from spinmark_training.objectives.two_views import TwoViewContrast
from spinmark_training.sampling import Place
from spinmark_training.schedules import learning_rate_factor


def chance_level(groups: torch.Tensor, ignore: bool) -> float:
    return float(contrast_figures(groups, ignore)["chance"])


@given(st.lists(st.integers(0, 4), min_size=2, max_size=12), st.booleans())
def test_chance_is_the_mean_log_of_the_candidates_counted_one_by_one(
    groups: list[int], ignore: bool
) -> None:
    views = [(group, pair) for _ in (0, 1) for pair, group in enumerate(groups)]
    logs = []
    for i, (group, pair) in enumerate(views):
        candidates = [
            j
            for j, (other, partner) in enumerate(views)
            if j != i and (partner == pair or not ignore or other != group)
        ]
        logs.append(math.log(len(candidates)))
    expected = sum(logs) / len(logs)
    assert chance_level(torch.tensor(groups), ignore) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [2, 7, 64])
def test_chance_without_groups_has_its_closed_form(n: int) -> None:
    assert chance_level(torch.arange(n), True) == pytest.approx(math.log(2 * n - 1))
    assert chance_level(torch.zeros(n), False) == pytest.approx(math.log(2 * n - 1))


def test_chance_is_the_loss_of_an_encoder_that_says_the_same_of_all() -> None:
    groups = torch.tensor([0, 0, 1, 2, 2])
    z = torch.ones(5, 3)
    assert float(nt_xent(z, z, 0.1, groups)) == pytest.approx(chance_level(groups, True), abs=1e-5)


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    factor = learning_rate_factor(OptimConfig(steps=50, warmup=0.2))
    for step in range(10):
        assert factor(step) == pytest.approx((step + 1) / 11)
    for step in range(10, 51):
        assert factor(step) == pytest.approx(math.cos(math.pi * (step - 10) / 80) ** 2)
    assert factor(10) == 1
    assert factor(50) == pytest.approx(0)


@given(st.integers(1, 60), st.floats(0, 1), st.sampled_from(["cosine", "constant"]))
def test_the_learning_rate_is_a_share_and_never_stands_still(
    steps: int, warmup: float, schedule: str
) -> None:
    factor = learning_rate_factor(
        OptimConfig(steps=steps, warmup=warmup, schedule=schedule)  # type: ignore[arg-type]
    )
    assert all(0 < factor(step) <= 1 for step in range(steps))


def test_a_constant_rate_stays() -> None:
    factor = learning_rate_factor(OptimConfig(steps=10, warmup=0, schedule="constant"))
    assert {factor(step) for step in range(10)} == {1.0}


def module_of(optim: OptimConfig, trainer: TrainerConfig | None = None) -> PretrainModule:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(widths=(4, 8), embedding=8), (8, 16, 16))
    projection = ProjectionConfig(hidden=8, out=4)
    contrast = TwoViewContrast(encoder, projection, nt_xent, {})
    return PretrainModule(encoder, contrast, optim, trainer)


def test_the_average_forgets_its_start_in_a_short_run_and_looks_far_back_in_a_long_one() -> None:
    module = module_of(OptimConfig(steps=40, ema=0.9))
    module.recording = False
    weight = next(module.encoder.parameters())
    wanted, kept = weight.detach().double(), 1.0
    for step in range(1, 121):
        torch.nn.init.normal_(weight)
        module.follow_step(step)
        share = min(0.9, step / (step + 10))
        kept *= share
        wanted = share * wanted + (1 - share) * weight.detach().double()
    found = next(module.exported.parameters())
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)
    assert module.exported is not module.encoder
    assert kept < 1e-6


def test_weights_are_exported_themselves_without_an_average() -> None:
    module = module_of(OptimConfig())
    assert module.exported is module.encoder


@pytest.mark.parametrize(
    ("optim", "trainer", "said"),
    [
        ({}, {"accelerator": "cpu"}, r"^trainer\.precision: '16-mixed' with .* 'bf16-mixed'$"),
        ({"fused": True, "clip_norm": 1.0}, {"accelerator": "auto"}, r"^optim\.fused: true with "),
    ],
)
def test_what_sixteen_bits_cannot_do_is_refused(
    make_config: Callable[..., PretrainConfig],
    optim: dict[str, Any],
    trainer: dict[str, Any],
    said: str,
) -> None:
    config = make_config()
    config.optim = OptimConfig(**optim)
    config.trainer = TrainerConfig(precision="16-mixed", **trainer)
    with pytest.raises(InputError, match=said):
        check_config(config)


@pytest.mark.parametrize(("devices", "verdict"), [(1, "ok"), (2, "failure")])
def test_a_process_that_stayed_alone_is_found_out(devices: int, verdict: str) -> None:
    module = module_of(OptimConfig(), TrainerConfig(devices=devices))
    views, rows = torch.randn(8, 1, 8, 16, 16), torch.arange(4)

    def cut(part: int, device: torch.device) -> Cut:
        return Cut(slice(0, 4), views, None)

    # Nobody has joined this process, whatever was asked for.
    module.training_step(Batch(rows, rows, rows, Place(0, 4), cut), 0)
    row = {name: float(value) for name, value in module.figures.items()}
    found = check_negatives([row], Context(width=8))
    assert found is not None
    assert found.verdict == verdict
