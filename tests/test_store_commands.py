"""A cohort that grows, is verified, and lies elsewhere, through the commands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from spinmark import artefacts
from spinmark.__main__ import main
from spinmark_data.cohort.reader import Cohort

Add = Callable[[Path, str], list[str]]


@pytest.fixture
def add(add_series: Callable[..., list[str]]) -> Add:
    """A function that writes a visit of four people, and returns the options that ingest it all."""

    def visit(folder: Path, visit: str) -> list[str]:
        rows = [(f"{visit}-{number}.nii", f"p{number}", "R", visit) for number in range(4)]
        return [*add_series(folder, rows, (6, 5, 4)), "--workers", "1"]

    return visit


def test_a_cohort_grows_and_says_what_it_was(
    tmp_path: Path, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    words, out = add(tmp_path, "V00"), tmp_path / "c"
    assert main(["ingest", *words, "--out", str(out)]) == 0
    first = artefacts.content_hash(out)
    assert main(["split", "--cohort", str(out), "--out", str(tmp_path / "split")]) == 0
    words = add(tmp_path, "V01")
    assert main(["ingest", *words, "--out", str(out), "--append", "true"]) == 0
    assert "generation 2; scans: 8 of DESS" in capsys.readouterr().out
    record = artefacts.read(out, "cohort")
    assert record["hash"] == Cohort.open(out).hash != first
    assert [entry["hash"] for entry in record["earlier"]] == [first]
    # The same again adds nothing, and what was made from the first generation says so.
    assert main(["ingest", *words, "--out", str(out), "--append", "true"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["split", "--cohort", str(out), "--out", str(tmp_path / "split")]) == 1
    assert "differs in input cohort" in capsys.readouterr().err
    assert main(["verify", str(out)]) == 0
    assert "generation 2 is whole: 8 volumes" in capsys.readouterr().out
    assert main(["verify", "--cohort", str(out), "--generation", "1"]) == 0
    assert "generation 1 is whole: 4 volumes" in capsys.readouterr().out


def test_a_flipped_byte_is_named_and_the_status_is_not_zero(
    tmp_path: Path, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    words, out = add(tmp_path, "V00"), tmp_path / "c"
    assert main(["ingest", *words, "--out", str(out)]) == 0
    shard = out / "images.zarr/DESS/volume/c/2/0/0/0"
    content = bytearray(shard.read_bytes())
    content[25] ^= 1
    shard.write_bytes(content)
    capsys.readouterr()
    assert main(["verify", str(out)]) == 1
    told = capsys.readouterr()
    assert "images.zarr/DESS/volume/c/2/0/0/0: crc32c" in told.out
    assert "(scan p2:R:V00:DESS:0)" in told.out
    assert "1 problems in generation 1" in told.err


def test_a_cohort_of_another_schema_version_is_refused(
    tmp_path: Path, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    words, out = add(tmp_path, "V00"), tmp_path / "c"
    assert main(["ingest", *words, "--out", str(out)]) == 0
    manifest = json.loads((out / "cohort.json").read_text())
    (out / "cohort.json").write_text(json.dumps({**manifest, "version": 1}))
    capsys.readouterr()
    for command in (
        ["verify", str(out)],
        ["ingest", *words, "--out", str(out), "--append", "true"],
    ):
        assert main(command) == 1
        assert (
            "version 1; this spinmark reads 'spinmark/cohort' version 3" in capsys.readouterr().err
        )


def test_every_command_takes_a_cohort_in_a_store(
    tmp_path: Path, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    words, out = add(tmp_path, "V00"), f"memory://{tmp_path.name}/c"
    assert main(["ingest", *words, "--out", out]) == 0
    assert main(["ingest", *words, "--out", out]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["split", "--cohort", out, "--out", str(tmp_path / "split")]) == 0
    words = add(tmp_path, "V01")
    assert main(["ingest", *words, "--out", out, "--append", "true"]) == 0
    assert main(["verify", out]) == 0
    assert main(["ingest", *words, "--out", str(tmp_path / "c")]) == 0
    there, here = Cohort.open(out), Cohort.open(tmp_path / "c")
    assert sorted(there.scans("DESS")["scan_id"]) == sorted(here.scans("DESS")["scan_id"])


def test_a_kill_before_the_seal_costs_nothing(
    tmp_path: Path, add: Add, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spinmark_data.ingest import staging

    words, out = add(tmp_path, "V00"), tmp_path / "c"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for target in (str(out), f"memory://{tmp_path.name}/c"):
        with monkeypatch.context() as patch:
            patch.setattr(artefacts, "_seal", killed)
            assert main(["ingest", *words, "--out", target]) == 130
        with monkeypatch.context() as patch:
            patch.setattr(staging, "stage", killed)
            assert main(["ingest", *words, "--out", target]) == 0
        assert main(["verify", target]) == 0
        assert artefacts.content_hash(Path(target)) == Cohort.open(target).hash
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "map.csv", "release"]


def test_a_file_more_in_the_release_costs_only_itself(
    tmp_path: Path, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spinmark_data.ingest import staging

    words, out = add(tmp_path, "V00"), tmp_path / "c"
    stage, calls = staging.stage, []

    def counted(*args: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return stage(*args)

    monkeypatch.setattr(staging, "stage", counted)
    assert main(["ingest", *words, "--out", str(out)]) == 130
    (tmp_path / "release/readme.txt").write_text("words")
    assert main(["ingest", *words, "--out", str(out)]) == 0
    assert len(calls) == 5


def test_a_table_that_was_corrected_is_another_input(
    tmp_path: Path, add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    words, out = add(tmp_path, "V00"), tmp_path / "c"
    assert main(["ingest", *words, "--out", str(out)]) == 0
    table = tmp_path / "map.csv"
    table.write_text(table.read_text().replace("p0", "q0"))
    assert main(["ingest", *words, "--out", str(out)]) == 1
    assert "differs in input table_map" in capsys.readouterr().err
