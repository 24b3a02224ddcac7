"""`spinmark phantom`: the plan writes nothing, the ceiling is written beside the truth."""

import json
from pathlib import Path

import pytest

from spinmark.__main__ import main

SMALL = ["--grid_shape", "[8,16,16]", "--spacing_mm", "[10,5,5]", "--coarse_grid", "--workers", "1"]


def test_a_plan_says_what_comes_next_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["phantom", "--preset", "oai", *SMALL, "--plan", "--out", str(tmp_path / "cohort")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "4,796 people" in printed
    assert "CPU hours" in printed
    assert "nothing was written" in printed
    assert "spinmark phantom --preset oai --subjects 2 --out DIR" in printed
    assert not list(tmp_path.iterdir())


def test_without_a_folder_the_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", "--preset", "smoke"]) == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--spacing_mm", "[3.6,3,3]"], "spacing_mm is 3 mm in plane, too coarse for cartilage"),
        (["--structure", "continuum", "--overlap", "0.5"], "overlap is 0.5 with structure"),
        (["--visits", "[V00,V02]"], "visits holds 'V02'"),
    ],
)
def test_impossible_parameters_are_named(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["phantom", *words, "--out", str(tmp_path / "cohort")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_ceiling_stands_with_the_truth(tmp_path: Path) -> None:
    words = ["phantom", "--subjects", "2", *SMALL, "--ceiling", "--out", str(tmp_path / "cohort")]
    assert main(words) == 0
    found = json.loads((tmp_path / "cohort" / "truth" / "ceiling.json").read_text())
    assert set(found) == {"people", "c_index", "ari", "r2"}
