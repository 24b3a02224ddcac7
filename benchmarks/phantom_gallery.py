"""The gallery of the phantom: `python benchmarks/phantom_gallery.py --out docs/images`.

Three pictures, all of rendered scans and none drawn by hand: people without disease beside a real
knee, the phenotypes at one severity, and scanners, sequences and artefacts of one knee. The real knee is
the first echo of `shared/data/knee-mese`, read from beside the checkout; without it its place is left out.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from spinmark_data.ingest.dicom.series import read_series
from spinmark_data.phantom.artefacts import NONE, Artefacts
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.sequences import SEQUENCES, grid_of
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import LATENTS, Grid, JointState

KNEE = Path(__file__).parents[2] / "shared" / "data" / "knee-mese"
GRID = Grid(shape=(72, 200, 200), spacing_mm=(1.5, 0.6, 0.6))
DESS = "SAG_3D_DESS"
SEVERITY = 2.5
Image = NDArray[Any]


def person(number: int) -> JointState:
    """The right knee of somebody of the default cohort, without disease."""
    people = sample_population(PhantomConfig(subjects=number + 1, seed=11))
    row, joint = people.subjects.iloc[number], people.joints.iloc[2 * number]
    return JointState(
        laterality="R",
        sex=int(row["sex"]),
        size=float(row["size"]),
        shape=tuple(float(v) for v in people.shape_modes[number]),
        fat_mm=float(row["fat_mm"]),
        medial=float(joint["medial"]),
        lesion_seed=int(joint["lesion_seed"]),
        **dict.fromkeys(LATENTS, 0.0),
    )


def scan(state: JointState, **options: Any) -> Image:
    """A scan `(z, y, x)`; the first echo of several."""
    given = {"style": SCANNERS[0], "grid": GRID, "seed": 5, **options}
    volume = render_scan(state, given.pop("style"), given.pop("grid"), **given).volume
    return volume[0] if volume.ndim == 4 else volume


def sagittal(volume: Image, medial: float = 0.72) -> Image:
    """A slice through a condyle of a right knee; index 0 is lateral."""
    return volume[int(medial * len(volume))]


def coronal(volume: Image, back: float = 0.55) -> Image:
    """A reformat with square pixels, the patient's right on the left."""
    plane = volume[:, :, int(back * volume.shape[2])].T
    steps = np.arange(0, volume.shape[0], GRID.spacing_mm[1] / GRID.spacing_mm[0])
    at = np.minimum(steps, volume.shape[0] - 1).astype(int)
    return plane[:, at]


def real_knee() -> Image | None:
    """A sagittal slice of the real knee, cut to the phantom's field of view."""
    if not KNEE.is_dir():
        return None
    volume, _ = read_series(sorted(KNEE.glob("*.dcm")))
    echo = np.asarray(volume.voxels)[0]
    # Slices are along the last or the first axis, as scanned; the sagittal one has the fewest.
    echo = np.moveaxis(echo, int(np.argmin(echo.shape)), 0)
    plane = echo[len(echo) // 3]
    half = round(60 / 0.625)
    y, x = plane.shape[0] // 2, plane.shape[1] // 2
    return plane[max(y - half, 0) : y + half, max(x - half, 0) : x + half]


def show(rows: list[list[tuple[str, Image]]], path: Path) -> None:
    """Write rows of titled images, each from black to its own 99.5th percentile."""
    width = max(len(row) for row in rows)
    figure, axes = plt.subplots(
        len(rows), width, figsize=(1.75 * width, 1.95 * len(rows)), squeeze=False
    )
    for line, row in zip(axes, rows, strict=True):
        for place, axis in enumerate(line):
            axis.axis("off")
            if place < len(row):
                title, image = row[place]
                axis.imshow(image, cmap="gray", vmin=0, vmax=np.percentile(image, 99.5))
                axis.set_title(title, fontsize=7)
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=110, pil_kwargs={"quality": 85})
    plt.close(figure)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def population(path: Path) -> None:
    """People without disease, and the real knee."""
    images = [(f"phantom {n + 1}", sagittal(scan(person(n), seed=n))) for n in range(9)]
    real = real_knee()
    if real is not None:
        images = [("real, T2 map, 1st echo", real), *images]
    show([images[:5], images[5:10]], path)


def phenotypes(path: Path) -> None:
    """One knee, each disease by itself."""
    base = replace(person(3), medial=0.85)
    states = {"minimal": base}
    states |= {name: replace(base, **{name: SEVERITY}) for name in LATENTS}
    volumes = {name: scan(state) for name, state in states.items()}
    show(
        [
            [(name, sagittal(volume)) for name, volume in volumes.items()],
            [("", sagittal(volume, 0.5)) for volume in volumes.values()],
            [("", coronal(volume)) for volume in volumes.values()],
        ],
        path,
    )


def scanners(path: Path) -> None:
    """One knee on every machine, in every sequence, and with what goes wrong."""
    state = replace(person(3), cartilage=1.0, inflammation=1.0)
    machines = [
        (
            f"{style.manufacturer.split()[0]} {style.model.split()[-1]}",
            sagittal(scan(state, style=style)),
        )
        for style in SCANNERS
    ]
    others = []
    for name, sequence in SEQUENCES.items():
        volume = scan(state, sequence=name, grid=grid_of(sequence, GRID, None))
        others.append((name, sagittal(volume, 0.55 if sequence.plane == "coronal" else 0.72)))
    wrong = {
        "as it should be": NONE,
        "ghosting": Artefacts(ghosting=0.12, ghosts=4),
        "wrap": Artefacts(wrap=0.15),
        "fat suppression fails": Artefacts(fat_failure=0.8, corner=(0.3, 0.8, -1.0)),
    }
    bad = [(name, sagittal(scan(state, artefacts=one))) for name, one in wrong.items()]
    show([machines, others, bad], path)


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    out = parser.parse_args().out
    population(out / "phantom-population.jpg")
    phenotypes(out / "phantom-phenotypes.jpg")
    scanners(out / "phantom-scanners.jpg")


if __name__ == "__main__":
    main()
