"""A cohort that grows: shards that never change, readers that see one generation whole."""

import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark_data.cohort.ledger import read_ledger
from spinmark_data.cohort.location import LocalFolder, locate
from spinmark_data.cohort.lock import sole_writer
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.cohort.verify import verify
from spinmark_data.errors import InputError
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.run import ingest
from spinmark_data.ingest.tableset import TableSet, empty_table

BOTH = ("V00", "V01")


def config(folder: Path, **changes) -> IngestConfig:
    return IngestConfig(workers=1, table_map=folder / "map.csv", **changes)


def contents(cohort: Cohort) -> tuple:
    """All that a reader can see, in one comparable value."""
    scans, affine, _ = cohort.coordinates("DESS")
    voxels = cohort.read("DESS", np.arange(len(scans)))
    lazy = cohort.images("DESS")
    return (
        cohort.hash,
        scans.to_csv(),
        affine.tobytes(),
        voxels.tobytes(),
        lazy["volume"].values.tobytes(),
        tuple(lazy["scan_id"].values),
        cohort.table("flow").to_csv(),
        cohort.table("issues").to_csv(),
    )


def test_new_visits_become_a_generation_and_the_old_one_stays(
    tmp_path: Path, write_release
) -> None:
    release = write_release(tmp_path, ("a", "b"))
    ingest(release, tmp_path / "c", config(tmp_path))
    first = Cohort.open(tmp_path / "c")
    before = contents(first)
    shards = {
        file: (file.stat().st_ino, file.read_bytes())
        for file in (tmp_path / "c/images.zarr/DESS/volume/c").rglob("0")
        if file.is_file()
    }
    assert len(shards) == 4
    write_release(tmp_path, ("a", "b", "c"), ("V01",))
    summary = ingest(release, tmp_path / "c", config(tmp_path), append=True)
    assert (summary.generation, summary.scans, summary.series_seen) == (2, 10, 10)
    for file, kept in shards.items():
        assert (file.stat().st_ino, file.read_bytes()) == kept
    # Whoever had it open, and whoever asks for it by number, reads what it was.
    assert contents(first) == before
    assert contents(Cohort.open(tmp_path / "c", generation=1)) == before
    second = Cohort.open(tmp_path / "c")
    assert second.generation == 2
    assert second.hash != first.hash
    scans = second.scans("DESS")
    assert scans["visit"].tolist() == ["V00"] * 4 + ["V01"] * 6
    assert scans["subject_id"].tolist() == [*"aabb", *"aabbcc"]
    assert scans["days"].tolist() == [0.0] * 4 + [365.0] * 6
    assert second.table("flow")["n"].tolist() == [4, 4, 4, 4, 10, 6, 6, 6, 6]
    assert verify(tmp_path / "c").problems == []
    assert verify(tmp_path / "c", generation=1).shards == 4
    with pytest.raises(InputError, match=r"no generation 3; there are \[1, 2\]"):
        Cohort.open(tmp_path / "c", generation=3)


def test_nothing_new_is_no_generation(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("a",))
    ingest(release, tmp_path / "c", config(tmp_path))
    before = (tmp_path / "c/cohort.json").read_bytes()
    assert ingest(release, tmp_path / "c", config(tmp_path), append=True).generation == 1
    # The same files in another release, under other names, are the same scans.
    (tmp_path / "other").mkdir()
    lines = (tmp_path / "map.csv").read_text().splitlines()
    for file in release.iterdir():
        (tmp_path / "other" / f"x_{file.name}").write_bytes(file.read_bytes())
    (tmp_path / "map.csv").write_text("\n".join([lines[0], *(f"x_{row}" for row in lines[1:])]))
    other = ingest(tmp_path / "other", tmp_path / "c", config(tmp_path), append=True)
    assert other.generation == 1
    assert (tmp_path / "c/cohort.json").read_bytes() == before
    assert not (tmp_path / "c/.staging-1").exists()


