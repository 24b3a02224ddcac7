"""What the tests for clusters cost: `nox -s bench -- phenotypes`.

Each figure is measured in a process of its own on one thread, after a small run that compiles. The peer
is consensus clustering as it is usually written: scikit-learn's KMeans and a dense matrix of all pairs. It is
run in turn with ours at a size where that matrix fits. `--large` changes the rows of the largest run.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spinmark_biomarkers.phenotypes.structure.consensus import consensus
from spinmark_biomarkers.phenotypes.structure.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = NDArray[np.float64]
KS = tuple(range(2, 9))
RESAMPLES, SHARE = 100, 0.8


def embedding(n: int, d: int) -> tuple[Floats, NDArray[np.int64]]:
    """Five overlapping groups with uneven variances, two rows a person, as an embedding has."""
    rng = np.random.default_rng(n + d)
    people = np.arange(n) // 2
    centres = 2.0 * rng.normal(size=(5, d)) / np.sqrt(d) * 3
    scale = np.linspace(2.0, 0.2, d)
    z = centres[rng.integers(0, 5, people.max() + 1)][people] + scale * rng.normal(size=(n, d))
    return z, people


def dense_consensus(z: Floats, people: NDArray[np.int64]) -> list[float]:
    """PAC for every k with scikit-learn and matrices of all pairs."""
    from sklearn.cluster import KMeans

    n = len(z)
    found = []
    for k in KS:
        together, both = np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
        for draw in range(RESAMPLES):
            rng = np.random.default_rng([0, draw])
            drawn = rng.permutation(people.max() + 1)[: round(SHARE * (people.max() + 1))]
            rows = np.flatnonzero(np.isin(people, drawn))
            labels = KMeans(k, n_init=1, random_state=draw).fit_predict(z[rows])
            both[np.ix_(rows, rows)] += 1
            together[np.ix_(rows, rows)] += labels[:, None] == labels[None]
        share = (together / np.maximum(both, 1))[np.triu_indices(n, 1)]
        found.append(float(((share > 0.1) & (share < 0.9)).mean()))
    return found


def one(task: str, n: int, d: int) -> dict[str, Any]:
    """Measure one task in this process."""
    z, people = embedding(n, d)
    small, few = embedding(200, d)
    consensus(small, few, KS, resamples=2, seed=0)
    if task == "judge":
        judge(small, few, KS, null_draws=1, resamples=2, seed=0)
    runs: dict[str, Callable[[], Any]] = {
        "consensus": lambda: consensus(z, people, KS, resamples=RESAMPLES, share=SHARE, seed=0).pac,
        "nulls": lambda: (
            consensus(z, people, KS, resamples=RESAMPLES, share=SHARE, null=19, seed=0).pac
        ),
        "dense": lambda: dense_consensus(z, people),
        "judge": lambda: judge(z, people, KS, seed=0).verdict,
    }
    before, wall = time.process_time(), time.perf_counter()
    found = runs[task]()
    return {
        "task": task,
        "n": n,
        "d": d,
        "cpu_seconds": round(time.process_time() - before, 2),
        "wall_seconds": round(time.perf_counter() - wall, 2),
        # Kilobytes on Linux, bytes on a Mac.
        "peak_mb": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            / (1e6 if sys.platform == "darwin" else 1e3)
        ),
        "found": found if isinstance(found, str) else [round(float(v), 3) for v in found],
    }


def apart(task: str, n: int, d: int) -> dict[str, Any]:
    """Measure one task in a process of its own, and print a row of the table."""
    words = [sys.executable, __file__, "--one", task, "--rows", str(n), "--columns", str(d)]
    alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        words, check=True, capture_output=True, text=True, env={**os.environ, **alone}
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"| {task} | {n:,} x {d} | {found['cpu_seconds']} | {found['wall_seconds']} | "
        f"{found['peak_mb']} | {found['found']} |",
        flush=True,
    )
    return found


def main() -> None:
    """Measure all and print a table and a line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--one")
    parser.add_argument("--rows", type=int, default=9000)
    parser.add_argument("--columns", type=int, default=128)
    parser.add_argument("--large", type=int, default=63_000)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one, args.rows, args.columns)))
        return
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {load}; {Path(sys.executable).name}\n"
    )
    print(
        "| task | rows x components | CPU s | wall s | peak MB | PAC of k = 2 to 8, or the verdict |"
    )
    print("|---|---|---|---|---|---|")
    pairs = [(apart("dense", 1500, 128), apart("consensus", 1500, 128)) for _ in range(2)]
    for n, d in ((2250, 128), (4500, 128), (18_000, 128), (9000, 32), (9000, 512)):
        apart("consensus", n, d)
    usual = apart("consensus", 9000, 128)
    nulls = apart("nulls", 9000, 32)
    apart("judge", 2000, 16)
    large = apart("consensus", args.large, 512)
    for kind in ("cpu_seconds", "wall_seconds"):
        ratios = [peer[kind] / max(ours[kind], 0.01) for peer, ours in pairs]
        print(f"\n{kind} of the dense peer over ours: {', '.join(f'{r:.0f}' for r in ratios)}")
    print(
        json.dumps(
            {
                "consensus_cpu_seconds": usual["cpu_seconds"],
                "consensus_peak_mb": usual["peak_mb"],
                "nulls_cpu_seconds": nulls["cpu_seconds"],
                "large_cpu_seconds": large["cpu_seconds"],
            }
        )
    )


if __name__ == "__main__":
    main()
