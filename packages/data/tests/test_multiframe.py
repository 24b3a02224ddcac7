"""Enhanced multi-frame objects: written here, and real voxels in every transfer syntax."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from spinmark_data.ingest.dicom.multiframe import expand
from spinmark_data.ingest.dicom.series import Refused, layout, load, read_file

REAL = Path(__file__).parents[4] / "shared" / "data" / "dicom-multiframe"
real = pytest.mark.skipif(not REAL.is_dir(), reason="real series are not beside the checkout")


def item(**tags) -> Sequence:
    ds = Dataset()
    for name, value in tags.items():
        setattr(ds, name, value)
    return Sequence([ds])


def add_groups(
    ds: Dataset, places: list[float], echoes: list[float] | None = None, **frame
) -> None:
    """Give an object functional groups: frames at these places along z, in its own order of frames."""
    shared = Dataset()
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.PixelMeasuresSequence = item(PixelSpacing=[0.5, 0.7], SliceThickness=1.2)
    shared.PixelValueTransformationSequence = item(RescaleSlope=2, RescaleIntercept=-5)
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for k, place in enumerate(places):
        group = Dataset()
        group.PlanePositionSequence = item(ImagePositionPatient=[-10, -20, place])
        if echoes is not None:
            group.MREchoSequence = item(EffectiveEchoTime=echoes[k])
        for name, make in frame.items():
            setattr(group, name, make(k))
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)


def enhanced(voxels: np.ndarray, places: list[float], echoes=None, **frame) -> Dataset:
    """A made-up enhanced MR object of frames `(frame, row, column)`."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4.1", "1.2.3.4"
    ds.SeriesInstanceUID, ds.Modality = "1.2.3", "MR"
    ds.NumberOfFrames, ds.Rows, ds.Columns = voxels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = voxels.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    add_groups(ds, places, echoes, **frame)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def encode(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def voxels(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, (frames, 6, 5))


def test_frames_are_ordered_by_their_own_positions_and_keep_them() -> None:
    truth, order = voxels(5), [3, 0, 4, 1, 2]
    data = encode(enhanced(truth[order], [1.5 * k for k in order]))
    volume, headers, digest = load([data])
    assert np.array_equal(volume.voxels * volume.scale + volume.offset, truth * 2 - 5)
    # DICOM PS3.3 C.7.6.2.1.1 of the third slice, row 2, column 4.
    place = volume.affine @ [2, 2, 4, 1]
    assert np.allclose(place[:3], [-10 + 0.7 * 4, -20 + 0.5 * 2, 3.0])
    assert len(headers) == 1
    assert len(digest) == 64


def test_echoes_of_one_object_become_an_axis() -> None:
    truth = voxels(12)
    places = [2.0 * (k % 4) for k in range(12)]
    echoes = [[30.0, 10.0, 20.0][k // 4] for k in range(12)]
    volume, _, _ = load([encode(enhanced(truth, places, echoes))])
    assert volume.echo_time_ms == [10.0, 20.0, 30.0]
    by_echo = truth.reshape(3, 4, 6, 5)[[1, 2, 0]]
    assert np.array_equal(volume.voxels * 2 - 5, by_echo * 2 - 5)


def test_rescale_of_a_frame_overrides_the_shared_one() -> None:
    truth = voxels(4)
    slopes = [1, 2, 3, 4]
    own = {
        "PixelValueTransformationSequence": lambda k: item(
            RescaleSlope=slopes[k], RescaleIntercept=k
        )
    }
    volume, _, _ = load([encode(enhanced(truth, [0, 1, 2, 3], **own))])
    expected = np.array([image * slopes[k] + k for k, image in enumerate(truth)])
    assert np.array_equal(volume.voxels * volume.scale + volume.offset, expected)


def test_frames_over_time_are_refused_by_name() -> None:
    places = [0.0, 1.0, 2.0] * 2
    beat = {
        "CardiacSynchronizationSequence": lambda k: item(
            NominalCardiacTriggerDelayTime=40.0 * (k // 3)
        )
    }
    with pytest.raises(Refused, match=r"a time series: .* 2 different values of TriggerTime"):
        load([encode(enhanced(voxels(6), places, **beat))])
    phase = {
        "MRImageFrameTypeSequence": lambda k: item(FrameType=["ORIGINAL", "PRIMARY", "MP"[k // 3]])
    }
    with pytest.raises(Refused, match="such as magnitude and phase"):
        load([encode(enhanced(voxels(6), places, **phase))])


def test_groups_that_do_not_fit_the_frames_are_refused() -> None:
    ds = enhanced(voxels(4), [0, 1, 2])
    with pytest.raises(Refused, match="4 frames, but functional groups of 3"):
        load([encode(ds)])
    ds.NumberOfFrames = 10**6
    with pytest.raises(Refused, match="1000000 frames in one object; 1 to 65536 are read"):
        load([encode(ds)])
    ds = enhanced(voxels(3), [0, 1, 2])
    del ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    with pytest.raises(Refused, match="lacks PixelSpacing"):
        load([encode(ds)])
    ds = enhanced(voxels(3), [0, 1, 2])
    ds.PixelData = ds.PixelData[:-62]
    with pytest.raises(Refused, match="cut short"):
        load([encode(ds)])


def test_layout_counts_frames_from_headers_alone() -> None:
    header = read_file(encode(enhanced(voxels(4), [0, 2, 1, 3])), pixels=False)
    plan = layout([header])
    assert plan.order.tolist() == [[0, 2, 1, 3]]
    assert plan.images == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert [frame["ImagePositionPatient"][2] for frame in expand(header)] == [0, 2, 1, 3]


@real
@pytest.mark.parametrize(
    "name", ["", "_RLE", "_big_endian", "_jpeg_2k_lossless", "_jpeg_ls_lossless"]
)
def test_real_frames_are_the_same_in_every_transfer_syntax(name) -> None:
    if "jpeg" in name and importlib.util.find_spec("gdcm") is None:
        pytest.skip("decoders of JPEG are not installed")
    file = REAL / f"emri_small{name}.dcm"
    # As it came, it says nothing of where its ten frames lie.
    with pytest.raises(Refused, match="10 frames without functional groups"):
        load([file])
    ds = pydicom.dcmread(file)
    add_groups(ds, [1.2 * k for k in range(10)])
    volume, _, _ = load([encode(ds)])
    truth = pydicom.dcmread(REAL / "emri_small.dcm").pixel_array
    assert volume.voxels.dtype == np.int16
    assert np.array_equal(volume.voxels, truth)
    assert np.array_equal(pydicom.dcmread(file).pixel_array, truth)


@real
def test_a_real_object_that_was_cut_short_is_refused_for_that() -> None:
    file = REAL / "emri_small_jpeg_2k_lossless_too_short.dcm"
    with pytest.raises(Refused, match="cut short"):
        read_file(file, pixels=True)
