"""Whether a step waits for its data: `nox -s bench -- feed`.

Real pretraining runs (`spinmark_training.pretrain`, NT-Xent, the demo's encoder) on a CPU with `--threads`
threads, at two grids:

- demo: phantom knees of 24 x 64 x 72, two knees and two visits a person, 16 people a batch as in
  configs/pretrain/demo.yaml, kept in memory;
- DESS: a store of 160 x 384 x 384 int16 volumes, larger than the cache that is allowed, one knee a person;
  crops of 64 x 160 x 160 are read straight from Zarr with their margin, 4 people a batch.

Each is run in turn, in random order, with

- `feed`: the product's own feed, a thread beside the step (`data.workers` 0, `data.prefetch` 2);
- `fixed`: the same step on one batch that is cut beforehand, so that nothing is fed: the limit;
- `in turn`: the same feed without its thread (`data.prefetch` 0): what would have been waited for;
- `MONAI`: a plain torch Dataset over the same voxels (arrays in memory; for DESS a memory-mapped npy) with
  MONAI's dictionary transforms of the same strength, in a DataLoader with `--peer-workers` workers.

A clock around the loader's `next` tells waiting from stepping; the first `--warm` steps are left out, in
which kernels compile and the percentiles of scans are found. CPU seconds are those of the process; those of a
peer's workers are added. Medians over rounds. `slower` is the wall time of a step over that of `fixed`.

The last line is JSON: `idle_fraction_demo` and `idle_fraction_dess` are waiting over wall of `feed`.
"""

import argparse
import contextlib
import json
import random
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.splits import Split, split_hash
from spinmark_models.config import IntensityRule
from spinmark_training import engine
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.batch import Batch, Cut
from spinmark_training.config import (
    DataConfig,
    MonitorConfig,
    OptimConfig,
    PretrainConfig,
    TrainerConfig,
)
from spinmark_training.datamodule import SubjectDataModule
from spinmark_training.pretrain import pretrain
from spinmark_training.sampling import Place

SEQUENCE = "SAG_3D_DESS"
FEED, FIXED, IN_TURN, MONAI = "feed", "fixed", "in turn", "MONAI"
DEMO, DESS = (24, 64, 72), (160, 384, 384)
CROP, MARGIN = (64, 160, 160), (8, 16, 16)

Shape = tuple[int, int, int]


class Enough(Exception):
    """All steps that are to be timed have been taken."""


