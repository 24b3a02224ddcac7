import io
import re
import sys
import time

import pytest

from spinmark import progress as module
from spinmark.progress import progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    clock = Hands()
    monkeypatch.setattr(module.time, "monotonic", clock)
    return clock


def test_lines_tell_speed_rest_and_text(capsys: pytest.CaptureFixture[str], hands: Hands) -> None:
    with progress("pretrain: steps") as bar:
        for step in range(1, 11):
            hands.now += 2
            bar(step, 10, f"loss {5 - step / 10:.2f}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "pretrain: steps: 1 of 10 (2 s); loss 4.90"
    assert lines[4] == "pretrain: steps: 5 of 10 (10 s, 2 s each, 10 s to go); loss 4.50"
    assert lines[-1] == "pretrain: steps: 10 of 10 (20 s); loss 4.00"


def test_a_resumed_run_is_not_taken_for_a_fast_one(
    capsys: pytest.CaptureFixture[str], hands: Hands
) -> None:
    with progress("pretrain: steps") as bar:
        for step in range(901, 1001):
            hands.now += 1
            bar(step, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith("pretrain: steps: 921 of 1000 (21 s, 1 a second, 79 s to go)")


def test_two_numbers_are_enough(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("verify: volumes") as bar:
        for done in range(1, 4):
            bar(done, 3)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"verify: volumes: {done} of 3 (0 s)" for done in (1, 2, 3)]


def test_a_terminal_gets_a_bar_with_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("pretrain: steps") as bar:
        bar(1, 4)
        time.sleep(0.2)
        bar(4, 4, "loss 1.25")
    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "pretrain: steps" in seen
    assert "4/4" in seen
    assert "loss 1.25" in seen
