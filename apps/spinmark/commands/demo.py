"""`spinmark demo --out DIR --seed S`: the whole way on a made-up cohort, each stage a process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from spinmark import cli
from spinmark.errors import InputError, UsageError
from spinmark.files import write_whole
from spinmark.progress import done

# Components are nested: the evaluation takes the first 64 and 128 of them as well.
PCA_WIDTH = 256


@dataclass(kw_only=True)
class Demo:
    """Walk the whole way on a made-up cohort and write a report.

    Args:
        out: Where to write everything; a demo cut short goes on from there.
        seed: Of the cohort, the split and everything that is fitted.
        stage_preset: The packaged configuration that every stage uses.
        overrides: Further options by stage, such as `--overrides.pretrain "--optim.steps 5"`.
        workers: Stages that run at once, where one does not wait for another; more than one pays from
            four cores on.
    """

    out: Path
    seed: int = 0
    stage_preset: str = "demo"
    overrides: dict[str, str] = field(default_factory=dict)
    workers: int = 1


def stages(args: Demo) -> dict[str, list[str]]:
    """List the command lines of the demo by stage, in order."""
    out = str(args.out)
    cohort, split = ["--cohort", f"{out}/cohort"], ["--split", f"{out}/split"]
    seed = ["--seed", str(args.seed)]
    first = ["--from", f"{out}/runs/pretrain"]
    arms = {"distilled": "distil", "ssl": "ssl", "untrained": "untrained", "shuffled": "shuffled"}

    def run(name: str, *words: str) -> list[str]:
        return [*words, *cohort, *split, *seed, "--out", f"{out}/runs/{name}"]

    def embed(name: str, *words: str) -> list[str]:
        return ["embed", *cohort, *words, "--out", f"{out}/embeddings/{name}"]

    found = [
        *("--embeddings", f"{out}/embeddings/distilled"),
        *("--phenotypes", f"{out}/phenotypes"),
    ]
    everything = [
        word
        for name in (*arms, "voxel_pca")
        for word in (f"--embeddings.{name}", f"{out}/embeddings/{name}")
    ]
    runs = [
        word
        for name in ("pretrain", "ssl", "distil", "shuffled")
        for word in (f"--runs.{name}", f"{out}/runs/{name}")
    ]
    results = [*cohort, *found[2:], "--prognosis", f"{out}/prognosis"]
    plan = {
        "phantom": ["phantom", *seed, "--out", f"{out}/phantom"],
        "ingest": ["ingest", "--release", f"{out}/phantom/release", "--out", f"{out}/cohort"],
        "split": ["split", *cohort, *seed, "--out", f"{out}/split"],
        "untrained": run("untrained", "pretrain", "--optim.steps", "0"),
        "pretrain": run("pretrain", "pretrain"),
        "ssl": run("ssl", "pretrain", *first),
        "distil": run("distil", "distil", *first),
        "shuffled": run("shuffled", "distil", *first, "--shuffle_tables", "true"),
        **{f"embed_{arm}": embed(arm, "--run", f"{out}/runs/{run}") for arm, run in arms.items()},
        "embed_voxel_pca": embed("voxel_pca", "--voxel_pca", str(PCA_WIDTH), *split),
        "discover": ["discover", *cohort, *found[:2], *seed, "--out", f"{out}/phenotypes"],
        "describe": ["describe", *cohort, *found, *seed, "--out", f"{out}/description"],
        "prognose": ["prognose", *cohort, *found, *seed, "--out", f"{out}/prognosis"],
        "evaluate": [
            *("evaluate", "--truth", f"{out}/phantom/truth", *results, *everything, *split),
            *(*seed, "--out", f"{out}/evaluation"),
        ],
        "report": [
            *("report", *results, *found[:2], *runs, "--evaluation", f"{out}/evaluation"),
            *("--out", f"{out}/report.html"),
        ],
    }
    preset = f"--preset={args.stage_preset}"
    return {
        name: [words[0], preset, *words[1:], *args.overrides.get(name, "").split()]
        for name, words in plan.items()
    }


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("demo", Demo, argv)
    plan = stages(args)
    if args.workers < 1:
        raise UsageError(f"--workers {args.workers}: use 1 or more")
    unknown = set(args.overrides) - set(plan)
    if unknown:
        raise InputError(f"--overrides.{min(unknown)}: no such stage; there are {', '.join(plan)}")
    args.out.mkdir(parents=True, exist_ok=True)
    cost_path = args.out / "stages.json"
    cost = json.loads(cost_path.read_text()) if cost_path.is_file() else {}
    start = time.monotonic()
    for name, spent in in_order(plan, args.workers):
        # A stage that was whole already costs a second to check: keep what it took to make.
        if name not in cost or spent["seconds"] > cost[name]["seconds"]:
            cost[name] = spent
        write_whole(cost_path, json.dumps(cost, indent=1) + "\n")
    metrics = json.loads((args.out / "evaluation" / "metrics.json").read_text())
    metrics["stages"] = cost
    write_whole(args.out / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    minutes = (time.monotonic() - start) / 60
    return done(
        f"{args.out}/metrics.json and the report, in {minutes:.1f} minutes",
        f"open {(args.out / 'report.html').resolve()} in a browser",
    )


def needs(plan: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    """Find which stages each stage waits for: those that write what it reads."""
    made = {name: words[words.index("--out") + 1] for name, words in plan.items()}
    return {
        name: {
            other
            for other, path in made.items()
            if other != name and any(w == path or w.startswith(f"{path}/") for w in words)
        }
        for name, words in plan.items()
    }


def in_order(plan: Mapping[str, list[str]], workers: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Run every stage after those that it needs, so many at once; yield names and costs as they end.

    Raises:
        InputError: A stage failed; those that run beside it are ended.
    """
    waiting, before = list(plan), needs(plan)
    running: dict[Future[dict[str, float]], str] = {}
    processes: dict[str, subprocess.Popen[str]] = {}
    finished: set[str] = set()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while waiting or running:
                ready = [name for name in waiting if before[name] <= finished]
                for name in ready[: workers - len(running)]:
                    waiting.remove(name)
                    label = f"[{list(plan).index(name) + 1}/{len(plan)}]"
                    print(f"{label} spinmark {' '.join(plan[name])}", flush=True)
                    processes[name] = _start(plan[name], alone=workers == 1)
                    running[pool.submit(_follow, name, processes[name], label)] = name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    spent = future.result()
                    finished.add(name)
                    yield name, spent
        except BaseException:
            for name in running.values():
                processes[name].terminate()
            raise


def _start(words: list[str], *, alone: bool) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "spinmark", *words]
    if alone:
        return subprocess.Popen(command, text=True)
    # Two progress bars would draw over each other: lines instead, each with its stage's number.
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _follow(name: str, process: "subprocess.Popen[str]", label: str) -> dict[str, float]:
    """Pass on what a stage says until it ends; return its seconds and peak memory (MB)."""
    start = time.monotonic()
    for line in process.stdout or ():
        print(f"{label} {line}", end="", flush=True)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stdout:
        process.stdout.close()
    if process.returncode != 0:
        raise InputError(f"stage {name} ended with status {process.returncode}; see the line above")
    seconds = time.monotonic() - start
    return {"seconds": round(seconds, 1), "peak_mb": round(usage.ru_maxrss / 1024, 1)}
