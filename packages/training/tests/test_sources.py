from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.splits import Split
from spinmark_models.config import IntensityRule
from spinmark_models.intensity import intensity_window
from spinmark_training.errors import InputError
from spinmark_training.sources import ScanSource, scan_sets

World = tuple[Cohort, Split]


def allowed_rows(world: World, *sets: str) -> npt.NDArray[np.int64]:
    cohort, split = world
    subjects = set(split.frame.loc[split.frame["set"].isin(sets), "subject_id"])
    rows: npt.NDArray[np.int64] = np.flatnonzero(
        cohort.scans("TINY")["subject_id"].isin(list(subjects))
    )
    return rows


@pytest.mark.parametrize("cache_gb", [0.0, 1.0])
def test_stored_integers_are_those_of_the_cohort(world: World, cache_gb: float) -> None:
    cohort, split = world
    source = ScanSource(cohort, "TINY", split, ("train",), cache_gb)
    assert list(source.rows) == list(allowed_rows(world, "train"))
    assert source.shape == (8, 16, 16)
    assert source.spacing_mm == (3.0, 1.5, 1.5)
    wanted = source.rows[[5, 0, 5]]
    np.testing.assert_array_equal(source.stored(wanted), cohort.read("TINY", wanted))


@pytest.mark.parametrize("cache_gb", [0.0, 1.0])
def test_rows_of_other_sets_are_never_handed_out(world: World, cache_gb: float) -> None:
    cohort, split = world
    source = ScanSource(cohort, "TINY", split, ("train",), cache_gb)
    for row in allowed_rows(world, "val", "test"):
        with pytest.raises(PermissionError):
            source.stored(np.array([source.rows[0], row]))
        with pytest.raises(PermissionError):
            source.unit_scale(np.array([row]), IntensityRule())


def test_the_cache_changes_no_value_and_reads_no_more(world: World) -> None:
    cohort, split = world
    read: list[int] = []

    class Spy(Cohort):
        def read(self, sequence: str, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
            read.extend(np.asarray(indices).tolist())
            return super().read(sequence, indices)

    source = ScanSource(Spy(cohort.path, cohort.manifest), "TINY", split, ("train",), 1.0)
    source.stored(source.rows)
    assert set(read) == set(allowed_rows(world, "train").tolist())
    before = len(read)
    source.unit_scale(source.rows, IntensityRule())
    assert len(read) == before


def test_the_unit_scale_is_the_rule_written_out(world: World) -> None:
    cohort, split = world
    source = ScanSource(cohort, "TINY", split, ("train",), 1.0)
    rule = IntensityRule(low=2, high=90)
    rows = source.rows[[3, 1, 3]]
    factor, shift = source.unit_scale(rows, rule)
    scans = cohort.scans("TINY")
    for i, row in enumerate(rows):
        stored = cohort.read("TINY", np.array([row]))[0].astype(np.float64)
        value = stored * scans["scale"][row] + scans["offset"][row]
        low, high = intensity_window(value, rule)
        expected = (value - low) / (high - low)
        np.testing.assert_allclose(stored * factor[i] + shift[i], expected, atol=2e-5)


def test_sets_are_looked_up_by_subject_whatever_the_order_of_the_split(world: World) -> None:
    cohort, split = world
    scans = cohort.scans("TINY")
    shuffled = Split(frame=split.frame.sample(frac=1, random_state=1), hash=split.hash)
    found = scan_sets(scans, shuffled)
    by_hand = {r.subject_id: (r.set, r.fold) for r in split.frame.itertuples()}
    seen = list(zip(found["set"], found["fold"].astype(int), strict=True))
    assert seen == [by_hand[subject] for subject in scans["subject_id"]]


def test_bad_input_is_said_in_one_line(world: World) -> None:
    cohort, split = world

    def message(call: Callable[[], object]) -> str:
        with pytest.raises(InputError) as caught:
            call()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    lacking = Split(frame=split.frame.iloc[1:], hash="")
    twice = Split(frame=pd.concat([split.frame, split.frame.iloc[:1]]), hash="")
    nobody = Split(frame=split.frame.assign(set="test"), hash="")
    assert "'NONE'; this cohort has ['TINY']" in message(lambda: ScanSource(cohort, "NONE", split))
    assert "s00" in message(lambda: ScanSource(cohort, "TINY", lacking))
    assert "twice" in message(lambda: ScanSource(cohort, "TINY", twice))
    assert "no train subject" in message(lambda: ScanSource(cohort, "TINY", nobody))


def test_sequences_with_echoes_are_refused(tmp_path: Path) -> None:
    scans = pd.DataFrame({"subject_id": ["a", "b"]})
    volumes = SequenceVolumes(volume=np.ones((2, 3, 4, 8, 8), np.uint16), scans=scans)
    write_cohort(tmp_path / "c", volumes={"T2": volumes}, tables={}, provenance={})
    with pytest.raises(InputError, match="4 axes"):
        ScanSource(Cohort.open(tmp_path / "c"), "T2", None)
