"""`spinmark plan`: a forecast that writes nothing."""

import re
from pathlib import Path

import pytest

from spinmark.__main__ import main
from spinmark.commands.plan import duration


def test_a_forecast_is_told_and_nothing_is_written(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = ["--cohort", f"{demo}/cohort", "--split", f"{demo}/split"]
    options = ["--preset", "smoke", "--plan.steps", "4", "--optim.steps", "100"]
    assert main(["plan", *inputs, *options]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^time +\S+ \S+ for 100 steps \([0-9.]+ times every training subject\)", said)
    assert re.search(r"^memory +0\.\d+ GB in a process$|^memory +\d\.\d+ GB", said, re.M)
    assert "exchange" not in said
    assert said.splitlines()[-1].startswith("Next: spinmark pretrain --cohort")
    assert not list(tmp_path.iterdir())


def test_several_processes_are_told_as_assumed(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = ["--cohort", f"{demo}/cohort", "--split", f"{demo}/split"]
    options = ["--preset", "smoke", "--plan.steps", "4", "--trainer.num_nodes", "2"]
    assert main(["plan", *inputs, *options]) == 0
    assert "between 2 processes, assumed at 1 GB/s and not measured" in capsys.readouterr().out


def test_what_cannot_be_trained_is_not_forecast(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = ["--cohort", f"{demo}/cohort", "--split", f"{demo}/split"]
    assert main(["plan", *inputs, "--data.sequence", "NONE"]) == 1
    assert "data.sequence: 'NONE'; this cohort has" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.2, "3 s"), (89, "89 s"), (600, "10.0 minutes"), (7200, "2.0 hours")]
)
def test_a_time_is_written_as_people_say_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text
