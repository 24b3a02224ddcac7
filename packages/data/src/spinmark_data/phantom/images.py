"""The scans of a phantom, rendered and written in parallel, a person a task."""

import datetime
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.cluster import run_tasks
from spinmark_data.errors import InputError
from spinmark_data.phantom.artefacts import Artefacts
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.population import Population
from spinmark_data.phantom.sequences import SEQUENCES, grid_of
from spinmark_data.phantom.series_names import SPACED, accession_number, timepoint
from spinmark_data.phantom.state import LATENTS, Grid, JointState, ScannerStyle

if TYPE_CHECKING:
    from spinmark_data.phantom.dicom import SeriesIdentity


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One scan to render.

    Args:
        state: The joint.
        scanner: Index of the machine in `SCANNERS`.
        seed: Seed of the scan's noise.
        place: Seed of its positioning, which the series of one session share.
        sequence: Name of the sequence.
        repeat: 0, or 1 where the session is repeated.
        artefacts: What goes wrong in it.
        scan_id: Identifier that the cohort will give it.
        subject_id: The person.
        visit: The visit.
        date: Day of the study.
        series: Eight digits, the name of the series' folder.
        folder: Folder of the series, relative to the release.
    """

    state: JointState
    scanner: int
    seed: int
    place: int
    sequence: str
    repeat: int
    artefacts: Artefacts
    scan_id: str
    subject_id: str
    visit: str
    date: datetime.date
    series: str
    folder: str


def _scans(population: Population, plan: pd.DataFrame) -> list[list[Scan]]:
    """Group the planned scans by person, as what a process renders."""
    groups: dict[str, list[Scan]] = {}
    for row in plan.to_dict("records"):
        knee = population.joints.iloc[row["joint"]]
        person = population.subjects.iloc[row["joint"] // 2]
        state = JointState(
            laterality=row["laterality"],
            sex=int(person["sex"]),
            size=float(person["size"]),
            shape=tuple(float(v) for v in population.shape_modes[row["joint"] // 2]),
            fat_mm=float(person["fat_mm"]),
            medial=float(knee["medial"]),
            lesion_seed=int(knee["lesion_seed"]),
            **{name: float(row[name]) for name in LATENTS},
        )
        scan = Scan(
            state=state,
            scanner=row["scanner"],
            seed=row["seed"],
            place=row["place"],
            sequence=row["sequence"],
            repeat=row["repeat"],
            artefacts=_artefacts(row),
            scan_id=row["scan_id"],
            subject_id=row["subject_id"],
            visit=row["visit"],
            date=row["date"],
            series=row["series"],
            folder=row["folder"],
        )
        groups.setdefault(row["subject_id"], []).append(scan)
    return list(groups.values())


def _artefacts(row: Mapping[Hashable, Any]) -> Artefacts:
    return Artefacts(
        ghosting=row["artefact_ghosting"],
        ghosts=row["artefact_ghosts"],
        wrap=row["artefact_wrap"],
        fat_failure=row["artefact_fat_failure"],
        corner=(row["artefact_corner_z"], row["artefact_corner_y"], row["artefact_corner_x"]),
    )


def _render_person(
    scans: list[Scan], grids: Mapping[str, Grid], nuisance: float, out: Path, labels: bool
) -> int:
    """Render and write the scans of one person; returns their number."""
    from spinmark_data.phantom.dicom import write_series
    from spinmark_data.phantom.render import render_scan
    from spinmark_data.phantom.signal import SCANNERS

    for scan in scans:
        style = SCANNERS[scan.scanner]
        made = render_scan(
            scan.state,
            style,
            grids[scan.sequence],
            seed=scan.seed,
            nuisance=nuisance,
            sequence=scan.sequence,
            artefacts=scan.artefacts,
            place=scan.place,
        )
        folder = out / "release" / scan.folder
        folder.mkdir(parents=True)
        write_series(folder, made.volume, made.affine, identity=_identity(scan, style))
        if labels:
            _write_labels(out, scan.scan_id, made.labels, made.affine)
    return len(scans)


def write_landmarks(
    population: Population, plan: pd.DataFrame, config: PhantomConfig, path: Path
) -> None:
    """Write the true places of the landmarks of every planned scan.

    Args:
        population: People and knees at enrolment.
        plan: The scans, from `plan_scans`.
        config: Parameters of the cohort.
        path: Parquet file; a row a scan and landmark, `landmarks.landmark_table`.
    """
    from spinmark_data.phantom.landmarks import landmark_table

    scans = (scan for person in _scans(population, plan) for scan in person)
    rows = ((scan.scan_id, scan.state, scan.place) for scan in scans)
    landmark_table(rows, nuisance=config.nuisance).to_parquet(path, index=False)


def render_all(
    population: Population,
    plan: pd.DataFrame,
    config: PhantomConfig,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Render every planned scan into `out/release`, a task a person, on Dask workers.

    Args:
        population: People and knees at enrolment.
        plan: The scans, from `plan_scans`.
        config: Parameters of the cohort.
        out: Folder of release and truth.
        progress: Called with the scans done and their number.

    Raises:
        InputError: The cluster cannot be reached, or a person's scans kept killing their workers.
    """
    grids = grids_of(config)
    done = 0
    for count in _run(_scans(population, plan), grids, config, out):
        done += count
        if progress:
            progress(done, len(plan))


