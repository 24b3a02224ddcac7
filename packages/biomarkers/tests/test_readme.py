"""The README's examples run, in order, as they stand."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def run(blocks: list[str]) -> dict[str, object]:
    names: dict[str, object] = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"README.md, example {number}", "exec"), names)
    return names


def test_the_readme_runs_up_to_the_models() -> None:
    quick = [block for block in BLOCKS if "prognose" not in block]
    assert len(quick) == len(BLOCKS) - 1
    assert run(quick)["facts"]["verdict"] == "clusters"  # type: ignore[index]


@pytest.mark.slow
def test_the_whole_readme_runs() -> None:
    """Compiling the models takes most of a minute."""
    assert "diagnostics" in vars(run(BLOCKS)["result"])
