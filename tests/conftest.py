"""One small demo that the tests across packages look at."""

import fcntl
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import nibabel
import numpy as np
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


@pytest.fixture(scope="session")
def add_series() -> Callable[..., list[str]]:
    """A function that adds NIfTI files to a plain release and its table of whose they are.

    It takes the folder, `(file, subject, side, visit)` a series and a shape, and returns the options
    that ingest what is there.
    """

    def add(
        folder: Path, rows: Iterable[tuple[str, str, str, str]], shape: tuple[int, ...]
    ) -> list[str]:
        release, table = folder / "release", folder / "map.csv"
        release.mkdir(exist_ok=True)
        lines = table.read_text().splitlines() if table.exists() else []
        lines = lines or ["path,subject_id,laterality,visit,days,sequence"]
        for name, *whose in rows:
            voxels = np.random.default_rng([*name.encode()]).integers(0, 900, shape)
            image = nibabel.Nifti1Image(voxels.astype(np.int16), np.diag([0.5, 0.5, 1.5, 1]))
            image.to_filename(release / name)
            lines.append(",".join([name, *whose, "0", "DESS"]))
        table.write_text("\n".join(lines) + "\n")
        return ["--release", str(release), "--table_map", str(table)]

    return add
