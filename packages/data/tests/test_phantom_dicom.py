from pathlib import Path

import numpy as np
import pydicom
import pytest

from spinmark_data.phantom.dicom import SeriesIdentity, write_series

AFFINE = np.array([[3.6, 0, 0, -131.4], [0, 0, 1.125, -39.9], [0, -1.125, 0, 35.4], [0, 0, 0, 1]])


def identity(side: str = "R", barcode: str = "016610000000") -> SeriesIdentity:
    return SeriesIdentity(
        patient_id="1000001",
        patient_name="Phantom^Person",
        sex=2,
        study_date="20050102",
        barcode=barcode,
        laterality=side,
        timepoint="ENROLLMENT",
        series_number=4,
        manufacturer="SIEMENS",
        model="Trio",
        device_serial="41000",
    )


def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4096, (5, 6, 8)).astype(np.uint16)


@pytest.mark.parametrize("side", ["R", "L"])
def test_plain_pydicom_reads_back_what_was_written(tmp_path: Path, side: str) -> None:
    write_series(tmp_path, volume(), AFFINE, identity=identity(side))
    slices = [pydicom.dcmread(path) for path in tmp_path.iterdir()]
    slices.sort(key=lambda ds: ds.ImagePositionPatient[0])
    np.testing.assert_array_equal(np.stack([ds.pixel_array for ds in slices]), volume())
    for z, ds in enumerate(slices):
        np.testing.assert_allclose(ds.ImagePositionPatient, (AFFINE @ [z, 0, 0, 1])[:3], atol=1e-5)
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        assert ds.SOPInstanceUID.is_valid
        assert "Laterality" not in ds
    assert slices[0].SeriesDescription == {"R": "SAG_3D_DESS_RIGHT", "L": "SAG_3D_DESS_LEFT"}[side]
    assert list(slices[0].ImageOrientationPatient) == [0, 1, 0, 0, 0, -1]
    assert len({ds.SOPInstanceUID for ds in slices}) == 5


def test_description_of_a_right_knee_ends_in_a_space(tmp_path: Path) -> None:
    write_series(tmp_path, volume(), AFFINE, identity=identity())
    assert b"OAI^MR^ENROLLMENT^RIGHT " in (tmp_path / "001").read_bytes()


def test_same_input_same_bytes_and_not_always_in_order(tmp_path: Path) -> None:
    ordered = set()
    for i in range(12):
        folders = [tmp_path / f"{i}{k}" for k in "ab"]
        for folder in folders:
            folder.mkdir()
            write_series(folder, volume(), AFFINE, identity=identity(barcode=f"0166{i:08d}"))
        files = [[path.read_bytes() for path in sorted(f.iterdir())] for f in folders]
        assert files[0] == files[1]
        ordered.add(pydicom.dcmread(folders[0] / "001").ImagePositionPatient[0] < -130)
    assert ordered == {True, False}
