import contextlib
import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spinmark_data.ingest.limits import Refused
from spinmark_data.labels.label_map import LabelMap
from spinmark_data.labels.read import read_label_map

DATA = Path(__file__).parents[4] / "shared" / "data" / "knee-labels"


def rotation(seed: int) -> NDArray[np.float64]:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return np.asarray(q)


def oblique(seed: int = 0) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = rotation(seed) * np.array([0.7, 0.4, 0.365])
    affine[:3, 3] = [-40.0, 12.5, 70.25]
    return affine


def codes(shape: tuple[int, int, int] = (4, 5, 6), top: int = 10) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, top, shape).astype(np.uint8)


def write_nrrd(
    path: Path,
    labels: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    space: str = "left-posterior-superior",
    encoding: str = "gzip",
    more: str = "",
    **changed: str,
) -> None:
    """An NRRD file by hand, from (z, y, x) and an LPS affine."""
    sign = (
        {"left": 1, "right": -1}[space.split("-")[0]],
        {"posterior": 1, "anterior": -1}[space.split("-")[1]],
    )
    matrix = np.diag([*sign, 1.0]) @ affine[:3]
    steps = " ".join("(" + ",".join(repr(float(v)) for v in matrix[:, i]) + ")" for i in (2, 1, 0))
    origin = "(" + ",".join(repr(float(v)) for v in matrix[:, 3]) + ")"
    kinds = {"u1": "unsigned char", "u2": "ushort", "i2": "short", "f4": "float"}
    fields = {
        "type": kinds[labels.dtype.str[1:]],
        "dimension": "3",
        "space": space,
        "sizes": " ".join(str(n) for n in labels.shape[::-1]),
        "space directions": steps,
        "endian": "little",
        "encoding": encoding,
        "space origin": origin,
    } | {key.replace("_", " "): value for key, value in changed.items()}
    head = "NRRD0004\n# made by a test\n" + "".join(f"{k}: {v}\n" for k, v in fields.items() if v)
    data = np.ascontiguousarray(labels).tobytes()
    packed = gzip.compress(data) if encoding == "gzip" else data
    path.write_bytes((head + more + "\n").encode() + packed)


def same(found: LabelMap, labels: NDArray[Any], affine: NDArray[np.float64]) -> None:
    assert found.labels.dtype in (np.uint8, np.uint16)
    assert np.array_equal(found.labels, labels)
    assert np.allclose(found.affine, affine, atol=1e-4)


@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior"])
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("dtype", ["u1", "<i2", "<f4"])
def test_nrrd_comes_back_as_it_was(tmp_path: Path, space: str, encoding: str, dtype: str) -> None:
    labels, affine = codes(), oblique()
    write_nrrd(tmp_path / "a.nrrd", labels.astype(dtype), affine, space=space, encoding=encoding)
    same(read_label_map(tmp_path / "a.nrrd"), labels, affine)


def test_nrrd_reads_what_simpleitk_writes_and_sees_it_in_the_same_place(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    labels, affine = codes(), oblique(3)
    image = sitk.GetImageFromArray(labels)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing([float(s) for s in steps[::-1]])
    image.SetDirection((affine[:3, :3] / steps)[:, ::-1].ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    for name in ("a.nrrd", "a.nii.gz"):
        for packed in (True, False):
            sitk.WriteImage(image, str(tmp_path / name), packed)
            same(read_label_map(tmp_path / name), labels, affine)


def test_nrrd_reads_what_pynrrd_writes_of_las(tmp_path: Path) -> None:
    nrrd = pytest.importorskip("nrrd")
    labels, affine = codes(), oblique(5)
    las = np.diag([1.0, -1.0, 1.0]) @ affine[:3]
    header = {"space": "LAS", "space directions": las[:, [2, 1, 0]].T, "space origin": las[:, 3]}
    nrrd.write(str(tmp_path / "a.nrrd"), labels.transpose(2, 1, 0), header)
    same(read_label_map(tmp_path / "a.nrrd"), labels, affine)


def test_names_of_3d_slicer_are_read(tmp_path: Path) -> None:
    more = "Segment0_LabelValue:=5\nSegment0_Name:=Femur: distal\nSegment0_Color:=1 0 0\n"
    write_nrrd(tmp_path / "a.seg.nrrd", codes(), oblique(), more=more)
    assert read_label_map(tmp_path / "a.seg.nrrd").names == {5: "Femur: distal"}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"data_file": "../../etc/passwd"}, "detached"),
        ({"datafile": "a.raw.gz"}, "detached"),
        ({"sizes": "100000 100000 100000"}, "a size of"),
        ({"sizes": "6 5 -4"}, "a size of"),
        ({"sizes": "6 5"}, "2 axes"),
        ({"sizes": ""}, "lacks sizes"),
        ({"type": "block"}, "known type"),
        ({"encoding": "bzip2"}, "encoding"),
        ({"space": "scanner-xyz"}, "no known space"),
        ({"space": ""}, "no known space"),
        ({"space_directions": "(0,0,0) (0,1,0) (1,0,0)"}, "singular"),
        ({"space_directions": "(1,0,0) (0.9,0.1,0) (0,0,1)"}, "sheared"),
        ({"space_directions": "(nan,0,0) (0,1,0) (1,0,0)"}, "not finite"),
        ({"space_directions": "none (0,1,0) (1,0,0)"}, "three space directions"),
        ({"byte_skip": "-1"}, "byte skip"),
        ({"line_skip": "3"}, "line skip"),
    ],
)
def test_a_hostile_nrrd_header_is_refused(
    tmp_path: Path, changed: dict[str, str], reason: str
) -> None:
    write_nrrd(tmp_path / "a.nrrd", codes(), oblique())
    text = (tmp_path / "a.nrrd").read_bytes()
    key = next(iter(changed)).replace("_", " ")
    lines = text.split(b"\n\n", 1)[0].split(b"\n")
    kept = [line for line in lines if not line.startswith(f"{key}: ".encode())]
    if value := next(iter(changed.values())):
        kept.append(f"{key}: {value}".encode())
    (tmp_path / "a.nrrd").write_bytes(b"\n".join(kept) + b"\n\n" + text.split(b"\n\n", 1)[1])
    with pytest.raises(Refused, match=reason):
        read_label_map(tmp_path / "a.nrrd")


