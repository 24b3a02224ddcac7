"""The page on augmentation runs, and names every setting."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from spinmark_training.augment.config import AugmentConfig

PAGE = Path(__file__).parents[3] / "docs/concepts/augmentation.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the repository")


def test_the_snippets_run() -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)


def test_every_setting_is_explained() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE.read_text()))
    settings = {f.name for f in fields(AugmentConfig) if not f.name.endswith("_chance")}
    assert settings - named <= {"fast"}
