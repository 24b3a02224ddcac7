"""`spinmark quality` on a small cohort: its table joins, its page is whole and names nobody."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark.__main__ import main
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 900, (10, 6, 24, 20)).astype(np.int16)
    volume[7] = volume[2]
    scans = pd.DataFrame(
        {
            "subject_id": [str(1000001 + n) for n in range(10)], "laterality": "R", "site": "A",
            "scanner": ["one", "two"] * 5,
        }
    )  # fmt: skip
    path = tmp_path_factory.mktemp("quality") / "c"
    given = {"SAG": SequenceVolumes(volume=volume, scans=scans)}
    write_cohort(path, volumes=given, tables={}, provenance={})
    return Cohort.open(path)


def test_it_writes_a_table_pairs_and_a_page(
    cohort: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["quality", str(cohort.path), "--out", str(tmp_path / "q"), "--shown", "3"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "10 scans, 2 flagged; 1 pairs of scans that should differ" in text
    table = pd.read_parquet(tmp_path / "q" / "quality.parquet")
    joined = cohort.scans("SAG").merge(table[["scan_id", "score", "flagged"]], validate="1:1")
    assert len(joined) == 10
    assert joined.index[joined["flagged"]].tolist() == [2, 7]
    pairs = pd.read_csv(tmp_path / "q" / "duplicates.csv")
    assert pairs[["kind", "relation", "verdict"]].values.tolist() == [["exact", "subject", "error"]]
    page = (tmp_path / "q" / "quality.html").read_text()
    # Nothing is loaded, and nobody is named: not in words, and pictures have no text of theirs.
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert not re.search(r"10000\d\d", re.sub(r"base64,[^\"]*", "", page))
    assert [f'id="scan-{n}"' in page for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert main(words) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main([*words, "--limit", "4"]) == 1
    assert "differs in limit" in capsys.readouterr().err


def test_a_wrong_call_is_one_line(
    cohort: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "q")]
    assert main(["quality"]) == 2
    assert "which cohort?" in capsys.readouterr().err
    assert main(["quality", str(cohort.path), *out, "--sequences", "[COR]"]) == 1
    assert "Unknown sequence 'COR'" in capsys.readouterr().err
    assert main(["quality", str(cohort.path), *out, "--limit", "0"]) != 0
    assert "limit: 0" in capsys.readouterr().err
    assert not (tmp_path / "q").exists()
