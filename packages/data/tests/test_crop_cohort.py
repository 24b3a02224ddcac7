"""A cohort cut about its joints: where voxels end up in the patient, and what goes along."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass, map_coordinates

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.cohort.verify import verify
from spinmark_data.errors import InputError
from spinmark_data.export.common import list_scans, load
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.geometry import reorient
from spinmark_data.ingest.run import ingest
from spinmark_data.labels.add import add_labels
from spinmark_data.labels.config import LabelsConfig
from spinmark_data.labels.read import read_label_map
from spinmark_data.labels.store import LabelSet
from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState
from spinmark_data.preprocess import crop_cohort as module
from spinmark_data.preprocess.config import PreprocessConfig
from spinmark_data.preprocess.crop_cohort import crop_cohort
from spinmark_data.preprocess.crop_config import CropConfig

REAL = Path(__file__).parents[4] / "shared" / "data" / "knee-labels"
SHAPE = (10, 24, 22)
SPACING = (2.0, 0.8, 0.7)
Array = NDArray[Any]


def tilted() -> NDArray[np.float64]:
    """The cohort's axes, turned by 7 degrees about each axis of the patient: LPS mm."""
    a = np.deg2rad(7)
    about = [
        [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]],
        [[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]],
        [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]],
    ]
    z, y, x = SPACING
    affine = np.eye(4)
    straight = np.array([[z, 0, 0], [0, 0, x], [0, -y, 0]])
    affine[:3, :3] = np.array(about[0]) @ np.array(about[1]) @ np.array(about[2]) @ straight
    affine[:3, 3] = [-31.0, 12.5, 40.25]
    return affine


@dataclass
class Knee:
    """A scan as it lay in the patient."""

    subject: str
    side: str
    voxels: Array
    labels: Array | None
    scale: float = 1.0
    offset: float = 0.0

    @property
    def scan_id(self) -> str:
        return f"{self.subject}:{self.side}:V00:DESS:0"

    def stored(self, values: Array) -> Array:
        """As a cohort keeps it: the right-left axis of a left knee the other way round."""
        return values[..., ::-1, :, :] if self.side == "L" else values


def knees(seed: int = 0, dtype: str = "int16") -> list[Knee]:
    rng = np.random.default_rng(seed)
    found = []
    # First and last voxel of the cartilage; the last knee's lies at the end of the field.
    boxes = [((3, 8, 6), (6, 15, 12)), ((1, 5, 9), (5, 14, 15)), ((4, 9, 4), (8, 12, 14))]
    boxes.append(((6, 14, 10), (9, 23, 21)))
    for number, (low, high) in enumerate(boxes):
        labels = np.zeros(SHAPE, np.uint8)
        box = tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
        labels[box] = rng.integers(0, 5, labels[box].shape)
        labels[low], labels[high] = 1, 4
        labels[:, :3], labels[0, 0, 0] = 5, 9
        low_value = 10 if dtype.startswith("u") else -300
        found.append(
            Knee(
                subject=f"100000{1 + number // 2}",
                side="RL"[number % 2],
                voxels=rng.integers(low_value, 2500, SHAPE).astype(dtype),
                labels=labels,
                scale=0.25 * (number + 1),
                offset=-3.0 * number,
            )
        )
    return found


