"""The phantom's T2 map beside a real one: `python benchmarks/phantom_signal.py --out docs`.

Reads the real multi-echo knee (`shared/data/knee-mese`: one knee, GE, 3 T, 8 echoes from 6.3 to 50.5 ms)
from beside the checkout, and renders phantom knees on its grid with the phantom's 7 echoes. Prints the
table of `concepts/phantom-signal.md` and writes `images/phantom-signal.png` under `--out`.

Regions are found in the same way in both, by numbers alone, within the middle half of the slices. Air
has less than 5 % and tissue more than 15 % of the first echo's 90th percentile. Tissue with a T2 of 20
to 50 ms is called short (muscle and cartilage), with 60 to 200 ms long (fat and marrow), if a
mono-exponential fit explains 95 % of the echoes' variance.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from spinmark_data.ingest.dicom.series import read_series
from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.sequences import SEQUENCES
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState
from spinmark_data.preprocess.relaxometry import fit_t2, rayleigh_sigma

KNEE = Path(__file__).parents[2] / "shared" / "data" / "knee-mese"
GRID = Grid(shape=(24, 256, 256), spacing_mm=(4.0, 0.625, 0.625))
MAP = "SAG_T2_MAP"
Floats = NDArray[Any]


def phantom_knee(number: int) -> Floats:
    """Echoes of a healthy phantom knee."""
    state = JointState(
        laterality="R",
        sex=1 + number % 2,
        size=1.06 - 0.1 * (number % 2),
        shape=(0.0,) * 6,
        fat_mm=8.0,
        medial=0.6,
        bone=0.0,
        cartilage=0.2,
        inflammation=0.0,
        hypertrophy=0.0,
        lesion_seed=number,
    )
    style = SCANNERS[number % len(SCANNERS)]
    return render_scan(state, style, GRID, seed=number, sequence=MAP).volume.astype(np.float64)


def measure(echoes: Floats, times: Floats) -> tuple[dict[str, float], dict[str, Floats]]:
    """Numbers of one multi-echo series `(echo, z, y, x)`, and the T2 and signal of its regions."""
    nz = echoes.shape[1]
    inner = echoes[:, nz // 4 : nz - nz // 4]
    first = inner[0]
    high = np.percentile(first, 90)
    tissue = first > 0.15 * high
    sigma = rayleigh_sigma(inner[-1][(first < 0.05 * high) & (inner[-1] > 0)])
    fit = fit_t2(inner, times, mask=tissue)
    good = tissue & fit.plausible & (fit.r2 > 0.95)
    short = good & (fit.t2_ms > 20) & (fit.t2_ms < 50)
    long = good & (fit.t2_ms > 60) & (fit.t2_ms < 200)
    at_10 = np.where(good, fit.s0 * np.exp(-10.0 / np.where(good, fit.t2_ms, 1.0)), 0.0)
    numbers = {
        "air: noise of one channel / short-T2 signal at 10 ms": sigma / np.median(at_10[short]),
        "signal-to-noise of short-T2 tissue at 10 ms": np.median(at_10[short]) / sigma,
        "long-T2 over short-T2 signal at 10 ms": np.median(at_10[long]) / np.median(at_10[short]),
        "T2 of short-T2 tissue, median (ms)": np.median(fit.t2_ms[short]),
        "T2 of long-T2 tissue, median (ms)": np.median(fit.t2_ms[long]),
        "share of tissue that decays mono-exponentially": good.sum() / tissue.sum(),
    }
    regions = {"t2": fit.t2_ms[good], "signal": at_10[good] / np.median(at_10[short])}
    return {name: float(value) for name, value in numbers.items()}, regions


def figure(images: list[Floats], regions: list[dict[str, Floats]], path: Path) -> None:
    """Middle slices of real and phantom knee, and histograms of both."""
    drawn, axes = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
    for axis, image, name in zip(
        axes, images, ("real, first echo", "phantom, first echo"), strict=False
    ):
        axis.imshow(image, cmap="gray", vmax=np.percentile(image, 99.5))
        axis.set_title(name)
        axis.set_axis_off()
    for axis, key, bins, name in (
        (axes[2], "t2", np.linspace(0, 200, 81), "T2 (ms)"),
        (axes[3], "signal", np.linspace(0, 5, 81), "signal at 10 ms / short-T2 tissue"),
    ):
        for one, label in zip(regions, ("real", "phantom"), strict=True):
            axis.hist(one[key], bins, density=True, histtype="step", label=label)
        axis.set_xlabel(name)
        axis.set_yticks([])
    axes[2].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=90)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the pages")
    parser.add_argument("--knees", type=int, default=4, help="phantom knees, a scanner each")
    args = parser.parse_args()
    real, _ = read_series(sorted(KNEE.iterdir()))
    voxels = real.voxels.astype(np.float64) * real.scale + real.offset
    found, regions = measure(voxels, np.array(real.echo_time_ms))
    times = np.array(SEQUENCES[MAP].te_ms)
    made = [phantom_knee(i) for i in range(args.knees)]
    measured = [measure(echoes, times) for echoes in made]
    print(f"| measure | real knee | phantom ({args.knees} scanners, range) |\n|---|---|---|")
    for name, value in found.items():
        several = [numbers[name] for numbers, _ in measured]
        print(f"| {name} | {value:.3g} | {min(several):.3g} to {max(several):.3g} |")
    middle = voxels.shape[1] // 2
    pooled = {key: np.concatenate([one[key] for _, one in measured]) for key in regions}
    pictures = [voxels[0, middle], made[0][0, GRID.shape[0] // 2]]
    figure(pictures, [regions, pooled], args.out / "images" / "phantom-signal.png")


if __name__ == "__main__":
    main()
