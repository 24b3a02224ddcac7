"""Trajectories against a phantom's true movement, and the scores that say so."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from spinmark.errors import InputError
from spinmark.scoring_trajectories import balanced_accuracy, trajectory_scores
from spinmark_biomarkers.phenotypes.trajectories.find import Trajectories
from spinmark_data.phantom.state import LATENTS

from .trajectory_simulation import Simulated, follow, population_speeds, simulated


@pytest.fixture(scope="module")
def clear() -> tuple[Simulated, Trajectories]:
    given = simulated(people=120, noise=0.02, seed=2)
    return given, follow(given)


def test_with_little_noise_the_truth_is_found(clear: tuple[Simulated, Trajectories]) -> None:
    given, found = clear
    scores = trajectory_scores(found, given.truth, LATENTS, on="test", draws=50, seed=0)
    assert scores["joints"] == int((found.speeds["set"] == "test").sum())
    assert scores["chance"] == 0.25
    assert scores["speed_correlation"]["model"]["value"] > 0.8
    assert scores["direction_balanced_accuracy"]["model"]["value"] > 0.65
    mean = population_speeds(given, found)
    assert mean["model"] == pytest.approx(mean["truth"], rel=0.1)
    # Inflammation comes and goes: what a joint's best line calls its movement is not all of it.
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_noise_costs_the_difference_quotient_more_than_the_model() -> None:
    given = simulated(people=200, noise=0.4, seed=3)
    scores = trajectory_scores(follow(given), given.truth, LATENTS, on="test", draws=200, seed=0)
    for key in ("speed_correlation", "direction_balanced_accuracy"):
        assert scores[key]["model"]["value"] > scores[key]["quotient"]["value"]
    assert scores["speed_correlation"]["model - quotient"]["low"] > 0


def test_no_disease_no_movement() -> None:
    still = simulated(people=100, structure="none", seed=4)
    found = follow(still).summary()
    assert found["verdict"] == "none"
    speed = found["speed"]["population"]
    assert speed["low"] < 0 < speed["high"] or abs(speed["value"]) < 0.02


def test_a_truth_that_lacks_visits_is_refused(clear: tuple[Simulated, Trajectories]) -> None:
    given, found = clear
    short = given.truth[given.truth["visit"] != "V10"]
    with pytest.raises(InputError, match="visits have none, such as P000"):
        trajectory_scores(found, short, LATENTS, on="test", draws=5, seed=0)
    with pytest.raises(InputError, match="set val: no joint of two visits"):
        trajectory_scores(found, given.truth, LATENTS, on="val", draws=5, seed=0)


def test_balanced_accuracy_is_that_of_another_library() -> None:
    rng = np.random.default_rng(5)
    true, said = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    assert balanced_accuracy(true, said) == pytest.approx(balanced_accuracy_score(true, said))


def test_people_who_leave_are_fewer_and_all_begin() -> None:
    whole, left = (simulated(people=60, dropout=kind, seed=6) for kind in ("none", "speed"))
    assert left.embeddings.sizes["scan"] < whole.embeddings.sizes["scan"]
    first = [one.truth[one.truth["visit"] == "V00"] for one in (whole, left)]
    pd.testing.assert_frame_equal(*(one.reset_index(drop=True) for one in first))


def test_the_documented_table_is_that_of_the_script() -> None:
    page = (Path(__file__).parents[1] / "docs" / "concepts" / "trajectories.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith(("| 7 |", "| 2 |"))]
    assert len(rows) == 9
    assert "python tests/trajectory_simulation.py" in page
