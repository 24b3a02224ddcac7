"""What may never be committed: rows or identifiers of participants."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The OAI's identifiers have seven digits and begin with 9; its tables begin with this header.
IDENTIFIER = re.compile(rb"(?<![\w.])9\d{6}(?![\w.])")
HEADER = re.compile(rb"\AID\|")
BINARY = {".png"}


def tracked() -> list[Path]:
    run = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        pytest.skip("no git checkout: which files are tracked is unknown")
    return [ROOT / name for name in run.stdout.split("\0") if name]


def test_no_tracked_file_holds_a_participant() -> None:
    files = [path for path in tracked() if path.suffix not in BINARY and path.is_file()]
    assert len(files) > 100
    for path in files:
        content = path.read_bytes()
        assert HEADER.search(content) is None, path
        found = IDENTIFIER.search(content)
        assert found is None, f"{path}: {found.group() if found else b''!r}"


def test_the_pattern_finds_what_it_should() -> None:
    made_up = b"9" + b"000001"
    assert IDENTIFIER.search(b"|" + made_up + b"|")
    assert IDENTIFIER.search(b"1000001 and 19000001") is None
