"""How near `spinmark plan` comes to real runs: `nox -s bench -- plan`.

Three pretrainings of different kinds are forecast and then really run, each in a fresh process:

- the demo's encoder and batch;
- a residual network in batches that are embedded part by part, with exact gradients;
- a network without negatives, VICReg, in smaller batches with twice as many measurements.

The forecast comes first, from 8 steps. Reported is forecast over real, of time and of the largest resident
memory. The cohort is a phantom of `--subjects` people at the demo's grid; `--folder` keeps it.

The last line is JSON; the goal is every ratio within 0.75 and 1.25.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS: dict[str, dict[str, object]] = {
    "demo": {"optim": {"steps": 80}, "data": {"subjects_per_batch": 16}},
    "parts": {
        "encoder": {"name": "resnet10", "widths": (8, 16, 32, 64), "groups": 4},
        "data": {"subjects_per_batch": 16},
        "optim": {"steps": 40},
        "trainer": {"micro_batch": 8},
    },
    "vicreg": {
        "objective": {"name": "vicreg"},
        "projection": {"layers": 3, "final_norm": False},
        "data": {"subjects_per_batch": 8},
        "optim": {"steps": 120},
        "monitor": {"every": 30},
    },
}
GOAL = (0.75, 1.25)


def config_of(name: str, threads: int):  # type: ignore[no-untyped-def]
    """The configuration of a run."""
    from spinmark_models.config import EncoderConfig, ProjectionConfig
    from spinmark_training.config import (
        DataConfig,
        MonitorConfig,
        ObjectiveConfig,
        OptimConfig,
        PretrainConfig,
        TrainerConfig,
    )

    kinds = {
        "data": DataConfig,
        "encoder": EncoderConfig,
        "monitor": MonitorConfig,
        "objective": ObjectiveConfig,
        "optim": OptimConfig,
        "projection": ProjectionConfig,
        "trainer": TrainerConfig,
    }
    parts = {key: kinds[key](**value) for key, value in RUNS[name].items()}  # type: ignore[arg-type]
    config = PretrainConfig(**parts)  # type: ignore[arg-type]
    config.trainer.threads = threads
    return config


def child(task: str, name: str, folder: Path, threads: int) -> None:
    """Forecast a run, or run it, and print the seconds and the MB."""
    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.splits import read_split
    from spinmark_training.config.plan import PlanConfig
    from spinmark_training.forecast import forecast, measure
    from spinmark_training.pretrain import pretrain
    from spinmark_training.throughput import peak_memory_mb

    cohort, split = Cohort.open(folder / "cohort"), read_split(folder / "split")
    config = config_of(name, threads)
    if task == "forecast":
        plan = PlanConfig()
        found = forecast(measure(cohort, split, config, plan), config, plan)
        print(json.dumps({"seconds": found.seconds, "mb": found.peak_mb}))
        return
    with tempfile.TemporaryDirectory() as out:
        begun = time.perf_counter()
        pretrain(cohort, split, config, Path(out) / "run")
        seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "mb": peak_memory_mb()}))


def ask(task: str, name: str, folder: Path, threads: int) -> dict[str, float]:
    """Have a fresh process do a task."""
    words = [sys.executable, __file__, "--child", task, name, "--folder", str(folder)]
    words += ["--threads", str(threads)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def make_cohort(folder: Path, subjects: int) -> None:
    """Make a phantom, ingest and split it, where that was not done."""
    spinmark = [sys.executable, "-m", "spinmark"]
    cohort = str(folder / "cohort")
    for words in (
        ["phantom", "--preset", "demo", "--subjects", str(subjects), "--out", f"{folder}/phantom"],
        ["ingest", "--preset", "demo", "--release", f"{folder}/phantom/release", "--out", cohort],
        ["split", "--cohort", cohort, "--out", f"{folder}/split"],
    ):
        subprocess.run([*spinmark, *words], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Forecast and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", nargs=2, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--subjects", type=int, default=60)
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.child is not None:
        child(args.child[0], args.child[1], args.folder, args.threads)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = args.folder or Path(made)
        make_cohort(folder, args.subjects)
        record: dict[str, float] = {}
        print("| run | forecast, s | real, s | ratio | forecast, MB | real, MB | ratio |")
        print("|---|---|---|---|---|---|---|")
        for name in args.only:
            said = ask("forecast", name, folder, args.threads)
            real = ask("run", name, folder, args.threads)
            ratio = {key: said[key] / real[key] for key in said}
            record |= {f"{name}_time": ratio["seconds"], f"{name}_memory": ratio["mb"]}
            print(
                f"| {name} | {said['seconds']:.1f} | {real['seconds']:.1f} | {ratio['seconds']:.2f} "
                f"| {said['mb']:.0f} | {real['mb']:.0f} | {ratio['mb']:.2f} |",
                flush=True,
            )
    within = all(GOAL[0] <= value <= GOAL[1] for value in record.values())
    print(
        json.dumps({name: round(value, 3) for name, value in record.items()} | {"within": within})
    )


if __name__ == "__main__":
    main()
