"""NIfTI files against nibabel, and what is no volume."""

import gzip
import json
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.ingest.dicom.series import Refused
from spinmark_data.ingest.limits import Limits
from spinmark_data.ingest.nifti import load_nifti

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def image(dtype: str = "i2", shape: tuple[int, ...] = (4, 5, 6), kind=nib.Nifti1Image):
    data = np.random.default_rng(0).integers(0, 120, shape).astype(dtype)
    return kind(
        data,
        np.array([[0.7, 0, 0, 3], [0, 0, -0.5, 4], [0, 0.6, 0, 5], [0, 0, 0, 1.0]]),
        dtype=dtype,
    )


def patched(path: Path, at: int, form: str, *values: float) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into("<" + form, data, at, *values)
    path.write_bytes(data)
    return path


def written(path: Path, made=None) -> Path:
    nib.save(image() if made is None else made, path)
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8", ">i2", ">f4"]
)
def test_voxels_and_places_are_those_of_nibabel(tmp_path, kind, suffix, dtype) -> None:
    path = written(tmp_path / f"x{suffix}", image(dtype, kind=kind))
    oracle = nib.load(path)
    volume, digest = load_nifti(path)
    values = volume.voxels * volume.scale + volume.offset
    assert np.array_equal(values.T, oracle.get_fdata())
    place = volume.affine @ [5, 4, 3, 1]  # slice, row, column
    assert np.allclose(place, FLIP @ oracle.affine @ [3, 4, 5, 1], atol=1e-6)
    assert load_nifti(path.read_bytes())[1] == digest


@settings(max_examples=60, deadline=None)
@given(
    sform=st.integers(0, 4),
    qform=st.integers(0, 4),
    slope=st.sampled_from([0.0, 1.0, 2.5, -1.0, float("nan"), float("inf")]),
    inter=st.sampled_from([0.0, 7.0, -3.5]),
)
def test_forms_and_slopes_follow_nibabel(tmp_path_factory, sform, qform, slope, inter) -> None:
    path = tmp_path_factory.mktemp("n") / "x.nii"
    made = image()
    made.set_sform(np.diag([2.0, 3, 4, 1]), sform)
    made.set_qform(np.array([[0, 0.7, 0, 1], [-0.5, 0, 0, 2], [0, 0, 0.6, 3], [0, 0, 0, 1]]), qform)
    patched(written(path, made), 112, "ff", slope, inter)
    oracle = nib.load(path)
    volume, _ = load_nifti(path)
    assert np.allclose(volume.affine[:, [2, 1, 0, 3]], FLIP @ oracle.affine, atol=1e-6)
    values = volume.voxels * volume.scale + volume.offset
    assert np.allclose(values.T, np.asarray(oracle.dataobj), atol=1e-4)


@pytest.mark.parametrize(
    ("at", "form", "values", "reason"),
    [
        (40, "h", (9,), "axes; a volume has 3"),
        (40, "h", (0,), "0 axes"),
        (40, "hh", (2, 4), "three axes of at least 3"),
        (42, "h", (-4,), "three axes of at least 3"),
        (42, "h", (2,), "three axes of at least 3"),
        (42, "hhh", (32000, 32000, 32000), "at most 1073741824 are read"),
        (40, "hhhhh", (4, 4, 5, 3, 2), "2 volumes in one file"),
        (70, "h", (128,), "colour"),
        (70, "h", (2304,), "colour"),
        (70, "h", (32,), "complex64"),
        (70, "h", (1536,), "of up to 64 bits"),
        (70, "h", (77,), "datatype 77"),
        (108, "f", (float("nan"),), "vox_offset nan"),
        (108, "f", (-1.0,), "vox_offset -1"),
        (108, "f", (1e30,), "vox_offset 1e"),
        (108, "f", (500.0,), "cut short"),
        (112, "ff", (1.0, float("inf")), "scl_slope or scl_inter"),
        (280, "ffff", (0.0, 0.0, 0.0, 0.0), "affine is singular"),
        (280, "f", (float("nan"),), "affine is not finite"),
        (280, "f", (float("inf"),), "affine is not finite"),
        (344, "4s", (b"ni1\0",), "in one piece"),
        (0, "i", (349,), "not a NIfTI"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_headers_that_make_no_sense_are_refused(tmp_path, at, form, values, reason, packed) -> None:
    path = patched(written(tmp_path / "x.nii"), at, form, *values)
    data = path.read_bytes()
    with pytest.raises(Refused, match=reason):
        load_nifti(gzip.compress(data) if packed else data)


def test_files_that_end_too_soon_or_never(tmp_path) -> None:
    whole = written(tmp_path / "x.nii").read_bytes()
    packed = gzip.compress(whole, mtime=0)
    middle = len(packed) // 2
    for data in (whole[:-1], whole[:300], whole[:3], packed[:-9], packed[:-1], packed[:middle]):
        with pytest.raises(Refused, match="cut short"):
            load_nifti(data)
    with pytest.raises(Refused, match="cut short"):
        load_nifti(packed[:middle] + bytes([packed[middle] ^ 255]) + packed[middle + 1 :])
    with pytest.raises(Refused, match="the file is empty"):
        load_nifti(b"")
    bomb = gzip.compress(whole + b"\0" * 10**7)
    assert len(bomb) < 20_000
    with pytest.raises(Refused, match="unpacks to more than the"):
        load_nifti(bomb)
    with pytest.raises(Refused, match="at most 100 are read"):
        load_nifti(whole, Limits(file_bytes=100))
    # bgzip and pigz write several members.
    members = (
        gzip.compress(whole[:200]) + gzip.compress(whole[200:500]) + gzip.compress(whole[500:])
    )
    assert np.array_equal(load_nifti(members)[0].voxels, load_nifti(whole)[0].voxels)


def test_a_fourth_axis_is_echoes_if_a_file_beside_it_says_so(tmp_path) -> None:
    made = image(shape=(4, 5, 6, 3))
    path = written(tmp_path / "x.nii.gz", made)
    with pytest.raises(Refused, match="3 volumes in one file"):
        load_nifti(path)
    for times in ([0.01, 0.02], ["a", 0, 1], [0.01, 0.01, 0.02], 0.01):
        (tmp_path / "x.json").write_text(json.dumps({"EchoTime": times}))
        with pytest.raises(Refused, match="3 volumes in one file"):
            load_nifti(path)
    (tmp_path / "x.json").write_text(json.dumps({"EchoTime": [0.01, 0.02, 0.0305]}))
    volume, _ = load_nifti(path)
    assert volume.echo_time_ms == [10.0, 20.0, 30.5]
    assert np.array_equal(volume.voxels, np.asarray(made.dataobj).T)
    single = written(tmp_path / "y.nii", image(shape=(4, 5, 6, 1)))
    assert load_nifti(single)[0].voxels.shape == (6, 5, 4)


def test_voxels_that_are_no_numbers_are_refused(tmp_path) -> None:
    made = image("f4")
    made.dataobj[1, 2, 3] = np.nan
    with pytest.raises(Refused, match="voxels are not finite"):
        load_nifti(written(tmp_path / "x.nii", made))
    made.dataobj[1, 2, 3] = 0.25
    volume, _ = load_nifti(written(tmp_path / "x.nii", made))
    values = volume.voxels * volume.scale + volume.offset
    assert np.abs(values.T - made.get_fdata()).max() <= volume.scale / 2
    assert volume.repairs == ["floating-point voxels were rounded to 16 bits"]
