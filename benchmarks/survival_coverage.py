"""How often intervals of risk hold the phantom's truth: `python benchmarks/survival_coverage.py --cohorts 200`.

Simulates small cohorts by the phantom's own law (people, knees, pain, hazards, death, visits; no images),
fits the piecewise-exponential model with a shared gamma frailty to what the study sees, and compares 90 %
intervals of the cumulative incidence at 4, 8, 9 and 10 years with the true one, frailty integrated out and
death competing. The covariates are those of the true hazard, so that what is tested are the baseline,
which is piecewise constant where the truth is Weibull, the priors, the frailty, the interval-censored
events, the competing death and the horizons.

Two questions a cohort: of each joint's risk (the share of joints whose interval holds their truth), and of the
mean risk of the cohort. Results are kept under `--out`, a JSON line a cohort, so that a study that was cut
short goes on; `--figure FILE` draws them.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.models import PiecewiseExponential
from spinmark_biomarkers.survival.prediction.incidence import incidence_by_rows
from spinmark_biomarkers.survival.studies.coverage import CohortCoverage, hits, summarise
from spinmark_data.phantom.clinic import clinic_visit
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.outcomes import simulate_outcomes, true_incidence
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.state import LATENTS

Floats = NDArray[np.float64]
HORIZONS = np.array([4.0, 8.0, 9.0, 10.0])
LEVEL = 0.9
FIRST_SEED = 5000
"""Seeds below were looked at while the study was made."""

DRAWS = 400
DEATH = ["age", "sex", "bmi"]


def phantom(seed: int, people: int, event_share: float) -> tuple[SurvivalData, Floats, Floats]:
    """One cohort as the study sees it.

    Args:
        seed: Seed of the cohort.
        people: Their number; each has two knees.
        event_share: Expected share of knees replaced within ten years.

    Returns:
        What is fitted; standardised covariates of death of each row; true incidence (row, horizon).
    """
    config = PhantomConfig(subjects=people, seed=seed, event_share=event_share)
    population = sample_population(config)
    _, knees = clinic_visit(population, population.latents, "V00", config)
    womkp = knees["WOMKP"].to_numpy(np.float64)
    seen = simulate_outcomes(population, womkp, config)
    joints = population.joints
    ids = (joints["subject_id"] + ":" + joints["laterality"]).to_numpy(dtype=object)
    people_of = population.subjects.loc[joints["subject"]].reset_index(drop=True)
    x = np.column_stack([population.latents, womkp, people_of["age"]])
    there = ~joints["replaced_at_baseline"].to_numpy()
    outcomes = pd.DataFrame(
        {
            "joint_id": ids,
            "subject_id": joints["subject_id"],
            "entry": 0.0,
            "lower": seen.joints["observed_lower"],
            "upper": seen.joints["observed_upper"],
            "cause": seen.joints["observed_cause"],
        }
    )[there]
    # A follow-up of nothing tells nothing.
    outcomes = outcomes[outcomes["lower"] > 0]
    names = [*LATENTS, "WOMKP", "AGE"]
    design = pd.DataFrame((x - x.mean(axis=0)) / x.std(axis=0), index=ids, columns=names)
    data = SurvivalData.from_outcomes(outcomes, design)
    z = people_of[DEATH].to_numpy(np.float64)
    z = pd.DataFrame((z - z.mean(axis=0)) / z.std(axis=0), index=ids)
    risk = true_incidence(population, seen, config)
    columns = [f"cif_years_{year:g}" for year in HORIZONS]
    truth = pd.DataFrame(risk[columns].to_numpy(np.float64), index=ids)
    order = pd.Index(data.ids)
    return data, z.loc[order].to_numpy(), truth.loc[order].to_numpy()


def predicted(data: SurvivalData, z: Floats, seed: int, intervals: int) -> tuple[Floats, str]:
    """Fit event and death, and predict every row: draws (D, n, T), and the worse verdict."""
    sampler = SamplerConfig(chains=2, tune=500, draws=1000, cores=1, seed=seed)
    # What is always compiled lets all cohorts share one function.
    options: dict[str, Any] = {
        "intervals": intervals, "always": ("frailty", "interval_censored"), "sampler": sampler,
    }  # fmt: skip
    event = PiecewiseExponential(frailty="gamma", **options).fit(data)
    people = data.with_covariates(z, tuple(DEATH)).deaths()
    death = PiecewiseExponential(frailty="none", **options).fit(people)
    hazards = {"event": event.hazard(data.covariates, DRAWS), "death": death.hazard(z, DRAWS)}
    parts = [share[0] for _, share in incidence_by_rows(hazards, HORIZONS)]
    bad = [
        m.diagnostics_.verdict for m in (event, death) if m.diagnostics_.verdict.startswith("bad")
    ]
    return np.concatenate(parts, axis=1), bad[0] if bad else ""


def one(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Simulate, fit and compare one cohort."""
    start = time.process_time()
    with threadpool_limits(limits=1):
        data, z, truth = phantom(seed, args.people, args.event_share)
        draws, bad = predicted(data, z, seed, args.intervals)
    mean = draws.mean(axis=1, keepdims=True)
    return {
        "seed": seed,
        "events": int(data.event.sum()),
        "joints": {k: v.tolist() for k, v in vars(hits(draws, truth, level=LEVEL)).items()},
        "mean": {
            k: v.tolist()
            for k, v in vars(hits(mean, truth.mean(axis=0, keepdims=True), level=LEVEL)).items()
        },
        "truth": truth.mean(axis=0).tolist(),
        "bad": bad,
        "cpu_seconds": time.process_time() - start,
    }


