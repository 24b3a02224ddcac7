import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from spinmark_data.cohort.reader import Cohort
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.dicom.headers import read_header
from spinmark_data.ingest.dicom.series import Refused, load
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
    ((sequence, count),) = summary.sequences.items()
    assert count == 1
    cohort = Cohort.open(tmp_path / "c")
    images = cohort.images(sequence)
    assert images["volume"].shape == (1, 8, 24, 256, 256)
    assert np.allclose(images["echo_time_ms"][0], 6.312 * np.arange(1, 9))
    assert cohort.manifest["sequences"][sequence]["spacing_mm"] == [4.0, 0.625, 0.625]
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


@pytest.mark.parametrize("name", ["knee-mese", "lung-ct"])
def test_voxels_and_places_of_real_series_are_those_of_pydicom(name) -> None:
    files = sorted(file for file in (DATA / name).rglob("*.dcm"))
    volume, _, _ = load(files)
    flat = volume.voxels.reshape(-1, *volume.voxels.shape[-2:])
    values = flat * volume.scale + volume.offset
    # Found again by position and echo, each image of pydicom's has to stand where its header says.
    inverse = np.linalg.inv(volume.affine)
    for file in files[:: max(len(files) // 12, 1)]:
        image = pydicom.dcmread(file)
        place = inverse @ [*map(float, image.ImagePositionPatient), 1.0]
        assert np.allclose(place[1:3], 0, atol=1e-2)
        index = round(place[0])
        if volume.echo_time_ms:
            index += len(flat) // 8 * volume.echo_time_ms.index(round(float(image.EchoTime), 3))
        slope, shift = float(image.get("RescaleSlope", 1)), float(image.get("RescaleIntercept", 0))
        assert np.array_equal(values[index], image.pixel_array * slope + shift)


def test_a_real_cine_is_refused_as_a_time_series() -> None:
    with pytest.raises(Refused, match="20 different values of TriggerTime"):
        load(sorted((DATA / "cardiac-cine" / "short-axis").glob("*.dcm")))


def test_the_short_way_and_pydicom_read_the_same_of_every_real_file(monkeypatch) -> None:
    from spinmark_data.ingest.dicom import headers

    files = [
        *sorted((DATA / "knee-mese").iterdir())[::40],
        *sorted((DATA / "lung-ct").rglob("*.dcm"))[::20],
        *sorted((DATA / "cardiac-cine").rglob("*.dcm"))[::100],
        *sorted((DATA / "dicom-faulty").rglob("*.dcm")),
        *sorted((DATA / "dicom-multiframe").glob("*.dcm")),
    ]
    short = [read_header(file) for file in files]
    assert all(header.offset for header in short)
    monkeypatch.setattr(headers, "_short_way", lambda *_: None)
    for file, header in zip(files, short, strict=True):
        other = read_header(file)
        assert other.offset == 0
        assert (dict(other), other.syntax) == (dict(header), header.syntax)
