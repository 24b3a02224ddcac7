"""`spinmark inspect` on the small demo: its numbers are those of the tables, its page is whole."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from spinmark.__main__ import main
from spinmark.commands.inspect import write_whole
from spinmark_data.cohort.reader import Cohort

pytestmark = pytest.mark.multiproc

SEQUENCE = "SAG_3D_DESS"


class Page(HTMLParser):
    """Collects what a page would load, its headings and its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value for key, value in attrs if key in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def told(text: str, title: str) -> list[list[str]]:
    """The rows of a plain table, split at two blanks or more, without its header."""
    block = text.split(f"\n{title}\n")[1].split("\n\n")[0]
    return [re.split(r"\s{2,}", line.strip()) for line in block.splitlines()[1:]]


@pytest.fixture(scope="module")
def cohort(demo: Path) -> Cohort:
    return Cohort.open(demo / "cohort")


def test_the_text_has_the_totals_of_the_tables(
    cohort: Cohort, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(cohort.path)]) == 0
    text = capsys.readouterr().out
    scans = cohort.scans(SEQUENCE)
    assert cohort.hash[:16] in text
    row = told(text, "Sequences")[0]
    people, joints = scans["subject_id"].nunique(), scans["joint_id"].nunique()
    assert row[0] == SEQUENCE
    assert row[3:] == [f"{len(scans):,}", f"{people:,}", f"{joints:,}"]
    by_visit = {row[1]: row[2] for row in told(text, "Scans by visit") if row[0] == SEQUENCE}
    assert by_visit == {v: f"{n:,}" for v, n in scans["visit"].value_counts().items()}
    rows = {row[0]: row[1:] for row in told(text, "Tables")}
    for name in ("subjects", "visits", "joints", "missing", "outcomes", "issues"):
        table = cohort.table(name)
        assert rows[name] == [f"{len(table):,}", f"{table.shape[1]:,}"]
    outcomes = cohort.table("outcomes")
    causes = [int((outcomes["cause"] == cause).sum()) for cause in ("event", "death", "censored")]
    assert told(text, "Outcomes")[0][3:] == [f"{n:,}" for n in causes]
    kinds = cohort.table("issues")["kind"].value_counts()
    assert all(f"{n:,} {kind}" in text for kind, n in kinds.items())
    assert "\x1b" not in text
    assert "middle slices" not in text
    assert text.endswith(f"Next: spinmark split --cohort {cohort.path} --out SPLIT\n")


def test_counts_are_written_as_json(
    cohort: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "counts.json"
    assert main(["inspect", str(cohort.path), "--json", str(file)]) == 0
    assert f"{file} (all counts)" in capsys.readouterr().out
    counts = json.loads(file.read_text())
    scans = cohort.scans(SEQUENCE)
    assert counts["hash"] == cohort.hash
    assert counts["sequences"][0]["scans"] == len(scans)
    assert sum(row["scans"] for row in counts["completeness"]) == len(scans)
    assert sum(row["scans"] for row in counts["sites"]) == len(scans)
    assert sum(issue["count"] for issue in counts["issues"]) == len(cohort.table("issues"))
    observed = sum(row["observed"] for row in counts["observed"] if row["table"] == "joints")
    keys = ["subject_id", "laterality", "visit", "joint_id", "days"]
    assert observed == cohort.table("joints").drop(columns=keys).notna().to_numpy().sum()
    assert [file.name for file in file.parent.iterdir()] == ["counts.json"]


def test_the_page_loads_nothing_from_outside(cohort: Cohort, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    assert main(["inspect", "--cohort", str(cohort.path), "--page", str(file)]) == 0
    page = Page()
    page.feed(file.read_text())
    assert all(link.startswith(("data:", "#")) for link in page.loaded)
    assert "script" not in page.tags
    # Two heat maps, and a contact sheet a sequence.
    assert page.tags.count("figure") == 2 + len(cohort.sequences)
    assert {"What is in it", "How complete it is", "What it looks like"} <= set(page.text)
    assert f"{len(cohort.scans(SEQUENCE)):,}" in page.text


@pytest.mark.slow
def test_the_same_cohort_gives_the_same_page(cohort: Cohort, tmp_path: Path) -> None:
    pages = [tmp_path / name / "page.html" for name in "ab"]
    for file in pages:
        assert main(["inspect", str(cohort.path), "--page", str(file)]) == 0
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_a_sheet_in_a_pipe_is_ascii(
    cohort: Cohort, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["inspect", str(cohort.path), "--sheet", "true"]) == 0
    text = capsys.readouterr().out
    picture = text.split("middle slices\n")[1].split("\n\nNothing was written")[0]
    lines = picture.splitlines()
    assert len(lines) > 10
    assert max(map(len, lines)) <= 60
    assert picture.isascii()
    named_there = [line for line in lines if f":{SEQUENCE}:" in line]
    known = set(cohort.scans(SEQUENCE)["scan_id"])
    shown = [name for line in named_there for name in line.split()]
    assert len(shown) == 4
    assert set(shown) <= known


def on_a_terminal(argv: list[str], environ: dict[str, str]) -> str:
    """Run the command on a pseudo-terminal and return all that it wrote there."""
    ours, theirs = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    run = subprocess.Popen(
        [sys.executable, "-m", "spinmark", *argv],
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        env=inherited | {"COLUMNS": "80", "LINES": "40"} | environ,
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the last writer has gone.
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert run.wait() == 0
    return b"".join(parts).decode()


def test_a_terminal_gets_rules_and_a_sheet(cohort: Cohort) -> None:
    environ = {"TERM": "xterm-256color", "COLORTERM": "", "PYTHONIOENCODING": "utf-8"}
    text = on_a_terminal(["inspect", str(cohort.path)], environ)
    assert "middle slices" in text
    assert "▀" in text
    assert "─" in text
    assert "\x1b[38;5;" in text
    bare = re.sub(r"\x1b\[[\d;]*m", "", text)
    pictured = [line.rstrip("\r") for line in bare.split("\n") if "▀" in line]
    assert max(map(len, pictured)) <= 80


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run the command, which must fail, and return the one line that it printed."""
    capsys.readouterr()
    assert main(["inspect", *argv]) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("spinmark inspect: ")
    return line


def test_what_is_no_cohort_is_said_in_one_line(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "which cohort?" in refused(capsys)
    assert "no such folder" in refused(capsys, str(tmp_path / "none"))
    assert "is a file" in refused(capsys, str(demo / "report.html"))
    assert "spinmark/split" in refused(capsys, str(demo / "split"))
    assert "cohort.json" in refused(capsys, str(tmp_path))
    assert f"give {demo / 'cohort'}" in refused(capsys, str(demo))
    assert "no generation 9" in refused(capsys, str(demo / "cohort"), "--generation", "9")
    assert "--scans 0" in refused(capsys, str(demo / "cohort"), "--scans", "0")
    assert "accepted: sheet" in refused(capsys, str(demo / "cohort"), "--shet", "true")


@pytest.mark.parametrize("name", ["run.json", "cohort.json"])
def test_a_cohort_of_another_version(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    copy = tmp_path / "cohort"
    copy.mkdir()
    for file in ("run.json", "cohort.json"):
        shutil.copy(demo / "cohort" / file, copy / file)
    record = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps(record | {"version": 77}))
    assert "version 77" in refused(capsys, str(copy))


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    cohort: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.html").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "page.html", "half \ud800")
    assert (tmp_path / "page.html").read_text() == "old"
    (tmp_path / "taken").mkdir()
    assert main(["inspect", str(cohort.path), "--json", str(tmp_path / "taken")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page.html", "taken"]