def test_a_source_that_changed_or_has_another_grid_is_kept_out(
    tmp_path: Path, write_release
) -> None:
    release = write_release(tmp_path, ("a", "b"))
    ingest(release, tmp_path / "c", config(tmp_path))
    file = release / "a_V00_R.nii"
    file.write_bytes(file.read_bytes() + b"\0" * 8)
    write_release(tmp_path, ("a",), ("V01",))
    write_release(tmp_path, ("odd",), ("V01",), (5, 5, 5))
    write_release(tmp_path, ("odd2",), ("V01",), (5, 5, 5))
    summary = ingest(release, tmp_path / "c", config(tmp_path), append=True)
    assert (summary.scans, summary.quarantined) == (6, 4)
    issues = Cohort.open(tmp_path / "c").table("issues").set_index("source")
    assert "files changed since they were stored" in issues.loc["a_V00_R.nii", "reason"]
    assert "another grid" in issues.loc["odd_V01_L.nii", "reason"]


def test_a_rescan_that_comes_later_gets_the_next_rank(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("a",))
    ingest(release, tmp_path / "c", config(tmp_path))
    source = write_release(tmp_path / "more", ("b",)) / "b_V00_R.nii"
    (release / "again.nii").write_bytes(source.read_bytes())
    with (tmp_path / "map.csv").open("a") as table:
        table.write("again.nii,a,R,V00,0,DESS\n")
    ingest(release, tmp_path / "c", config(tmp_path), append=True)
    ids = Cohort.open(tmp_path / "c").scans("DESS")["scan_id"].tolist()
    assert ids == ["a:L:V00:DESS:0", "a:R:V00:DESS:0", "a:R:V00:DESS:1"]


def test_a_second_sequence_leaves_the_first_as_it_was(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("a",))
    ingest(release, tmp_path / "c", config(tmp_path))
    before = contents(Cohort.open(tmp_path / "c"))
    write_release(tmp_path, ("a",), ("V01",), (4, 4, 4))
    table = (tmp_path / "map.csv").read_text().splitlines()
    (tmp_path / "map.csv").write_text(
        "\n".join(row.replace("DESS", "TSE") if "V01" in row else row for row in table)
    )
    ingest(release, tmp_path / "c", config(tmp_path), append=True)
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.sequences == ("DESS", "TSE")
    assert contents(Cohort.open(tmp_path / "c", generation=1)) == before
    assert Cohort.open(tmp_path / "c", generation=1).sequences == ("DESS",)
    assert len(cohort.scans("TSE")) == 2


def test_clinical_rows_that_come_replace_those_that_stood(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("a", "b"), BOTH)
    people = tmp_path / "people.csv"
    people.write_text("subject_id,visit,AGE,CESD\na,V00,60,\nb,V00,61,2\n")
    settings = config(tmp_path, clinical_table=people)
    ingest(release, tmp_path / "c", settings)
    first = Cohort.open(tmp_path / "c").table("visits")
    people.write_text("subject_id,visit,AGE,CESD\na,V00,60,3\na,V01,61,4\n")
    write_release(tmp_path, ("z",))
    ingest(release, tmp_path / "c", settings, append=True)
    second = Cohort.open(tmp_path / "c").table("visits").set_index(["subject_id", "visit"])
    assert len(first) == 2
    assert second["CESD"].to_dict() == {("a", "V00"): 3.0, ("a", "V01"): 4.0, ("b", "V00"): 2.0}
    assert Cohort.open(tmp_path / "c", generation=1).table("visits").equals(first)


def test_appending_to_nothing_and_ingesting_onto_a_cohort_are_refused(
    tmp_path: Path, write_release
) -> None:
    release = write_release(tmp_path, ("a",))
    with pytest.raises(InputError, match="no cohort to append to"):
        ingest(release, tmp_path / "c", config(tmp_path), append=True)
    ingest(release, tmp_path / "c", config(tmp_path))
    with pytest.raises(InputError, match="or append to it"):
        ingest(release, tmp_path / "c", config(tmp_path))


def test_a_kill_after_the_last_write_is_cleared_up(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("a",))
    ingest(release, tmp_path / "c", config(tmp_path))
    (tmp_path / "c/.staging-1").mkdir()
    (tmp_path / "c/.staging-1/ledger.jsonl").touch()
    assert ingest(release, tmp_path / "c", config(tmp_path)).scans == 2
    assert not (tmp_path / "c/.staging-1").exists()


def test_of_two_writers_one_is_refused(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("a",))
    with (
        sole_writer(locate(tmp_path / "c")),
        pytest.raises(InputError, match="another process is writing it"),
    ):
        ingest(release, tmp_path / "c", config(tmp_path))
    assert ingest(release, tmp_path / "c", config(tmp_path)).scans == 2


