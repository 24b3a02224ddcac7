"""How fast a scan of the phantom is made: `nox -s bench -- phantom`.

One process. Scans are those that a cohort of the default
parameters would have, with its diseases and scanners, on the OAI's full grid (160 x 384 x 384) and on the
demo's (24 x 64 x 72); the median over scans of CPU time is reported, after one scan of each grid that is
not counted. `writing` is 160 DICOM files into a temporary folder and the label map as NIfTI, apart.

The last line is JSON: `full_scan_cpu_seconds`, `demo_scan_cpu_ms` and `writing_cpu_seconds`.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.dicom import SeriesIdentity, write_series
from spinmark_data.phantom.images import _write_labels
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.progression import trajectories
from spinmark_data.phantom.render import RenderedScan, render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import LATENTS, Grid, JointState

FULL = Grid(shape=(160, 384, 384), spacing_mm=(0.7, 0.365, 0.365))
DEMO = Grid(shape=(24, 64, 72), spacing_mm=(3.6, 1.125, 1.125))
IDENTITY = SeriesIdentity(
    patient_id="1000001",
    patient_name="Phantom^Person",
    sex=2,
    study_date="20050102",
    barcode="016610000000",
    laterality="R",
    timepoint="ENROLLMENT",
    series_number=4,
    manufacturer="SIEMENS",
    model="Trio",
    device_serial="41000",
)


def joints(count: int) -> list[JointState]:
    """The right knees of a cohort at enrolment."""
    config = PhantomConfig(subjects=count)
    people = sample_population(config)
    severities = trajectories(people, config)["V00"]
    found = []
    for i in range(count):
        person, knee = people.subjects.iloc[i], people.joints.iloc[2 * i]
        found.append(
            JointState(
                laterality="R",
                sex=int(person["sex"]),
                size=float(person["size"]),
                shape=tuple(float(v) for v in people.shape_modes[i]),
                fat_mm=float(person["fat_mm"]),
                medial=float(knee["medial"]),
                lesion_seed=int(knee["lesion_seed"]),
                **dict(zip(LATENTS, map(float, severities[2 * i]), strict=True)),
            )
        )
    return found


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def scan(state: JointState, number: int, grid: Grid) -> RenderedScan:
    """Render one scan."""
    return render_scan(state, SCANNERS[number % len(SCANNERS)], grid, seed=number)


def write(made: RenderedScan) -> None:
    """Write one scan as a phantom does."""
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder), made.volume, made.affine, identity=IDENTITY)
        _write_labels(Path(folder), "1000001:R:V00:SAG_3D_DESS:0", made.labels, made.affine)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", type=int, default=5, help="scans at the full grid")
    parser.add_argument("--demo", type=int, default=40, help="scans at the demo's grid")
    args = parser.parse_args()
    states = joints(max(args.full, args.demo))
    made = scan(states[0], 0, FULL)
    scan(states[0], 0, DEMO)
    full = [cpu(lambda i=i: scan(states[i], i, FULL)) for i in range(args.full)]
    demo = [cpu(lambda i=i: scan(states[i], i, DEMO)) for i in range(args.demo)]
    writing = [cpu(lambda: write(made)) for _ in range(3)]
    print(f"full grid: {min(full):.2f} to {max(full):.2f} CPU-s over {len(full)} scans")
    print(
        f"demo grid: {1000 * min(demo):.0f} to {1000 * max(demo):.0f} CPU-ms over {len(demo)} scans"
    )
    result = {
        "full_scan_cpu_seconds": round(statistics.median(full), 3),
        "demo_scan_cpu_ms": round(1000 * statistics.median(demo), 1),
        "writing_cpu_seconds": round(statistics.median(writing), 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
