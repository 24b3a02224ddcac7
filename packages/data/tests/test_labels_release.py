"""A phantom's release and its label maps, all the way to a cohort's labels and measures."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.run import ingest
from spinmark_data.labels.add import add_labels
from spinmark_data.labels.config import LabelsConfig
from spinmark_data.labels.series import scan_of_series
from spinmark_data.labels.store import LabelSet
from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.table import measure_cohort
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.write import write_phantom

SEQUENCE = "SAG_3D_DESS"


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(PhantomConfig(subjects=1, visits=("V00",), workers=1, seed=3), folder)
    ingest(folder / "release", folder / "c", IngestConfig(workers=1))
    return folder


def test_the_truth_comes_back_voxel_by_voxel_and_is_measured(phantom: Path) -> None:
    truth = phantom / "truth" / "labels"
    done = add_labels(phantom / "c", truth, LabelsConfig(codes="phantom"))
    cohort = Cohort.open(phantom / "c")
    scans = cohort.scans(SEQUENCE)
    assert done.added == len(scans) == 2
    assert len(done.issues) == 0
    found = LabelSet.open(cohort)
    for index, scan in scans.iterrows():
        file = truth / (str(scan["scan_id"]).replace(":", "_") + ".nii.gz")
        true = np.asanyarray(nib.load(file).dataobj)
        labels = found.read(SEQUENCE, str(scan["scan_id"]))
        assert np.array_equal(labels, true[::-1] if scan["mirrored"] else true)
        volume = cohort.read(SEQUENCE, np.array([index]))[0]
        # Bright cartilage and dark marrow: the labels lie on the image that they are of.
        assert volume[labels == 1].mean() > 1.5 * volume[labels == 5].mean()
    measured = measure_cohort(cohort, SEQUENCE, MorphometryConfig(workers=1))
    assert len(measured.table) == 2
    assert len(measured.issues) == 0
    voxel = float(np.prod(cohort.manifest["sequences"][SEQUENCE]["spacing_mm"]))
    count = (found.read(SEQUENCE, str(scans["scan_id"].iloc[0])) == 5).sum()
    key = scans[["subject_id", "laterality", "visit"]].iloc[0]
    row = measured.table.set_index(["subject_id", "laterality", "visit"]).loc[tuple(key)]
    assert row["VOL_FEMUR"] == pytest.approx(count * voxel, rel=1e-4)


def test_a_segmentation_finds_its_scan_by_the_series_that_it_refers_to(
    phantom: Path, tmp_path: Path
) -> None:
    shutil.copytree(phantom / "c", tmp_path / "c")
    cohort = Cohort.open(tmp_path / "c")
    series = scan_of_series(cohort, phantom / "release", IngestConfig())
    assert sorted(series.values()) == sorted(cohort.scans(SEQUENCE)["scan_id"])
    (tmp_path / "seg").mkdir()
    wanted = {}
    files = [f for f in sorted((phantom / "release").rglob("[0-9][0-9][0-9]")) if f.is_file()]
    for uid, scan_id in series.items():
        images = [d for f in files if (d := pydicom.dcmread(f)).SeriesInstanceUID == uid]
        image = images[len(images) // 2]
        plane = np.zeros((image.Rows, image.Columns), bool)
        plane[20:30, 10:40] = True
        wanted[scan_id] = plane
        write_one_plane(tmp_path / "seg" / f"{len(wanted)}.dcm", image, plane, uid)
    done = add_labels(
        tmp_path / "c", tmp_path / "seg", LabelsConfig(name="seg"), series=lambda: series
    )
    assert done.added == 2
    # Segment 1 is called a femur, whose code is 5.
    assert set(done.issues["kind"]) == {"repaired"}
    for scan_id, plane in wanted.items():
        found = LabelSet.open(cohort, "seg").read(SEQUENCE, scan_id)
        assert set(np.unique(found)) == {0, 5}
        (index,) = np.flatnonzero(found.any(axis=(1, 2)))
        assert np.array_equal(found[index] == 5, plane)
    with pytest.raises(InputError, match="the series it refers to"):
        add_labels(tmp_path / "c", tmp_path / "seg", LabelsConfig(name="other"))


def write_one_plane(path: Path, image: Dataset, plane: np.ndarray, uid: str) -> None:
    data, place, axes, measures, segment = (Dataset() for _ in range(5))
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66.4", generate_uid()
    data.SegmentationType, data.NumberOfFrames = "BINARY", 1
    data.Rows, data.Columns = plane.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 1, 1, 0, 0
    reference, described, frame = Dataset(), Dataset(), Dataset()
    reference.SeriesInstanceUID = uid
    data.ReferencedSeriesSequence = [reference]
    described.SegmentNumber, described.SegmentLabel = 1, "Femur"
    data.SegmentSequence = [described]
    place.ImagePositionPatient = image.ImagePositionPatient
    axes.ImageOrientationPatient = image.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = image.PixelSpacing, image.SliceThickness
    segment.ReferencedSegmentNumber = 1
    frame.PlanePositionSequence, frame.PlaneOrientationSequence = [place], [axes]
    frame.PixelMeasuresSequence, frame.SegmentIdentificationSequence = [measures], [segment]
    data.PerFrameFunctionalGroupsSequence = [frame]
    content = np.packbits(plane.ravel(), bitorder="little").tobytes()
    data.PixelData = content + b"\0" * (len(content) % 2)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)