def test_readers_see_one_generation_whole_while_another_is_added(
    tmp_path: Path, write_release
) -> None:
    release = write_release(tmp_path, ("a", "b"))
    ingest(release, tmp_path / "c", config(tmp_path))
    open_before = Cohort.open(tmp_path / "c")
    first = contents(open_before)
    write_release(tmp_path, ("a", "b", "c", "d"), ("V01",))
    stop, seen, latest = threading.Event(), [], []

    def watch() -> None:
        while not stop.is_set():
            seen.append(contents(open_before))
            latest.append(contents(Cohort.open(tmp_path / "c")))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        ingest(release, tmp_path / "c", config(tmp_path), append=True)
        while len(latest) < 3 and watcher.is_alive():
            time.sleep(0.05)
    finally:
        stop.set()
        watcher.join()
    second = contents(Cohort.open(tmp_path / "c"))
    assert second != first
    assert len(seen) > 1
    assert set(seen) == {first}
    assert set(latest) <= {first, second}


def test_the_ledger_tells_what_was_made_from_what(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("b", "a"))
    ingest(release, tmp_path / "c", config(tmp_path))
    write_release(tmp_path, ("a",), ("V01",))
    ingest(release, tmp_path / "c", config(tmp_path), append=True)
    text = (tmp_path / "c/ledger.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["scan_id"] for row in rows] == sorted(row["scan_id"] for row in rows)
    assert {row["generation"] for row in rows} == {1, 2}
    assert len(read_ledger(locate(tmp_path / "c"), 1)) == 4
    scans = Cohort.open(tmp_path / "c").scans("DESS").set_index("scan_id")
    frame = pd.DataFrame(rows).set_index("scan_id")
    assert frame["source_sha256"].to_dict() == scans["source_sha256"].to_dict()
    assert frame["index"].to_dict() == {name: i for i, name in enumerate(scans.index)}
    assert all(len(row["code"]) == 16 and len(row["config"]) == 16 for row in rows)


@pytest.mark.parametrize(
    ("damage", "names", "scans"),
    [
        (("images.zarr/DESS/volume/c/1/0/0/0", 30), "volume/c/1/0/0/0", ["a:R:V00:DESS:0"]),
        (("images.zarr/DESS/affine/c/0/0/0", 12), "images.zarr/DESS", []),
        (("tables/flow.parquet", 50), "tables/flow.parquet", []),
    ],
)
def test_a_flipped_byte_is_found_and_named(
    tmp_path: Path, write_release, damage: tuple[str, int], names: str, scans: list[str]
) -> None:
    release = write_release(tmp_path, ("a", "b"))
    ingest(release, tmp_path / "c", config(tmp_path))
    file = tmp_path / "c" / damage[0]
    content = bytearray(file.read_bytes())
    content[damage[1]] ^= 1
    file.write_bytes(content)
    found = verify(tmp_path / "c")
    assert [name for name, _ in found.problems if names in name]
    assert len(found.problems) == 1
    assert found.ids == scans


def test_absent_and_short_shards_and_an_edited_ledger_are_found(
    tmp_path: Path, write_release
) -> None:
    release = write_release(tmp_path, ("a", "b"))
    ingest(release, tmp_path / "c", config(tmp_path))
    shards = tmp_path / "c/images.zarr/DESS/volume/c"
    (shards / "0/0/0/0").unlink()
    short = shards / "2/0/0/0"
    short.write_bytes(short.read_bytes()[:-1])
    steps: list[tuple[int, int]] = []
    found = verify(tmp_path / "c", progress=lambda done, total: steps.append((done, total)))
    assert found.ids == ["a:L:V00:DESS:0", "b:L:V00:DESS:0"]
    assert found.problems[0][1] == "absent (scan a:L:V00:DESS:0)"
    assert steps[-1] == (4, 4)
    ledger = tmp_path / "c/ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[1:]))
    assert "ledger.jsonl" in dict(verify(tmp_path / "c").problems)
    ledger.write_text("not json\n")
    with pytest.raises(InputError, match=r"ledger\.jsonl, line 1"):
        verify(tmp_path / "c")


def tree(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


class Killed(BaseException):
    """Stands for SIGKILL between two writes: nothing below catches it."""


def test_an_append_cut_short_at_any_write_hides_itself_and_resumes(
    tmp_path: Path, write_release, monkeypatch
) -> None:
    release = write_release(tmp_path, ("a", "b"))
    ingest(release, tmp_path / "first", config(tmp_path))
    write_release(tmp_path, ("a",), ("V01",))
    shutil.copytree(tmp_path / "first", tmp_path / "whole")
    count, limit = [0], [10**9]
    write, place = LocalFolder.write, LocalFolder.place

    def counted(real):
        def call(self, *args):
            count[0] += 1
            if count[0] > limit[0]:
                raise Killed
            real(self, *args)

        return call

    monkeypatch.setattr(LocalFolder, "write", counted(write))
    monkeypatch.setattr(LocalFolder, "place", counted(place))
    ingest(release, tmp_path / "whole", config(tmp_path), append=True)
    expected, writes = tree(tmp_path / "whole"), count[0]
    assert writes > 20
    before = contents(Cohort.open(tmp_path / "first"))
    for stop in range(0, writes, 3):
        out = tmp_path / f"c{stop}"
        shutil.copytree(tmp_path / "first", out)
        count[0], limit[0] = 0, stop
        with pytest.raises(Killed):
            ingest(release, out, config(tmp_path), append=True)
        assert contents(Cohort.open(out)) == before
        assert verify(out).problems == []
        limit[0] = 10**9
        assert ingest(release, out, config(tmp_path), append=True).generation == 2
        assert tree(out) == expected


def test_another_delivery_with_the_same_names_and_sizes_is_not_the_same(
    tmp_path: Path, write_release
) -> None:
    first = write_release(tmp_path / "x", ("a",))
    other = write_release(tmp_path / "y", ("b",))
    for file in list(other.iterdir()):
        file.rename(other / file.name.replace("b_", "a_"))
    rows = (tmp_path / "y/map.csv").read_text().replace("b_", "a_").replace("V00,0", "V01,365")
    (tmp_path / "y/map.csv").write_text(rows)
    ingest(first, tmp_path / "c", config(tmp_path / "x"))
    assert ingest(other, tmp_path / "c", config(tmp_path / "y"), append=True).scans == 4


def test_new_clinical_rows_alone_are_a_generation(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("a",))
    people = tmp_path / "people.csv"
    people.write_text("subject_id,visit,AGE\na,V00,60\n")
    settings = config(tmp_path, clinical_table=people)
    ingest(release, tmp_path / "c", settings)
    people.write_text("subject_id,visit,AGE\na,V00,60\na,V01,61\n")
    assert ingest(release, tmp_path / "c", settings, append=True).generation == 2
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.table("visits")["AGE"].tolist() == [60.0, 61.0]
    assert len(cohort.scans("DESS")) == 2
    assert ingest(release, tmp_path / "c", settings, append=True).generation == 2


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_edits_of_what_describes_the_voxels_are_found(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("a",))
    ingest(release, tmp_path / "whole", config(tmp_path))
    edits = (
        ("images.zarr/DESS/volume/zarr.json", '"int16"', '"uint16"', "volume/zarr.json"),
        ("cohort.json", "0.7", "0.8", "cohort.json"),
        ("ledger.jsonl", '"generation": 1', '"generation": 0', "ledger.jsonl"),
    )
    for number, (file, old, new, named) in enumerate(edits):
        out = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", out)
        edited(out / file, old, new)
        assert any(named in name for name, _ in verify(out).problems)
    (tmp_path / "whole/images.zarr/DESS/volume/zarr.json").unlink()
    assert "volume/zarr.json" in str(verify(tmp_path / "whole").problems)
    with pytest.raises(InputError, match="opening 'DESS' failed"):
        Cohort.open(tmp_path / "whole").read("DESS", np.array([0]))
    edited(tmp_path / "0/cohort.json", '"sequences"', '"sequencez"')
    with pytest.raises(InputError, match=r"lacks \['sequences'"):
        Cohort.open(tmp_path / "0")
    (tmp_path / "1/tables/flow.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"tables/flow\.parquet: reading it failed"):
        Cohort.open(tmp_path / "1").table("flow")


def test_an_array_of_another_layout_is_never_lengthened(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("a",))
    volume = np.full((1, 8, 9, 6), 40000, np.uint16)
    rows = pd.DataFrame({"subject_id": ["z"], "laterality": ["R"]})
    ingest(release, tmp_path / "like", config(tmp_path))
    affine = Cohort.open(tmp_path / "like").coordinates("DESS")[1][:1]
    spacing = Cohort.open(tmp_path / "like").manifest["sequences"]["DESS"]["spacing_mm"]
    one = SequenceVolumes(volume=volume, scans=rows, spacing_mm=tuple(spacing), affine=affine)
    write_cohort(tmp_path / "c", volumes={"DESS": one}, tables={}, provenance={})
    with pytest.raises(InputError, match="stored in another layout"):
        ingest(release, tmp_path / "c", config(tmp_path), append=True)
    assert (Cohort.open(tmp_path / "c").read("DESS", np.array([0])) == 40000).all()
    assert verify(tmp_path / "c").problems == []


def test_images_that_stand_under_another_person_are_quarantined(
    tmp_path: Path, write_release
) -> None:
    release = write_release(tmp_path, ("a", "b"))
    ingest(release, tmp_path / "c", config(tmp_path))
    table = (tmp_path / "map.csv").read_text().replace(",b,R,", ",q,R,")
    (tmp_path / "map.csv").write_text(table)
    (release / "b_V00_R.nii").rename(release / "q.nii")
    (tmp_path / "map.csv").write_text(table.replace("b_V00_R.nii", "q.nii"))
    ingest(release, tmp_path / "c", config(tmp_path), append=True)
    issues = Cohort.open(tmp_path / "c").table("issues")
    told = issues[issues["kind"] == "quarantined"]
    assert list(told["source"]) == ["q.nii"]
    assert "the same images stand in the cohort as b:R:V00:DESS:0" in told["reason"].iloc[0]
    assert len(Cohort.open(tmp_path / "c").scans("DESS")) == 4


def test_people_without_a_row_in_the_table_are_told(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("a", "b"))
    people = tmp_path / "people.csv"
    people.write_text("subject_id,AGE\na,60\n")
    settings = config(tmp_path, clinical_table=people)
    ingest(release, tmp_path / "c", settings)
    reasons = set(Cohort.open(tmp_path / "c").table("issues")["reason"])
    assert "1 person has scans and no row in the clinical tables" in reasons
    people.write_text("subject_id,AGE\nnobody,60\n")
    with pytest.raises(InputError, match="None of the 2 people with scans has a row"):
        ingest(release, tmp_path / "d", settings)


@pytest.mark.parametrize(
    ("scanned", "table", "told"),
    [
        ("RL", "subject_id,side,ended,last\na,R,1,900\nb,R,0,1200\nb,L,0,1200\n", []),
        (
            "RL",
            "subject_id,ended,last\na,1,900\nb,0,1200\n",
            ["2 outcomes have no side, and their person's scans have one"],
        ),
        (
            "",
            "subject_id,side,ended,last\na,R,1,900\nb,R,0,1200\nb,L,0,1200\n",
            ["3 outcomes have a side, and their person's scans have none"],
        ),
        ("", "subject_id,ended,last\na,1,900\nb,0,1200\n", []),
    ],
)
def test_outcomes_that_no_scan_can_meet_are_told(
    tmp_path: Path, write_release, scanned: str, table: str, told: list[str]
) -> None:
    release = write_release(tmp_path, ("a", "b"))
    if not scanned:
        rows = (tmp_path / "map.csv").read_text()
        (tmp_path / "map.csv").write_text(rows.replace(",R,", ",,").replace(",L,", ",,"))
    people, columns = tmp_path / "people.csv", tmp_path / "columns.yaml"
    people.write_text(table)
    side = "laterality: side\n" if "side" in table else ""
    columns.write_text(
        f"subject_id: subject_id\n{side}outcomes: {{x: {{event: ended, time: last}}}}\n"
    )
    settings = config(tmp_path, clinical_table=people, clinical_columns=columns)
    ingest(release, tmp_path / "c", settings)
    reasons = Cohort.open(tmp_path / "c").table("issues")["reason"]
    assert [reason for reason in reasons if "outcomes have" in reason] == told


def test_a_key_that_stands_twice_is_told_by_its_row() -> None:
    rows = pd.DataFrame({"subject_id": ["Doe^Jane", "Doe^Jane"]})
    with pytest.raises(InputError, match=r"'subjects' has 1 rows .* row 1, counted") as error:
        TableSet(subjects=rows, visits=empty_table("visits"), joints=empty_table("joints")).check()
    assert "Doe" not in str(error.value)
