"""Tables that are added to a cohort after its scans."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark_data.cohort.amend import amend
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.verify import verify
from spinmark_data.errors import InputError
from spinmark_data.features import clinical_features
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.run import ingest
from spinmark_data.ingest.tableset import COLUMNS


@pytest.fixture(params=["zarr", "icechunk"])
def cohort(request, tmp_path: Path, write_release) -> Path:
    release = write_release(tmp_path, ("a", "b"))
    if request.param == "icechunk":
        pytest.importorskip("icechunk")
    config = IngestConfig(workers=1, table_map=tmp_path / "map.csv", store=request.param)
    ingest(release, tmp_path / "c", config)
    return tmp_path / "c"


def measured(scans: pd.DataFrame) -> dict[str, pd.DataFrame]:
    table = scans[["subject_id", "laterality", "visit"]].assign(VOLUME=np.arange(len(scans)) + 0.5)
    row = dict.fromkeys(COLUMNS["dictionary"], "")
    row |= {"variable": "VOLUME", "kind": "continuous", "role": "morphometric"}
    row |= {"table": "morphometry"}
    return {"morphometry": table, "dictionary": pd.DataFrame([row])}


def test_measures_become_inputs_and_scans_stay(cohort: Path) -> None:
    before = Cohort.open(cohort)
    scans = before.scans("DESS")
    assert amend(cohort, lambda _: measured(scans), {"by": "test"}) == 2
    after = Cohort.open(cohort)
    assert after.hash != before.hash
    assert before.table("morphometry").empty
    known = before.manifest["provenance"]
    assert after.manifest["provenance"] == {**known, "by": "test"}
    found = clinical_features(after, scans, roles=["morphometric"])
    assert found.values["VOLUME"].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert verify(cohort).problems == []
    assert verify(cohort, generation=1).problems == []
    assert np.array_equal(after.read("DESS", np.arange(4)), before.read("DESS", np.arange(4)))


def test_the_same_tables_are_no_new_generation(cohort: Path) -> None:
    tables = measured(Cohort.open(cohort).scans("DESS"))
    assert amend(cohort, lambda _: tables, {}) == 2
    assert amend(cohort, lambda _: tables, {}) == 2
    assert amend(cohort, lambda _: {}, {}) == 2


def test_a_table_that_no_cohort_has(cohort: Path) -> None:
    with pytest.raises(InputError, match=r"Unknown tables \['shoes'\]"):
        amend(cohort, lambda _: {"shoes": pd.DataFrame()}, {})
    assert Cohort.open(cohort).generation == 1
