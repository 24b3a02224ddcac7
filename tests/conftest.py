"""One small demo that the tests across packages look at."""

import fcntl
import os
from pathlib import Path

import pytest

from spinmark.__main__ import main


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Walk every stage once at the smoke presets, each a process as for a user.

    Test processes share the folder: the first makes it, another waits and finds it whole.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    out = shared / "smoke"
    with (shared / "smoke.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / "metrics.json").is_file():
            words = ["--stage_preset", "smoke", "--out", str(out), "--seed", "3"]
            assert main(["demo", *words]) == 0
    return out
