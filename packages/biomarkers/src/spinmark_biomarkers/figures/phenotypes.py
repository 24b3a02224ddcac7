"""Stability, prototypes and the artefact panel of phenotypes."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.embedding_map import COLOURS
from spinmark_biomarkers.phenotypes.discover import Phenotypes
from spinmark_biomarkers.phenotypes.stability import BANDS


def stability_bars(phenotypes: Phenotypes) -> Figure:
    """Draw each phenotype's mean Jaccard similarity, its 95 % range and the bands of stability."""
    rows = phenotypes.summary()["phenotypes"]
    value = np.array([row["jaccard"] for row in rows])
    ends = np.array([[row["low"], row["high"]] for row in rows])
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(rows)), value, color=[COLOURS[i % len(COLOURS)] for i in range(len(rows))])
    axes.vlines(range(len(rows)), ends[:, 0], ends[:, 1], color="#333333")
    floor = 0.0
    for limit, name in BANDS:
        axes.axhline(min(limit, 1.0), color="#999999", linewidth=0.6, linestyle=":")
        axes.text(len(rows) - 0.45, (floor + min(limit, 1.0)) / 2, name, fontsize="small")
        floor = limit
    axes.set_xticks(range(len(rows)), [f"{row['phenotype']}\nn={row['n']}" for row in rows])
    axes.set_xlim(-0.6, len(rows) + 0.4)
    axes.set_ylim(0, 1)
    axes.set_xlabel("phenotype")
    axes.set_ylabel("Jaccard similarity")
    axes.set_title(
        "Stability under resampled subjects (mean, 95 % range)\n"
        f"verdict: {phenotypes.summary()['verdict']}; stable is not the same as distinct",
        fontsize="medium",
    )
    return figure


def artefact_bars(phenotypes: Phenotypes) -> Figure:
    """Draw Cramer's V of the phenotypes with site, scanner and side."""
    rows = phenotypes.summary()["artefacts"]
    figure = Figure(figsize=(6, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(rows)), [row["cramers_v"] for row in rows], color=COLOURS[0])
    for i, row in enumerate(rows):
        axes.text(row["cramers_v"] + 0.02, i, f"p={row['p']:.3f}, {row['flag']}", va="center")
    axes.set_yticks(range(len(rows)), [row["variable"] for row in rows])
    axes.set_xlim(0, 1.4)
    axes.set_xlabel("Cramer's V")
    axes.set_title(
        "Is it an artefact? (subject-level permutation)\n"
        "sites that differ in disease associate too: read with the case mix in mind",
        fontsize="medium",
    )
    return figure


def prototype_panel(
    volumes: Mapping[str, npt.NDArray[np.float32]],
    prototypes: Mapping[int, Sequence[str]],
    *,
    at: float = 0.5,
) -> Figure:
    """Draw one slice of each phenotype's prototypes, the same in all.

    Args:
        volumes: For each scan_id its volume (z, y, x).
        prototypes: What `phenotypes.discover.prototypes` returned.
        at: Which slice, as a share of the extent along z.

    Raises:
        InputError: Where there is no prototype, a volume is absent, or it has not three dimensions.
    """
    per = max((len(scans) for scans in prototypes.values()), default=0)
    if per == 0:
        raise InputError("prototypes: none given; accepted is at least one scan")
    size = (2.2 * per, 2.2 * len(prototypes) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(prototypes), per, squeeze=False)
    for row, (phenotype, scans) in zip(grid, sorted(prototypes.items()), strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, scan in zip(row, scans, strict=False):
            if scan not in volumes or np.ndim(volumes[scan]) != 3:
                raise InputError(
                    f"volumes: no (z, y, x) volume of {scan}; accepted is one for each"
                )
            middle = np.asarray(volumes[scan])[round(at * (np.shape(volumes[scan])[0] - 1))]
            low, high = np.quantile(middle, [0.01, 0.99])
            axes.imshow(middle, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
            axes.set_title(f"{phenotype}: {scan}", fontsize=6)
    figure.suptitle(
        "Scans nearest each phenotype's mean, one a subject, the same slice of each", fontsize=8
    )
    return figure
