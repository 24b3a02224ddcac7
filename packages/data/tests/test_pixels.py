"""Voxels of DICOM files against what was written, by arithmetic on Python's integers."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from spinmark_data.ingest.dicom import pixels
from spinmark_data.ingest.dicom.headers import Header, read_header
from spinmark_data.ingest.dicom.pixels import PixelFormat, codestream_size, open_images, tidy
from spinmark_data.ingest.dicom.rescale import common_rescale
from spinmark_data.ingest.dicom.series import Refused, load, read_file
from spinmark_data.ingest.limits import Limits

NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


def dataset(pixel: np.ndarray, place: int = 0, syntax=ExplicitVRLittleEndian, **tags) -> Dataset:
    """An image whose voxels are `pixel`, as its type says."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"1.2.3.{place + 1}"
    ds.SeriesInstanceUID, ds.Modality = "1.2.3", "MR"
    ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    ds.ImagePositionPatient = [-1.5 * place, 20, 30]  # The normal points to the right.
    ds.PixelSpacing, (ds.Rows, ds.Columns) = [0.5, 0.7], pixel.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * pixel.dtype.itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(pixel.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    ds.PixelData = pixel.astype(pixel.dtype.newbyteorder(order)).tobytes()
    for name, value in tags.items():
        setattr(ds, name, value)
    ds["PixelData"].VR = "OW" if bits > 8 else "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


def encode(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def stack(seed: int = 0, dtype: str = "u2", high: int = 900) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, (4, 6, 5)).astype(dtype)


def series(volume: np.ndarray, syntax=ExplicitVRLittleEndian, **tags) -> list[bytes]:
    return [encode(dataset(image, k, syntax, **tags)) for k, image in enumerate(volume)]


def restored(volume) -> np.ndarray:
    return volume.voxels * volume.scale + volume.offset


@pytest.mark.parametrize("syntax", [*NATIVE, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i4"])
def test_every_native_type_comes_back(syntax, dtype) -> None:
    truth = stack(1, dtype, 127)
    if dtype[0] == "i":
        truth = truth - 60
    if dtype == "u1" and syntax == ExplicitVRBigEndian:
        with pytest.raises(Refused, match="8 bits in big endian words"):
            load(series(truth, syntax))
        return
    volume, headers, _ = load(series(truth, syntax))
    assert np.array_equal(restored(volume), truth)
    assert volume.voxels.dtype == np.int16
    assert headers[0].get("Rows") == 6


def test_unsigned_voxels_beyond_int16_are_shifted_exactly() -> None:
    truth = stack(2, "u2", 65536)
    truth[0, 0, 0], truth[1, 1, 1] = 0, 65535
    volume, _, _ = load(series(truth))
    assert (volume.scale, volume.offset) == (1.0, 32768.0)
    assert np.array_equal(restored(volume), truth)
    wide = truth.astype("i4") * 3
    with pytest.raises(Refused, match="span more than 16 bits"):
        load(series(wide))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([8, 16, 32]).flatmap(
        lambda allocated: st.tuples(
            st.just(allocated),
            st.integers(2, allocated).flatmap(
                lambda stored: st.tuples(st.just(stored), st.integers(stored - 1, allocated - 1))
            ),
        )
    ),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_bits_beyond_the_stored_ones_never_count(bits, signed, inverted, seed) -> None:
    allocated, (stored, high) = bits
    raw = np.random.default_rng(seed).integers(0, 2**allocated, (3, 4), dtype=np.uint64)
    form = PixelFormat(
        rows=3,
        columns=4,
        allocated=allocated,
        stored=stored,
        high=high,
        signed=signed,
        inverted=inverted,
    )
    image = raw.astype(f"u{allocated // 8}").view(form.dtype)
    with contextlib.suppress(Refused):  # Noise may by chance look as if its bytes were swapped.
        found, low, top, _ = tidy(image, form)
        assert (found.reshape(-1).tolist(), low, top) == expected_bits(raw, form)


def expected_bits(raw: np.ndarray, form: PixelFormat) -> tuple[list[int], int, int]:
    stored, signed = form.stored, form.signed
    expected = []
    for word in raw.reshape(-1).tolist():
        value = (word >> (form.high + 1 - stored)) & ((1 << stored) - 1)
        if signed and value >> (stored - 1):
            value -= 1 << stored
        least, most = (
            (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
        )
        expected.append(least + most - value if form.inverted else value)
    return expected, min(expected), max(expected)


def test_garbage_above_twelve_bits_is_cleared_and_told() -> None:
    truth = stack(3, "u2", 4096)
    dirty = truth | (np.random.default_rng(0).integers(0, 16, truth.shape) << 12).astype("u2")
    volume, _, _ = load(series(dirty, BitsStored=12, HighBit=11))
    assert np.array_equal(restored(volume), truth)
    assert volume.repairs == ["bits beyond BitsStored were cleared"]


def test_swapped_bytes_are_refused_by_name() -> None:
    truth = stack(4, "u2", 4096)
    with pytest.raises(Refused, match="bytes of the voxels are swapped"):
        load(series(truth.byteswap(), BitsStored=12, HighBit=11))


def test_monochrome1_is_inverted_within_its_bits() -> None:
    truth = stack(5, "u2", 4096)
    volume, _, _ = load(
        series(truth, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")
    )
    assert np.array_equal(restored(volume), 4095 - truth.astype(int))
    assert volume.repairs == ["MONOCHROME1 was inverted"]


def test_slopes_of_slices_are_brought_to_one_scale_where_that_is_exact() -> None:
    truth = stack(6, "u2", 900)
    images = [dataset(image, k) for k, image in enumerate(truth)]
    slopes, shifts = ["0.5", "1.25", "0.25", "2"], ["-3", "7.5", "0", "1"]
    for ds, slope, shift in zip(images, slopes, shifts, strict=True):
        ds.RescaleSlope, ds.RescaleIntercept = slope, shift
    volume, _, _ = load([encode(ds) for ds in images])
    expected = np.array(
        [i * float(s) + float(b) for i, s, b in zip(truth, slopes, shifts, strict=True)]
    )
    assert volume.scale == 0.25
    assert np.array_equal(restored(volume), expected)
    assert "exactly" in volume.repairs[0]
    images[2].RescaleSlope = "0.123456789"
    with pytest.raises(Refused, match=r"differs between slices|span more than 16 bits"):
        load([encode(ds) for ds in images])


@given(
    st.lists(
        st.tuples(st.integers(-400, 400).filter(bool), st.integers(-4000, 4000)),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([1, 0.5, 0.001, 0.1]),
)
def test_a_common_scale_gives_every_slice_its_values(pairs, unit) -> None:
    from fractions import Fraction

    step = Fraction(str(unit))
    given_ = [(float(slope * step), float(more * step)) for slope, more in pairs]
    common = common_rescale(given_)
    exact = Fraction(repr(common.scale)) if common.scale else 0
    for (slope, more), factor, addend in zip(
        given_, common.multipliers, common.addends, strict=True
    ):
        assert factor * exact == Fraction(repr(slope))
        assert addend * exact + Fraction(repr(common.offset)) == Fraction(repr(more))


@pytest.mark.parametrize("pair", [(0.0, 1.0), (float("nan"), 0.0), (1.0, float("inf"))])
def test_a_rescale_that_is_none_is_refused(pair) -> None:
    with pytest.raises(Refused, match="slope"):
        common_rescale([(1.0, 0.0), pair])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Rows": 65535, "Columns": 65535}, "voxels; at most 1073741824"),
        ({"Rows": 60000, "Columns": 4000}, "cut short"),
        ({"Rows": 5}, "hold 60 bytes; the header tells of 50"),
        ({"Rows": 7}, "cut short"),
        ({"PixelData": b""}, "no pixel data"),
        ({"PixelData": b"\0" * 58}, "cut short"),
        ({"BitsAllocated": 12}, "BitsAllocated 12; 8, 16 and 32 are read"),
        ({"BitsStored": 17}, "BitsStored 17 and HighBit 15 do not fit 16 bits"),
        ({"HighBit": 3}, "do not fit"),
        ({"PixelRepresentation": 2}, "PixelRepresentation 2"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
    ],
)
def test_headers_that_do_not_fit_the_voxels_are_refused(change, reason) -> None:
    with pytest.raises(Refused, match=reason):
        load(series(stack(), **change))


def test_copies_are_dropped_and_different_images_at_one_place_are_refused() -> None:
    truth = stack(7)
    files = series(truth)
    volume, _, digest = load([*files, files[2]])
    assert np.array_equal(volume.voxels, truth)
    assert volume.repairs == ["1 images that stood twice were left out"]
    assert digest == load(files)[2]
    other = encode(dataset(truth[1], 2))
    with pytest.raises(Refused, match="different images share a position"):
        load([*files, other])


def test_files_that_are_no_image(tmp_path: Path) -> None:
    whole = series(stack())
    for data, reason in {
        b"": "the file is empty",
        b"words": "not a DICOM file",
        whole[0][:200]: "cut short",
        whole[0][:-3]: "cut short",
    }.items():
        (tmp_path / "x").write_bytes(data)
        for source in (data, tmp_path / "x"):
            with pytest.raises(Refused, match=reason):
                load([source, *whole[1:]])
    with pytest.raises(Refused, match=r"holds \d+ bytes; at most 100 are read"):
        load(whole, Limits(file_bytes=100))
    with pytest.raises(Refused, match="cut short"):
        read_file(whole[0][:-3], pixels=True)
    assert read_file(whole[0], pixels=True).get("Columns") == 5


def test_a_deflated_bomb_is_refused_before_it_unpacks() -> None:
    ds = dataset(np.zeros((2000, 2000), "u2"), syntax=DeflatedExplicitVRLittleEndian)
    data = encode(ds)
    assert len(data) < 20_000
    with pytest.raises(Refused, match="unpacks to more than 1000000 bytes"):
        read_header(data, Limits(unpacked_bytes=10**6))


def test_unpacked_and_unknown_syntaxes_are_told_by_name(monkeypatch) -> None:
    files = series(stack())
    header = read_header(files[0])
    form = PixelFormat.of(header)
    header.syntax = str(MPEG2MPML)
    with pytest.raises(Refused, match="MPEG2 Main Profile / Main Level is not read"):
        open_images(files[0], header, form)
    header.syntax = "1.2.826.0.1.3680043.2.1143"
    with pytest.raises(Refused, match="not one of DICOM's own"):
        open_images(files[0], header, form)

    class Absent:
        is_available = False

    monkeypatch.setattr(pixels, "get_decoder", lambda _: Absent())
    header.syntax = str(JPEGLSLossless)
    with pytest.raises(
        Refused, match=r"no decoder for JPEG-LS .* install spinmark-data\[compressed\]"
    ):
        open_images(files[0], header, form)


def compressed(image: np.ndarray, place: int) -> Dataset:
    ds = dataset(image, place)
    ds.compress(RLELossless)
    return ds


def test_rle_comes_back_and_a_bomb_does_not() -> None:
    truth = stack(8)
    images = [compressed(image, k) for k, image in enumerate(truth)]
    volume, _, _ = load([encode(ds) for ds in images])
    assert np.array_equal(volume.voxels, truth)
    # 2 bytes of RLE unpack to 128: a frame far beyond what its header tells of.
    images[0].PixelData = encapsulate([b"\x81\0" * 10**5])
    with pytest.raises(Refused, match="a compressed image of 200000 bytes; raw it takes 60"):
        load([encode(ds) for ds in images])


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (
            b"\xff\x4f\xff\x51\0\x2f\0\0"
            + b"".join(n.to_bytes(4, "big") for n in (640, 480, 0, 0)),
            (480, 640),
        ),
        (b"\xff\xd8\xff\xe0\0\4ab\xff\xc0\0\x11\x08\1\0\2\0", (256, 512)),
        (b"\xff\xd8\xff\xc4\0\2\xff\xff\xf7\0\x11\x08\1\0\2\0", (256, 512)),
        (b"\xff\xd8\xff\xe0\xff\xff", None),
        (b"", None),
    ],
)
def test_the_size_that_a_codestream_declares(data, size) -> None:
    assert codestream_size(data) == size


def test_a_codestream_of_another_size_never_reaches_a_decoder() -> None:
    huge = b"\xff\x4f\xff\x51\0\x2f\0\0" + b"".join(
        n.to_bytes(4, "big") for n in (60000, 60000, 0, 0)
    )
    images = [dataset(image, k) for k, image in enumerate(stack())]
    for ds in images:
        ds.PixelData = encapsulate([huge + b"\0" * 40])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    with pytest.raises(Refused, match="tells 60000 x 60000; the header tells 6 x 5"):
        load([encode(ds) for ds in images])


def test_a_header_of_numbers_that_are_none_is_refused_by_tag() -> None:
    ds = dataset(stack()[0])
    data = encode(ds)
    assert data.count(b"0.5\\0.7 ") == 1
    with pytest.raises(Refused, match="PixelSpacing cannot be read as a number"):
        read_header(data.replace(b"0.5\\0.7 ", b"0.5\\0_7 "))
    assert isinstance(read_header(data), Header)
