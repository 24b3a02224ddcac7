"""A classic MR DICOM series in the manner of the OAI: extensionless files, one slice each."""

import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from spinmark_data.phantom.sequences import DESS, SEQUENCES

_LOCATION_BYTES = 12
_NUMBER_BYTES = 6
_UID_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class SeriesIdentity:
    """Who was scanned, when and on what.

    Args:
        patient_id: DICOM PatientID.
        patient_name: A made-up name, planted so that tests can see that it never leaves.
        sex: 1 male, 2 female.
        study_date: `YYYYMMDD`.
        barcode: AccessionNumber.
        laterality: `"R"` or `"L"`.
        timepoint: As in StudyDescription, for example `ENROLLMENT` or `12 MONTH`.
        series_number: DICOM SeriesNumber.
        manufacturer: DICOM Manufacturer.
        model: DICOM ManufacturerModelName.
        device_serial: DICOM DeviceSerialNumber.
        trailing_space: Whether StudyDescription of a right knee ends in a space.
        sequence: Name of the sequence, one of `sequences.SEQUENCES`.
        series_time: `HHMMSS`; a rescan has a later one.
    """

    patient_id: str
    patient_name: str
    sex: int
    study_date: str
    barcode: str
    laterality: str
    timepoint: str
    series_number: int
    manufacturer: str
    model: str
    device_serial: str
    trailing_space: bool = True
    sequence: str = DESS
    series_time: str = "120000"


def study_description(identity: SeriesIdentity) -> str:
    """Return StudyDescription as the OAI writes it."""
    side = {"R": "RIGHT ", "L": "LEFT"}[identity.laterality]
    return f"OAI^MR^{identity.timepoint}^{side if identity.trailing_space else side.strip()}"


def series_description(identity: SeriesIdentity) -> str:
    """Return SeriesDescription as the OAI writes it."""
    return f"{identity.sequence}_" + {"R": "RIGHT", "L": "LEFT"}[identity.laterality]


def _decimal(value: float, width: int = 16) -> str:
    """Format a number as a DICOM decimal string of a fixed width."""
    return f"{value:.6f}"[:width].ljust(width)


def _template(
    volume: npt.NDArray[np.uint16],
    affine: npt.NDArray[np.float64],
    identity: SeriesIdentity,
    echo: int = 0,
) -> bytes:
    """Write one slice of an echo with placeholders of fixed width where slices differ."""
    sequence = SEQUENCES[identity.sequence]
    entropy = [identity.patient_id, identity.study_date, identity.barcode]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    ds.SOPClassUID = MRImageStorage
    ds.SOPInstanceUID = "1." + "7" * (_UID_BYTES - 2)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = identity.study_date
    ds.StudyTime = "120000"
    ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = identity.series_time
    ds.AccessionNumber = identity.barcode
    ds.Modality = "MR"
    ds.Manufacturer = identity.manufacturer
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = study_description(identity)
    ds.SeriesDescription = series_description(identity)
    ds.ManufacturerModelName = identity.model
    ds.PatientName = identity.patient_name
    ds.PatientID = identity.patient_id
    ds.PatientBirthDate = ""
    ds.PatientSex = {1: "M", 2: "F"}[identity.sex]
    ds.ClinicalTrialTimePointDescription = identity.timepoint
    ds.BodyPartExamined = "KNEE"
    dess = sequence.kind == "dess"
    ds.ScanningSequence, ds.SequenceVariant = ("GR", "SS") if dess else ("SE", "SK")
    ds.ScanOptions = "FS" if sequence.fat == "suppressed" else ""
    ds.MRAcquisitionType = "3D" if dess else "2D"
    ds.SliceThickness = _decimal(spacing[0]).strip()
    ds.RepetitionTime = f"{sequence.tr_ms:g}"
    ds.EchoTime = f"{sequence.te_ms[echo]:g}"
    if len(sequence.te_ms) > 1:
        ds.EchoNumbers = echo + 1
    ds.MagneticFieldStrength = "3"
    ds.SpacingBetweenSlices = _decimal(spacing[0]).strip()
    ds.EchoTrainLength = f"{sequence.train}"
    ds.DeviceSerialNumber = identity.device_serial
    ds.FlipAngle = f"{sequence.flip_deg:g}"
    ds.PatientPosition = "FFS"
    ds.StudyInstanceUID = generate_uid(entropy_srcs=["study", *entropy])
    series = [*entropy, str(identity.series_number), identity.laterality]
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=["series", *series])
    ds.StudyID = "1"
    ds.SeriesNumber = identity.series_number
    ds.InstanceNumber = "7" * _NUMBER_BYTES
    ds.ImagePositionPatient = ["7" * 15, "7" * 15, "7" * 16]
    columns, rows = affine[:3, 2] / spacing[2], affine[:3, 1] / spacing[1]
    # Adding zero turns -0.0 into 0.0, which would otherwise be written as "-0".
    ds.ImageOrientationPatient = [f"{v + 0.0:.6g}" for v in (*columns, *rows)]
    ds.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", *series])
    ds.PositionReferenceIndicator = ""
    ds.SliceLocation = "7" * _LOCATION_BYTES
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = volume.shape[-2:]
    ds.PixelSpacing = [_decimal(spacing[1]).strip(), _decimal(spacing[2]).strip()]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = b""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    FileDataset(buffer, ds, file_meta=meta, preamble=b"\0" * 128).save_as(
        buffer, enforce_file_format=True
    )
    # The last eight bytes are the tag and VR of the empty pixel data and its length.
    return buffer.getvalue()[:-4]


