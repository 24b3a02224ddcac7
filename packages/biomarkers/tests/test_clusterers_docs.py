"""The page on clusterers runs, and tells of every method and setting."""

import re
from pathlib import Path

import pytest

from spinmark_biomarkers.phenotypes.clusterers.registry import METHODS

PAGE = Path(__file__).parents[3] / "docs/concepts/clusterers.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the repository")


def test_the_snippet_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 1
    exec(compile(blocks[0], str(PAGE), "exec"), {})


def test_every_method_has_its_paragraph():
    heads = re.findall(r"^## .*$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {name for head in heads for name in re.findall(r"`([\w-]+)`", head)} == set(METHODS)


def test_settings_that_are_named_exist():
    text = PAGE.read_text(encoding="utf-8")
    known = {name for kind in METHODS.values() for name in kind().get_params()}
    for name in ("min_cluster_size", "neighbours", "linkage", "most", "least_share", "floor"):
        assert f"`{name}`" in text
        assert name in known
