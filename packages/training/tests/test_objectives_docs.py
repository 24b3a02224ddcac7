"""The page on objectives names every one of them, and what it shows runs."""

import re
from pathlib import Path

from spinmark_training.objectives import OBJECTIVES
from spinmark_training.objectives.terms import TERMS

PAGE = Path(__file__).parents[3] / "docs" / "concepts" / "objectives.md"


def test_the_page_names_every_objective_and_term() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert OBJECTIVES.keys() | TERMS.keys() <= named


def test_what_the_page_shows_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), {})