def write_series(
    folder: Path,
    volume: npt.NDArray[np.uint16],
    affine: npt.NDArray[np.float64],
    *,
    identity: SeriesIdentity,
) -> None:
    """Write a volume as files `001`, `002`, ..., one slice each.

    Every second series counts its instances from the end, so that file order is not always the order
    of positions and a reader has to sort. The echoes of a slice follow each other.

    Args:
        folder: Existing folder.
        volume: Signal `(z, y, x)` or `(echo, z, y, x)`, below 4096.
        affine: `(4, 4)`, voxel centres `(z, y, x, 1)` to LPS millimetres.
        identity: Who was scanned, when and on what.
    """
    uid_root = generate_uid(
        entropy_srcs=["image", identity.patient_id, identity.barcode, str(identity.series_number)]
    )
    # A fixed width for the last part keeps all UIDs of a series equally long.
    digits = uid_root.split(".")[-1].rjust(34, "7")[:34]
    prefix = f"2.25.{1 + int(digits[0]) % 2}{digits[1:]}."
    data = np.ascontiguousarray(volume, dtype="<u2")
    if data.ndim == 3:
        data = data[None]
    echoes, slices = data.shape[:2]
    templates = [_pieces(_template(volume, affine, identity, echo)) for echo in range(echoes)]
    length = struct.pack("<I", data[0, 0].nbytes)
    reverse = int(digits[-1]) % 2 == 1
    step = float(np.linalg.norm(affine[:3, 0]))
    for number in range(1, slices * echoes + 1):
        counted, echo = divmod(number - 1, echoes)
        z = slices - 1 - counted if reverse else counted
        position = affine[:3, 3] + affine[:3, 0] * z
        uid = f"{prefix}{number:05d}".encode().replace(b".0", b".1")
        uid = uid.ljust(_UID_BYTES, b"\0")
        x, y, w = (f"{v + 0.0:.6f}".encode() for v in position)
        where = b"\\".join((x.ljust(15), y.ljust(15), w.ljust(16)))
        location = f"{step * z:.4f}".encode().ljust(_LOCATION_BYTES)
        count = str(number).encode().ljust(_NUMBER_BYTES)
        fields = (uid, uid, count, where, location)
        *parts, rest = templates[echo]
        body = b"".join(part + field for part, field in zip(parts, fields, strict=True))
        (folder / f"{number:03d}").write_bytes(body + rest + length + data[echo, z].tobytes())


def _pieces(template: bytes) -> list[bytes]:
    """Cut a template at its placeholders."""
    parts = []
    for mark in (
        b"1." + b"7" * (_UID_BYTES - 2),
        b"1." + b"7" * (_UID_BYTES - 2),
        b"7" * _NUMBER_BYTES,
        b"\\".join((b"7" * 15, b"7" * 15, b"7" * 16)),
        b"7" * _LOCATION_BYTES,
    ):
        head, template = template.split(mark, 1)
        parts.append(head)
    return [*parts, template]
