"""Trajectories of phantom people whose visits are made up from their true latents.

    python tests/trajectory_simulation.py          # the table of docs/concepts/trajectories.md

No image is made: an "embedding" is the four latents at a visit, turned into sixteen features by a
random rotation, plus noise of a standard deviation `noise` on every feature and visit. People may
leave: at random, the sooner the worse their knee was at the last visit (which that visit shows), or
the sooner the faster it truly moves (which no visit shows).
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from spinmark.scoring_trajectories import trajectory_scores
from spinmark_biomarkers.embeddings import from_frame
from spinmark_biomarkers.phenotypes.trajectories.config import TrajectoriesConfig
from spinmark_biomarkers.phenotypes.trajectories.find import Trajectories, find_trajectories
from spinmark_biomarkers.phenotypes.trajectories.paths import make_paths
from spinmark_data.phantom.config import IMAGING_VISITS, PhantomConfig
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.progression import trajectories, yearly_rates
from spinmark_data.phantom.state import LATENTS

FEATURES = 16
MISSED = 0.1
LEAVING = 0.12
DROPOUT = ("none", "random", "past", "speed")


@dataclass(frozen=True)
class Simulated:
    """Made-up embeddings and their truth.

    Args:
        embeddings: As a package reads them.
        truth: A row a joint and visit with the latents, as `truth/scans.parquet`.
        rates: True movement of the features a year, flares apart, of all joints, seen or not.
    """

    embeddings: xr.Dataset
    truth: pd.DataFrame
    rates: np.ndarray


def _gone(kind: str, latents: np.ndarray, rates: np.ndarray, years: np.ndarray, rng: Any) -> Any:
    """At which visits each person has left, shape (person, visit)."""
    people, visits = len(latents) // 2, len(years)
    if kind == "none":
        return np.zeros((people, visits), bool)

    def standard(values: np.ndarray) -> np.ndarray:
        worse = values.reshape(people, 2).max(axis=1)
        return np.asarray((worse - worse.mean()) / worse.std())

    gone = np.zeros((people, visits), bool)
    for v in range(1, visits):
        tilt = np.zeros(people)
        if kind == "past":
            tilt = standard(latents[:, v - 1].sum(axis=1))
        elif kind == "speed":
            tilt = standard(np.linalg.norm(rates, axis=1))
        hazard = LEAVING * np.exp(tilt - 0.5 * (kind != "random")) * (years[v] - years[v - 1])
        gone[:, v] = gone[:, v - 1] | (rng.random(people) < 1 - np.exp(-hazard))
    return gone


def simulated(
    *,
    people: int,
    visits: tuple[str, ...] = IMAGING_VISITS,
    noise: float = 0.3,
    dropout: str = "none",
    structure: Any = "phenotypes",
    seed: int = 0,
) -> Simulated:
    """Make embeddings of both knees of phantom people.

    Args:
        people: Number of people; the last fifth is held out.
        visits: Visits, which are apart by one or two years.
        noise: Standard deviation of a feature at a visit; the latents' is about 0.5.
        dropout: One of `DROPOUT`.
        structure: As the phantom's.
        seed: Seed of people, noise and dropout.
    """
    config = PhantomConfig(subjects=people, seed=seed, visits=visits, structure=structure)
    population = sample_population(config)
    path = trajectories(population, config)
    rates = yearly_rates(population, config)
    rng = np.random.default_rng([seed, 1])
    years = np.array([config.months(visit) for visit in visits]) / 12
    latents = np.stack([path[visit] for visit in visits], axis=1)
    turn = np.linalg.qr(rng.normal(size=(FEATURES, FEATURES)))[0][: len(LATENTS)]
    seen = latents @ turn + noise * rng.normal(size=(*latents.shape[:2], FEATURES))
    here = rng.random(latents.shape[:2]) >= MISSED
    here[:, 0] = True
    here &= ~np.repeat(_gone(dropout, latents, rates, years, rng), 2, axis=0)
    joint, visit = np.nonzero(here)
    names = np.array([f"P{i:05d}" for i in range(people)], dtype=object)
    frame = pd.DataFrame(
        {
            "subject_id": names[joint // 2],
            "laterality": np.array(["R", "L"], dtype=object)[joint % 2],
            "visit": np.array(visits, dtype=object)[visit],
            "days": 365.25 * years[visit],
        }
    )
    truth = frame.assign(**dict(zip(LATENTS, latents[joint, visit].T, strict=True)))
    features = [f"f{i}" for i in range(FEATURES)]
    frame = pd.concat([frame, pd.DataFrame(seen[joint, visit], columns=features)], axis=1)
    fitted = names[: int(0.8 * people)].tolist()
    embeddings = from_frame(frame, fitted_subjects=fitted, features=features)
    return Simulated(embeddings, truth, rates @ turn)


def follow(given: Simulated, *, draws: int = 19, components: int = 6) -> Trajectories:
    """Find trajectories in simulated embeddings."""
    config = TrajectoriesConfig(components=components, null_draws=draws, bootstrap=1, k_max=4)
    return find_trajectories(given.embeddings, config)


def population_speeds(given: Simulated, found: Trajectories) -> dict[str, float]:
    """True mean speed along the found direction of all joints, and its two estimates."""
    axis = np.asarray(found.facts["direction"]["vector"])
    projection = make_paths(given.embeddings, components=len(axis)).projection
    return {
        "truth": float((given.rates @ projection.axes.T @ axis).mean()),
        "model": float(found.facts["speed"]["population"]["value"]),
        "quotient": float(found.speeds["quotient"].mean()),
    }


def scored(given: Simulated, *, bootstrap: int = 200, draws: int = 19) -> dict[str, Any]:
    """Everything that the table shows of one simulation."""
    found = follow(given, draws=draws)
    scores = trajectory_scores(found, given.truth, LATENTS, on="test", draws=bootstrap, seed=0)
    return {
        "verdict": found.facts["verdict"],
        "p": found.facts["p"],
        "scores": scores,
        "population": population_speeds(given, found),
        "reliability": found.facts["speed"]["reliability"],
    }


def _cell(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "all alike"
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"


def main(people: int = 1000, seed: int = 1) -> None:
    """Print the table, a row a simulation."""
    every, two = IMAGING_VISITS, ("V00", "V03")
    rows: list[tuple[tuple[str, ...], float, str]] = [
        *((every, noise, "none") for noise in (0.15, 0.3, 0.6)),
        *((two, noise, "none") for noise in (0.15, 0.3, 0.6)),
        *((every, 0.3, kind) for kind in DROPOUT[1:]),
    ]
    print(
        "| visits | noise | dropout | speed: model | speed: quotient | direction: model |", end=""
    )
    print(" direction: quotient | bias of mean speed: model | quotient | reliability | verdict |")
    print("|" + "---|" * 11)
    for visits, noise, dropout in rows:
        given = simulated(people=people, visits=visits, noise=noise, dropout=dropout, seed=seed)
        told = scored(given)
        scores, mean = told["scores"], told["population"]
        cells = [
            str(len(visits)),
            f"{noise}",
            dropout,
            *(_cell(scores["speed_correlation"][name]) for name in ("model", "quotient")),
            *(_cell(scores["direction_balanced_accuracy"][name]) for name in ("model", "quotient")),
            *(f"{100 * (mean[name] / mean['truth'] - 1):+.0f} %" for name in ("model", "quotient")),
            "not known" if told["reliability"] is None else f"{told['reliability']:.2f}",
            told["verdict"],
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
