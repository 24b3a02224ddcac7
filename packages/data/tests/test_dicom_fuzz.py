"""Mutated DICOM and NIfTI files: taken or refused, never a crash, a hang or unbounded memory.

The files are read in a process of its own, whose address space is bounded. By hand:
`python test_dicom_fuzz.py dicom 0 10000` prints what came of them as JSON.
"""

import collections
import contextlib
import gzip
import io
import json
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from spinmark_data.ingest.dicom.series import load
from spinmark_data.ingest.limits import Limits, Refused
from spinmark_data.ingest.nifti import load_nifti

REAL = Path(__file__).parents[4] / "shared" / "data"
# As a worker would have it on a small machine: numpy and its libraries take about one of it.
MEMORY = 4 * 2**30
SECONDS = 20
LIMITS = Limits(voxels=2**26, unpacked_bytes=2**28, file_bytes=2**24)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "rle": "1.2.840.10008.1.2.5",
}


def nested(depth: int) -> Sequence:
    ds = Dataset()
    ds.ReferencedSOPInstanceUID = "1.2.3"
    if depth:
        ds.ReferencedImageSequence = nested(depth - 1)
        ds["ReferencedImageSequence"].is_undefined_length = True
    return Sequence([ds])


def image(place: int, syntax: str) -> bytes:
    voxels = np.random.default_rng(place).integers(0, 900, (8, 6)).astype("u2")
    ds = Dataset()
    ds.SpecificCharacterSet, ds.ImageType = "ISO_IR 100", ["ORIGINAL", "PRIMARY", "M"]
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"1.2.{place + 1}"
    ds.SeriesInstanceUID, ds.Modality, ds.PatientID = "1.2.3", "MR", "x"
    ds.SeriesDescription, ds.EchoTime, ds.RescaleSlope = "SAG_3D_DESS_LEFT", "4.7", "1"
    ds.ReferencedImageSequence = nested(3)
    ds["ReferencedImageSequence"].is_undefined_length = True
    ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    ds.ImagePositionPatient = [-1.5 * place, 20, 30]
    ds.PixelSpacing, (ds.Rows, ds.Columns) = [0.5, 0.7], voxels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = voxels.astype(">u2" if syntax == "big" else "<u2").tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = SYNTAXES["explicit" if syntax == "rle" else syntax]
    if syntax == "rle":
        ds.compress(SYNTAXES["rle"])
    return encoded(ds)


