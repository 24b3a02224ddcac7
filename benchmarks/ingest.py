"""How fast series are read and ingested: `nox -s bench -- ingest`.

*Series to array.* A phantom DESS knee at the full OAI grid (160 files of 384 x 384) and, where it lies
beside the checkout, the real multi-echo knee (192 files) are read on one pinned core with a warm page
cache, by every reader in turn, in random order; each round gives one ratio to spinmark by CPU time,
children's included, and the median over rounds is reported. All readers' voxels are checked to be the
same. Peers, as their users meet them:

- SimpleITK's ImageSeriesReader, its file names from GDCM, one thread.
- dcm2niix: the program itself, without compression and sidecar, into memory (`/dev/shm`), then read
  into an array. It has to start a process and write a file, as whoever calls it has to.

`spinmark with sha256` also hashes every file, as an ingest does and no peer does.

*A whole ingest.* Many phantom series on two processes, against the slowest of what cannot be left out:
reading the bytes, decoding them, packing them, each alone on two processes, before and after it in the
same run; a limit is the mean of both. Memory is the largest of one process, for a fifth of the series
and for all.

The last line is JSON; ratios above 1 mean that spinmark is faster, and `ingest_vs_limit` is the ingest's
time over the slowest limit's.
"""

import argparse
import contextlib
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.cohort.encode import encode_shard
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.dicom.series import load, read_series
from spinmark_data.ingest.geometry import reorient
from spinmark_data.ingest.run import ingest
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.dicom import SeriesIdentity, write_series
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import LATENTS, Grid, JointState

FULL = (160, 384, 384)
SPACING_MM = (0.7, 0.365, 0.365)
SPINMARK, HASHED = "spinmark", "spinmark with sha256"
KNEE = Path(__file__).parents[2] / "shared" / "data" / "knee-mese"
WORKERS = 2

Shape = tuple[int, int, int]
Times = dict[str, list[tuple[float, float]]]


def render(index: int, shape: Shape) -> NDArray[np.uint16]:
    """A phantom right knee."""
    people = sample_population(PhantomConfig(subjects=index + 1))
    person, knee = people.subjects.iloc[index], people.joints.iloc[2 * index]
    z, y, x = (step * full / n for step, full, n in zip(SPACING_MM, FULL, shape, strict=True))
    state = JointState(
        laterality="R",
        sex=int(person["sex"]),
        size=float(person["size"]),
        shape=tuple(float(v) for v in people.shape_modes[index]),
        fat_mm=float(person["fat_mm"]),
        medial=float(knee["medial"]),
        lesion_seed=int(knee["lesion_seed"]),
        **{name: float(knee[name]) for name in LATENTS},
    )
    grid = Grid(shape=shape, spacing_mm=(z, y, x))
    made = render_scan(state, SCANNERS[index % len(SCANNERS)], grid, seed=index).volume
    return made.astype(np.uint16)


def write(folder: Path, volume: NDArray[np.uint16], number: int) -> None:
    """Write a volume as a series of a person of its own."""
    z, y, x = (s * f / n for s, f, n in zip(SPACING_MM, FULL, volume.shape, strict=True))
    affine = np.array([[z, 0, 0, -50], [0, 0, x, -70], [0, -y, 0, 70], [0, 0, 0, 1.0]])
    identity = SeriesIdentity(
        patient_id=str(1000001 + number),
        patient_name="Made^Up",
        sex=1,
        study_date="20040101",
        barcode=f"01660{number:07d}",
        laterality="R",
        timepoint="ENROLLMENT",
        series_number=5,
        manufacturer="SIEMENS",
        model="Trio",
        device_serial="1",
    )
    folder.mkdir(parents=True)
    write_series(folder, volume, affine, identity=identity)


def dcm2niix() -> str:
    """The program itself, not the script of Python that calls it."""
    import dcm2niix as package

    return str(package.bin)


def by_spinmark(folder: Path) -> NDArray[Any]:
    """Volume `(echo, slice, row, column)`, along the normal."""
    volume, _ = read_series(sorted(folder.iterdir()))
    return volume.voxels


def by_spinmark_hashed(folder: Path) -> NDArray[Any]:
    """The same with a sha256 over all files."""
    volume, _, _ = load(sorted(folder.iterdir()))
    return volume.voxels


def by_simpleitk(folder: Path) -> NDArray[Any]:
    """As its documentation reads a series."""
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    found: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    return found


