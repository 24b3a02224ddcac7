import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_training.throughput import TIMED, StepClock, peak_memory_mb


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_waiting_and_stepping_are_told_apart_and_bookkeeping_is_neither() -> None:
    hands = Hands()
    clock = StepClock(hands)
    for _ in range(3):
        hands.now += 50  # a measurement
        clock.asked()
        hands.now += 1
        clock.arrived()
        hands.now += 3
        clock.ended(8)
    figures = clock.figures()
    assert set(figures) == set(TIMED)
    assert figures["idle_fraction"] == pytest.approx(0.25)
    assert figures["step_seconds"] == pytest.approx(4)
    assert figures["samples_per_second"] == pytest.approx(2)
    # The figures are of the steps since they were last asked for.
    assert clock.figures() == {}
    clock.asked()
    hands.now += 9
    clock.arrived()
    hands.now += 1
    clock.ended(5)
    assert clock.figures()["idle_fraction"] == pytest.approx(0.9)


def test_waiting_within_a_step_is_waiting() -> None:
    hands = Hands()
    clock = StepClock(hands)
    clock.asked()
    hands.now += 1
    clock.arrived()
    hands.now += 7
    clock.ended(4, waited=3)
    figures = clock.figures()
    assert figures["idle_fraction"] == pytest.approx(0.5)
    assert figures["step_seconds"] == pytest.approx(8)
    # No more than the step took, whatever another clock says.
    clock.asked()
    clock.arrived()
    hands.now += 2
    clock.ended(4, waited=5)
    assert clock.figures()["idle_fraction"] == 1


def test_the_first_batch_may_come_unasked() -> None:
    hands = Hands()
    clock = StepClock(hands)
    clock.arrived()
    hands.now += 2
    clock.ended(4)
    figures = clock.figures()
    assert figures["idle_fraction"] == 0
    assert figures["samples_per_second"] == pytest.approx(2)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 10), st.floats(0.01, 10), st.floats(0, 10)), min_size=1, max_size=9
    )
)
def test_nothing_is_lost_or_counted_twice(laps: list[tuple[float, float, float]]) -> None:
    hands = Hands()
    clock = StepClock(hands)
    for wait, step, books in laps:
        clock.asked()
        hands.now += wait
        clock.arrived()
        hands.now += step
        clock.ended(2)
        hands.now += books
    figures = clock.figures()
    waited, stepped = sum(lap[0] for lap in laps), sum(lap[1] for lap in laps)
    assert figures["step_seconds"] * len(laps) == pytest.approx(waited + stepped, abs=1e-9)
    assert figures["idle_fraction"] * (waited + stepped) == pytest.approx(waited, abs=1e-9)
    assert 0 <= figures["idle_fraction"] <= 1


def test_memory_held_is_seen() -> None:
    before = peak_memory_mb()
    held = np.ones(int(before * 1e6) // 8 + 5_000_000)  # 40 MB more than the peak so far
    assert peak_memory_mb() > before + 20
    assert peak_memory_mb() * 1e6 >= held.nbytes
    assert peak_memory_mb() == pytest.approx(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, rel=0.01
    )
