"""Simulation-based calibration of every survival model: `python benchmarks/survival_sbc.py --replicates 200`.

Each replicate draws the parameters of a model from its own prior, 100 people with two joints from the
parameters, and draws from the posterior of these data; if the sampler draws from the right posterior, the
rank of each parameter among the draws is uniform. Cox's model has no baseline to draw from: `--cox` instead
counts how often 90 % intervals of its coefficients hold the truth, over data with a Weibull baseline.

Ranks are kept under `--out`, a JSON line a replicate, so that a study that was cut short goes on; `--figure
FILE` draws them.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.models.cox import Cox
from spinmark_biomarkers.survival.priors import Normal
from spinmark_biomarkers.survival.simulate import Scenario, simulate
from spinmark_biomarkers.survival.studies.coverage import monte_carlo_interval
from spinmark_biomarkers.survival.studies.generative import generative_models
from spinmark_biomarkers.survival.studies.ranks import holm
from spinmark_biomarkers.survival.studies.sbc import Replicate, calibrate, verdicts

DRAWS = 63
FIRST_SEED = 1000
"""Seeds below were looked at while the study was made."""

COX = {
    "one joint a person": Scenario(subjects=300, joints=1, frailty="none"),
    "late entry": Scenario(subjects=300, joints=1, frailty="none", late_entry=0.5),
    "two joints, frailty ignored": Scenario(subjects=200, frailty="gamma", spread=0.8),
}


def kept_lines(path: Path) -> list[dict[str, Any]]:
    """What an earlier run left."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def study(names: list[str], replicates: int, out: Path) -> dict[str, pd.DataFrame]:
    """Rank every truth that is not ranked yet."""
    done: dict[str, list[Replicate]] = {}
    cpu: dict[str, float] = {}
    for line in kept_lines(out):
        name, spent = line.pop("model"), line.pop("cpu_seconds")
        done.setdefault(name, []).append(Replicate(**line))
        cpu[name] = cpu.get(name, 0.0) + spent
    models = generative_models()
    tables = {}
    with out.open("a", encoding="utf-8") as file, threadpool_limits(limits=1):
        for name in names:
            start = [time.process_time()]

            def told(one: Replicate, model: str = name, start: list[float] = start) -> None:
                now = time.process_time()
                line = {"model": model, **asdict(one), "cpu_seconds": round(now - start[0], 3)}
                start[0] = now
                file.write(json.dumps(line) + "\n")
                file.flush()

            tables[name] = calibrate(
                models[name],
                replicates=replicates,
                draws=DRAWS,
                seed=FIRST_SEED,
                kept=done.get(name, ()),
                progress=told,
            )
    return tables


def report(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Print a row a model and return the figures for JSON; p-values are adjusted over all scalars."""
    found = {name: verdicts(table, DRAWS) for name, table in tables.items()}
    raw = np.concatenate(
        [np.minimum(1, 2 * t[["p_histogram", "p_ecdf"]].min(axis=1)) for t in found.values()]
    )
    adjusted = np.split(holm(raw), np.cumsum([len(t) for t in found.values()])[:-1])
    print(
        "| model | replicates | scalars | smallest p | adjusted within the model | over all | verdict |"
    )
    print("|---|---|---|---|---|---|---|")
    for (name, table), whole in zip(found.items(), adjusted, strict=True):
        worst = int(table["p_holm"].to_numpy().argmin())
        row = table.iloc[worst]
        words = "uniform" if whole.min() >= 0.05 else f"{row['parameter']}: {row['verdict']}"
        least = min(row["p_histogram"], row["p_ecdf"])
        print(
            f"| {name} | {row['n']} | {len(table)} | {least:.3f} ({row['parameter']}) | "
            f"{row['p_holm']:.2f} | {whole.min():.2f} | {words} |"
        )
    for name, table in found.items():
        bad = table[table["p_holm"] < 0.05]
        if len(bad):
            print(f"\n{name}\n{bad.round(4).to_string(index=False)}")
    return {
        "models": len(found),
        "scalars": len(raw),
        "smallest_adjusted_p": round(float(np.concatenate(adjusted).min()), 4),
        "departures": sorted(n for n, p in zip(found, adjusted, strict=True) if p.min() < 0.05),
    }


def cox(cohorts: int, out: Path) -> dict[str, Any]:
    """Coverage of 90 % intervals of Cox's coefficients."""
    kept = {(line["scenario"], line["seed"]): line for line in kept_lines(out)}
    with out.open("a", encoding="utf-8") as file, threadpool_limits(limits=1):
        for name, scenario in COX.items():
            for seed in range(FIRST_SEED, FIRST_SEED + cohorts):
                if (name, seed) in kept:
                    continue
                found = simulate(scenario, seed=seed)
                sampler = SamplerConfig(chains=2, tune=300, draws=500, cores=1, seed=seed)
                # Wide priors, so that what is judged is the likelihood.
                model = Cox(prior=Normal(scale=5.0, learned=False), sampler=sampler).fit(found.data)
                beta = model.posterior_["beta"].to_numpy().reshape(-1, len(scenario.beta))
                low, high = np.quantile(beta, [0.05, 0.95], axis=0)
                truth = np.array(scenario.beta)
                line = {
                    "scenario": name,
                    "seed": seed,
                    "hit": ((low <= truth) & (truth <= high)).astype(float).tolist(),
                    "mean": beta.mean(axis=0).tolist(),
                }
                kept[name, seed] = line
                file.write(json.dumps(line) + "\n")
                file.flush()
    told = {}
    print("| data | coefficient | truth | mean estimate | coverage | Monte Carlo interval |")
    print("|---|---|---|---|---|---|")
    for name, scenario in COX.items():
        rows = [kept[name, s] for s in range(FIRST_SEED, FIRST_SEED + cohorts)]
        hits = np.array([row["hit"] for row in rows])
        means = np.mean([row["mean"] for row in rows], axis=0)
        for k, truth in enumerate(scenario.beta):
            low, high = monte_carlo_interval(hits[:, k])
            print(
                f"| {name} | x{k + 1} | {truth:g} | {means[k]:.3f} | {hits[:, k].mean():.3f} | "
                f"{low:.3f} to {high:.3f} |"
            )
        told[name] = [round(float(v), 3) for v in hits.mean(axis=0)]
    return {"cox_coverage": told}


def main() -> None:
    """Run the study and print its table and a line of JSON."""
    known = list(generative_models())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--models", nargs="*", default=known)
    parser.add_argument("--cox", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    unknown = sorted(set(args.models) - set(known))
    if unknown:
        parser.error(f"models: {', '.join(unknown)}; accepted are {', '.join(known)}")
    if args.cox:
        print(json.dumps(cox(args.replicates, args.out or Path("survival-cox.jsonl"))))
        return
    out = args.out or Path("survival-sbc.jsonl")
    tables = study(args.models, args.replicates, out)
    told = report(tables)
    if args.figure is not None:
        from spinmark_biomarkers.figures.survival_studies import rank_departures

        rank_departures(tables, DRAWS).savefig(args.figure, dpi=150)
    wanted = set(args.models)
    cpu = sum(line["cpu_seconds"] for line in kept_lines(out) if line["model"] in wanted)
    print(json.dumps({**told, "cpu_seconds": round(cpu, 1)}))


if __name__ == "__main__":
    main()