def save(path: Path, values: Array, affine: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ras = np.diag([-1.0, -1, 1, 1]) @ affine[:, [2, 1, 0, 3]]
    nib.Nifti1Image(np.ascontiguousarray(values.transpose(2, 1, 0)), ras).to_filename(path)


TABLES = {
    "subjects": pd.DataFrame({"subject_id": ["1000001", "1000002"], "SITE": ["A", "B"]}),
    "joints": pd.DataFrame(
        {
            "subject_id": ["1000001"] * 2,
            "laterality": ["R", "L"],
            "visit": ["V00"] * 2,
            "joint_id": ["1000001:R", "1000001:L"],
            "days": [0.0, 0.0],
            "XRKL": [2.0, np.nan],
        }
    ),
    "issues": pd.DataFrame(
        [("a series", "refused", "a reason", "an action")],
        columns=["source", "kind", "reason", "action"],
        dtype=object,
    ),
}


def make(path: Path | str, given: list[Knee], affine: Array | None = None) -> Cohort:
    affine = tilted() if affine is None else affine
    rows = [
        {
            "subject_id": one.subject,
            "laterality": one.side,
            "visit": "V00",
            "days": 3.0 + number,
            "site": "A",
            "scanner": "made up",
            "mirrored": one.side == "L",
            "scale": one.scale,
            "offset": one.offset,
            "source_sha256": f"{number:064x}",
        }
        for number, one in enumerate(given)
    ]
    sequence = SequenceVolumes(
        volume=np.stack([one.stored(one.voxels) for one in given]),
        scans=pd.DataFrame(rows),
        spacing_mm=SPACING,
        affine=np.broadcast_to(affine, (len(given), 4, 4)),
    )
    write_cohort(path, volumes={"DESS": sequence}, tables=TABLES, provenance={"layout": "made"})
    return Cohort.open(path)


def label(cohort: Cohort, folder: Path, given: list[Knee], **options: Any) -> None:
    affine = cohort.coordinates("DESS")[1]
    for index, one in enumerate(given):
        if one.labels is not None:
            save(folder / f"{one.scan_id.replace(':', '_')}.nii.gz", one.labels, affine[index])
    add_labels(cohort.folder, folder, LabelsConfig(**options))


def by_hand(values: Array, start: list[int], shape: tuple[int, ...], fill: int) -> Array:
    """A box of an array by plain slicing, padded where it leaves the array."""
    pad = [
        (max(0, -a), max(0, a + n - size)) for a, n, size in zip(start, shape, SHAPE, strict=True)
    ]
    wide = np.pad(values, pad, constant_values=fill)
    box = tuple(slice(a + p[0], a + p[0] + n) for a, n, p in zip(start, shape, pad, strict=True))
    return wide[box]


def start_of(
    labels: Array, shape: tuple[int, ...], codes: tuple[int, ...] = (1, 2, 3, 4)
) -> list[int]:
    at = np.argwhere(np.isin(labels, codes))
    middle = (at.min(axis=0) + at.max(axis=0)) / 2
    return [int(np.floor(m - (n - 1) / 2 + 0.5)) for m, n in zip(middle, shape, strict=True)]


@pytest.mark.parametrize("shape", [(5, 10, 12), (6, 11, 9), (14, 12, 12)])
@pytest.mark.parametrize("dtype", ["int16", "uint16"])
def test_whole_voxels_are_those_of_plain_slicing(
    tmp_path: Path, shape: tuple[int, int, int], dtype: str
) -> None:
    given = knees(dtype=dtype)
    parent = make(tmp_path / "c", given)
    label(parent, tmp_path / "l", given)
    done = crop_cohort(parent, tmp_path / "new", CropConfig(shape=shape, workers=1))
    assert (done.scans, done.quarantined, done.refused) == ({"DESS": 4}, 0, 0)
    assert done.labels == {"labels": 4}
    cut = Cohort.open(tmp_path / "new")
    found, maps = cut.read("DESS", np.arange(4)), LabelSet.open(cut)
    rows, affine, _ = cut.coordinates("DESS")
    assert found.dtype == np.dtype(dtype)
    pd.testing.assert_frame_equal(rows, parent.scans("DESS"))
    for index, one in enumerate(given):
        assert one.labels is not None
        start = start_of(one.labels, shape)
        wanted = by_hand(one.voxels, start, shape, int(one.voxels.min()))
        assert np.array_equal(found[index], one.stored(wanted))
        wanted = by_hand(one.labels, start, shape, 0)
        assert np.array_equal(maps.read("DESS", one.scan_id), one.stored(wanted))
        first = (tilted() @ [*start, 1.0])[:3]
        assert np.allclose(affine[index][:3, 3], first)
        assert np.allclose(affine[index][:3, :3], tilted()[:3, :3])
    assert cut.manifest["sequences"]["DESS"]["spacing_mm"] == list(SPACING)
    assert verify(tmp_path / "new").problems == []


@pytest.mark.parametrize("shape", [(3, 26, 7), (8, 9, 24), (12, 4, 5)])
def test_a_cut_of_any_place_moves_voxels_and_labels_together(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    rng = np.random.default_rng(shape)
    given = []
    for number in range(16):
        labels = np.zeros(SHAPE, np.uint8)
        low, size = rng.integers(0, SHAPE), rng.integers(1, (6, 12, 12))
        labels[tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))] = 2
        # A scan whose voxels say where they are.
        voxels = (np.arange(np.prod(SHAPE)).reshape(SHAPE) + 1).astype(np.int16)
        who = {"subject": f"10000{10 + number // 2}", "side": "RL"[number % 2]}
        given.append(Knee(voxels=voxels, labels=labels, **who))
    parent = make(tmp_path / "c", given)
    label(parent, tmp_path / "l", given)
    config = CropConfig(shape=shape, min_coverage=0.0, workers=1)
    crop_cohort(parent, tmp_path / "new", config)
    cut = Cohort.open(tmp_path / "new")
    for index, one in enumerate(given):
        affine = cut.coordinates("DESS")[1][index]
        got = one.stored(cut.read("DESS", np.array([index]))[0])
        codes = one.stored(LabelSet.open(cut).read("DESS", one.scan_id))
        # Each voxel of the cut, by its place in the patient, in the scan.
        at = np.indices(shape).reshape(3, -1)
        places = np.linalg.solve(tilted(), affine @ np.vstack([at, np.ones(at.shape[1])]))[:3]
        whole = np.rint(places).astype(int)
        assert np.abs(places - whole).max() < 1e-6
        inside = ((whole >= 0) & (whole < np.array(SHAPE)[:, None])).all(axis=0)
        assert inside.any()
        assert one.labels is not None
        assert np.array_equal(got.ravel()[inside], one.voxels[tuple(whole[:, inside])])
        assert np.array_equal(codes.ravel()[inside], one.labels[tuple(whole[:, inside])])
        assert not codes.ravel()[~inside].any()
        # The middle of the labels is that of the cut, to half a voxel.
        marked = np.argwhere(one.labels)
        middle = (marked.min(axis=0) + marked.max(axis=0)) / 2
        away = np.linalg.solve(affine, tilted() @ [*middle, 1.0])[:3] - (np.array(shape) - 1) / 2
        assert np.abs(away).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("spacing", [None, (1.6, 0.6, 0.9)])