def grids_of(config: PhantomConfig) -> dict[str, Grid]:
    """Sampling of each sequence of a cohort."""
    main = Grid(shape=config.grid_shape, spacing_mm=config.spacing_mm)
    given = config.sequence_spacing_mm
    return {name: grid_of(SEQUENCES[name], main, given.get(name)) for name in config.sequences}


def _run(
    people: list[list[Scan]], grids: Mapping[str, Grid], config: PhantomConfig, out: Path
) -> Iterator[int]:
    # Workers may run in another folder.
    render = partial(
        _render_person,
        grids=grids,
        nuisance=config.nuisance,
        out=out.absolute(),
        labels=config.write_labels,
    )
    workers = min(config.workers, len(people))
    yield from run_tasks(render, people, cluster=config.cluster, workers=workers, lost=_lost)


def _lost(scans: list[Scan]) -> int:
    raise InputError(
        f"Rendering person {scans[0].subject_id} kept killing its worker; give workers more memory, or "
        "lower --workers."
    )


def _identity(scan: Scan, style: ScannerStyle) -> "SeriesIdentity":
    """Fill in what the header of a series says."""
    from spinmark_data.phantom.dicom import SeriesIdentity

    return SeriesIdentity(
        patient_id=scan.subject_id,
        patient_name=f"Phantom^Person {scan.subject_id}",
        sex=scan.state.sex,
        study_date=f"{scan.date:%Y%m%d}",
        barcode=accession_number(scan.series),
        laterality=scan.state.laterality,
        timepoint=timepoint(scan.visit),
        series_number=SEQUENCES[scan.sequence].series_number
        + (scan.state.laterality == "L")
        + 20 * scan.repeat,
        manufacturer=style.manufacturer,
        model=style.model,
        device_serial=f"{41_000 + scan.scanner}",
        trailing_space=scan.visit in SPACED,
        sequence=scan.sequence,
        series_time="124500" if scan.repeat else "120000",
    )


def _write_labels(
    out: Path, scan_id: str, labels: NDArray[np.uint8], affine: NDArray[np.float64]
) -> None:
    """Write a label map as NIfTI, whose world axes are right, anterior, superior."""
    import nibabel

    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, dtype=np.float64)
    image = nibabel.Nifti1Image(labels, to_ras)  # type: ignore[no-untyped-call]
    folder = out / "truth" / "labels"
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, folder / f"{scan_id.replace(':', '_')}.nii.gz")
