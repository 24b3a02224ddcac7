import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.scan_map import Function, ScanError, map_scans
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.errors import InputError

COUNT = 6
VOXELS = np.random.default_rng(3).integers(-500, 4000, (COUNT, 3, 5, 4)).astype(np.int16)
SCALE = np.linspace(0.5, 2.0, COUNT)
OFFSET = np.arange(COUNT) * 10.0


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    path = tmp_path_factory.mktemp("map") / "cohort"
    scans = pd.DataFrame(
        {
            "subject_id": [f"s{i}" for i in range(COUNT)],
            "laterality": "R",
            "scale": SCALE,
            "offset": OFFSET,
        }
    )
    given = SequenceVolumes(volume=VOXELS, scans=scans)
    write_cohort(path, volumes={"SAG": given}, tables={}, provenance={})
    return Cohort.open(path)


def summary(bad: str = "") -> Function:
    # A local function travels to other processes by value; this module has no name there.
    def inner(volume: np.ndarray, row: "pd.Series[Any]") -> Mapping[str, float | str]:
        if row["subject_id"] == bad:
            raise ValueError("no  cartilage\nhere")
        assert volume.dtype == "float32"
        return {"mean": float(volume.mean()), "side": str(row["laterality"]), "pid": os.getpid()}

    return inner


EXPECTED = (VOXELS.reshape(COUNT, -1) * SCALE[:, None] + OFFSET[:, None]).mean(axis=1)
IDS = [f"s{i}:R:V00:SAG:0" for i in range(COUNT)]


def check(frame: pd.DataFrame) -> None:
    assert frame.columns.tolist() == ["scan_id", "mean", "side", "pid"]
    assert frame["scan_id"].tolist() == IDS
    assert np.allclose(frame["mean"], EXPECTED, rtol=1e-5)
    assert frame["side"].tolist() == ["R"] * COUNT


@pytest.mark.parametrize("scheduler", [None, "threads", "synchronous"])
def test_on_this_machine(cohort: Cohort, scheduler: Any) -> None:
    seen: list[tuple[int, int]] = []
    frame = map_scans(
        cohort, "SAG", summary(), scheduler=scheduler, progress=lambda *n: seen.append(n)
    )
    check(frame)
    assert seen == [(n, COUNT) for n in range(1, COUNT + 1)]
    assert set(frame["pid"]) == {os.getpid()}


@pytest.mark.multiproc
@pytest.mark.slow
def test_in_processes(cohort: Cohort) -> None:
    frame = map_scans(cohort, "SAG", summary(), scheduler="processes")
    check(frame)
    assert os.getpid() not in set(frame["pid"])
    with pytest.raises(ScanError, match=r"^Scan s1:R:V00:SAG:0: ValueError: no cartilage here"):
        map_scans(cohort, "SAG", summary("s1"), scheduler="processes")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    with cluster, Client(cluster) as client:
        yield client


@pytest.mark.multiproc
@pytest.mark.slow
def test_on_a_cluster(cohort: Cohort, client: Any) -> None:
    seen: list[tuple[int, int]] = []
    frame = map_scans(cohort, "SAG", summary(), client=client, progress=lambda *n: seen.append(n))
    check(frame)
    assert seen == [(n, COUNT) for n in range(1, COUNT + 1)]
    assert os.getpid() not in set(frame["pid"])
    with pytest.raises(ScanError, match=r"^Scan s4:R:V00:SAG:0: ValueError: no cartilage here"):
        map_scans(cohort, "SAG", summary("s4"), client=client)
    collected = map_scans(cohort, "SAG", summary("s4"), client=client, errors="collect")
    assert collected["mean"].isna().tolist() == [i == 4 for i in range(COUNT)]


