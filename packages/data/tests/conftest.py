"""Small releases of NIfTI files that ingest in a moment."""

from collections.abc import Callable, Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def write_release() -> Write:
    """A function that writes (or adds to) a plain release: `(folder, subjects, visits, shape)`."""

    def write(
        folder: Path,
        subjects: Iterable[str],
        visits: Iterable[str] = ("V00",),
        shape: tuple[int, int, int] = (6, 9, 8),
    ) -> Path:
        release, table = folder / "release", folder / "map.csv"
        release.mkdir(parents=True, exist_ok=True)
        lines = table.read_text().splitlines() if table.exists() else []
        lines = lines or ["path,subject_id,laterality,visit,days,sequence"]
        for subject in subjects:
            for visit in visits:
                for side in ("R", "L"):
                    name = f"{subject}_{visit}_{side}.nii"
                    seed = [*name.encode()]
                    voxels = np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)
                    nib.Nifti1Image(voxels, np.diag([0.5, 0.7, 1.5, 1])).to_filename(release / name)
                    day = 365 * int(visit[1:])
                    lines.append(f"{name},{subject},{side},{visit},{day},DESS")
        table.write_text("\n".join(lines) + "\n")
        return release

    return write
