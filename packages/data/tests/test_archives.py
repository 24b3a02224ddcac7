"""Archives of DICOM series: what is safe is read as its folder would be, everything else refused."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinmark_data.cohort.location import locate
from spinmark_data.ingest.archives import read_archive
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.dicom.series import load
from spinmark_data.ingest.discover import discover
from spinmark_data.ingest.limits import LIMITS, Limits, Refused
from spinmark_data.ingest.staging import stage_all
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.dicom import SeriesIdentity, write_series
from spinmark_data.phantom.nda_images import pack_images, pack_series
from spinmark_data.phantom.write import write_phantom

SMALL = Limits(file_bytes=2000, unpacked_bytes=30_000, frames=5)


def member(name: str, data: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tar(
    path: Path, *members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT
) -> Path:
    with tarfile.open(path, "w:gz", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


def refusal(path: Path, limits: Limits = LIMITS) -> str:
    with pytest.raises(Refused) as caught:
        read_archive(path, limits)
    return str(caught.value)


def test_a_packed_series_is_the_series(tmp_path: Path) -> None:
    folder = tmp_path / "10012345"
    folder.mkdir()
    volume = np.random.default_rng(0).integers(0, 900, (5, 8, 6)).astype(np.uint16)
    identity = SeriesIdentity(
        patient_id="1000001", patient_name="A^B", sex=1, study_date="20040924",
        barcode="016600000001", laterality="R", timepoint="ENROLLMENT", series_number=1,
        manufacturer="SIEMENS", model="Trio", device_serial="1",
    )  # fmt: skip
    affine = np.diag([1.5, -0.5, 0.7, 1.0])[[0, 2, 1, 3]]
    write_series(folder, volume, affine, identity=identity)
    pack_series(folder, tmp_path / "s.tar.gz")
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"deep/{file.name}")
        archive.mkdir("empty")
    plain, _, sha = load(sorted(folder.iterdir()))
    before = set(tmp_path.rglob("*"))
    for name in ("s.tar.gz", "s.zip"):
        members = read_archive(tmp_path / name)
        assert members == [file.read_bytes() for file in sorted(folder.iterdir())]
        packed, _, digest = load(members)
        assert np.array_equal(packed.voxels, plain.voxels)
        assert np.array_equal(packed.affine, plain.affine)
        assert digest == sha
    assert set(tmp_path.rglob("*")) == before  # Nothing was unpacked.


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (member("../001"), r"leave its folder"),
        (member("./a/../../001"), "leave its folder"),
        (member("/etc/001"), "absolute or foreign"),
        (member("C:/001"), "absolute or foreign"),
        (member("a\\..\\001"), "absolute or foreign"),
        (member("l", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "link, a device"),
        (member("l", b"", type=tarfile.LNKTYPE, linkname="../x"), "link, a device"),
        (member("d", b"", type=tarfile.CHRTYPE), "link, a device"),
        (member("p", b"", type=tarfile.FIFOTYPE), "link, a device"),
    ],
)
def test_unsafe_members(tmp_path: Path, made: tuple[tarfile.TarInfo, bytes], reason: str) -> None:
    assert reason in refusal(tar(tmp_path / "a.tar.gz", member("./001"), made))
    if made[0].isreg():
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(made[0].name, made[1])
        if "\\" not in made[0].name:  # zipfile turns these itself.
            assert reason in refusal(tmp_path / "a.zip")


def test_bounds(tmp_path: Path) -> None:
    many = tar(tmp_path / "n.tar.gz", *(member(f"./{k:03d}") for k in range(6)))
    assert "more than 5 members" in refusal(many, SMALL)
    large = tar(tmp_path / "l.tar.gz", member("./001", bytes(2001)))
    assert "more than 2000 bytes" in refusal(large, SMALL)
    whole = tar(tmp_path / "w.tar.gz", member("./001", bytes(2000)))
    assert "more than 900 bytes" in refusal(whole, Limits(unpacked_bytes=900))
    # A header that announces what is not there, and a bomb behind the end of the archive.
    liar = tmp_path / "x.tar.gz"
    info = tarfile.TarInfo("./001")
    info.size = 10**12
    liar.write_bytes(gzip.compress(info.tobuf()))
    assert "unpacks to more" in refusal(liar)
    bomb = gzip.decompress(whole.read_bytes()) + bytes(10**6)
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(bomb))
    assert "unpacks to more than 30000 bytes" in refusal(tmp_path / "b.tar.gz", SMALL)
    # The header of an extension that would be read into memory whole.
    pax = tarfile.TarInfo("x")
    pax.type, pax.size = tarfile.XHDTYPE, 10**7
    (tmp_path / "p.tar.gz").write_bytes(gzip.compress(pax.tobuf() + b"0" * 10**7))
    assert "unpacks to more than 30000 bytes" in refusal(tmp_path / "p.tar.gz", SMALL)
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("001", bytes(10**6))
    assert "more than 2000 bytes" in refusal(tmp_path / "z.zip", SMALL)


def test_a_zip_that_lies_of_its_size(tmp_path: Path) -> None:
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("001", bytes(5000))
    data = path.read_bytes().replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    path.write_bytes(data)
    assert "cut short or damaged" in refusal(path)


def test_names_that_repeat_hidden_files_and_nothing(tmp_path: Path) -> None:
    twice = tar(tmp_path / "t.tar.gz", member("./001"), member("001", b"y"))
    assert "one name" in refusal(twice)
    hidden = tar(tmp_path / "h.tar.gz", member("./._001"), member("./001", b"y"))
    assert read_archive(hidden) == [b"y"]
    assert "no files" in refusal(tar(tmp_path / "e.tar.gz"))


def test_cut_anywhere_it_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    whole = tar(tmp_path / "a.tar.gz", *(member(f"./{k}", rng.bytes(700)) for k in range(4)))
    data = whole.read_bytes()
    for length in [0, 1, 9, 10, *range(20, len(data), 97), len(data) - 1]:
        (tmp_path / "cut.tar.gz").write_bytes(data[:length])
        assert "cut short or damaged" in refusal(tmp_path / "cut.tar.gz")
    # Cut before it was packed, at the end of a member: gzip itself is whole.
    plain = gzip.decompress(data)
    for blocks in (3, 6, 9, 12):
        (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(plain[: 512 * blocks]))
        assert "cut short or damaged" in refusal(tmp_path / "cut.tar.gz")


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), packed=st.booleans(), zipped=st.booleans())
def test_a_damaged_archive_is_read_or_refused(
    tmp_path: Path, seed: int, packed: bool, zipped: bool
) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path / ("a.zip" if zipped else "a.tar.gz")
    if zipped:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("001", b"some data" * 9)
            archive.writestr("002", b"other data" * 9)
        data = path.read_bytes()
    else:
        form = int(rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
        tar(path, member("./001", b"some data" * 9), member("./" + "n" * 150), form=form)
        data = path.read_bytes() if packed else gzip.decompress(path.read_bytes())
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        damaged[rng.integers(len(damaged))] = rng.integers(256)
    path.write_bytes(bytes(damaged) if packed or zipped else gzip.compress(bytes(damaged)))
    told = ""
    try:
        members = read_archive(path, Limits(file_bytes=10**5, unpacked_bytes=10**6))
    except Refused as error:
        members, told = [], str(error)
    assert str(tmp_path) not in told
    assert sum(map(len, members)) <= 10**6


def test_a_phantom_as_a_package_is_the_phantom(tmp_path: Path) -> None:
    """Folders with contents.csv, and archives with image03.txt, make the same scans."""
    config = PhantomConfig(
        subjects=2, visits=("V00",), grid_shape=(8, 12, 12), spacing_mm=(10.0, 6.0, 6.0),
        coarse_grid=True, write_labels=False, workers=1,
    )  # fmt: skip
    release = write_phantom(config, tmp_path / "p").release
    complete = discover(release)
    records = stage_all(
        release, locate(tmp_path / "a"), "work", complete.sources, IngestConfig(workers=1), None
    )
    people = sorted({source.subject_id for source in complete.sources})
    lines = [
        {
            "folder": Path(source.files[0]).parent.as_posix(),
            "subject_id": source.subject_id,
            "visit": source.visit,
            "sequence": source.sequence,
            "laterality": source.evidence[0].side,
            "series": source.name.rpartition("/")[2],
        }
        for source in complete.sources
    ]
    index = pack_images(release, release / "package", pd.DataFrame(lines))
    assert not (release / "00m").exists()
    assert index.read_text().count("\n") == 2 + len(lines)
    found = discover(release)
    assert {source.kind for source in found.sources} == {"archive"}
    packed = stage_all(
        release, locate(tmp_path / "b"), "work", found.sources, IngestConfig(workers=1), None
    )
    assert sorted({record["subject_id"] for record in packed}) == people
    kept = ("subject_id", "laterality", "visit", "date", "sequence", "affine", "crc32c",
            "source_sha256", "order", "scanner")  # fmt: skip
    for first, second in zip(records, packed, strict=True):
        assert {key: first[key] for key in kept} == {key: second[key] for key in kept}
    # A series that is cut short is refused, and the others go on.
    broken = release / found.sources[0].files[0]
    broken.write_bytes(broken.read_bytes()[:-9])
    again = stage_all(
        release, locate(tmp_path / "c"), "work", found.sources, IngestConfig(workers=1), None
    )
    assert [record["status"] for record in again] == ["refused"] + ["taken"] * (len(again) - 1)
    assert again[0]["reason"] == "the archive is cut short or damaged"