@pytest.mark.multiproc
@pytest.mark.slow
def test_a_worker_that_dies_is_told_by_its_scan(cohort: Cohort) -> None:
    import dask
    from distributed import Client, LocalCluster

    def deadly(volume: np.ndarray, row: "pd.Series[Any]") -> Mapping[str, float | str]:
        if row["subject_id"] == "s2":
            os._exit(9)
        return {"sum": float(volume.sum())}

    settings = {"distributed.scheduler.allowed-failures": 0}
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=60
        ) as cluster,
        Client(cluster) as client,
    ):
        frame = map_scans(cohort, "SAG", deadly, client=client, errors="collect")
    assert frame["scan_id"].tolist() == IDS
    assert "KilledWorker" in frame["error"][2]
    # A scan that waited on the worker when it died is told of too; the others are right.
    failed = (frame["error"] != "").to_numpy()
    assert failed.sum() <= 2
    assert frame["sum"].isna().tolist() == failed.tolist()
    physical = EXPECTED * VOXELS[0].size
    assert np.allclose(frame["sum"][~failed], physical[~failed], rtol=1e-5)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_the_failing_scan_is_named(cohort: Cohort, scheduler: Any) -> None:
    with pytest.raises(ScanError) as caught:
        map_scans(cohort, "SAG", summary("s3"), scheduler=scheduler)
    assert str(caught.value) == "Scan s3:R:V00:SAG:0: ValueError: no cartilage here"
    assert 'raise ValueError("no  cartilage' in caught.value.__notes__[0]


def test_failures_are_collected(cohort: Cohort) -> None:
    frame = map_scans(cohort, "SAG", summary("s3"), errors="collect")
    assert frame.columns.tolist() == ["scan_id", "mean", "side", "pid", "error"]
    assert frame["scan_id"].tolist() == IDS
    assert frame["mean"].isna().tolist() == [i == 3 for i in range(COUNT)]
    assert frame["error"].tolist() == ["", "", "", "ValueError: no cartilage here", "", ""]


def test_some_scans_in_the_order_asked_for(cohort: Cohort) -> None:
    def largest(volume: np.ndarray, row: "pd.Series[Any]") -> Mapping[str, float | str]:
        assert volume.dtype == np.int16
        return {"largest": int(volume.max())}

    frame = map_scans(cohort, "SAG", largest, indices=[4, 1], values="stored")
    assert frame["scan_id"].tolist() == [IDS[4], IDS[1]]
    assert frame["largest"].tolist() == [VOXELS[4].max(), VOXELS[1].max()]
    assert map_scans(cohort, "SAG", largest, indices=[]).columns.tolist() == ["scan_id"]


def test_a_damaged_scan_is_a_failure_of_its_own(cohort: Cohort, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(cohort.path, tmp_path / "c")
    shards = [p for p in (tmp_path / "c/images.zarr/SAG/volume/c/2").rglob("*") if p.is_file()]
    (shard,) = shards
    content = bytearray(shard.read_bytes())
    content[-20:] = b"\xff" * 20
    shard.write_bytes(content)
    frame = map_scans(Cohort.open(tmp_path / "c"), "SAG", summary(), errors="collect")
    assert [bool(text) for text in frame["error"]] == [i == 2 for i in range(COUNT)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": "x"}, r"Unknown scheduler 'x'. Valid schedulers are \['threads'"),
        ({"client": object(), "scheduler": "threads"}, "Both a client and the scheduler"),
        ({"indices": [9]}, "Scan index 9 of 'SAG', which holds scans 0 to 5"),
        ({"indices": [-1]}, "Scan index -1"),
        ({"indices": [1, 1]}, "a scan twice"),
        ({"indices": [0.5]}, "indices are float64"),
        ({"values": "raw"}, "Valid values are physical and stored"),
        ({"errors": "skip"}, "Valid ways are raise and collect"),
    ],
)
def test_refusals(cohort: Cohort, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        map_scans(cohort, "SAG", summary(), **options)


@pytest.mark.parametrize(
    ("result", "message"),
    [(3.0, "gave float; a mapping is needed"), ({"scan_id": 1.0}, "columns of their own")],
)
def test_what_a_function_must_give(cohort: Cohort, result: Any, message: str) -> None:
    def inner(volume: np.ndarray, row: "pd.Series[Any]") -> Any:
        return result

    with pytest.raises(ScanError, match=message):
        map_scans(cohort, "SAG", inner, scheduler="synchronous")