def test_a_bright_spot_keeps_its_place_in_the_patient(tmp_path: Path, spacing: Any) -> None:
    given = knees(3)
    grid = np.indices(SHAPE)
    spots = [np.array([4.4, 11.3, 9.2]), np.array([3.3, 9.4, 11.6])]
    for one, spot in zip(given[:2], spots, strict=True):
        mm = (grid - spot[:, None, None, None]) * np.array(SPACING)[:, None, None, None]
        one.voxels = np.rint(2000 * np.exp(-(mm**2).sum(axis=0) / (2 * 1.5**2))).astype(np.int16)
        assert one.labels is not None
        # A small label about the spot, in the cartilage.
        one.labels[:] = 0
        one.labels[3:6, 8:15, 7:13] = 1
        middle = np.rint(spot).astype(int)
        one.labels[tuple(slice(m - 1, m + 2) for m in middle)] = 10
    parent = make(tmp_path / "c", given[:2])
    label(parent, tmp_path / "l", given[:2])
    config = CropConfig(shape=(9, 18, 16), spacing_mm=spacing, min_coverage=0.0, workers=1)
    crop_cohort(parent, tmp_path / "new", config)
    cut = Cohort.open(tmp_path / "new")
    for scan, spot, one in zip(list_scans(cut, "DESS"), spots, given[:2], strict=True):
        there = (tilted() @ [*spot, 1.0])[:3]
        for undo in (True, False):  # Either way the affine says where the patient's knee was.
            volume, affine = load(cut, scan, undo_mirror=undo)
            values = volume * float(scan.row["scale"]) + float(scan.row["offset"])
            values -= values.min()
            here = (affine @ [*center_of_mass(values), 1.0])[:3]
            assert np.abs(here - there).max() < 0.15
            codes = LabelSet.open(cut).read("DESS", one.scan_id)
            codes = one.stored(codes) if undo else codes
            here = (affine @ [*center_of_mass(codes == 10), 1.0])[:3]
            nearest = (tilted() @ [*np.rint(spot), 1.0])[:3]
            assert np.linalg.norm(here - nearest) < (0.6 if spacing else 1e-9)


def test_a_finer_grid_is_what_scipy_interpolates(tmp_path: Path) -> None:
    given = knees(5)
    parent = make(tmp_path / "c", given)
    label(parent, tmp_path / "l", given)
    spacing, shape = (1.3, 0.53, 0.61), (7, 15, 13)
    config = CropConfig(shape=shape, spacing_mm=spacing, interpolation="linear", workers=1)
    crop_cohort(parent, tmp_path / "new", config)
    cut = Cohort.open(tmp_path / "new")
    rows, affine, _ = cut.coordinates("DESS")
    found, maps = cut.read("DESS", np.arange(4)), LabelSet.open(cut)
    before = parent.scans("DESS")
    same = [name for name in rows.columns if name not in ("scale", "offset")]
    pd.testing.assert_frame_equal(rows[same], before[same])
    assert cut.manifest["sequences"]["DESS"]["spacing_mm"] == pytest.approx(list(spacing))
    for index, one in enumerate(given):
        assert one.labels is not None
        marked = np.argwhere(np.isin(one.labels, (1, 2, 3, 4)))
        low, high = marked.min(axis=0), marked.max(axis=0)
        # By hand: the middle of the labels, and steps of the new spacing from there.
        step = np.array(spacing) / np.array(SPACING)
        start = (low + high) / 2 - step * (np.array(shape) - 1) / 2
        assert np.allclose(affine[index][:3, 3], (tilted() @ [*start, 1.0])[:3])
        at = start[:, None, None, None] + step[:, None, None, None] * np.indices(shape)
        inside = ((at >= -0.5) & (at <= np.array(SHAPE)[:, None, None, None] - 0.5)).all(axis=0)
        wanted = map_coordinates(one.voxels.astype(float), at, order=1, mode="nearest")
        wanted[~inside] = one.voxels.min()
        values = one.stored(found[index]) * rows["scale"][index] + rows["offset"][index]
        error = np.abs(values - (wanted * one.scale + one.offset))
        assert error.max() <= one.scale * 0.502
        wanted = map_coordinates(one.labels, at, order=0, mode="nearest")
        wanted[~inside] = 0
        # Half-way between two voxels either is the nearest.
        clear = (np.abs(at - np.floor(at) - 0.5) > 1e-6).all(axis=0)
        got = one.stored(maps.read("DESS", one.scan_id))
        assert clear.mean() > 0.7
        assert np.array_equal(got[clear], wanted[clear])
    assert verify(tmp_path / "new").problems == []


