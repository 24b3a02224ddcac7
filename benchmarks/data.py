"""How fast crops for training come off a disk: `nox -s bench -- data`.

Phantom DESS knees at the full grid (160 x 384 x 384, Rician noise) are written as a cohort and as each
peer writes them, and checked to give equal voxels. Then, on one pinned core with one thread and a warm
page cache, every reader in turn, in random order, reads the same random crops; each round gives one
ratio to spinmark, and the median over rounds is reported, so that a slow moment of the machine meets all.
Starts are drawn freely and, again, on multiples of spinmark's inner chunk. Last, PyTorch loaders with two
workers run in turn.

Peers, as their users meet them:

- blosc2 by the rules of nnU-Net (Isensee et al. 2021, github.com/MIC-DKFZ/nnUNet, nnunet_dataset.py),
  opened anew for each crop as it does, without the segmentation that it also reads: float32 z-scores, as
  nnU-Net stores them, and int16, which it does not; by the rule of 2.8 and by that of 2.6 and 2.7.
- MONAI's PersistentDataset: a float32 tensor a volume, loaded whole, then cropped.
- nii.gz through nibabel's proxy, npy through a memory map, and the page cache itself: as many bytes as the
  crop holds by `pread`, which nothing can beat.

The last line is JSON; ratios above 1 mean that spinmark is faster.
"""

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import LATENTS, Grid, JointState

SEQUENCE = "SAG_3D_DESS"
SPINMARK = "spinmark direct"
NPY = "npy, memory map"
SPACING_MM = (0.7, 0.365, 0.365)
WORKERS, BATCH = 2, 4

# (rule, type): shapes of blocks and chunks that nnU-Net's own function gives (2.8.1 and 2.7.0 were run) for
# one channel of 160 x 384 x 384 and a patch of 64 x 160 x 160.
NNUNET = {
    ("2.8", "float32"): ((16, 64, 32), (64, 192, 128)),
    ("2.8", "int16"): ((16, 64, 64), (80, 192, 192)),
    ("2.7", "float32"): ((8, 32, 16), (40, 128, 64)),
    ("2.7", "int16"): ((8, 32, 32), (40, 128, 128)),
}

Shape = tuple[int, int, int]
Times = dict[str, list[tuple[float, float]]]


def box(start: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """Slices of the crop that begins at `start`."""
    return tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))


class Reader:
    """One format: how it is written, read, and turned back into the voxels that went in."""

    def __init__(self, name: str, folder: Path, suffix: str) -> None:
        self.name, self.folder, self.suffix = name, folder, suffix
        self.opened: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A loader's worker opens its own.
        return {**self.__dict__, "opened": {}}

    def path(self, index: int) -> Path:
        """The file of a volume."""
        return self.folder / f"{index}{self.suffix}"

    def write(self, index: int, volume: NDArray[np.int16]) -> None:
        """Write a volume `(z, y, x)`."""

    def size(self, count: int) -> int:
        """Bytes of `count` volumes on the disk."""
        return sum(self.path(index).stat().st_size for index in range(count))

    def crop(self, index: int, start: Sequence[int], size: Sequence[int]) -> Any:
        """What is timed: the crop in memory, apart from the file."""
        raise NotImplementedError

    def into(self, index: int, start: Sequence[int], out: NDArray[Any]) -> None:
        """Fill a row of a batch, as a loader's worker does."""
        out[...] = self.crop(index, start, out.shape)

    def voxels(self, read: Any, volume: NDArray[np.int16]) -> NDArray[Any]:
        """A crop as the int16 voxels `(z, y, x)` that it stands for."""
        return np.asarray(read)


