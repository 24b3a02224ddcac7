import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from spinmark_data.cohort.import_scans import check_scans, read_scan_table
from spinmark_data.cohort.import_zarr import import_zarr, open_array
from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError

SPACING = (3.0, 0.5, 0.7)


def numbers(*lead: int) -> np.ndarray:
    return np.random.default_rng(4).integers(-700, 3000, (*lead, 4, 6, 5)).astype(np.int16)


def put(path: Path, data: np.ndarray, zarr_format: Any = 3, name: str = "") -> Path:
    """A store that zarr-python wrote: an array, or a group with one."""
    options: dict[str, Any] = {"data": data, "chunks": (1, *data.shape[1:])}
    if name:
        group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
        group.create_array(name, **options)
        group.create_array("other", data=np.arange(3))
    else:
        zarr.create_array(path, zarr_format=zarr_format, **options)
    return path


def table(count: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject_id": ["007", "007", "008"][:count],
            "laterality": ["R", "L", ""][:count],
            "visit": ["V00", "V00", "V03"][:count],
            "days": ["0", "1.5", ""][:count],
        }
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ["", "volume", "images"])
def test_integers_come_through_as_they_are(tmp_path: Path, zarr_format: int, name: str) -> None:
    data = numbers(3)
    store = put(tmp_path / "s", data, zarr_format, name)
    seen: list[tuple[int, int]] = []
    manifest = import_zarr(
        store,
        tmp_path / "c",
        scans=table(),
        sequence="SAG",
        spacing_mm=SPACING,
        array=name or "volume",
        progress=lambda *n: seen.append(n),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    cohort = Cohort.open(tmp_path / "c")
    assert np.array_equal(cohort.read("SAG", np.arange(3)), data)
    scans = cohort.scans("SAG")
    assert scans["scan_id"].tolist() == ["007:R:V00:SAG:0", "007:L:V00:SAG:0", "008::V03:SAG:0"]
    assert scans["days"].tolist()[:2] == [0.0, 1.5]
    assert np.isnan(scans["days"][2])
    assert scans[["scale", "offset"]].to_numpy().tolist() == [[1.0, 0.0]] * 3
    assert not scans["mirrored"].any()
    assert scans["source_sha256"][1] == hashlib.sha256(data[1].tobytes()).hexdigest()
    # By hand: z to the left, x to the back, y downwards, in LPS mm.
    affine = cohort.images("SAG")["affine"].values[0]
    assert affine.tolist() == [[3, 0, 0, 0], [0, 0, 0.7, 0], [0, -0.5, 0, 0], [0, 0, 0, 1]]
    assert manifest["sequences"]["SAG"]["spacing_mm"] == list(SPACING)
    assert cohort.table("flow")["n"].tolist() == [3, 3]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u1", "u2", "i4", "u8", ">i2", ">f4"])
def test_values_of_every_type_are_kept_to_half_a_step(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(5)
    kind = np.dtype(dtype)
    values = rng.normal(300, 90, (2, 4, 6, 5))
    data = values.astype(kind) if kind.kind == "f" else values.clip(0, 250).astype(kind)
    if dtype == "i4":
        data = data * 9000 - 7
    store = put(tmp_path / "s", data)
    import_zarr(store, tmp_path / "c", scans=table(2), sequence="A", spacing_mm=SPACING)
    cohort = Cohort.open(tmp_path / "c")
    stored, scans = cohort.read("A", np.arange(2)), cohort.scans("A")
    assert stored.dtype == np.int16
    for index in range(2):
        scale, offset = scans["scale"][index], scans["offset"][index]
        error = np.abs(stored[index] * scale + offset - data[index].astype(np.float64))
        assert error.max() <= scale / 2 * (1 + 1e-9)
        if dtype in ("u1", "u2", "u8", ">i2"):
            assert error.max() == 0
        else:
            span = float(data[index].max()) - float(data[index].min())
            assert scale == pytest.approx(span / 65535)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_names_its_scan(tmp_path: Path, bad: float) -> None:
    data = numbers(3).astype(np.float32)
    data[1, 2, 3, 4] = bad
    store = put(tmp_path / "s", data)
    with pytest.raises(InputError, match=r"^Scan 007:L:V00:SAG:0 \(row 1\): values from .*finite"):
        import_zarr(store, tmp_path / "c", scans=table(), sequence="SAG", spacing_mm=SPACING)
    assert not (tmp_path / "c" / "cohort.json").exists()


def test_a_scan_is_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = put(tmp_path / "s", numbers(3))
    taken: list[Any] = []
    read = zarr.Array.__getitem__

    def watched(array: Any, key: Any) -> Any:
        if array.store_path.store.root == store:
            taken.append(key)
        return read(array, key)

    monkeypatch.setattr(zarr.Array, "__getitem__", watched)
    import_zarr(store, tmp_path / "c", scans=table(), sequence="SAG", spacing_mm=SPACING)
    assert taken == [0, 1, 2]


def test_left_joints_are_mirrored_when_asked(tmp_path: Path) -> None:
    data = numbers(3)
    store = put(tmp_path / "s", data)
    manifest = import_zarr(
        store, tmp_path / "c", scans=table(), sequence="SAG", spacing_mm=SPACING, mirror_left=True
    )
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.scans("SAG")["mirrored"].tolist() == [False, True, False]
    read = cohort.read("SAG", np.arange(3))
    assert np.array_equal(read[1], data[1, ::-1])
    assert np.array_equal(read[[0, 2]], data[[0, 2]])
    assert manifest["provenance"]["left_mirrored"] == 1
    # What is mirrored already is not turned twice.
    again = table().assign(mirrored=["", "true", "0"])
    import_zarr(
        store, tmp_path / "d", scans=again, sequence="SAG", spacing_mm=SPACING, mirror_left=True
    )
    cohort = Cohort.open(tmp_path / "d")
    assert np.array_equal(cohort.read("SAG", np.arange(3)), data)
    assert cohort.scans("SAG")["mirrored"].tolist() == [False, True, False]


def test_echoes_and_affines(tmp_path: Path) -> None:
    data = numbers(3, 2)
    store = put(tmp_path / "s", data)
    affine = np.stack([np.diag([*SPACING, 1.0])] * 3)
    affine[:, 0, 3] = [1, 2, 3]
    import_zarr(
        store,
        tmp_path / "c",
        scans=table(),
        sequence="T2",
        spacing_mm=SPACING,
        affine=affine,
        echo_time_ms=[10, 20],
    )
    cohort = Cohort.open(tmp_path / "c")
    assert np.array_equal(cohort.read("T2", np.arange(3)), data)
    images = cohort.images("T2")
    assert np.array_equal(images["affine"].values, affine)
    assert images["echo_time_ms"].values.tolist() == [[10.0, 20.0]] * 3


def test_the_numbers_of_the_array_may_stand_for_others(tmp_path: Path) -> None:
    data = numbers(2).astype(np.float32) / 7
    store = put(tmp_path / "s", data)
    scans = table(2).assign(scale=[2.0, 0.5], offset=[-1.0, 3.0])
    import_zarr(store, tmp_path / "c", scans=scans, sequence="A", spacing_mm=SPACING)
    cohort = Cohort.open(tmp_path / "c")
    rows, stored = cohort.scans("A"), cohort.read("A", np.arange(2))
    for index, (scale, offset) in enumerate([(2.0, -1.0), (0.5, 3.0)]):
        meant = data[index].astype(float) * scale + offset
        got = stored[index] * rows["scale"][index] + rows["offset"][index]
        assert np.abs(got - meant).max() <= rows["scale"][index] / 2 * (1 + 1e-9)


def test_what_an_import_leaves_out_is_an_issue(tmp_path: Path) -> None:
    store = put(tmp_path / "s", numbers(1))
    scans = table(1).assign(pain=[3])
    people = pd.DataFrame({"subject_id": ["007"], "SEX": [1.0]})
    import_zarr(
        store,
        tmp_path / "c",
        scans=scans,
        sequence="A",
        spacing_mm=SPACING,
        tables={"subjects": people},
    )
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.table("issues")["source"].tolist() == ["scan table, column pain"]
    assert cohort.table("subjects")["SEX"].tolist() == [1.0]


def test_equal_imports_are_equal(tmp_path: Path) -> None:
    store = put(tmp_path / "s", numbers(3).astype(np.float32) / 3)
    for name in "ab":
        import_zarr(store, tmp_path / name, scans=table(), sequence="A", spacing_mm=SPACING)
    assert Cohort.open(tmp_path / "a").hash == Cohort.open(tmp_path / "b").hash
    with pytest.raises(InputError, match="holds a cohort already"):
        import_zarr(store, tmp_path / "a", scans=table(), sequence="A", spacing_mm=SPACING)


def test_scan_tables_of_both_kinds(tmp_path: Path) -> None:
    frame = table().assign(rank=[0, 0, 0], laterality=["R", None, None])
    frame.to_csv(tmp_path / "t.csv", index=False)
    read = read_scan_table(tmp_path / "t.csv")
    assert read["subject_id"].tolist() == ["007", "007", "008"]
    typed = frame.assign(days=[0.0, 1.5, np.nan], subject_id=[7, 7, 8])
    typed.to_parquet(tmp_path / "t.parquet")
    columns = ["laterality", "visit", "rank", "days"]
    first = check_scans(read, "A", 3)
    second = check_scans(read_scan_table(tmp_path / "t.parquet"), "A", 3)
    pd.testing.assert_frame_equal(first[columns], second[columns])
    assert second["subject_id"].tolist() == ["7", "7", "8"]
    assert first["laterality"].tolist() == ["R", "", ""]
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        read_scan_table(tmp_path / "none.csv")
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match=r"bad\.parquet cannot be read"):
        read_scan_table(tmp_path / "bad.parquet")


def test_rescans_without_a_rank_are_numbered() -> None:
    scans = pd.DataFrame({"subject_id": ["a", "b", "a", "a"], "laterality": ["R", "R", "R", "L"]})
    assert check_scans(scans, "S", 4)["scan_id"].tolist() == [
        "a:R:V00:S:0",
        "b:R:V00:S:0",
        "a:R:V00:S:1",
        "a:L:V00:S:0",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject_id": ["a", "", "b"]}, "Row 1 of the scan table has no subject_id"),
        ({"subject_id": ["a", "b:c", "b"]}, "Row 1 .* subject_id is 'b:c'"),
        ({"subject_id": [1.0, 2.0, 3.0]}, "subject_id of the scan table is of floats"),
        ({"laterality": ["R", "right", "L"]}, "Row 1 .* laterality is 'right'; R, L or nothing"),
        ({"visit": ["V00", "", "V01"]}, "Row 1 .* has no visit"),
        ({"days": ["0", "soon", ""]}, "Row 1 .* days is 'soon'; a number or nothing"),
        ({"rank": ["0", "-1", "0"]}, "Row 1 .* rank is '-1'; 0, 1, 2"),
        ({"rank": ["0", "", "0"]}, "Row 1 .* rank is ''"),
        ({"scale": [1.0, 0.0, 1.0]}, "Row 1 .* scale is .*a number other than 0"),
        ({"mirrored": ["true", "maybe", ""]}, "Row 1 .* mirrored is 'maybe'; true or false"),
        (
            {"laterality": "R", "visit": "V00", "rank": 0},
            r"Rows \[0, 1\] of the scan table are all 007:R:V00:SAG:0",
        ),
    ],
)
def test_a_wrong_cell_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_scans(table().assign(**change), "SAG", 3)


