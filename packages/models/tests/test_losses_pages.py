"""The examples on the pages about losses run as they stand."""

import re
from pathlib import Path

import pytest

CONCEPTS = Path(__file__).parents[3] / "docs" / "concepts"
PAGES = sorted(p for p in CONCEPTS.glob("losses-*.md") if "```python" in p.read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_examples_of_a_page_run(page: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{page.name}, example {number}", "exec"), names)
