"""A name is planted in every text of a DICOM series, and searched for in all that an ingest leaves."""

import io
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import zarr
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.dicom.known_words import (
    model_of,
    plane_of,
    protocol_words,
    safe_sequence,
    scanner_of,
    technical_name,
    vendor_of,
)
from spinmark_data.ingest.plan import plan
from spinmark_data.ingest.run import ingest

NAME = "Zzyzxroe"
SERIAL = "Zzyzxserial"
BIRTH = "19310203"
TEXTS = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "CS"}
# Those that say what an image is; without them no volume would come of it.
KEPT = {
    "Modality",
    "PhotometricInterpretation",
    "SpecificCharacterSet",
    "ImageLaterality",
    "Laterality",
    "BodyPartExamined",
}


def planted(place: int, series: str) -> bytes:
    """An image with the name in every text tag of the dictionary, in sequences and private tags."""
    ds = Dataset()
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if retired or not keyword or keyword in KEPT or tag >> 16 in (0x0002, 0x0000, 0xFFFE):
            continue
        if vr in TEXTS and tag >> 16 < 0x7FE0:
            ds.add_new(tag, vr, NAME.upper() if vr == "CS" else NAME)
        elif vr == "DA" and keyword != "StudyDate":
            ds.add_new(tag, vr, BIRTH)
        elif vr == "SQ" and tag not in (0x52009229, 0x52009230):
            item = Dataset()
            item.PatientName, item.SeriesDescription, item.StudyComments = NAME, NAME, NAME
            ds.add_new(tag, vr, Sequence([item]))
    block = ds.private_block(0x0029, f"{NAME} 1.0", create=True)
    block.add_new(1, "LO", NAME)
    block.add_new(2, "OB", NAME.encode())
    ds.DeviceSerialNumber = SERIAL
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"1.2.3.{place}"
    with pydicom.config.disable_value_validation():
        for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            setattr(ds, keyword, f"{NAME}.{series}")
    ds.StudyDate, ds.Modality = "20040101", "MR"
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [0, 1, 0, 0, 0, -1], [1.5 * place, 20, 30]
    ds.PixelSpacing, ds.Rows, ds.Columns = [0.5, 0.7], 6, 5
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = np.random.default_rng(place).integers(0, 900, (6, 5)).astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def everything(folder: Path) -> str:
    """All that files say, as bytes and as the values that Parquet and Zarr hold in packed form."""
    said = []
    for file in sorted(folder.rglob("*")):
        said.append(file.relative_to(folder).as_posix())
        if file.is_file():
            said.append(file.read_bytes().decode("latin-1"))
        if file.suffix == ".parquet":
            frame = pd.read_parquet(file)
            said += [frame.to_csv(), repr(dict(frame.dtypes))]
    root = zarr.open_group(folder / "images.zarr", mode="r", use_consolidated=False)
    for name, group in root.groups():
        said += [
            f"{name}/{key}={array[...].tolist()}" for key, array in group.arrays() if array.ndim < 4
        ]
        said += [str(dict(group.attrs)), *(str(dict(array.attrs)) for _, array in group.arrays())]
    return "\n".join(said)


def hidden(text: str) -> None:
    secrets = (NAME, NAME.upper(), NAME.lower(), SERIAL, SERIAL.upper(), BIRTH, "20040101")
    assert [secret for secret in secrets if secret in text] == []


def test_a_name_in_every_text_tag_reaches_nothing_that_is_written_or_logged(
    tmp_path: Path, caplog, capfd
) -> None:
    caplog.set_level(logging.DEBUG)
    # Refusals quote what is wrong with a file; they must not quote the name that stands there either.
    damages = {"good": b"0.5\\0.7 ", "spacing": NAME.encode(), "cut": b"0.5\\0.7 "}
    for series, spacing in damages.items():
        (tmp_path / "r" / series).mkdir(parents=True)
        for k in range(4):
            with pydicom.config.disable_value_validation():
                data = planted(k, series)
            assert data.count(NAME.encode()) > 500
            data = data.replace(b"0.5\\0.7 ", spacing)
            if series == "cut":
                data = data[: data.index(b"\xe0\x7f\x10\0OW") + 20]
            (tmp_path / "r" / series / f"{k:03d}").write_bytes(data)
    told = plan(tmp_path / "r", IngestConfig())
    summary = ingest(tmp_path / "r", tmp_path / "c", IngestConfig(workers=1))
    assert (summary.scans, summary.refused) == (1, 5)
    hidden(everything(tmp_path / "c"))
    hidden(repr(told) + repr(summary) + caplog.text + "".join(capfd.readouterr()))


