import shutil
from pathlib import Path

import numpy as np
import pytest

from spinmark_data.cohort.reader import Cohort
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.run import ingest

DATA = Path(__file__).parents[4] / "shared" / "data"
pytestmark = pytest.mark.skipif(
    not (DATA / "knee-mese").is_dir(), reason="real series are not beside the checkout"
)


def test_a_real_multi_echo_knee_goes_in_and_faulty_series_do_not(tmp_path: Path) -> None:
    for name in ("knee-mese", "dicom-faulty"):
        shutil.copytree(DATA / name, tmp_path / "r" / name)
    for file in (tmp_path / "r").rglob("*.nii.gz"):
        file.unlink()
    summary = ingest(tmp_path / "r", tmp_path / "c", IngestConfig(workers=1))
    assert summary.sequences == {"MR": 1}
    cohort = Cohort.open(tmp_path / "c")
    images = cohort.images("MR")
    assert images["volume"].shape == (1, 8, 24, 256, 256)
    assert np.allclose(images["echo_time_ms"][0], 6.312 * np.arange(1, 9))
    assert cohort.manifest["sequences"]["MR"]["spacing_mm"] == [4.0, 0.625, 0.625]
    issues = cohort.table("issues").set_index("source")["reason"]
    for folder, reason in {
        "gantrytilting/001": "gantry tilt",
        "notavolume/001": "not a volume",
        "slicecount/001": "missing slices",
        "sliceincrement/001": "uneven slice increment",
        "sliceincrement/002": "uneven slice increment",
        "sliceorientation/001": "inconsistent orientation",
    }.items():
        assert reason in issues[f"dicom-faulty/{folder}"]