def test_everything_else_goes_along(tmp_path: Path) -> None:
    given = knees()
    parent = make(tmp_path / "c", given)
    label(parent, tmp_path / "l", [given[2], given[0]])
    label(parent, tmp_path / "l", given)  # Added later: the set is in another order.
    label(parent, tmp_path / "m", given[1:3], name="other", codes="phantom", dtype="uint16")
    seen: list[tuple[int, int]] = []
    config = CropConfig(shape=(6, 12, 12), workers=1)
    crop_cohort(parent, tmp_path / "new", config, lambda *n: seen.append(n))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    cut = Cohort.open(str(tmp_path / "new"))
    for name in (
        "subjects",
        "visits",
        "joints",
        "morphometry",
        "missing",
        "outcomes",
        "dictionary",
    ):
        pd.testing.assert_frame_equal(cut.table(name), parent.table(name))
    issues = cut.table("issues")
    assert issues.iloc[0].tolist() == ["a series", "refused", "a reason", "an action"]
    assert issues["source"].tolist()[1:] == [one.scan_id for one in given]
    assert set(issues["kind"][1:]) == {"repaired"}
    assert issues["reason"][1].startswith("cut from [10, 24, 22] at [2.0, 0.8, 0.7] mm; ")
    flow = cut.table("flow")
    assert flow["n"].tolist() == [4, 4, 4, 4, 4]
    assert LabelSet.open(cut).indices("DESS").tolist() == [0, 1, 2, 3]
    other = LabelSet.open(cut, "other")
    assert other.indices("DESS").tolist() == [1, 2]
    assert other.manifest["sequences"]["DESS"]["dtype"] == "uint16"
    assert other.codes[18] == "tendon"
    assert other.codes == LabelSet.open(parent, "other").codes
    for name in ("labels", "other"):
        hashes = [
            {
                row["scan_id"]: row["source_sha256"]
                for row in found.manifest["sequences"]["DESS"]["rows"]
            }
            for found in (LabelSet.open(parent, name), LabelSet.open(cut, name))
        ]
        assert hashes[0] == hashes[1]
        assert np.array_equal(
            LabelSet.open(cut, name).read("DESS", given[1].scan_id),
            LabelSet.open(cut).read("DESS", given[1].scan_id),
        )
    told = cut.manifest["provenance"]
    assert told["layout"] == "made"
    assert told["crop"][0]["parent"] == parent.hash
    assert told["crop"][0]["shape"] == [6, 12, 12]
    assert told["crop"][0]["codes"] == [1, 2, 3, 4]
    assert told["crop"][0]["label_sets"]["other"] == LabelSet.open(parent, "other").hash
    assert not any(".staging" in name for name in cut.folder.names())
    # A cut of a cut says both.
    crop_cohort(cut, tmp_path / "again", CropConfig(shape=(5, 8, 8), workers=1))
    again = Cohort.open(tmp_path / "again").manifest["provenance"]["crop"]
    assert [one["parent"] for one in again] == [parent.hash, cut.hash]
    assert again[1]["labels"] == "labels"


@pytest.mark.slow
@pytest.mark.multiproc
def test_the_result_does_not_depend_on_workers(tmp_path: Path) -> None:
    given = knees()
    given[3].labels = None
    parent = make(tmp_path / "c", given)
    label(parent, tmp_path / "l", given)
    stored = []
    for workers in (1, 3):
        path = tmp_path / f"new{workers}"
        config = CropConfig(shape=(6, 12, 12), spacing_mm=(2.0, 0.5, 0.5), workers=workers)
        crop_cohort(parent, path, config)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        stored.append({file.relative_to(path).as_posix(): file.read_bytes() for file in files})
    assert stored[0] == stored[1]


def test_scans_without_labels_are_rows_with_what_to_do(tmp_path: Path) -> None:
    given = knees()
    given[1].labels = None
    assert given[2].labels is not None
    given[2].labels[given[2].labels < 5] = 0
    parent = make(tmp_path / "c", given)
    label(parent, tmp_path / "l", given)
    config = CropConfig(shape=(6, 12, 12), workers=1)
    done = crop_cohort(parent, tmp_path / "new", config)
    assert (done.scans, done.quarantined) == ({"DESS": 2}, 2)
    cut = Cohort.open(tmp_path / "new")
    assert cut.scans("DESS")["scan_id"].tolist() == [given[0].scan_id, given[3].scan_id]
    issues = cut.table("issues").set_index("source")
    for one, reason in ((given[1], "no label map"), (given[2], r"none of the codes [1, 2, 3, 4]")):
        row = issues.loc[one.scan_id]
        assert row["kind"] == "quarantined"
        assert reason in row["reason"]
        assert "add its label map, or give --without_labels joint" in row["action"]
    assert cut.table("flow")["n"].tolist() == [4, 4, 2, 2, 2]
    assert LabelSet.open(cut).indices("DESS").tolist() == [0, 1]
    assert verify(tmp_path / "new").problems == []
    # The field of view is 19 mm tall: no joint can be looked for.
    config = CropConfig(shape=(6, 12, 12), without_labels="joint", workers=1)
    done = crop_cohort(parent, tmp_path / "joint", config)
    assert (done.scans, done.quarantined, done.refused) == ({"DESS": 2}, 0, 2)
    told = Cohort.open(tmp_path / "joint").table("issues").set_index("source")
    assert "along the limb" in told.loc[given[1].scan_id, "reason"]


