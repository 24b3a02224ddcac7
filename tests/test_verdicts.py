"""The verdict on the phantom's true latents, a few seeds of the study in docs/concepts/how-many.md."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spinmark_biomarkers.phenotypes.cluster import fit_clusters
from spinmark_biomarkers.phenotypes.structure.severity import more_than_severity
from spinmark_biomarkers.phenotypes.structure.verdict import judge
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.population import sample_population

ROOT = Path(__file__).parent.parent


def latents(structure: str, people: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    made = PhantomConfig(subjects=people, seed=seed, structure=structure)  # type: ignore[arg-type]
    population = sample_population(made)
    return population.latents, population.joints["subject"].to_numpy()


@pytest.mark.parametrize(
    ("structure", "people", "verdict"),
    [
        ("phenotypes", 1000, "clusters"),
        ("continuum", 400, "continuum"),
        ("severity", 400, "continuum"),
        ("none", 400, "none"),
    ],
)
def test_verdict_on_true_latents(structure: str, people: int, verdict: str) -> None:
    z, subjects = latents(structure, people, seed=500)
    found = judge(z, subjects, criteria=False, seed=0)
    assert found.verdict == verdict, found.reasons
    if structure == "phenotypes":
        assert found.k == 5


# Without severity the minimal knees lie amid the four kinds, so that the valleys close.
@pytest.mark.parametrize(
    ("structure", "answer"), [("phenotypes", "in part"), ("severity", "no more")]
)
def test_phenotypes_are_more_than_severity_and_its_own_preset_is_not(
    structure: str, answer: str
) -> None:
    z, subjects = latents(structure, 600, seed=501)
    # A coarse reading of how bad the knee is, as a radiograph gives it.
    grade = np.digitize(z.mean(axis=1), [0.3, 0.5, 0.8, 1.2])
    first = judge(z, subjects, criteria=False, seed=0)
    k = max(first.k, 2)
    labels = fit_clusters(z, k=k, components=4, seed=0).assign(z)[0]
    found = more_than_severity(
        z,
        labels,
        grade,
        subjects,
        before=first.verdict,
        judge=lambda left: judge(left, subjects, criteria=False, seed=0),
        draws=20,
        seed=0,
    )
    assert found.answer == answer, found.sentence


@pytest.mark.slow
def test_the_study_goes_on_where_it_was_cut_short(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "benchmarks/verdicts.py"), "--seeds", "2"]
    words += ["--cases", "null", "two-5", "--out", str(tmp_path / "kept.jsonl")]
    first = subprocess.run(words, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    kept = (tmp_path / "kept.jsonl").read_text()
    assert len(kept.splitlines()) == 4
    again = subprocess.run(words, capture_output=True, text=True)
    assert again.stdout == first.stdout
    assert (tmp_path / "kept.jsonl").read_text() == kept
    assert json.loads(again.stdout.splitlines()[-1])["right"] == {"null": 1.0, "two-5": 1.0}
