"""DICOM-SEG: files by hand after PS3.3, and files by highdicom, an independent writer."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from spinmark_data.ingest.limits import Refused
from spinmark_data.labels.names import KNEE, harmonise
from spinmark_data.labels.read import read_label_map

SHAPE = (7, 12, 10)
STEP = (1.5, 0.6, 0.5)
Frame = tuple[int, int, NDArray[Any]]


def grid() -> NDArray[np.float64]:
    """Oblique sagittal planes: right to left, superior to inferior, anterior to posterior."""
    turn = np.deg2rad(12)
    row = np.array([np.sin(turn), np.cos(turn), 0.0])
    column = np.array([0.0, 0.0, -1.0])
    affine = np.eye(4)
    # The normal of a plane is row x column.
    affine[:3, :3] = np.stack([np.cross(row, column), column, row], axis=1) * np.array(STEP)
    affine[:3, 3] = [-30.0, -40.0, 22.0]
    return affine


def labels() -> NDArray[np.uint8]:
    found = np.zeros(SHAPE, np.uint8)
    found[2, 3:6, 2:8] = 1
    found[4:6, 3:6, 2:8] = 1
    found[4:6, 6:9, 4:9] = 2
    return found


def frames(found: NDArray[Any]) -> list[Frame]:
    return [
        (int(code), plane, found[plane] == code)
        for code in np.unique(found[found > 0])
        for plane in range(len(found))
        if (found[plane] == code).any()
    ]


def write_seg(
    path: Path,
    given: list[Frame],
    *,
    kind: str = "BINARY",
    names: tuple[str, ...] = ("Femoral cartilage", "Cartilage, medial tibial"),
    gap: float | None = STEP[0],
    **changed: Any,
) -> None:
    affine, data = grid(), Dataset()
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    data.SOPInstanceUID = generate_uid()
    data.PatientName = "Planted^Name"
    data.Modality, data.SegmentationType = "SEG", kind
    data.Rows, data.Columns, data.NumberOfFrames = SHAPE[1], SHAPE[2], len(given)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 1 if kind == "BINARY" else 8
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = 0
    if kind == "FRACTIONAL":
        data.MaximumFractionalValue = 200
    series = Dataset()
    series.SeriesInstanceUID = "1.2.3.4"
    data.ReferencedSeriesSequence = [series]
    data.SegmentSequence = []
    for number, name in enumerate(names, 1):
        item = Dataset()
        item.SegmentNumber, item.SegmentLabel = number, name
        data.SegmentSequence.append(item)
    measures, axes, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [STEP[1], STEP[2]], 9.0
    if gap is not None:
        measures.SpacingBetweenSlices = gap
    steps = affine[:3, :3] / np.array(STEP)
    axes.ImageOrientationPatient = [*steps[:, 2].round(12), *steps[:, 1].round(12)]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [axes]
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = []
    for code, plane, _ in given:
        group, place, segment = Dataset(), Dataset(), Dataset()
        position = affine[:3, 3] + plane * affine[:3, 0]
        place.ImagePositionPatient = [float(v) for v in position.round(9)]
        segment.ReferencedSegmentNumber = code
        group.PlanePositionSequence = [place]
        group.SegmentIdentificationSequence = [segment]
        data.PerFrameFunctionalGroupsSequence.append(group)
    stack = np.stack([frame for _, _, frame in given])
    if kind == "BINARY":
        content = np.packbits(stack.ravel().astype(bool), bitorder="little").tobytes()
    else:
        content = stack.astype(np.uint8).tobytes()
    data.PixelData = content + b"\0" * (len(content) % 2)
    for key, value in changed.items():
        setattr(data, key, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("order", [1, -1])
def test_sparse_planes_come_back_in_their_places(tmp_path: Path, order: int) -> None:
    write_seg(tmp_path / "a.dcm", frames(labels())[::order])
    found = read_label_map(tmp_path / "a.dcm")
    assert np.array_equal(found.labels, labels()[2:6])
    first = grid()
    first[:3, 3] += 2 * first[:3, 0]
    assert np.allclose(found.affine, first, atol=1e-6)
    assert found.series_uid == "1.2.3.4"
    assert found.names[2] == "Cartilage, medial tibial"


def test_a_wrong_spacing_between_slices_gives_way_to_the_positions(tmp_path: Path) -> None:
    for gap in (None, 4.0):
        write_seg(tmp_path / "a.dcm", frames(labels()), gap=gap)
        assert np.array_equal(read_label_map(tmp_path / "a.dcm").labels, labels()[2:6])


def test_fractions_go_to_the_largest_share_of_at_least_half(tmp_path: Path) -> None:
    one, two = np.full(SHAPE[1:], 120), np.full(SHAPE[1:], 60)
    two[3:] = 140
    one[6:], two[6:] = 99, 99
    write_seg(tmp_path / "a.dcm", [(1, 0, one), (2, 0, two)], kind="FRACTIONAL")
    found = read_label_map(tmp_path / "a.dcm").labels[0]
    assert (found[:3] == 1).all()
    assert (found[3:6] == 2).all()
    assert (found[6:] == 0).all()


def test_names_decide_codes_and_free_text_is_never_repeated(tmp_path: Path) -> None:
    names = ("Medial Tibial Cartilage", "femoral cartilage")
    write_seg(tmp_path / "a.dcm", frames(labels()), names=names)
    found, told = harmonise(read_label_map(tmp_path / "a.dcm"), KNEE)
    assert np.array_equal(found.labels, np.array([0, 2, 1], np.uint8)[labels()[2:6]])
    assert found.names == {1: "femoral_cartilage", 2: "medial_tibial_cartilage"}
    assert len(told) == 1
    write_seg(tmp_path / "a.dcm", frames(labels()), names=("Smith^Jane", "femoral cartilage"))
    with pytest.raises(Refused, match="code 1") as caught:
        harmonise(read_label_map(tmp_path / "a.dcm"), KNEE)
    assert "Smith" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "no segmentation"),
        ({"SegmentationType": "LABELMAP"}, "neither BINARY"),
        ({"Rows": 60000, "Columns": 60000}, "frames of 60000"),
        ({"NumberOfFrames": 2_000_000_000}, "frames of"),
        ({"Rows": 40}, "cut short"),
        ({"PixelData": b"\0\0"}, "cut short"),
        ({"SegmentSequence": []}, "not described"),
        ({"SharedFunctionalGroupsSequence": []}, "lacks Plane"),
        ({"PerFrameFunctionalGroupsSequence": []}, "described by 0"),
        ({"BitsAllocated": 16}, "16 bits"),
    ],
)
def test_a_damaged_segmentation_is_refused(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    write_seg(tmp_path / "a.dcm", frames(labels()), **changed)
    with pytest.raises(Refused, match=reason):
        read_label_map(tmp_path / "a.dcm")


def test_overlap_is_refused_with_its_size(tmp_path: Path) -> None:
    both = np.zeros(SHAPE[1:], bool)
    both[2:4, 2:5] = True
    write_seg(tmp_path / "a.dcm", [(1, 0, both), (2, 0, both)])
    with pytest.raises(Refused, match="overlap in 6 voxels"):
        read_label_map(tmp_path / "a.dcm")


def test_planes_off_the_grid_are_refused(tmp_path: Path) -> None:
    write_seg(tmp_path / "a.dcm", frames(labels()))
    data = pydicom.dcmread(tmp_path / "a.dcm")
    place = data.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    place.ImagePositionPatient = [v + 0.4 for v in place.ImagePositionPatient]
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(Refused, match="one grid"):
        read_label_map(tmp_path / "a.dcm")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.999])
def test_a_segmentation_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    write_seg(tmp_path / "a.dcm", frames(labels()))
    content = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(content[: int(share * len(content))])
    with pytest.raises(Refused):
        read_label_map(tmp_path / "a.dcm")


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_highdicom_writes_is_read(tmp_path: Path, kind: str) -> None:
    hd = pytest.importorskip("highdicom")
    from pydicom.sr.codedict import codes

    affine, series, study = grid(), generate_uid(), generate_uid()
    sources = []
    for plane in range(SHAPE[0]):
        image = Dataset()
        image.PatientID, image.PatientName, image.PatientBirthDate = "1000001", "A", ""
        image.PatientSex = image.AccessionNumber = image.StudyID = ""
        image.StudyDate = image.StudyTime = image.ReferringPhysicianName = ""
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.SOPInstanceUID, image.SOPClassUID = generate_uid(), "1.2.840.10008.5.1.4.1.1.4"
        image.Modality, image.Rows, image.Columns = "MR", SHAPE[1], SHAPE[2]
        image.FrameOfReferenceUID, image.InstanceNumber = study, plane + 1
        image.PixelSpacing, image.SliceThickness = [STEP[1], STEP[2]], STEP[0]
        steps = affine[:3, :3] / np.array(STEP)
        image.ImageOrientationPatient = [*steps[:, 2].round(9), *steps[:, 1].round(9)]
        position = affine[:3, 3] + plane * affine[:3, 0]
        image.ImagePositionPatient = [float(v) for v in position.round(9)]
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        sources.append(image)
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Cartilage,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in ((1, "femoral cartilage"), (2, "medial tibial cartilage"))
    ]
    whole = labels()
    pixels: NDArray[Any] = whole
    if kind == "FRACTIONAL":
        pixels = np.stack([whole == 1, whole == 2], axis=-1).astype(np.float64)
    made = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="n",
        software_versions="1",
        device_serial_number="1",
    )
    made.save_as(tmp_path / "a.dcm")
    found = read_label_map(tmp_path / "a.dcm")
    assert found.series_uid == series
    # Whichever way its planes run, each labelled voxel is where it was.
    for code in (1, 2):
        here = np.argwhere(found.labels == code) @ found.affine[:3, :3].T + found.affine[:3, 3]
        true = np.argwhere(whole == code) @ affine[:3, :3].T + affine[:3, 3]
        order, truth = np.lexsort(here.round(3).T), np.lexsort(true.round(3).T)
        assert np.allclose(here[order], true[truth], atol=1e-5)