def test_what_the_cut_loses_is_told_and_too_little_is_refused(tmp_path: Path) -> None:
    given = knees()
    parent = make(tmp_path / "c", given)
    label(parent, tmp_path / "l", given)
    for spacing in (None, (1.7, 1.1, 0.5)):
        out = tmp_path / f"new{spacing}"
        shape = (4, 7, 6)
        config = CropConfig(shape=shape, spacing_mm=spacing, workers=1)
        crop_cohort(parent, out, config)
        issues = Cohort.open(out).table("issues")
        step = np.array(spacing or SPACING) / SPACING
        for index, one in enumerate(given):
            assert one.labels is not None
            at = np.argwhere(np.isin(one.labels, (1, 2, 3, 4)))
            start = np.array(start_of(one.labels, shape), float)
            if spacing:
                start = (at.min(0) + at.max(0)) / 2 - step * (np.array(shape) - 1) / 2
            places = (at - start) / step
            inside = ((places >= -0.5 - 1e-9) & (places <= np.array(shape) - 0.5 + 1e-9)).all(
                axis=1
            )
            lost = (
                f"{100 * (1 - inside.mean()):.2f} % of the voxels that it is cut about lie outside"
            )
            mine = issues[issues["source"] == one.scan_id]["reason"]
            assert inside.all() or mine.iloc[0].startswith(lost), index
            assert len(mine) == (1 if inside.all() else 2)
    config = CropConfig(shape=(8, 20, 22), min_coverage=0.8, workers=1)
    done = crop_cohort(parent, tmp_path / "new", config)
    assert done.refused > 0
    row = Cohort.open(tmp_path / "new").table("issues").query("kind == 'refused'").iloc[-1]
    assert row["source"] == given[3].scan_id
    assert row["reason"].startswith("the scan fills ")
    assert "80% are needed" in row["reason"]
    config = CropConfig(shape=(60, 60, 60), workers=1)
    with pytest.raises(InputError, match=r"None of the 4 scans .*: the scan fills"):
        crop_cohort(parent, tmp_path / "none", config)
    assert not (tmp_path / "none").exists()


def test_codes_of_ones_own(tmp_path: Path) -> None:
    given = knees()
    parent = make(tmp_path / "c", given)
    (tmp_path / "codes.yaml").write_text("1: a\n2: hyaline_cartilage\n3: c\n4: d\n5: e\n9: f\n")
    label(parent, tmp_path / "l", given, codes=str(tmp_path / "codes.yaml"))
    for codes, wanted in ((None, (2,)), ([3, 1], (1, 3))):
        out = tmp_path / f"new{wanted}"
        config = CropConfig(shape=(5, 10, 10), codes=codes, workers=1)
        crop_cohort(parent, out, config)
        affine = Cohort.open(out).coordinates("DESS")[1]
        for index, one in enumerate(given):
            assert one.labels is not None
            start = start_of(one.labels, (5, 10, 10), wanted)
            assert np.allclose(affine[index][:3, 3], (tilted() @ [*start, 1.0])[:3])
    (tmp_path / "codes.yaml").write_text("1: a\n2: b\n3: c\n4: d\n5: e\n9: f\n")
    label(parent, tmp_path / "l", given, codes=str(tmp_path / "codes.yaml"), name="bare")
    with pytest.raises(
        InputError, match="No code of 'bare' is named after cartilage; give --codes"
    ):
        crop_cohort(parent, tmp_path / "x", CropConfig(shape=(5, 10, 10), labels="bare"))
    config = CropConfig(shape=(5, 10, 10), labels="bare", codes=[1, 7])
    with pytest.raises(InputError, match=r"codes \[7\] mean nothing in 'bare'"):
        crop_cohort(parent, tmp_path / "x", config)


