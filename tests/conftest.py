"""One small demo that the tests across packages look at."""

from pathlib import Path

import pytest

from spinmark.__main__ import main


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Walk every stage once at the smoke presets, each a process as for a user."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    assert main(["demo", "--stage_preset", "smoke", "--out", str(out), "--seed", "3"]) == 0
    return out