def table(rows: list[dict[str, Any]], of: str) -> pd.DataFrame:
    """Coverage of the joints' risks (`joints`) or of the cohort's mean risk (`mean`) by horizon."""
    cohorts = [
        CohortCoverage(**{k: np.array(v) for k, v in row[of].items()})
        for row in rows
        if not row["bad"]
    ]
    return summarise(cohorts, HORIZONS)


def study(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Do the cohorts that are not done yet, and return all."""
    kept = {}
    if args.out.exists():
        for line in args.out.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            kept[found["seed"]] = found
    wanted = range(args.first_seed, args.first_seed + args.cohorts)
    with args.out.open("a", encoding="utf-8") as file:
        for seed in wanted:
            if seed not in kept:
                kept[seed] = one(seed, args)
                file.write(json.dumps(kept[seed]) + "\n")
                file.flush()
    return [kept[seed] for seed in wanted]


def main() -> None:
    """Run the study and print its tables and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cohorts", type=int, default=200)
    parser.add_argument("--first_seed", type=int, default=FIRST_SEED)
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--event_share", type=float, default=0.22)
    parser.add_argument("--intervals", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("survival-coverage.jsonl"))
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    rows = study(args)
    tables = {of: table(rows, of) for of in ("joints", "mean")}
    for of, found in tables.items():
        print(f"\n{of}\n{found.round(4).to_string(index=False)}")
    if args.figure is not None:
        from spinmark_biomarkers.figures.survival_studies import coverage_by_horizon

        names = {"joints": "each joint's risk", "mean": "mean risk of the cohort"}
        shown = {names[of]: found for of, found in tables.items()}
        coverage_by_horizon(shown, level=LEVEL).savefig(args.figure, dpi=150)
    told: dict[str, Any] = {
        of: {f"{row.time:g}": round(float(row.coverage), 4) for row in found.itertuples()}
        for of, found in tables.items()
    }
    told["cohorts"] = len(rows)
    told["left_out"] = sum(bool(row["bad"]) for row in rows)
    told["events"] = float(np.mean([row["events"] for row in rows]))
    told["cpu_seconds"] = round(sum(row["cpu_seconds"] for row in rows), 1)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
