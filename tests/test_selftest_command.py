"""`spinmark selftest`: its lines, its report and its exit code."""

import json
import re
from pathlib import Path

import pytest

from spinmark.__main__ import main
from spinmark.commands import selftest
from spinmark_models.selftest import contrast, convolution
from spinmark_models.selftest.convolution import ConvCase
from spinmark_models.selftest.records import Check


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same checks on shapes that take no time."""
    tiny = (ConvCase(1, 2, 3, (4, 6, 8)), ConvCase(1, 1, 2, (4, 6, 8), stride=(2, 2, 2)))
    monkeypatch.setattr(convolution, "SMALL", tiny)
    monkeypatch.setattr(convolution, "LARGE", ())


@pytest.mark.usefixtures("small")
def test_it_tells_every_check_and_writes_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "folder"
    assert main(["selftest", "--accelerator", "cpu", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"torch \S+ on cpu \(\S.*\), \d+ CPU threads, ", lines[0])
    record = json.loads((out / "selftest.json").read_text())
    assert (record["schema"], record["version"]) == ("spinmark/selftest", 1)
    assert record["machine"]["device"] == "cpu"
    checks = record["checks"]
    words = [line[:4] for line in lines[1 : 1 + len(checks)]]
    assert words == [selftest.WORDS[check["verdict"]] for check in checks]
    passed = [check for check in checks if check["verdict"] == "pass"]
    assert all(check["figure"] <= check["tolerance"] for check in passed)
    assert lines[-3] == f"{out / 'selftest.json'} (all figures)"
    assert lines[-2].startswith(f"{len(passed)} checks passed, 1 skipped")
    assert lines[-1].startswith("Next: spinmark ")


@pytest.mark.usefixtures("small")
def test_a_failure_is_named_and_ends_with_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # No arithmetic rounds so little.
    monkeypatch.setattr(convolution, "WORST_BF16", 1e-12)
    assert main(["selftest", "--accelerator", "cpu", "--out", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    failed = [line for line in captured.out.splitlines() if line.startswith("FAIL  ")]
    assert len(failed) == 2
    assert all("--trainer.precision 32-true" in line for line in failed)
    said = captured.err.splitlines()[-1]
    assert said.startswith("spinmark selftest: 2 of ")
    assert "Conv3d bf16 against float32, 1x2x4x6x8 to 3" in said
    # The report of a failure is what one would send to somebody.
    verdicts = [
        c["verdict"] for c in json.loads((tmp_path / "selftest.json").read_text())["checks"]
    ]
    assert verdicts.count("fail") == 2


def test_every_kind_of_finding_has_its_line() -> None:
    checks = {
        "FAIL  a: nan, at most 0.1; why": Check(
            name="a", figure=float("nan"), tolerance=0.1, note="why"
        ),
        "pass  a: 0.01 of it, at most 0.1": Check(
            name="a", figure=0.01, tolerance=0.1, unit="of it", note="why"
        ),
        "skip  a: no room": Check(name="a", note="no room"),
        "info  a: 0.5 of the peak": Check(name="a", figure=0.5, unit="of the peak"),
    }
    assert [selftest.tell(check) for check in checks.values()] == list(checks)


def test_a_report_holds_what_is_no_number() -> None:
    from torch import device

    from spinmark_models.selftest.records import this_machine

    check = Check(name="a", figure=float("nan"), tolerance=0.1)
    record = json.loads(selftest.report(this_machine(device("cpu")), [check]))
    assert record["checks"][0]["figure"] == "nan"
    assert record["checks"][0]["verdict"] == "fail"


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["--threads", "0"], 2, "--threads 0: use 1 or more"),
        (["--accelerator", "tpu"], 2, "accelerator"),
        (["--out", __file__], 1, "is a file; --out takes a folder"),
    ],
)
def test_bad_options_are_refused_in_one_line(
    argv: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["selftest", *argv]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.slow
def test_this_very_machine_computes_float32(capsys: pytest.CaptureFixture[str]) -> None:
    # Some CPUs get bf16 wrong in a deep stage; that is theirs to fail, and ours to name.
    status = main(["selftest"])
    told = capsys.readouterr()
    failed = [line for line in told.out.splitlines() if line.startswith("FAIL")]
    assert status == bool(failed)
    assert all(line.startswith("FAIL  Conv3d bf16") for line in failed)
    assert "1x1x160x384x384" in told.out
    assert contrast.PAIRS == 512
