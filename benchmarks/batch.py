"""How much memory a large contrastive batch takes: `nox -s bench -- batch`.

One step of a pretraining, NT-Xent over all joints of the batch, with the views read from the store and cut by
the product's own feed, on a CPU with `--threads` threads:

- `parts`: the batch is embedded `--micro` joints at a time, with exact gradients (`trainer.micro_batch`);
- `whole`: the batch is embedded at once, as one would without it. This is the peer.

Each runs in a fresh process at 256 joints and at 4096 (`whole` at 4096 with `--whole_large`: tens of
gigabytes); memory is the largest resident memory of that process, imports included. The gradients of
both are compared at 256 joints in float32: the largest difference over the largest entry, over all weights.

The last line is JSON: `peak_mb_256`, `peak_mb_4096` (in parts), `gradient_error`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SEQUENCE = "SAG_3D_DESS"
SHAPE = (16, 32, 32)
SIZES = (256, 4096)


def make_cohort(folder: Path, joints: int) -> None:
    """Write a store of noise: two joints a person, one visit, on a small grid."""
    from spinmark_data.cohort.store import SequenceVolumes, write_cohort
    from spinmark_data.splits import write_split

    rng = np.random.default_rng(0)
    subjects = [f"s{number:05d}" for number in range(joints // 2)]
    scans = pd.DataFrame(
        [
            {"subject_id": s, "laterality": side, "visit": "V00", "days": 0.0, "site": "A"}
            for s in subjects
            for side in "LR"
        ]
    )
    volume = rng.integers(1, 1000, (joints, *SHAPE), dtype=np.int16)
    found = SequenceVolumes(volume=volume, scans=scans, spacing_mm=(3.6, 1.7, 1.7))
    tables = {"subjects": pd.DataFrame({"subject_id": subjects})}
    write_cohort(folder / "cohort", volumes={SEQUENCE: found}, tables=tables, provenance={})
    (folder / "split").mkdir()
    write_split(folder / "split", pd.DataFrame({"subject_id": subjects, "set": "train", "fold": 0}))


def config_of(joints: int, micro: int | None, threads: int) -> Any:
    """One step over so many joints, by a residual network without batch normalisation."""
    from spinmark_models.config import EncoderConfig
    from spinmark_training.config import (
        DataConfig,
        MonitorConfig,
        OptimConfig,
        PretrainConfig,
        TrainerConfig,
    )

    return PretrainConfig(
        data=DataConfig(sequence=SEQUENCE, subjects_per_batch=joints // 2, cache_gb=0),
        encoder=EncoderConfig(name="resnet10", widths=(8, 16, 32, 64), groups=4),
        optim=OptimConfig(steps=1),
        trainer=TrainerConfig(threads=threads, micro_batch=micro, checkpoint_every_steps=0),
        monitor=MonitorConfig(every=0, variables=(), leakage=None, max_scans=1),
    )


def gradients(folder: Path, joints: int, micro: int | None, threads: int) -> Any:
    """The gradient of the first batch's loss, all weights in one vector."""
    import torch

    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.splits import read_split
    from spinmark_training import module
    from spinmark_training.pretrain import pretrain

    kept: list[Any] = []

    class Kept(Exception):
        """The gradient is known."""

    def keep(self: Any, optimizer: Any) -> None:
        found = [p.grad.flatten() for p in self.parameters() if p.grad is not None]
        kept.append(torch.cat(found).clone())
        raise Kept

    original = module.PretrainModule.on_before_optimizer_step
    module.PretrainModule.on_before_optimizer_step = keep  # type: ignore[method-assign]
    cohort, split = Cohort.open(folder / "cohort"), read_split(folder / "split")
    try:
        with tempfile.TemporaryDirectory() as out:
            pretrain(cohort, split, config_of(joints, micro, threads), Path(out) / "run")
    except Kept:
        pass
    finally:
        module.PretrainModule.on_before_optimizer_step = original  # type: ignore[method-assign]
    return kept[0]


def child(task: str, joints: int, micro: int | None, folder: Path, threads: int) -> None:
    """Take the step, or compare gradients, and print what was found."""
    if task == "gradient":
        parts, whole = (gradients(folder, joints, size, threads) for size in (micro, None))
        print(json.dumps({"error": float((parts - whole).abs().max() / whole.abs().max())}))
        return
    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.splits import read_split
    from spinmark_training.pretrain import pretrain
    from spinmark_training.throughput import peak_memory_mb

    cohort, split = Cohort.open(folder / "cohort"), read_split(folder / "split")
    cpu, wall = time.process_time(), time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        pretrain(cohort, split, config_of(joints, micro, threads), Path(out) / "run")
    found = {
        "mb": peak_memory_mb(),
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
    }
    print(json.dumps(found))


def ask(task: str, joints: int, micro: int, folder: Path, threads: int) -> dict[str, float]:
    """Have a fresh process do a task; `micro` 0 embeds at once."""
    words = [sys.executable, __file__, "--child", task, str(joints), "--micro", str(micro)]
    words += ["--folder", str(folder), "--threads", str(threads)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure both at both sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", nargs=2, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--micro", type=int, default=64, help="joints embedded at a time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--joints", type=int, nargs=2, default=SIZES, help="the two batches")
    parser.add_argument("--whole_large", action="store_true", help="the peer at 4096 too")
    args = parser.parse_args()
    if args.child is not None:
        task, joints = args.child
        child(task, int(joints), args.micro or None, args.folder, args.threads)
        return
    few, many = args.joints
    with tempfile.TemporaryDirectory() as made:
        small, large = Path(made) / "small", Path(made) / "large"
        make_cohort(small, few)
        make_cohort(large, many)
        found: dict[tuple[str, int], dict[str, float]] = {}
        plan = [("parts", few), ("whole", few), ("parts", many)]
        plan += [("whole", many)] if args.whole_large else []
        print("| way | joints in the batch | peak, MB | CPU s | wall s |")
        print("|---|---|---|---|---|")
        for way, joints in plan:
            folder = small if joints == few else large
            micro = args.micro if way == "parts" else 0
            one = found[way, joints] = ask("step", joints, micro, folder, args.threads)
            print(
                f"| {way} | {joints} | {one['mb']:.0f} | {one['cpu']:.1f} | {one['wall']:.1f} |",
                flush=True,
            )
        error = ask("gradient", few, args.micro, small, args.threads)["error"]
    record = {
        f"peak_mb_{few}": round(found["parts", few]["mb"], 1),
        f"peak_mb_{many}": round(found["parts", many]["mb"], 1),
        f"whole_peak_mb_{few}": round(found["whole", few]["mb"], 1),
        "gradient_error": error,
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