def test_echoes_and_several_sequences(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    given = knees()[:2]
    rows = pd.DataFrame(
        {"subject_id": ["1000001"] * 2, "laterality": ["R", "L"], "mirrored": [False, True]}
    )
    echoes = rng.integers(0, 900, (2, 3, *SHAPE)).astype(np.int16)
    affine = np.broadcast_to(tilted(), (2, 4, 4))
    times = np.array([[10.0, 20, 30], [11.0, 21, 31]])
    stored = np.stack([one.stored(e) for one, e in zip(given, echoes, strict=True)])
    t2 = SequenceVolumes(
        volume=stored, scans=rows, spacing_mm=SPACING, affine=affine, echo_time_ms=times
    )
    dess = SequenceVolumes(volume=stored[:, 0], scans=rows, spacing_mm=SPACING, affine=affine)
    write_cohort(tmp_path / "c", volumes={"T2": t2, "DESS": dess}, tables={}, provenance={})
    parent = Cohort.open(tmp_path / "c")
    for one in given:
        assert one.labels is not None
        name = one.scan_id.replace("DESS", "T2").replace(":", "_")
        save(tmp_path / "l" / f"{name}.nii", one.labels, tilted())
    add_labels(tmp_path / "c", tmp_path / "l", LabelsConfig())
    shape = (5, 10, 8)
    done = crop_cohort(parent, tmp_path / "new", CropConfig(shape=shape, workers=1))
    # No label map of the other sequence: its scans are told, and it is not in the cohort.
    assert (done.scans, done.quarantined) == ({"T2": 2}, 2)
    config = CropConfig(shape=shape, sequences=["T2"], workers=1)
    crop_cohort(parent, tmp_path / "t2", config)
    assert Cohort.open(tmp_path / "t2").table("flow")["excluded"].tolist() == [0, 2, 0, 0, 0]
    cut = Cohort.open(tmp_path / "new")
    assert cut.sequences == ("T2",)
    assert np.array_equal(cut.coordinates("T2")[2], times)
    for index, one in enumerate(given):
        assert one.labels is not None
        start = start_of(one.labels, shape)
        for echo in range(3):
            least = int(echoes[index, echo].min())
            wanted = one.stored(by_hand(echoes[index, echo], start, shape, least))
            assert np.array_equal(cut.read("T2", np.array([index]))[0, echo], wanted)
    assert verify(tmp_path / "new").problems == []
    with pytest.raises(InputError, match=r"Unknown sequences \['T1'\]"):
        crop_cohort(parent, tmp_path / "x", CropConfig(shape=shape, sequences=["T1"]))


def test_scans_that_stay_whole_among_others_that_do_not(tmp_path: Path) -> None:
    given = knees(dtype="uint16")[:2]
    parent = make(tmp_path / "c", given)
    affines = np.stack([tilted(), tilted()])
    affines[1][:3, 0] *= 2.009 / 2.0
    path = tmp_path / "mixed"
    sequence = SequenceVolumes(
        volume=parent.read("DESS", np.arange(2)),
        scans=parent.scans("DESS"),
        spacing_mm=SPACING,
        affine=affines,
    )
    write_cohort(path, volumes={"DESS": sequence}, tables={}, provenance={})
    mixed = Cohort.open(path)
    label(mixed, tmp_path / "l", given)
    config = CropConfig(shape=(5, 10, 10), spacing_mm=SPACING, workers=1)
    crop_cohort(mixed, tmp_path / "new", config)
    cut = Cohort.open(tmp_path / "new")
    rows = cut.scans("DESS")
    assert cut.read("DESS", np.arange(2)).dtype == np.int16
    assert given[0].labels is not None
    wanted = by_hand(given[0].voxels, start_of(given[0].labels, (5, 10, 10)), (5, 10, 10), 0)
    values = cut.read("DESS", np.array([0]))[0] * rows["scale"][0] + rows["offset"][0]
    assert np.array_equal(values, wanted * given[0].scale + given[0].offset)


def test_bad_settings_are_told_in_one_line() -> None:
    for options, message in (
        ({}, "shape is missing: three whole numbers"),
        ({"shape": (2, 9, 9)}, r"^shape=\(2, 9, 9\): three axes of at least 3"),
        ({"shape": (9, 9)}, r"^shape=\(9, 9\): three axes"),
        ({"shape": (2**20, 2**10, 9)}, "are the most that are taken"),
        ({"spacing_mm": (1.0, -1.0, 1.0)}, r"^spacing_mm=\(1\.0, -1\.0, 1\.0\): three numbers"),
        ({"centre": "middle"}, r"Unknown centre 'middle'. Valid values are \['labels', 'joint'\]"),
        ({"without_labels": "skip"}, "Unknown without_labels 'skip'. Valid values are"),
        ({"interpolation": "sinc"}, "Unknown interpolation 'sinc'"),
        ({"min_coverage": 2.0}, "min_coverage=2.0: a share lies between 0 and 1"),
        ({"codes": []}, r"codes=\[\]: one or more whole numbers above 0"),
        ({"codes": [0]}, r"codes=\[0\]"),
        ({"sequences": []}, "names are needed"),
    ):
        settings_of: dict[str, Any] = {"shape": (9, 9, 9), **options} if options else {}
        with pytest.raises(InputError, match=message) as caught:
            CropConfig(**settings_of)
        assert "\n" not in str(caught.value)


def test_a_target_with_something_in_it_is_refused(tmp_path: Path) -> None:
    given = knees()
    parent = make(tmp_path / "c", given)
    config = CropConfig(shape=(6, 12, 12), workers=1)
    with pytest.raises(InputError, match=r"has no label maps 'labels'; it has \[\]"):
        crop_cohort(parent, tmp_path / "new", config)
    assert not (tmp_path / "new").exists()
    label(parent, tmp_path / "l", given)
    with pytest.raises(InputError, match=r"/c holds a cohort already; choose another folder"):
        crop_cohort(parent, tmp_path / "c", config)
    crop_cohort(parent, tmp_path / "new", config)
    with pytest.raises(InputError, match=r"/new holds a cohort already; choose another folder"):
        crop_cohort(parent, tmp_path / "new", config)
    (tmp_path / "mine" / "labels").mkdir(parents=True)
    (tmp_path / "mine" / "labels" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="/mine holds files that are no cohort"):
        crop_cohort(parent, tmp_path / "mine", config)
    assert (tmp_path / "mine" / "labels" / "notes.txt").read_text() == "mine"
    staged = tmp_path / "half" / ".staging-1"
    staged.mkdir(parents=True)
    (staged / "ledger.jsonl").write_text("")
    with pytest.raises(InputError, match="/half holds files that are no cohort"):
        crop_cohort(parent, tmp_path / "half", config)


def test_nothing_stands_until_all_of_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = knees()
    parent = make(tmp_path / "c", given)
    label(parent, tmp_path / "l", given)
    config = CropConfig(shape=(6, 12, 12), workers=1)
    crop_cohort(parent, tmp_path / "whole", config)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for step in ("write_images", "write_labels", "new_tables"):
        with monkeypatch.context() as patch:
            patch.setattr(module, step, killed)
            # What a kill leaves: nothing is cleared.
            patch.setattr(module, "suppress", killed)
            with pytest.raises(KeyboardInterrupt):
                crop_cohort(parent, tmp_path / "new", config)
        assert (tmp_path / "new" / ".staging-1" / "crop").exists()
        assert not (tmp_path / "new" / "cohort.json").exists()
    (tmp_path / "new" / "labels" / "old.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_images", killed)
        with pytest.raises(KeyboardInterrupt):
            crop_cohort(parent, tmp_path / "new", config)
    assert not (tmp_path / "new").exists()
    crop_cohort(parent, tmp_path / "new", config)
    files = [
        {f.relative_to(base): f.read_bytes() for f in base.rglob("*") if f.is_file()}
        for base in (tmp_path / "whole", tmp_path / "new")
    ]
    assert files[0] == files[1]


def test_a_damaged_scan_ends_it_and_is_named(tmp_path: Path) -> None:
    given = knees()
    parent = make(tmp_path / "c", given)
    label(parent, tmp_path / "l", given)
    shard = tmp_path / "c" / "images.zarr" / "DESS" / "volume" / "c" / "1" / "0" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"c/1/0/0/0: .*run `spinmark verify` on the cohort"):
        crop_cohort(parent, tmp_path / "new", CropConfig(shape=(6, 12, 12), workers=1))
    assert not (tmp_path / "new").exists()