@pytest.mark.parametrize(
    ("maker", "vendor"),
    [
        ("SIEMENS", "SIEMENS"),
        ("Siemens Healthineers", "SIEMENS"),
        ("GE MEDICAL SYSTEMS", "GE"),
        ("Philips Medical Systems", "PHILIPS"),
        ("TOSHIBA_MEC", "TOSHIBA"),
        ("Canon Inc.", "CANON"),
        ("UIH", "UIH"),
        ("", ""),
        ("Gerald Doe", ""),
        ("Phil Ips", ""),
        ("J. SIEMENS", ""),
    ],
)
def test_vendors_come_from_a_list(maker, vendor) -> None:
    assert vendor_of(maker) == vendor


@pytest.mark.parametrize(
    "model",
    [
        "Trio", "TrioTim", "Skyra", "MAGNETOM Skyra fit", "Prisma_fit", "DISCOVERY MR750", "SIGNA EXCITE",
        "Signa HDxt", "Ingenia", "Achieva dStream".replace(" dStream", ""), "Brilliance16", "uMR 790",
        "LightSpeed16", "SOMATOM Definition AS", "Ingenia Elition X", "SIGNA Premier", "Vantage Titan",
    ],
)  # fmt: skip
def test_models_of_scanners_are_known(model) -> None:
    assert model_of(model) == model


@pytest.mark.parametrize(
    "model", ["", "Jane", "Skyra Jane", "Doe", "Trio of Dr Roe", "MR", "x" * 99]
)
def test_other_models_are_left_out(model) -> None:
    assert model_of(model) == ""


def test_a_scanner_is_told_without_its_owner() -> None:
    header = {
        "Manufacturer": "SIEMENS",
        "ManufacturerModelName": "Trio",
        "DeviceSerialNumber": SERIAL,
    }
    told = scanner_of(header)
    assert told.startswith("SIEMENS Trio ")
    assert len(told) == len("SIEMENS Trio ") + 6
    hidden(told)
    assert scanner_of({"Manufacturer": NAME, "ManufacturerModelName": NAME}) == ""


@pytest.mark.parametrize(
    "name",
    [
        "SAG_3D_DESS", "SAG_IW_TSE", "COR_IW_TSE", "COR_T1_3D_FLASH", "SAG_T2_MAP", "SAG_T2_CALC", "COR_MPR",
        "AX_MPR", "MP_LOCATOR", "AX_T1_THIGH", "PRESCRIPTION_THIGH", "PRESCRITION_THIGH", "COR_FISP",
    ],
)  # fmt: skip
def test_every_sequence_of_the_oai_keeps_its_name(name) -> None:
    for side in ("", "_LEFT", "_RIGHT", "_RIGHT "):
        assert protocol_words(name + side) == name


def test_sequences_are_named_by_known_words_or_technical_tags() -> None:
    assert protocol_words("t2 tse sag fs 3mm") == "T2_TSE_SAG_FS_3MM"
    assert protocol_words("SSFP-CINE SAx") == "SSFP_CINE_SAX"
    for text in ("", "5mm", "Jane Roe", "SAG T2 Roe", "KNEE_SMITH_LEFT", "1234567"):
        assert protocol_words(text) == ""
    header = {
        "SeriesDescription": NAME,
        "Modality": "MR",
        "MRAcquisitionType": "2D",
        "ScanningSequence": ("SE", NAME),
        "ImageOrientationPatient": (0, 1, 0, 0, 0, -1),
    }
    assert safe_sequence(header) == "SAG_2D_SE_MR"
    assert technical_name({"Modality": NAME}) == "IMAGE"
    assert plane_of((1, 0, 0, 0, 1, 0)) == "AX"
    assert plane_of((1, 0, 0, 0, 0, -1)) == "COR"