def test_other_refusals(tmp_path: Path) -> None:
    store = put(tmp_path / "s", numbers(3), name="images")

    def call(**options: Any) -> None:
        given: dict[str, Any] = {"scans": table(), "sequence": "A", "spacing_mm": SPACING}
        given |= {"array": "images", **options}
        import_zarr(given.pop("store", store), tmp_path / "c", **given)

    for options, message in [
        ({"array": "volume"}, r"no array 'volume'; this group has \['images', 'other'\]"),
        ({"array": "other"}, r"shape \(3,\); \(scan, z, y, x\)"),
        ({"store": tmp_path / "none"}, "no such folder"),
        ({"store": tmp_path}, "cannot be opened as Zarr 2 or 3"),
        ({"scans": table(2)}, "2 rows and the array 3 scans"),
        ({"scans": table().drop(columns="subject_id")}, "subject_id is needed"),
        ({"sequence": "a/b"}, "sequence 'a/b': letters"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "three positive numbers"),
        ({"affine": np.eye(4)}, r"steps by \[1.0, 1.0, 1.0\] mm and spacing_mm is"),
        ({"affine": np.zeros((2, 4, 4))}, r"\(4, 4\) or \(3, 4, 4\)"),
        ({"echo_time_ms": [1.0]}, "no echoes and echo_time_ms"),
    ]:
        with pytest.raises(InputError, match=message):
            call(**options)
    echoes = put(tmp_path / "e", numbers(3, 2))
    with pytest.raises(InputError, match="2 echoes and echo_time_ms is None"):
        call(store=echoes)
    with pytest.raises(InputError, match=r"shape \(3,\); \(2,\) or \(3, 2\)"):
        call(store=echoes, echo_time_ms=[1, 2, 3])
    flags = put(tmp_path / "b", numbers(3) > 0)
    with pytest.raises(InputError, match="voxels of bool"):
        open_array(flags)
    assert not (tmp_path / "c").exists()