def test_into_and_out_of_an_object_store(tmp_path: Path) -> None:
    given = knees()
    url = f"memory://{tmp_path.name}"
    here, there = make(tmp_path / "c", given), make(f"{url}/c", given)
    for cohort in (here, there):
        label(cohort, tmp_path / "l", given)
    config = CropConfig(shape=(6, 12, 12), workers=1)
    crop_cohort(tmp_path / "c", tmp_path / "new", config)
    crop_cohort(f"{url}/c", f"{url}/new", config)
    wanted, found = Cohort.open(tmp_path / "new"), Cohort.open(f"{url}/new")
    assert wanted.hash == found.hash
    assert wanted.folder.names() == found.folder.names()
    assert np.array_equal(found.read("DESS", np.arange(4)), wanted.read("DESS", np.arange(4)))
    assert LabelSet.open(found).hash == LabelSet.open(wanted).hash
    assert verify(f"{url}/new").problems == []
    with pytest.raises(InputError, match="/new holds a cohort already"):
        crop_cohort(f"{url}/c", f"{url}/new", config)


def test_an_icechunk_cohort_stays_one(tmp_path: Path, write_release: Any) -> None:
    pytest.importorskip("icechunk")
    release = write_release(tmp_path, ["1000001"], shape=SHAPE[::-1])
    config = IngestConfig(workers=1, table_map=tmp_path / "map.csv", store="icechunk")
    ingest(release, tmp_path / "c", config)
    parent = Cohort.open(tmp_path / "c")
    scans, affine, _ = parent.coordinates("DESS")
    shape = parent.manifest["sequences"]["DESS"]["shape"]
    codes = np.zeros(shape, np.uint8)
    codes[3:6, 8:14, 9:13] = 3
    for index, scan in enumerate(scans["scan_id"]):
        save(tmp_path / "l" / f"{scan.replace(':', '_')}.nii", codes, affine[index])
    add_labels(tmp_path / "c", tmp_path / "l", LabelsConfig())
    crop_cohort(parent, tmp_path / "new", CropConfig(shape=(4, 8, 6), workers=1))
    cut = Cohort.open(tmp_path / "new")
    assert cut.manifest["store"] == "icechunk"
    assert verify(tmp_path / "new").problems == []
    volume, _ = load(cut, list_scans(cut, "DESS")[0], undo_mirror=True)
    before, _ = load(parent, list_scans(parent, "DESS")[0], undo_mirror=True)
    start = start_of(codes, (4, 8, 6))
    assert np.array_equal(
        volume, before[tuple(slice(a, a + n) for a, n in zip(start, (4, 8, 6), strict=True))]
    )
    ledger = [
        json.loads(line) for line in (tmp_path / "new" / "ledger.jsonl").read_text().splitlines()
    ]
    old = [json.loads(line) for line in (tmp_path / "c" / "ledger.jsonl").read_text().splitlines()]
    assert [row["source"] for row in ledger] == [row["source"] for row in old]