def by_dcm2niix(folder: Path) -> NDArray[Any]:
    """Convert, then read each file that came of it."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as out:
        call = [dcm2niix(), "-z", "n", "-b", "n", "-o", out, str(folder)]
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
        files = sorted(Path(out).glob("*.nii"))
        return np.concatenate([np.fromfile(file, "<i2", offset=352) for file in files])


def readers() -> tuple[dict[str, Callable[[Path], NDArray[Any]]], dict[str, str]]:
    """Those that can run, and why others cannot."""
    found: dict[str, Callable[[Path], NDArray[Any]]] = {
        SPINMARK: by_spinmark,
        HASHED: by_spinmark_hashed,
    }
    absent = {}
    for name, peer in (("SimpleITK", by_simpleitk), ("dcm2niix", by_dcm2niix)):
        try:
            module = __import__(name)
            if name == "SimpleITK":
                module.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
                module.ProcessObject.SetGlobalWarningDisplay(False)
            found[name] = peer
        except ImportError as error:
            absent[name] = str(error)
    return found, absent


def check(found: dict[str, Callable[[Path], NDArray[Any]]], folder: Path) -> None:
    """Every reader has to give the same voxels, in whichever order its axes run."""
    sums = {}
    for name, read in found.items():
        # Order-free and exact: how often each value occurs.
        sums[name] = np.bincount(read(folder).astype(np.int64).ravel() + 32768, minlength=98304)
    for name, counts in sums.items():
        if not np.array_equal(counts, sums[SPINMARK]):
            raise SystemExit(f"{name} reads other voxels from {folder}")


def cpu() -> float:
    """CPU seconds of this process and of children that have ended."""
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def timed(
    found: dict[str, Callable[[Path], NDArray[Any]]], folder: Path, rounds: int, seed: int
) -> Times:
    """Wall and CPU seconds of each reader in each round; the first round only warms up."""
    rng = np.random.default_rng(seed)
    times: Times = {name: [] for name in found}
    for number in range(rounds + 1):
        for name in rng.permutation(list(found)):
            wall, spent = time.perf_counter(), cpu()
            found[name](folder)
            pair = time.perf_counter() - wall, cpu() - spent
            if number:
                times[name].append(pair)
    return times


def ratio(times: Times, name: str, base: str = SPINMARK) -> float | None:
    """Median over rounds of a reader's CPU time over spinmark's in the same round."""
    if name not in times:
        return None
    pairs = zip(times[name], times[base], strict=True)
    return round(statistics.median(peer[1] / own[1] for peer, own in pairs), 3)


def only_read(folder: str) -> int:
    """The bytes of a series."""
    return sum(len(file.read_bytes()) for file in sorted(Path(folder).iterdir()))


def only_decode(folder: str) -> int:
    """Its voxels."""
    return load(sorted(Path(folder).iterdir()))[0].voxels.size


def only_pack(work: tuple[str, int]) -> int:
    """Its shard, from a volume in memory."""
    volume = np.load(work[0])
    return sum(len(encode_shard(volume)) for _ in range(work[1]))


def in_pool(task: Callable[[Any], int], work: Sequence[Any]) -> float:
    """Wall seconds of a task for all series on two processes that have started."""
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("forkserver")) as pool:
        list(pool.map(_ready, range(4 * WORKERS)))
        began = time.perf_counter()
        list(pool.map(task, work, chunksize=1))
        return time.perf_counter() - began


def _ready(_: int) -> None:
    time.sleep(0.05)


def whole_ingest(release: Path, out: Path) -> tuple[float, float]:
    """Wall seconds and the largest process's MB of an ingest on two processes, in one of its own."""
    call = [sys.executable, __file__, "--only-ingest", str(release), "--work", str(out)]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def _watch(stop: threading.Event, peak: list[float]) -> None:
    """Note the largest memory of this process and its children, in MB, until it is told to stop."""
    import psutil

    while not stop.wait(0.1):
        own = psutil.Process()
        for process in (own, *own.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                peak[0] = max(peak[0], process.memory_info().rss / 2**20)


def only_ingest(release: Path, out: Path) -> None:
    """What the process of its own does."""
    stop, peak = threading.Event(), [0.0]
    watcher = threading.Thread(target=_watch, args=(stop, peak))
    watcher.start()
    began = time.perf_counter()
    ingest(release, out, IngestConfig(workers=WORKERS))
    seconds = time.perf_counter() - began
    stop.set()
    watcher.join()
    print(json.dumps([seconds, peak[0]]))


def batch(work: Path, series: int, shape: Shape) -> dict[str, Any]:
    """Ingest many series, against its limits."""
    many, few = work / "many", work / "few"
    volume = render(0, shape)
    rng = np.random.default_rng(0)
    for folder, count in ((many, series), (few, max(series // 5, 4))):
        shutil.rmtree(folder, ignore_errors=True)
        for number in range(count):
            # Noise of its own, so that no series is another's copy.
            own = volume + rng.integers(0, 3, volume.shape, dtype=np.uint16)
            write(folder / str(number), own, number)
    folders = [str(folder) for folder in sorted(many.iterdir())]
    first, _ = read_series(sorted(Path(folders[0]).iterdir()))
    np.save(work / "volume.npy", reorient(first.voxels, first.affine)[0])
    repeats = 5
    packed = [(str(work / "volume.npy"), repeats)] * (series // repeats)
    tasks: dict[str, tuple[Callable[[Any], int], Sequence[Any]]] = {
        "read": (only_read, folders),
        "decode": (only_decode, folders),
        "pack": (only_pack, packed),
    }
    shutil.rmtree(work / "cohort", ignore_errors=True)
    # Before and after, as the machine's speed drifts by more than what is looked for.
    before = {name: in_pool(task, items) for name, (task, items) in tasks.items()}
    seconds, peak = whole_ingest(many, work / "cohort")
    after = {name: in_pool(task, items) for name, (task, items) in tasks.items()}
    limits = {name: (before[name] + after[name]) / 2 for name in tasks}
    shutil.rmtree(work / "cohort", ignore_errors=True)
    _, peak_few = whole_ingest(few, work / "cohort")
    shutil.rmtree(work / "cohort", ignore_errors=True)
    print(
        f"{series} series of {shape} on {WORKERS} processes: {seconds:.1f} s; alone "
        + ", ".join(f"{name} {before[name]:.1f} and {after[name]:.1f} s" for name in limits)
    )
    print(f"largest process: {peak:.0f} MB; for {max(series // 5, 4)} series {peak_few:.0f} MB")
    shutil.rmtree(many)
    shutil.rmtree(few)
    return {
        "ingest_vs_limit": round(seconds / max(limits.values()), 3),
        "peak_mb": round(peak),
        "peak_mb_fifth": round(peak_few),
        "ingest_s": round(seconds, 2),
        **{f"limit_{name}_s": round(value, 2) for name, value in limits.items()},
    }


def table(times: Times, label: str) -> str:
    """One line a reader: milliseconds and ratio."""
    lines = [f"{label:28}|{'ms wall':>9}{'ms CPU':>9}{'CPU ratio':>11}"]
    for name, pairs in times.items():
        wall, spent = (1e3 * statistics.median(pair[clock] for pair in pairs) for clock in (0, 1))
        lines.append(f"{name:28}|{wall:9.1f}{spent:9.1f}{ratio(times, name):11.2f}")
    return "\n".join(lines)


def machine() -> str:
    """The processor, its load, and the versions of what was compared."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    versions = []
    for name in ("numpy", "pydicom", "SimpleITK", "dcm2niix"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"{name} absent")
    return (
        f"{model or platform.processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=11, help="rounds of each comparison (11)")
    parser.add_argument("--series", type=int, default=200, help="series of the whole ingest (200)")
    parser.add_argument("--shape", type=int, nargs=3, default=FULL, help="their grid (160 384 384)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the readers' order (0)")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "spinmark-bench-ingest",
        help="folder for series and cohorts, 80 MB a series; one series is kept for the next run",
    )
    parser.add_argument("--quick", action="store_true", help="small grids, to see that it runs")
    parser.add_argument("--only-ingest", type=Path, default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Series to array, by every reader."""
    shape = (20, 48, 48) if args.quick else FULL
    dess = work / "-".join(map(str, ("dess", *shape)))
    if not dess.is_dir():
        write(work / "partial", render(0, shape), 0)
        (work / "partial").rename(dess)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if cores:
        os.sched_setaffinity(0, {min(cores)})
    found, absent = readers()
    results = {}
    for name, folder in (("phantom DESS", dess), ("real multi-echo knee", KNEE)):
        if folder.is_dir():
            check(found, folder)
            results[name] = timed(found, folder, 2 if args.quick else args.rounds, args.seed)
            print(table(results[name], name))
    if cores:
        os.sched_setaffinity(0, cores)
    figures: dict[str, Any] = {"absent": absent} if absent else {}
    for peer in ("SimpleITK", "dcm2niix"):
        ratios = {name: ratio(times, peer) for name, times in results.items()}
        known = [value for value in ratios.values() if value is not None]
        # The worse of the two series.
        figures[f"dicom_vs_{peer.lower()}"] = min(known) if known else None
        hashed = [r for times in results.values() if (r := ratio(times, peer, HASHED)) is not None]
        figures[f"dicom_with_sha256_vs_{peer.lower()}"] = min(hashed) if hashed else None
    return figures


def main() -> None:
    """Compare, print, and end with one line of JSON."""
    args = parse()
    if args.only_ingest is not None:
        only_ingest(args.only_ingest, args.work)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    print(machine())
    figures = compare(args.work, args)
    shape = (16, 32, 32) if args.quick else tuple(args.shape)
    figures |= batch(args.work, 10 if args.quick else args.series, shape)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