@pytest.mark.parametrize("name", ["a.nrrd", "raw.nrrd", "a.nii", "a.nii.gz"])
def test_what_is_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    labels = codes((20, 30, 30))
    if name.endswith("nrrd"):
        write_nrrd(tmp_path / name, labels, oblique(), encoding="raw" if "raw" in name else "gzip")
    else:
        nib.Nifti1Image(labels, oblique()).to_filename(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for share in (0.01, 0.3, 0.97):
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        with pytest.raises(Refused):
            read_label_map(tmp_path / name)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(Refused, match="empty"):
        read_label_map(tmp_path / name)


def test_a_gzip_bomb_gives_no_more_than_its_header_promised(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.nrrd", codes(), oblique())
    head = (tmp_path / "a.nrrd").read_bytes().split(b"\n\n", 1)[0]
    bomb = gzip.compress(bytes(50_000_000))
    (tmp_path / "a.nrrd").write_bytes(head + b"\n\n" + bomb)
    assert read_label_map(tmp_path / "a.nrrd").labels.shape == (4, 5, 6)


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 600), value=st.integers(0, 255), cut=st.integers(1, 700))
def test_a_mutated_nrrd_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, cut: int
) -> None:
    path = tmp_path_factory.mktemp("m") / "a.nrrd"
    write_nrrd(path, codes(), oblique())
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(bytes(content[:cut]) if cut % 3 == 0 else bytes(content))
    with contextlib.suppress(Refused):
        read_label_map(path)


def test_nifti_axes_and_values(tmp_path: Path) -> None:
    labels, affine = codes(), oblique(7)
    ras = np.diag([-1.0, -1, 1, 1]) @ affine[:, [2, 1, 0, 3]]
    for array in (labels, labels.astype(np.float32), labels.astype(np.int32)[None].T[..., 0]):
        voxels = array if array.shape == (6, 5, 4) else array.transpose(2, 1, 0)
        nib.Nifti1Image(voxels, ras).to_filename(tmp_path / "a.nii.gz")
        same(read_label_map(tmp_path / "a.nii.gz"), labels, affine)
    nib.Nifti1Image(labels.transpose(2, 1, 0)[..., None], ras).to_filename(tmp_path / "b.nii")
    same(read_label_map(tmp_path / "b.nii"), labels, affine)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((3, 3, 3), 0.5, np.float32), "whole numbers"),
        (np.full((3, 3, 3), np.nan, np.float32), "whole numbers"),
        (np.full((3, 3, 3), -1, np.int16), "codes from -1"),
        (np.full((3, 3, 3), 70000, np.int32), "codes from"),
        (np.zeros((3, 3, 3, 2), np.uint8), "4 axes"),
    ],
)
def test_a_nifti_that_is_no_label_map_is_refused(
    tmp_path: Path, values: NDArray[Any], reason: str
) -> None:
    nib.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / "a.nii")
    with pytest.raises(Refused, match=reason):
        read_label_map(tmp_path / "a.nii")


def test_an_absurd_nifti_is_refused_before_it_is_read(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    image.to_filename(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(bytes(content))
    with pytest.raises(Refused, match="a size of"):
        read_label_map(tmp_path / "a.nii")


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(Refused, match="not a label map"):
        read_label_map(tmp_path / "a.txt")


@pytest.mark.skipif(not DATA.is_dir(), reason="real label maps are not beside the checkout")
@pytest.mark.parametrize("name", ["knee_a_label.nrrd", "knee_b_label.nrrd"])
def test_real_knees_are_read_as_pynrrd_reads_them(name: str) -> None:
    nrrd = pytest.importorskip("nrrd")
    voxels, header = nrrd.read(str(DATA / name))
    found = read_label_map(DATA / name)
    assert np.array_equal(found.labels, voxels.transpose(2, 1, 0))
    assert np.allclose(found.affine[:3, :3], header["space directions"][::-1].T)
    assert np.allclose(found.affine[:3, 3], header["space origin"])
