"""The studies of calibration and coverage run, and go on where they were cut short."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent


def run(script: str, *words: str) -> str:
    found = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *words], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_a_phantom_cohort_is_what_the_study_sees_with_its_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from survival_coverage import HORIZONS, phantom

    from spinmark_biomarkers.survival.nonparametric import aalen_johansen

    data, death, truth = phantom(3, 900, 0.22)
    assert data.names == ("bone", "cartilage", "inflammation", "hypertrophy", "WOMKP", "AGE")
    assert truth.shape == (len(data.ids), len(HORIZONS))
    assert death.shape == (len(data.ids), 3)
    # Death's covariates are the person's.
    of = pd.Series(death[:, 0]).groupby(data.subject_ids.astype(str)).nunique()
    assert (of == 1).all()
    # What the study sees gives the true incidence back, without any model (1,770 knees: s.e. .011).
    times, share = aalen_johansen(data.time, data.cause)
    for k, year in enumerate(HORIZONS):
        seen = share[(times <= year).nonzero()[0][-1]]
        assert seen == pytest.approx(truth[:, k].mean(), abs=0.035)
    # And where the truth says high risk, more is seen.
    high = truth[:, 1] > pd.Series(truth[:, 1]).median()
    assert data.event[high].mean() > 1.5 * data.event[~high].mean()


@pytest.mark.slow
def test_the_coverage_study_runs_and_goes_on(tmp_path: Path) -> None:
    words = ("--people", "60", "--out", str(tmp_path / "kept.jsonl"))
    words += ("--figure", str(tmp_path / "coverage.png"))
    run("survival_coverage.py", "--cohorts", "2", *words)
    kept = (tmp_path / "kept.jsonl").read_text()
    told = json.loads(run("survival_coverage.py", "--cohorts", "2", *words).splitlines()[-1])
    assert (tmp_path / "kept.jsonl").read_text() == kept
    assert told["cohorts"] == 2
    assert set(told["joints"]) == {"4", "8", "9", "10"}
    assert (tmp_path / "coverage.png").is_file()


@pytest.mark.slow
def test_the_calibration_study_runs_and_goes_on(tmp_path: Path) -> None:
    words = ("--replicates", "3", "--models", "piecewise", "--out", str(tmp_path / "kept.jsonl"))
    words += ("--figure", str(tmp_path / "sbc.png"))
    first = run("survival_sbc.py", *words)
    kept = (tmp_path / "kept.jsonl").read_text()
    assert len(kept.splitlines()) == 3
    assert run("survival_sbc.py", *words) == first
    assert (tmp_path / "kept.jsonl").read_text() == kept
    assert json.loads(first.splitlines()[-1])["models"] == 1
    assert (tmp_path / "sbc.png").is_file()
    out = run("survival_sbc.py", "--cox", "--replicates", "2", "--out", str(tmp_path / "c.jsonl"))
    assert len(json.loads(out.splitlines()[-1])["cox_coverage"]) == 3
