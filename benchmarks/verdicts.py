"""How often the verdict on phenotypes is right: `python benchmarks/verdicts.py --seeds 100`.

Draws people by the phantom's presets (their true latents at enrolment, both knees) and by other laws,
judges each, and counts the verdicts. Seeds begin at 1000; those below 20 were looked at while the rule was
made, on the presets and, for the bending of the line between clusters, on `sheet`, `roll` and `ring`.
`--criteria 20` also asks the first 20 cohorts of each law for what every other criterion alone would have
said. Results are kept under `--out`, a JSON line a cohort, so that a study that was cut short goes on.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.phenotypes.structure.verdict import judge
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.population import sample_population

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Drawn = tuple[Floats, Ints]

PEOPLE = 400
STRUCTURES = {
    "default": "phenotypes",
    "continuum": "continuum",
    "severity-only": "severity",
    "null": "none",
}
FIRST_SEED = 1000
LIKENESS = 0.5
"""Share of the variance that the two knees of a person have in common, in the laws made here."""


class Case(NamedTuple):
    """A law, and the verdicts that are right of it."""

    draw: Callable[[int], Drawn]
    right: tuple[str, ...]


def preset(name: str, people: int) -> Callable[[int], Drawn]:
    """Draw the true latents of a preset at enrolment."""

    def draw(seed: int) -> Drawn:
        made = PhantomConfig(subjects=people, seed=seed, structure=STRUCTURES[name])  # type: ignore[arg-type]
        population = sample_population(made)
        return population.latents, population.joints["subject"].to_numpy(dtype=np.int64)

    return draw


def knees(rng: np.random.Generator, d: int) -> Floats:
    """Standard normal numbers of both knees of everyone, `(2 people, d)`."""
    person = np.repeat(rng.normal(size=(PEOPLE, d)), 2, axis=0)
    own = rng.normal(size=(2 * PEOPLE, d))
    return np.asarray(np.sqrt(LIKENESS) * person + np.sqrt(1 - LIKENESS) * own)


def uniform(rng: np.random.Generator, d: int) -> Floats:
    """Uniform numbers of both knees, alike as those of `knees`."""
    from scipy.special import ndtr

    return np.asarray(ndtr(knees(rng, d)), dtype=np.float64)


def groups(rng: np.random.Generator, shares: list[float]) -> Ints:
    """A group for each person, which both knees have."""
    return np.repeat(rng.choice(len(shares), PEOPLE, p=shares), 2)


def made(kind: str) -> Callable[[int], Drawn]:
    """Draw by one of the laws that the rule was not made on."""

    def draw(seed: int) -> Drawn:
        rng = np.random.default_rng([seed, 77])
        subjects = np.repeat(np.arange(PEOPLE), 2)
        scale = np.array([2.0, 1.5, 1.0, 1.0, 0.7, 0.7, 0.5, 0.5])
        noise = knees(rng, 8)
        if kind == "gaussian":
            return noise * scale, subjects
        if kind == "student":
            heavy = np.sqrt(5 / np.repeat(rng.chisquare(5, PEOPLE), 2))
            return noise * scale * heavy[:, None], subjects
        if kind == "lognormal":
            return np.exp(0.6 * noise[:, :4]), subjects
        if kind == "cube":
            return uniform(rng, 4), subjects
        if kind in ("sheet", "ring", "roll"):
            turn = {"sheet": 1.0, "ring": 2.0, "roll": 1.6}[kind] * np.pi
            angle = turn * uniform(rng, 1)[:, 0]
            bent = 0.4 * noise[:, :6]
            bent[:, 0] += 3 * np.cos(angle)
            bent[:, 1] += 3 * np.sin(angle)
            bent[:, 2] += 0 if kind == "ring" else 2 * uniform(rng, 1)[:, 0]
            return bent, subjects
        if kind == "moons":
            second = groups(rng, [0.5, 0.5])
            angle = np.pi * uniform(rng, 1)[:, 0]
            bent = 0.4 * noise[:, :6]
            bent[:, 0] += np.where(second, 3 - 3 * np.cos(angle), 3 * np.cos(angle))
            bent[:, 1] += np.where(second, 1.5 - 3 * np.sin(angle), 3 * np.sin(angle))
            return bent, subjects
        if kind == "shell":
            ball = noise[:, :3] / np.linalg.norm(noise[:, :3], axis=1, keepdims=True)
            return np.hstack([3 * ball + 0.4 * noise[:, 3:6], 0.4 * noise[:, 6:]]), subjects
        if kind == "outliers":
            return noise * np.where(groups(rng, [0.97, 0.03]), 6.0, 1.0)[:, None], subjects
        if kind == "parallel":
            noise[:, 0] *= 5
            noise[:, 1] += 5 * groups(rng, [0.5, 0.5])
            return noise, subjects
        if kind.startswith("two-"):
            away = float(kind.split("-")[1])
            noise[:, 0] += away * groups(rng, [0.7, 0.3])
            return noise, subjects
        if kind == "five":
            centres = 4.0 / np.sqrt(2) * np.eye(8)[:5]
            return noise + centres[groups(rng, [0.36, 0.15, 0.19, 0.15, 0.15])], subjects
        # Everyone of one continuum, imaged at three sites that shift the space.
        shift = rng.normal(size=(3, 8))
        shift *= 5 / np.linalg.norm(shift, axis=1, keepdims=True)
        return noise + shift[groups(rng, [0.4, 0.3, 0.3])], subjects

    return draw


def cases() -> dict[str, Case]:
    """Every law by its name."""
    some = ("clusters",)
    not_clusters = ("continuum", "none")
    return {
        "default": Case(preset("default", 1000), some),
        "default-400": Case(preset("default", 400), some),
        "continuum": Case(preset("continuum", 400), ("continuum",)),
        "severity-only": Case(preset("severity-only", 400), ("continuum",)),
        "null": Case(preset("null", 400), ("none",)),
        "gaussian": Case(made("gaussian"), ("none",)),
        "student": Case(made("student"), not_clusters),
        "lognormal": Case(made("lognormal"), ("continuum",)),
        "cube": Case(made("cube"), ("continuum",)),
        "sheet": Case(made("sheet"), ("continuum",)),
        "roll": Case(made("roll"), ("continuum",)),
        "ring": Case(made("ring"), ("continuum",)),
        "shell": Case(made("shell"), ("continuum",)),
        "outliers": Case(made("outliers"), not_clusters),
        "two-2": Case(made("two-2"), not_clusters),
        "two-3": Case(made("two-3"), some),
        "two-4": Case(made("two-4"), some),
        "two-5": Case(made("two-5"), some),
        "five": Case(made("five"), some),
        "moons": Case(made("moons"), some),
        "parallel": Case(made("parallel"), some),
        "sites": Case(made("sites"), some),
    }


def study(
    names: list[str], seeds: int, criteria: int, out: Path
) -> dict[str, list[dict[str, Any]]]:
    """Judge every cohort that is not judged yet, and return all that is known."""
    kept: dict[tuple[str, int], dict[str, Any]] = {}
    if out.exists():
        for line in out.read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            kept[one["case"], one["seed"]] = one
    every = cases()
    with out.open("a", encoding="utf-8") as file:
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            for name in names:
                found = kept.get((name, seed))
                if found is not None and (seed >= FIRST_SEED + criteria or found["votes"]):
                    continue
                z, subjects = every[name].draw(seed)
                start = time.process_time()
                with threadpool_limits(limits=1):
                    found_now = judge(z, subjects, seed=seed, criteria=seed < FIRST_SEED + criteria)
                kept[name, seed] = {
                    "case": name,
                    "seed": seed,
                    "verdict": found_now.verdict,
                    "k": found_now.k,
                    "reproducible": list(found_now.strength.reproducible)
                    if found_now.strength
                    else [],
                    "borders": [one.to_dict() for one in found_now.borders],
                    "votes": found_now.votes() if seed < FIRST_SEED + criteria else {},
                    "consensus_p": found_now.consensus.p if found_now.consensus else None,
                    "strength_p": found_now.strength.p
                    if found_now.strength and seed < FIRST_SEED + criteria
                    else None,
                    "cpu_seconds": time.process_time() - start,
                }
                file.write(json.dumps(kept[name, seed]) + "\n")
                file.flush()
    return {name: [kept[name, s] for s in range(FIRST_SEED, FIRST_SEED + seeds)] for name in names}


def report(found: dict[str, list[dict[str, Any]]], criteria: int) -> None:
    """Print the tables and a line of JSON."""
    every = cases()
    print("| law | right | clusters | continuum | none | right, of 100 | number of clusters |")
    print("|---|---|---|---|---|---|---|")
    share = {}
    for name, rows in found.items():
        count = Counter(row["verdict"] for row in rows)
        right = every[name].right
        share[name] = sum(count[verdict] for verdict in right) / max(len(rows), 1)
        ks = Counter(row["k"] for row in rows if row["verdict"] == "clusters")
        told = ", ".join(f"{k}: {n}" for k, n in sorted(ks.items())) or "-"
        print(
            f"| {name} | {' or '.join(right)} | {count['clusters']} | {count['continuum']} | "
            f"{count['none']} | {100 * share[name]:.0f} | {told} |"
        )
    told_by = [row for rows in found.values() for row in rows if row["votes"]]
    if criteria and told_by:
        kinds = list(max((row["votes"] for row in told_by), key=len))
        print(f"\n| law ({criteria} cohorts each) | {' | '.join(kinds)} |")
        print("|---" * (len(kinds) + 1) + "|")
        for name, rows in found.items():
            cells = []
            for kind in kinds:
                votes = [row["votes"][kind] for row in rows if kind in row["votes"]]
                cells.append(
                    f"{np.median(votes):g} ({min(votes)} to {max(votes)})" if votes else "-"
                )
            print(f"| {name} | {' | '.join(cells)} |")
    cpu = sum(row["cpu_seconds"] for rows in found.values() for row in rows)
    print(json.dumps({"right": share, "cpu_seconds": round(cpu, 1)}))


def main() -> None:
    """Run the study and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--criteria", type=int, default=0)
    parser.add_argument("--cases", nargs="*", default=list(cases()))
    parser.add_argument("--out", type=Path, default=Path("verdicts.jsonl"))
    args = parser.parse_args()
    unknown = sorted(set(args.cases) - set(cases()))
    if unknown:
        parser.error(f"cases: {', '.join(unknown)}; accepted are {', '.join(cases())}")
    report(study(args.cases, args.seeds, args.criteria, args.out), args.criteria)


if __name__ == "__main__":
    main()