@dataclass
class Clock:
    """When batches were asked for, and how long that took.

    Attributes:
        steps: Steps after which the run is ended, before it measures its encoder.
    """

    steps: int
    asked: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    joints: int = 0

    def around(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, with a clock around each."""
        stream = iter(batches)
        while True:
            self.asked.append(time.perf_counter())
            self.cpu.append(time.process_time())
            if len(self.asked) > self.steps:
                raise Enough
            batch = next(stream)
            self.waited.append(time.perf_counter() - self.asked[-1])
            self.joints = len(batch)
            yield batch

    def figures(self, warm: int, children: float) -> dict[str, float]:
        """Idle fraction, joints, seconds and CPU seconds a step, without the first `warm` steps."""
        steps = len(self.asked) - 1 - warm
        wall = self.asked[-1] - self.asked[warm]
        return {
            "idle": sum(self.waited[warm:]) / wall,
            "rate": self.joints * steps / wall,
            "wall": wall / steps,
            "cpu": (self.cpu[-1] - self.cpu[warm]) / steps + children / len(self.asked),
        }


class Views(torch.utils.data.Dataset[Any]):
    """What a user of MONAI would write: two random views of a scan, one scan an item.

    Args:
        volumes: Voxels `(scan, z, y, x)`, in memory or memory-mapped files.
        view: Grid of the views.
        box: Grid of what is cut from a volume before it is changed.
        spacing_mm: Voxel spacing (z, y, x).
    """

    def __init__(self, volumes: Any, view: Shape, box: Shape, spacing_mm: Any) -> None:
        from monai import transforms as t

        mild = AugmentConfig()
        turn, bias = np.deg2rad(mild.rotation_deg), (-mild.bias, mild.bias)
        gamma = float(np.exp(mild.log_gamma))
        rule = IntensityRule()
        self.volumes, self.box = volumes, box
        self.change = t.Compose(
            [
                t.RandAffined(
                    "image",
                    prob=1,
                    rotate_range=(turn,) * 3,
                    translate_range=[mild.translation_mm / mm for mm in spacing_mm],
                    scale_range=(mild.scale,) * 3,
                    spatial_size=view,
                    padding_mode="border",
                ),
                t.ScaleIntensityRanged("image", 0, 1500, 0, 1, clip=True),
                t.RandAdjustContrastd("image", prob=1, gamma=(1 / gamma, gamma)),
                t.RandBiasFieldd("image", prob=1, degree=2, coeff_range=bias),
                t.RandScaleIntensityd("image", prob=1, factors=mild.contrast),
                t.RandShiftIntensityd("image", prob=1, offsets=mild.brightness),
                t.RandGaussianNoised("image", prob=1, std=mild.noise_sd),
                t.NormalizeIntensityd("image", subtrahend=rule.mean, divisor=rule.sd),
                t.ToTensord("image", track_meta=False),
            ]
        )

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, row: int) -> torch.Tensor:
        volume = self.volumes[row]
        start = [random.randint(0, n - k) for n, k in zip(volume.shape, self.box, strict=True)]
        box = volume[tuple(slice(a, a + k) for a, k in zip(start, self.box, strict=True))]
        image = np.asarray(box, np.float32)[None]
        return torch.stack([self.change({"image": image})["image"] for _ in range(2)])


def peer_batches(dataset: Views, joints: int, workers: int) -> Iterator[Batch]:
    """The peer's batches, in the form that the product's step takes."""
    loader = torch.utils.data.DataLoader(
        dataset,
        joints,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context="forkserver" if workers else None,
    )
    while True:
        for views in loader:
            whole = views.transpose(0, 1).flatten(0, 1)
            rows = torch.arange(len(views))

            def cut(part: int, device: Any, whole: Any = whole, n: int = len(rows)) -> Cut:
                return Cut(slice(0, n), whole, None)

            yield Batch(first=rows, second=rows, subject=rows, after=Place(0, 0), cut=cut)


def clocked(clock: Clock, kind: str, peer: Views | None, workers: int) -> type[SubjectDataModule]:
    """The product's data module with a clock around its batches, or around other ones."""

    class Clocked(SubjectDataModule):
        def train_dataloader(self) -> Iterable[Batch]:
            if kind == FIXED:
                first = next(self.start())
                self.close()
                return clock.around(iter(lambda: replace(first), None))
            if kind == MONAI and peer is not None:
                joints = len(next(self.start()))
                self.close()
                return clock.around(peer_batches(peer, joints, workers))
            return clock.around(super().train_dataloader())

    return Clocked


def run(
    kind: str, cohort: Cohort, split: Split, config: PretrainConfig, peer: Views, args: Any
) -> dict[str, float]:
    """One pretraining of a kind."""
    clock = Clock(args.steps)
    config.data.prefetch = 0 if kind == IN_TURN else 2
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    original = engine.SubjectDataModule
    engine.SubjectDataModule = clocked(clock, kind, peer, args.peer_workers)  # type: ignore[misc]
    try:
        with (
            tempfile.TemporaryDirectory() as out,
            warnings.catch_warnings(),
            contextlib.suppress(Enough),
        ):
            # Of what the peer's transforms call.
            warnings.simplefilter("ignore")
            pretrain(cohort, split, config, Path(out) / "run")
    finally:
        engine.SubjectDataModule = original  # type: ignore[misc]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return clock.figures(args.warm, spent)


def race(
    title: str, cohort: Cohort, split: Split, config: PretrainConfig, peer: Views | None, args: Any
) -> dict[str, dict[str, float]]:
    """Run all kinds in turn; print a table; medians over rounds."""
    kinds = [FEED, FIXED, IN_TURN, *([MONAI] if peer is not None else [])]
    rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(args.rounds):
        for kind in random.sample(kinds, len(kinds)):
            rounds[kind].append(run(kind, cohort, split, config, peer, args))  # type: ignore[arg-type]
    found = {
        kind: {key: statistics.median(one[key] for one in rows) for key in rows[0]}
        for kind, rows in rounds.items()
    }
    for kind in kinds:
        pairs = zip(rounds[kind], rounds[FIXED], strict=True)
        found[kind]["slower"] = statistics.median(a["wall"] / b["wall"] for a, b in pairs)
    print(f"\n{title}, {args.rounds} rounds of {args.steps} steps, {args.threads} threads")
    print(f"{'':10} {'idle':>8} {'joints/s':>10} {'s/step':>8} {'CPU s/step':>11} {'slower':>8}")
    for kind, row in found.items():
        print(
            f"{kind:10} {row['idle']:8.1%} {row['rate']:10.2f} {row['wall']:8.2f} {row['cpu']:11.2f} "
            f"{row['slower']:8.2f}",
            flush=True,
        )
    return found


def config_of(data: DataConfig, steps: int, threads: int) -> PretrainConfig:
    """A pretraining that measures and saves nothing."""
    return PretrainConfig(
        data=data,
        optim=OptimConfig(steps=steps + 2),
        trainer=TrainerConfig(threads=threads, checkpoint_every_steps=0, log_every=10**6),
        monitor=MonitorConfig(every=0, variables=(), leakage=None, max_scans=1, lidar_scans=0),
    )


def write(folder: Path, volumes: NDArray[np.int16], people: int, spacing_mm: Any) -> Any:
    """Write volumes as a cohort of so many people, all of them to train on."""
    each = len(volumes) // people
    names = [f"p{number:03d}" for number in range(people)]
    keys = [(side, visit) for side in "RL" for visit in ("V00", "V03")]
    keys = keys[: each if each > 1 else 1]
    rows = [
        {"subject_id": name, "laterality": side, "visit": visit, "site": "A"}
        for name in names
        for side, visit in keys
    ]
    given = SequenceVolumes(volume=volumes, scans=pd.DataFrame(rows), spacing_mm=spacing_mm)
    tables = {"subjects": pd.DataFrame({"subject_id": names})}
    write_cohort(folder, volumes={SEQUENCE: given}, tables=tables, provenance={})
    frame = pd.DataFrame({"subject_id": names, "set": "train", "fold": 0})
    return Cohort.open(folder), Split(frame=frame, hash=split_hash(frame))


def knees(work: Path, count: int, shape: Shape) -> NDArray[np.int16]:
    """Phantom knees of as many people."""
    from data import render  # the benchmark of reading, beside this one

    folder = work / "x".join(map(str, shape))
    folder.mkdir(parents=True, exist_ok=True)
    return render(folder, count, shape)


def spacing(shape: Shape) -> tuple[float, float, float]:
    """Voxel spacing of the phantom's field of view."""
    full = (160 * 0.7, 384 * 0.365, 384 * 0.365)
    z, y, x = (mm / n for mm, n in zip(full, shape, strict=True))
    return z, y, x


def demo(fresh: Path, args: Any) -> dict[str, dict[str, float]]:
    """The demo's grid, in memory."""
    made = knees(args.work, args.people, DEMO)
    rng = np.random.default_rng(0)
    volumes = np.repeat(made, 4, axis=0)
    volumes += rng.integers(0, 20, volumes.shape, dtype=np.int16)
    cohort, split = write(fresh / "demo", volumes, args.people, spacing(DEMO))
    data = DataConfig(sequence=SEQUENCE, subjects_per_batch=16)
    peer = peer_of(volumes, DEMO, DEMO, spacing(DEMO))
    config = config_of(data, args.steps, args.threads)
    return race("demo, 24 x 64 x 72, in memory", cohort, split, config, peer, args)


def dess(fresh: Path, args: Any) -> dict[str, dict[str, float]]:
    """The DESS grid, straight from the store."""
    volumes = knees(args.work, args.volumes, DESS)
    cohort, split = write(fresh / "dess", volumes, len(volumes), spacing(DESS))
    gigabytes = volumes.nbytes / 1e9
    del volumes
    data = DataConfig(
        sequence=SEQUENCE, subjects_per_batch=4, crop=CROP, margin=MARGIN, cache_gb=gigabytes / 4
    )
    files = [args.work / "160x384x384" / f"{i}.npy" for i in range(args.volumes)]
    mapped = [np.load(path, mmap_mode="r") for path in files]
    box = tuple(n + 2 * m for n, m in zip(CROP, MARGIN, strict=True))
    peer = peer_of(mapped, CROP, box, spacing(DESS))
    config = config_of(data, args.steps, args.threads)
    title = f"DESS, crops 64 x 160 x 160 from Zarr, {gigabytes:.2f} GB, a quarter of it may be kept"
    return race(title, cohort, split, config, peer, args)


def peer_of(volumes: Any, view: Shape, box: Any, spacing_mm: Any) -> Views | None:
    """The peer, where it is installed."""
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        warnings.simplefilter("ignore")
        return Views(volumes, view, box, spacing_mm)
    return None


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--steps", type=int, default=14, help="steps of a run (14)")
    parser.add_argument("--warm", type=int, default=4, help="first steps that are left out (4)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of a run (2)")
    parser.add_argument("--people", type=int, default=48, help="people at the demo's grid (48)")
    parser.add_argument("--volumes", type=int, default=8, help="volumes at the DESS grid (8)")
    parser.add_argument("--peer-workers", type=int, default=1, help="workers of the peer (1)")
    parser.add_argument("--only", choices=["demo", "dess"], help="one of the two grids")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "spinmark-bench-data",
        help="folder that keeps phantom volumes between runs",
    )
    args = parser.parse_args()
    random.seed(0)
    args.work.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"idle_fraction_demo": None, "idle_fraction_dess": None}
    with tempfile.TemporaryDirectory(dir=args.work) as fresh:
        for name, measure in (("demo", demo), ("dess", dess)):
            if args.only not in (None, name):
                continue
            found = measure(Path(fresh), args)
            result[f"idle_fraction_{name}"] = round(found[FEED]["idle"], 4)
            result[f"slower_{name}"] = round(found[FEED]["slower"], 3)
            for kind in (IN_TURN, MONAI):
                if kind in found:
                    key = kind.replace(" ", "_").lower()
                    result[f"idle_fraction_{name}_{key}"] = round(found[kind]["idle"], 4)
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
