import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spinmark_models.losses.nt_xent import nt_xent
from spinmark_training.config import OptimConfig
from spinmark_training.objectives.chance import chance_level
from spinmark_training.schedules import learning_rate_factor


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