def phantom_release(folder: Path) -> tuple[Path, Path]:
    """A right and a left phantom knee with a wide field of view, and their label maps."""
    lines = ["path,subject_id,laterality,visit,days,sequence"]
    for number, side in enumerate("RL"):
        state = JointState(
            laterality=side,
            sex=1 + number,
            size=1.0,
            shape=(0.3, -0.5, 0.2, 0.0, 0.4, -0.1),
            fat_mm=8.0,
            medial=0.6,
            lesion_seed=number,
            bone=1.0,
            cartilage=0.5,
            inflammation=1.0,
            hypertrophy=0.5,
        )
        grid = Grid(shape=(30, 90, 80), spacing_mm=(4.0, 2.0, 2.0))
        made = render_scan(state, SCANNERS[number], grid, seed=number, nuisance=1.0)
        save(folder / "release" / f"{side}.nii", made.volume.astype(np.int16), made.affine)
        save(folder / "l" / f"1000001_{side}_V00_DESS_0.nii", made.labels, made.affine)
        lines.append(f"{side}.nii,1000001,{side},V00,0,DESS")
    (folder / "map.csv").write_text("\n".join(lines) + "\n")
    return folder / "release", folder / "map.csv"


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [None, (4.5, 1.7, 2.3)])
def test_the_joint_in_the_image_is_that_of_the_ingest(tmp_path: Path, spacing: Any) -> None:
    release, table = phantom_release(tmp_path)
    cut_at_once = PreprocessConfig(
        resample=True, shape=(22, 48, 50), spacing_mm=spacing, centre="joint", min_coverage=0.2
    )
    ingest(release, tmp_path / "whole", IngestConfig(workers=1, table_map=table))
    config = IngestConfig(workers=1, table_map=table, preprocess=cut_at_once)
    ingest(release, tmp_path / "wanted", config)
    crop = CropConfig(
        shape=(22, 48, 50), spacing_mm=spacing, centre="joint", min_coverage=0.2, workers=1
    )
    crop_cohort(tmp_path / "whole", tmp_path / "new", crop)
    wanted, found = Cohort.open(tmp_path / "wanted"), Cohort.open(tmp_path / "new")
    assert np.array_equal(found.read("DESS", np.arange(2)), wanted.read("DESS", np.arange(2)))
    ours, theirs = found.coordinates("DESS"), wanted.coordinates("DESS")
    pd.testing.assert_frame_equal(ours[0], theirs[0])
    assert np.allclose(ours[1], theirs[1], atol=1e-9)
    notes = [cohort.table("issues")["reason"].tolist()[-2:] for cohort in (found, wanted)]
    assert sorted(notes[0]) == sorted(notes[1])
    assert found.manifest["sequences"] == wanted.manifest["sequences"]
    if spacing is not None:
        return
    # A left knee without a label map goes by its image, the right one by its labels.
    (tmp_path / "l" / "1000001_L_V00_DESS_0.nii").unlink()
    add_labels(tmp_path / "whole", tmp_path / "l", LabelsConfig(codes="phantom"))
    mixed = CropConfig(shape=(22, 48, 50), without_labels="joint", min_coverage=0.2, workers=1)
    done = crop_cohort(tmp_path / "whole", tmp_path / "mixed", mixed)
    assert (done.scans, done.quarantined, done.labels) == ({"DESS": 2}, 0, {"labels": 1})
    both = Cohort.open(tmp_path / "mixed")
    left = both.scans("DESS")["laterality"].tolist().index("L")
    assert np.array_equal(both.read("DESS", np.array([left])), found.read("DESS", np.array([left])))
    told = both.table("issues")
    told = told[told["source"] == "1000001:L:V00:DESS:0"]["reason"].tolist()
    assert told[0].endswith("cut about the joint found from the image")


@pytest.mark.slow
@pytest.mark.parametrize("side", ["R", "L"])
def test_the_cartilage_of_a_real_knee_stays_whole_and_where_it_was(
    tmp_path: Path, side: str
) -> None:
    if not REAL.is_dir():
        pytest.skip("the real label maps are not beside the checkout")
    found = read_label_map(REAL / "knee_b_label.nrrd")
    # A left knee is a right one in the looking glass: right and left change places.
    glass = np.diag([1.0 if side == "R" else -1.0, 1.0, 1.0, 1.0])
    codes, affine = reorient(found.labels, glass @ found.affine)
    one = Knee("1000001", side, codes.astype(np.int16) * 50 - 7, codes.astype(np.uint8), 0.5, 2.0)
    parent = make(tmp_path / "c", [one], affine)
    label(parent, tmp_path / "l", [one])
    shape = (128, 192, 240)
    crop_cohort(parent, tmp_path / "new", CropConfig(shape=shape, workers=1))
    cut = Cohort.open(tmp_path / "new")
    maps = LabelSet.open(cut).read("DESS", one.scan_id)
    assert not cut.table("issues")["reason"].str.contains("outside of the cut").any()
    assert np.array_equal(cut.read("DESS", np.array([0]))[0], maps.astype(np.int16) * 50 - 7)
    _, moved = load(cut, list_scans(cut, "DESS")[0], undo_mirror=False)
    for code in (1, 2, 3, 4):
        assert np.count_nonzero(maps == code) == np.count_nonzero(codes == code) > 0
        here = (moved @ [*center_of_mass(maps == code), 1.0])[:3]
        there = (affine @ [*center_of_mass(codes == code), 1.0])[:3]
        assert np.abs(here - there).max() < 1e-6
