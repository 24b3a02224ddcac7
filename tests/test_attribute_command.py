"""`spinmark attribute`: from a distilled run to a folder and a page, and what is refused."""

import json
from pathlib import Path
from runpy import run_path

import pytest

from spinmark import artefacts
from spinmark.__main__ import main
from spinmark_data.splits import write_split

TINY = Path(__file__).parents[1] / "packages" / "training" / "tests" / "tiny_cohort.py"
QUICK = [
    *("--optim.steps", "2", "--encoder.widths", "[4, 8]", "--encoder.embedding", "8"),
    *("--projection.hidden", "16", "--projection.out", "8", "--data.subjects_per_batch", "3"),
    *("--trainer.threads", "1", "--monitor.every", "0"),
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of 16 subjects, its split, a pretrained run and a distilled one."""
    folder = tmp_path_factory.mktemp("study")
    kept = []
    write = run_path(str(TINY))["write_tiny"]
    artefacts.make(
        folder / "cohort", "cohort", lambda path: kept.append(write(path)[1]), config={"by": "test"}
    )
    frame = kept[0].frame
    artefacts.make(
        folder / "split", "split", lambda path: write_split(path, frame), config={"by": "test"}
    )
    given = ["--cohort", str(folder / "cohort"), "--split", str(folder / "split"), *QUICK]
    assert main(["pretrain", *given, "--out", str(folder / "ssl")]) == 0
    again = ["--from", str(folder / "ssl"), "--teacher.steps", "20"]
    assert main(["distil", *given, *again, "--out", str(folder / "run")]) == 0
    return folder


def words(study: Path, run: str, out: str, *more: str) -> list[str]:
    given = ["--cohort", str(study / "cohort"), "--run", str(study / run)]
    quick = ["--count", "1", "--randomised", "1", "--box", "[8, 8, 8]", "--threads", "1"]
    return ["attribute", *given, "--out", str(study / out), *quick, *more]


def test_it_writes_a_folder_and_finds_it_whole(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(study, "run", "out")) == 0
    said = capsys.readouterr().out
    assert "out: what makes 1 scans like their table rows" in said
    assert "attribution.html in a browser" in said
    out = study / "out"
    names = {path.name for path in out.iterdir()}
    made = {"table.parquet", "table.csv", "groups.csv", "voxels", "pictures", "summary.json"}
    assert names == made | {"run.json", "attribution.html"}
    assert artefacts.read(out, "attribution")["inputs"].keys() == {"cohort", "run"}
    page = (out / "attribution.html").read_text()
    (scan,) = json.loads((out / "summary.json").read_text())["scans"]
    assert page.count("data:image/png;base64,") == 1
    assert "How far to trust it" in page
    # Scans stand under numbers.
    assert scan["scan_id"] not in page
    assert main(words(study, "run", "out")) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_run_without_a_teacher_is_refused_in_one_line(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(study, "ssl", "other")) == 1
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "has no teacher" in said
    assert "accepted is a run of `spinmark distil`" in said
    assert not (study / "other").exists()


def test_an_unknown_scan_is_named(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(study, "run", "other", "--scans", "[nobody]")) == 1
    assert "scans: no scan 'nobody' in this sequence" in capsys.readouterr().err
