"""An Icechunk repository in the place of plain Zarr files."""

from pathlib import Path

import numpy as np
import pytest

from spinmark_data.cohort.icechunk_store import REPOSITORY
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.verify import verify
from spinmark_data.errors import InputError
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.run import ingest

pytest.importorskip("icechunk")


def config(folder: Path, **changes) -> IngestConfig:
    return IngestConfig(workers=1, table_map=folder / "map.csv", **changes)


def test_every_generation_is_a_snapshot_and_equals_plain_files(
    tmp_path: Path, write_release
) -> None:
    release = write_release(tmp_path, ("a", "b"))
    for name, kind in (("plain", "zarr"), ("ice", "icechunk")):
        ingest(release, tmp_path / name, config(tmp_path, store=kind))
    first = Cohort.open(tmp_path / "ice")
    write_release(tmp_path, ("a",), ("V01",))
    for name in ("plain", "ice"):
        ingest(release, tmp_path / name, config(tmp_path), append=True)
    for generation in (1, 2):
        plain = Cohort.open(tmp_path / "plain", generation=generation)
        ice = Cohort.open(tmp_path / "ice", generation=generation)
        assert plain.hash == ice.hash
        assert plain.scans("DESS").equals(ice.scans("DESS"))
        rows = np.arange(len(plain.scans("DESS")))
        assert np.array_equal(plain.read("DESS", rows), ice.read("DESS", rows))
        assert np.array_equal(ice.images("DESS")["volume"].values, plain.read("DESS", rows))
        assert np.array_equal(
            plain.crop("DESS", 1, (0, 1, 2), (3, 4, 4)), ice.crop("DESS", 1, (0, 1, 2), (3, 4, 4))
        )
        assert verify(tmp_path / "ice", generation=generation).problems == []
    assert len(first.scans("DESS")) == 4
    assert not (tmp_path / "ice/images.zarr").exists()
    snapshots = [
        entry["snapshot"] for entry in Cohort.open(tmp_path / "ice").manifest["generations"]
    ]
    assert len(set(snapshots)) == 2


def test_a_repository_that_is_gone_is_named(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("a",))
    ingest(release, tmp_path / "ice", config(tmp_path, store="icechunk"))
    (tmp_path / "ice" / REPOSITORY).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=rf"{REPOSITORY}: opening snapshot \w+ failed"):
        verify(tmp_path / "ice")
    with pytest.raises(InputError, match=rf"{REPOSITORY}: opening snapshot"):
        Cohort.open(tmp_path / "ice").images("DESS")