def encoded(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def with_groups(ds: Dataset) -> bytes:
    """A multi-frame object with the functional groups that make it a volume."""
    shared, groups = Dataset(), []
    for name, tag, value in (
        ("PlaneOrientationSequence", "ImageOrientationPatient", [1, 0, 0, 0, 1, 0]),
        ("PixelMeasuresSequence", "PixelSpacing", [0.5, 0.7]),
    ):
        inner = Dataset()
        setattr(inner, tag, value)
        setattr(shared, name, Sequence([inner]))
    for k in range(int(ds.NumberOfFrames)):
        inner, group = Dataset(), Dataset()
        inner.ImagePositionPatient = [0, 0, 1.2 * k]
        group.PlanePositionSequence = Sequence([inner])
        groups.append(group)
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    return encoded(ds)


def dicom_seeds() -> list[list[bytes]]:
    """Series that can be taken: of each, the first file will be mutated."""
    seeds = [[image(k, syntax) for k in range(3)] for syntax in SYNTAXES]
    multi = pydicom.dcmread(io.BytesIO(image(0, "explicit")))
    multi.NumberOfFrames, multi.PixelData = 3, multi.PixelData * 3
    seeds.append([with_groups(multi)])
    if (REAL / "knee-mese").is_dir():
        knee = sorted((REAL / "knee-mese").iterdir())
        seeds.append([file.read_bytes() for file in knee[:192:8][:3]])
        chest = sorted((REAL / "lung-ct").rglob("*.dcm"))[:3]
        seeds.append([file.read_bytes() for file in chest])
        many = sorted((REAL / "dicom-multiframe").glob("*.dcm"))
        seeds += [[with_groups(pydicom.dcmread(f))] for f in many if "short" not in f.name]
    return seeds


def nifti_seeds() -> list[list[bytes]]:
    """Files that can be taken."""
    seeds = []
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        for dtype in ("i2", "f4"):
            data = np.random.default_rng(0).integers(0, 900, (6, 7, 8)).astype(dtype)
            whole = kind(data, np.diag([0.5, 0.7, 1.5, 1])).to_bytes()
            seeds += [[whole], [gzip.compress(whole, mtime=0)]]
    return seeds


def mutate(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """One to four changes, most of them where the header lies."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        end = len(out)
        if end < 16:
            break
        reach = end if rng.random() < 0.2 else min(end, 6000)
        at = rng.randrange(reach - 8)
        act = rng.randrange(10)
        if act == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif act == 1:
            out[at] = rng.randrange(256)
        elif act == 2:
            del out[rng.randrange(1, end) :]
        elif act == 3:  # A length or a number.
            form = rng.choice(("<H", ">H", "<I", ">I"))
            struct.pack_into(
                form, out, at, rng.choice(EXTREMES) & (2 ** (8 * struct.calcsize(form)) - 1)
            )
        elif act == 4:  # A length where there is one: after the VR of an element.
            places = [
                m.end() for m in re.finditer(rb"(?:US|DS|IS|CS|LO|UI|SH|UN|SQ|OW)", out[:reach])
            ]
            if places:
                place = rng.choice(places)
                form = rng.choice(("<H", "<I"))
                with contextlib.suppress(struct.error):
                    struct.pack_into(
                        form,
                        out,
                        place,
                        rng.choice(EXTREMES) & (2 ** (8 * struct.calcsize(form)) - 1),
                    )
        elif act == 5:  # Two tags change places.
            other = rng.randrange(reach - 8)
            out[at : at + 4], out[other : other + 4] = out[other : other + 4], out[at : at + 4]
        elif act == 6:
            del out[at : at + rng.randrange(1, 64)]
        elif act == 7:
            piece = rng.choice(others)
            start = rng.randrange(len(piece))
            out[at:at] = piece[start : start + rng.randrange(1, 200)]
        elif act == 8:  # Sequences within sequences.
            head = rng.choice((b"\x08\0\x40\x11SQ\0\0", b"\x08\0\x40\x11"))
            out[at:at] = (head + b"\xff" * 4 + b"\xfe\xff\0\xe0" + b"\xff" * 4) * rng.choice(
                (3, 40, 3000)
            )
        else:  # Numbers as text.
            places = [m.start() for m in re.finditer(rb"\d+\.?\d*", out[:reach])]
            place = rng.choice(places) if places else at
            text = rng.choice((b"nan", b"inf", b"1e999", b"-1", b"99999", b"\\\\", b"0"))
            out[place : place + len(text)] = text
    return bytes(out)


def peak_kb() -> int:
    """The largest memory of this process so far."""
    status = Path("/proc/self/status")
    # getrusage would count what the parent took before this process began.
    if status.is_file():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Hang(Exception):
    """A file took too long."""


def run(kind: str, first: int, count: int) -> dict:
    """Read `count` mutated files; what came of them, by reason."""

    def late(*_) -> None:
        raise Hang

    seeds = dicom_seeds() if kind == "dicom" else nifti_seeds()
    others = [seed[0] for seed in seeds]
    read = (
        (lambda files: load(files, LIMITS))
        if kind == "dicom"
        else (lambda f: load_nifti(f[0], LIMITS))
    )
    for seed in seeds:
        read(seed)  # Before any change they are all taken.
    signal.signal(signal.SIGALRM, late)
    base = peak_kb()
    found: collections.Counter = collections.Counter()
    faults, slowest = [], 0.0
    for number in range(first, first + count):
        rng = random.Random(number)
        seed = rng.choice(seeds)
        files = [mutate(rng, seed[0], others), *seed[1:]]
        began = time.process_time()
        signal.alarm(SECONDS)
        try:
            read(files)
            found["taken"] += 1
        except Refused as error:
            found[re.sub(r"-?\d[\d.e+]*|nan|inf", "#", str(error))[:60]] += 1
        except BaseException as error:
            faults.append([number, f"{type(error).__name__}: {error}"[:200]])
        signal.alarm(0)
        slowest = max(slowest, time.process_time() - began)
    peak = peak_kb()
    return {
        "files": count,
        "reasons": dict(found.most_common()),
        "faults": faults,
        "slowest_s": round(slowest, 3),
        "grew_mb": (peak - base) // 1024,
    }


def fuzz(kind: str, first: int, count: int) -> dict:
    """Run in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, kind, str(first), str(count)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def check(told: dict) -> None:
    assert told["faults"] == []
    assert told["slowest_s"] < SECONDS
    assert told["grew_mb"] < 1024
    assert 0 < told["reasons"]["taken"] < told["files"]


@pytest.mark.parametrize(("kind", "count"), [("dicom", 300), ("nifti", 200)])
def test_mutated_files_are_taken_or_refused(kind, count) -> None:
    check(fuzz(kind, 0, count))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_ten_thousand_mutated_files_are_taken_or_refused(kind) -> None:
    for part in range(5):
        check(fuzz(kind, 2000 * part, 2000))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("error")
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