class Spinmark(Reader):
    """A cohort, by one of its readers; with `cast`, as float32."""

    def __init__(self, name: str, folder: Path, reader: Any, cast: bool = False) -> None:
        super().__init__(name, folder, "")
        self.cohort, self.cast = Cohort.open(folder, reader=reader), cast

    def size(self, count: int) -> int:
        """Bytes of the shards."""
        shards = self.folder / "images.zarr" / SEQUENCE / "volume" / "c"
        return sum(file.stat().st_size for file in shards.rglob("*") if file.is_file())

    def crop(self, index: int, start: Sequence[int], size: Sequence[int]) -> Any:
        """Through the interface that training uses."""
        read = self.cohort.crop(SEQUENCE, index, start, size)
        return read.astype(np.float32) if self.cast else read

    def into(self, index: int, start: Sequence[int], out: NDArray[Any]) -> None:
        """Straight into the batch."""
        self.cohort.crop(SEQUENCE, index, start, out.shape, out)


class Blosc2(Reader):
    """A b2nd file by the rule of one nnU-Net for one type of voxel."""

    def __init__(self, rule: str, dtype: str, folder: Path) -> None:
        super().__init__(f"nnU-Net {rule} {dtype}", folder, f"-{rule}-{dtype}.b2nd")
        self.rule, self.dtype = rule, dtype

    def write(self, index: int, volume: NDArray[np.int16]) -> None:
        """Compress as the rule says; the newer one tries a filter on the middle and keeps the smaller."""
        import blosc2

        data = volume[None]
        if self.dtype == "float32":
            data = ((data - data.mean(dtype=np.float64)) / data.std(dtype=np.float64)).astype("f4")
        blocks, chunks = (
            (1, *(min(n, whole) for n, whole in zip(shape, volume.shape, strict=True)))
            for shape in NNUNET[self.rule, self.dtype]
        )
        blocks = tuple(min(n, whole) for n, whole in zip(blocks, chunks, strict=True))
        layout: dict[str, Any] = {"chunks": chunks, "blocks": blocks}
        coding: dict[str, Any] = {"codec": blosc2.Codec.ZSTD, "clevel": 8}
        if self.rule == "2.8":
            coding = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "nthreads": 4}
            corner = [(whole - n) // 2 for n, whole in zip(chunks, data.shape, strict=True)]
            middle = np.ascontiguousarray(data[box(corner, chunks)])
            sizes = {
                choice: blosc2.asarray(middle, **layout, cparams={**coding, "filters": [choice]})
                for choice in (blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE)
            }
            coding["filters"] = [min(sizes, key=lambda choice: sizes[choice].schunk.cbytes)]
        urlpath = str(self.path(index))
        blosc2.asarray(np.ascontiguousarray(data), urlpath=urlpath, **layout, cparams=coding)

    def crop(self, index: int, start: Sequence[int], size: Sequence[int]) -> Any:
        """Open and slice, as nnU-Net's loader does for each sample."""
        import blosc2

        blosc2.set_nthreads(1)
        file = blosc2.open(
            urlpath=str(self.path(index)), mode="r", dparams={"nthreads": 1}, mmap_mode="r"
        )
        return file[(slice(0, 1), *box(start, size))]

    def voxels(self, read: Any, volume: NDArray[np.int16]) -> NDArray[Any]:
        """Undo the z-score."""
        if self.dtype == "int16":
            return np.asarray(read[0])
        mean, sd = volume.mean(dtype=np.float64), volume.std(dtype=np.float64)
        return np.asarray(np.rint(read[0].astype(np.float64) * sd + mean))


class Monai(Reader):
    """The tensor that a PersistentDataset loads whole; the crop is sliced from it at no further cost."""

    def __init__(self, name: str, folder: Path, nifti: Sequence[Path]) -> None:
        super().__init__(name, folder, "")
        from monai.data import PersistentDataset
        from monai.transforms import Compose, EnsureType, LoadImage

        with warnings.catch_warnings():
            # Of readers that this does not use.
            warnings.simplefilter("ignore")
            load = LoadImage("NibabelReader", image_only=True)
        steps = Compose([load, EnsureType(dtype=np.float32, track_meta=False)])
        self.dataset = PersistentDataset([str(path) for path in nifti], steps, cache_dir=folder)

    def write(self, index: int, volume: NDArray[np.int16]) -> None:
        """Have the cache filled."""
        self.dataset[index]

    def size(self, count: int) -> int:
        """Bytes of the cache."""
        return sum(file.stat().st_size for file in self.folder.glob("*.pt"))

    def crop(self, index: int, start: Sequence[int], size: Sequence[int]) -> Any:
        """In the file's order of axes (x, y, z)."""
        return self.dataset[index][box(start[::-1], size[::-1])].clone()

    def voxels(self, read: Any, volume: NDArray[np.int16]) -> NDArray[Any]:
        """In the order (z, y, x)."""
        return np.asarray(read.numpy()).T


class Nifti(Reader):
    """A nii.gz whose first axis is x, so that a slice lies together."""

    def write(self, index: int, volume: NDArray[np.int16]) -> None:
        """Write at nibabel's default level."""
        image = nibabel.Nifti1Image(volume.T, np.diag([*SPACING_MM[::-1], 1.0]))
        nibabel.save(image, self.path(index))

    def crop(self, index: int, start: Sequence[int], size: Sequence[int]) -> Any:
        """Slice the proxy, which reads no further than it must."""
        return nibabel.load(self.path(index)).dataobj[box(start[::-1], size[::-1])].T


class Npy(Reader):
    """A memory map, kept open."""

    def crop(self, index: int, start: Sequence[int], size: Sequence[int]) -> Any:
        """Copy the crop out of the map."""
        if index not in self.opened:
            self.opened[index] = np.load(self.path(index), mmap_mode="r")
        return np.array(self.opened[index][box(start, size)])


class Pread(Reader):
    """As many bytes as the crop holds, in one piece, into memory that is there already."""

    buffer = bytearray()

    def crop(self, index: int, start: Sequence[int], size: Sequence[int]) -> Any:
        """The bytes, which are not the crop's voxels."""
        if index not in self.opened:
            self.opened[index] = os.open(self.path(index), os.O_RDONLY)
        length, whole = 2 * math.prod(size), os.fstat(self.opened[index]).st_size
        if len(self.buffer) != length:
            self.buffer = bytearray(length)
        os.preadv(self.opened[index], [self.buffer], (whole - length) * start[0] // 160)
        return self.buffer


def render(folder: Path, count: int, shape: Shape) -> NDArray[np.int16]:
    """Render phantom right knees of as many people on all scanners, or load those of an earlier run."""
    people = sample_population(PhantomConfig(subjects=count))
    z, y, x = (
        step * full / n for step, full, n in zip(SPACING_MM, (160, 384, 384), shape, strict=True)
    )
    grid = Grid(shape=shape, spacing_mm=(z, y, x))
    for i in range(count):
        if (folder / f"{i}.npy").is_file():
            continue
        person, knee = people.subjects.iloc[i], people.joints.iloc[2 * i]
        state = JointState(
            laterality="R",
            sex=int(person["sex"]),
            size=float(person["size"]),
            shape=tuple(float(v) for v in people.shape_modes[i]),
            fat_mm=float(person["fat_mm"]),
            medial=float(knee["medial"]),
            lesion_seed=int(knee["lesion_seed"]),
            **{name: float(knee[name]) for name in LATENTS},
        )
        made = render_scan(state, SCANNERS[i % len(SCANNERS)], grid, seed=i).volume
        np.save(folder / f"{i}.partial.npy", made.astype(np.int16))
        (folder / f"{i}.partial.npy").rename(folder / f"{i}.npy")
    return np.stack([np.load(folder / f"{i}.npy") for i in range(count)])


def prepare(
    folder: Path, fresh: Path, count: int, shape: Shape
) -> tuple[list[Reader], dict[str, str]]:
    """Write every format; return the readers that can run and why others cannot.

    Peers' files are kept in `folder` for the next run; the cohort is written anew into `fresh`.
    """
    volumes = render(folder, count, shape)
    rows = pd.DataFrame({"subject_id": [str(i) for i in range(count)], "laterality": "R"})
    given = SequenceVolumes(volume=volumes, scans=rows, spacing_mm=SPACING_MM)
    write_cohort(fresh, volumes={SEQUENCE: given}, tables={}, provenance={})
    nifti = Nifti("nii.gz, nibabel", folder, ".nii.gz")
    readers: list[Reader] = [
        Spinmark(SPINMARK, fresh, "direct"),
        Spinmark("spinmark direct, to float32", fresh, "direct", cast=True),
        Spinmark("spinmark by zarr-python", fresh, "zarr"),
        nifti,
        Npy(NPY, folder, ".npy"),
        Pread("page cache, pread", folder, ".npy"),
    ]
    makers: dict[str, Callable[[], list[Reader]]] = {
        "monai": lambda: [
            Monai("MONAI cache", folder / "monai", [nifti.path(i) for i in range(count)])
        ],
        "blosc2": lambda: [Blosc2(rule, dtype, folder) for rule, dtype in NNUNET],
    }
    absent = {}
    for module, make in makers.items():
        try:
            __import__(module)
            readers[3:3] = make()
        except ImportError as error:
            absent[module] = str(error)
    for reader in sorted(readers, key=lambda r: isinstance(r, Monai)):
        for index in range(count):
            if not reader.suffix or not reader.path(index).is_file():
                reader.write(index, volumes[index])
    return readers, absent


def draw(
    rng: np.random.Generator,
    count: int,
    number: int,
    shape: Shape,
    size: Shape,
    step: Sequence[int],
) -> list[tuple[int, tuple[int, ...]]]:
    """Draw crops: a volume and a start on multiples of `step`."""
    steps = [(n - k) // s + 1 for n, k, s in zip(shape, size, step, strict=True)]
    return [
        (
            int(rng.integers(count)),
            tuple(int(v) * s for v, s in zip(rng.integers(steps), step, strict=True)),
        )
        for _ in range(number)
    ]


def check(readers: Sequence[Reader], crops: Sequence[Any], size: Shape, folder: Path) -> list[str]:
    """Compare every reader's voxels with the rendered volume's; return the names of the equal."""
    equal = []
    for reader in readers:
        if isinstance(reader, Pread):
            continue
        for index, start in crops:
            volume = np.load(folder / f"{index}.npy", mmap_mode="r")
            found = reader.voxels(reader.crop(index, start, size), volume)
            if not np.array_equal(found, volume[box(start, size)]):
                raise SystemExit(
                    f"{reader.name}: crop {start} of volume {index} is not what was written"
                )
        equal.append(reader.name)
    return equal


def timed(
    readers: Sequence[Reader],
    rounds: Sequence[Sequence[Any]],
    size: Shape,
    rng: np.random.Generator,
) -> Times:
    """Wall and CPU seconds a crop of each reader in each round; the first round only warms up."""
    times: Times = {reader.name: [] for reader in readers}
    for number, crops in enumerate(rounds):
        for i in rng.permutation(len(readers)):
            reader = readers[i]
            wall, cpu = time.perf_counter(), time.process_time()
            for index, start in crops:
                reader.crop(index, start, size)
            spent = time.perf_counter() - wall, time.process_time() - cpu
            if number:
                times[reader.name].append((spent[0] / len(crops), spent[1] / len(crops)))
    return times


def median(times: Times, name: str, clock: int) -> float:
    """Median seconds of a reader: clock 0 is wall, 1 is CPU."""
    return statistics.median(pair[clock] for pair in times[name])


def ratio(times: Times, name: str, clock: int = 0, base: str = SPINMARK) -> float:
    """Median over rounds of a reader's time over spinmark's in the same round."""
    return statistics.median(
        peer[clock] / own[clock] for peer, own in zip(times[name], times[base], strict=True)
    )


class Samples:
    """What a loader's workers read: batches of crops, each read into its row of one shared tensor.

    Args:
        reader: How.
        crops: Volume and start of each.
        size: Voxels along each axis.
    """

    def __init__(self, reader: Reader, crops: Sequence[Any], size: Shape) -> None:
        self.reader, self.crops, self.size = reader, crops, size

    def __len__(self) -> int:
        return len(self.crops)

    def __getitems__(self, items: Sequence[int]) -> Any:
        import torch

        kind = torch.float32 if self.reader.name.endswith("float32") else torch.int16
        batch = torch.empty((len(items), *self.size), dtype=kind).share_memory_()
        for row, item in zip(batch.numpy(), items, strict=True):
            self.reader.into(*self.crops[item], row)
        return batch


def whole(batch: Any) -> Any:
    """Leave a batch as its dataset made it."""
    return batch


def load(readers: Sequence[Reader], crops: Sequence[Any], size: Shape, rounds: int) -> Times:
    """Seconds a crop of a PyTorch loader over each reader, in turn; all of them stay open."""
    import torch

    torch.multiprocessing.set_forkserver_preload(["torch", "spinmark_data.cohort.reader"])
    loaders: dict[str, Any] = {
        reader.name: torch.utils.data.DataLoader(
            Samples(reader, crops, size),
            batch_size=BATCH,
            num_workers=WORKERS,
            collate_fn=whole,
            multiprocessing_context="forkserver",
            persistent_workers=True,
        )
        for reader in readers
    }
    rng = np.random.default_rng(2)
    times: Times = {name: [] for name in loaders}
    for number in range(rounds + 1):
        for name in rng.permutation(list(loaders)):
            wall = time.perf_counter()
            count = sum(len(batch) for batch in loaders[name])
            spent = (time.perf_counter() - wall) / count
            if number:
                times[name].append((spent, spent))
    return times


def machine() -> str:
    """The processor, its cores, and the versions of what was compared."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    versions = []
    for name in ("zarr", "numcodecs", "numpy", "nibabel", "blosc2", "monai", "torch"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"{name} absent")
    return (
        f"{model or platform.processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def pin(cores: set[int]) -> None:
    """Keep the process and its threads to come to some cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def table(readers: Sequence[Reader], count: int, shape: Shape, results: Sequence[Times]) -> str:
    """One line a reader: milliseconds and ratios of crops, rate of whole volumes, compression."""
    lines = [
        f"{'':28}|{'random crop':^27}|{'crop on chunk corners':^27}|{'whole':^6}|{'stored':^7}",
        f"{'':28}|{'ms wall':>9}{'ms CPU':>9}{'ratio':>8} |{'ms wall':>9}{'ms CPU':>9}{'ratio':>8} |"
        f"{'MB/s':>6}|{'ratio':>7}",
    ]
    raw = 2 * math.prod(shape)
    for reader in readers:
        name = reader.name
        crops = "|".join(
            f"{1e3 * median(t, name, 0):9.2f}{1e3 * median(t, name, 1):9.2f}{ratio(t, name):8.2f} "
            for t in results[:2]
        )
        rate = raw / median(results[2], name, 0) / 1e6
        lines.append(f"{name:28}|{crops}|{rate:6.0f}|{raw * count / reader.size(count):7.3f}")
    return "\n".join(lines)


def summary(
    readers: Sequence[Reader], random: Times, aligned: Times, loader: Times
) -> dict[str, Any]:
    """The figures that the project keeps; None where a peer is absent."""
    names = [reader.name for reader in readers]
    integers = [r.name for r in readers if isinstance(r, Blosc2) and r.dtype == "int16"]

    def vs(
        times: Times, peers: Sequence[str], clock: int = 0, base: str = SPINMARK
    ) -> float | None:
        found = [ratio(times, name, clock, base) for name in peers if name in names]
        return round(min(found), 3) if found else None

    figures: dict[str, Any] = {}
    for key, peers in {
        # What nnU-Net writes, by its newer and its older rule, and what it never does: integers, by
        # whichever of the two rules reads faster.
        "blosc2": ["nnU-Net 2.8 float32"],
        "blosc2_before_2_8": ["nnU-Net 2.7 float32"],
        "blosc2_of_integers": integers,
        "monai_cache": ["MONAI cache"],
        "niigz": ["nii.gz, nibabel"],
        "zarr_python": ["spinmark by zarr-python"],
        "npy": [NPY],
        "pread": ["page cache, pread"],
    }.items():
        figures[f"crop_vs_{key}"] = vs(random, peers)
        figures[f"crop_vs_{key}_cpu"] = vs(random, peers, 1)
        figures[f"aligned_vs_{key}"] = vs(aligned, peers)
        figures[f"aligned_vs_{key}_cpu"] = vs(aligned, peers, 1)
    figures["float32_crop_vs_blosc2"] = vs(
        random, ["nnU-Net 2.8 float32"], base="spinmark direct, to float32"
    )
    figures["crop_ms"] = round(1e3 * median(random, SPINMARK, 0), 3)
    figures["aligned_crop_ms"] = round(1e3 * median(aligned, SPINMARK, 0), 3)
    figures["loader_vs_npy"] = round(ratio(loader, NPY), 3) if loader else None
    for name, times in loader.items():
        figures[f"loader {name}"] = round(1 / statistics.median(t[0] for t in times), 1)
    return figures


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--volumes", type=int, default=8, help="volumes to render (8)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each comparison (15)")
    parser.add_argument("--crops", type=int, default=6, help="crops a round (6)")
    parser.add_argument("--seed", type=int, default=0, help="seed of crops and orders (0)")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "spinmark-bench-data",
        help="folder that keeps volumes and peers' files between runs, 0.6 GB a volume",
    )
    parser.add_argument("--quick", action="store_true", help="a small grid, to see that it runs")
    return parser.parse_args()


def warm(folders: Sequence[Path]) -> int:
    """Read every file once, so that the page cache holds all; return the bytes."""
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    return sum(len(file.read_bytes()) for file in files)


def compare_loaders(readers: Sequence[Reader], plan: Any, size: Shape, args: Any) -> Times:
    """Time loaders over spinmark, npy (what passing tensors between processes allows) and nnU-Net's files."""
    names = {SPINMARK, NPY}
    if not args.quick:
        names |= {reader.name for reader in readers if isinstance(reader, Blosc2)}
    crops = [crop for one in plan for crop in one]
    crops = (crops * (96 // len(crops) + 1))[: 2 * BATCH if args.quick else 96]
    chosen = [reader for reader in readers if reader.name in names]
    times = load(chosen, crops, size, args.rounds // 2 + 1)
    for name in times:
        rate = 1 / median(times, name, 0)
        print(f"loader, {WORKERS} workers, batches of {BATCH}: {name:28} {rate:8.1f} crops/s")
    return times


def main() -> None:
    """Prepare, check, time, and print a table and one JSON line."""
    args = parse()
    shape: Shape = (40, 96, 96) if args.quick else (160, 384, 384)
    size: Shape = (16, 40, 40) if args.quick else (64, 160, 160)
    count = args.volumes
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    # Before any thread starts, so that those of zarr-python and of torch are bound too.
    pin({max(cores)} if cores else set())
    folder = args.work / "x".join(map(str, shape))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as fresh:
        cohort = Path(fresh) / "cohort"
        readers, absent = prepare(folder, cohort, count, shape)
        array = zarr.open_array(cohort / "images.zarr", path=f"{SEQUENCE}/volume", mode="r")
        chunk = array.chunks[1:]
        print(machine())
        print(
            f"{count} phantom volumes {shape}, crops {size}, inner chunks {chunk}, page cache warm "
            f"({warm([folder, cohort]) / 1e6:.0f} MB), one core, one thread"
        )
        rng = np.random.default_rng(args.seed)
        plans = [
            [draw(rng, count, args.crops, shape, size, step) for _ in range(args.rounds + 1)]
            for step in ((1, 1, 1), chunk)
        ]
        crops = plans[0][0] + plans[1][0]
        equal = check(readers, crops, size, folder)
        print(f"equal voxels in {len(crops)} crops: {'; '.join(equal)}")
        for module, why in absent.items():
            print(f"absent: {module} ({why})")
        results = [timed(readers, plan, size, rng) for plan in plans]
        wholes = [[(number % count, (0, 0, 0))] for number in range(args.rounds // 3 + 2)]
        results.append(timed(readers, wholes, shape, rng))
        print(table(readers, count, shape, results))
        pin(cores)
        loader = compare_loaders(readers, plans[0], size, args)
        result = summary(readers, results[0], results[1], loader)
        raw = 2 * count * math.prod(shape)
        result["compression"] = {r.name: round(raw / r.size(count), 3) for r in readers}
        result |= {"chunk": list(chunk), "equal": equal, "absent": sorted(absent)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
