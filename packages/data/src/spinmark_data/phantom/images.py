"""The scans of a phantom: which are made, on which machine, and their rendering in parallel."""

import datetime
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from spinmark_data.cluster import run_tasks
from spinmark_data.errors import InputError
from spinmark_data.phantom.artefacts import Artefacts, draw
from spinmark_data.phantom.config import VISIT_MONTHS, PhantomConfig
from spinmark_data.phantom.outcomes import Outcomes
from spinmark_data.phantom.population import SITES, STREAM_SCAN, Floats, Population, normals
from spinmark_data.phantom.sequences import DESS, SEQUENCES, grid_of
from spinmark_data.phantom.state import LATENTS, Grid, JointState, ScannerStyle

if TYPE_CHECKING:
    from spinmark_data.phantom.dicom import SeriesIdentity

FIRST_DAY = datetime.date(2004, 2, 16)

RELEASES = {
    "V00": ("00m", ("0.C.2", "0.E.1")),
    "V01": ("12m", ("1.C.2", "1.E.1")),
    "V03": ("24m", ("3.C.2", "3.E.1")),
    "V05": ("36m", ("5.C.1", "5.E.1")),
    "V06": ("48m", ("6.C.1", "6.E.1")),
    "V08": ("72m", ("8.C.1", "8.E.1")),
    "V10": ("96m", ("10.C.1", "10.E.1")),
}
"""Folder of each visit and of its two releases, for the first and second half of the cohort."""

SPACED = ("V00", "V01", "V03")
"""Visits whose StudyDescription ends in a space for the right knee."""

# Scans that fail or are refused, at enrolment and for each later visit.
_NO_SCAN, _NO_SCAN_LATER = 0.005, 0.02
# Key of the stream that decides which sessions are repeated.
_AGAIN = 1
# Key of the stream that decides who is first scanned at a later visit.
_LATE = 60
# The site whose machine was replaced by another between enrolment and this month.
_UPGRADED_SITE, _UPGRADE_MONTH = "C", 18


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


def enrolment_dates(population: Population) -> list[datetime.date]:
    """Day of enrolment of each person."""
    offsets = population.subjects["enrolment_offset"]
    return [FIRST_DAY + datetime.timedelta(days=int(offset)) for offset in offsets]


def in_place(outcomes: Outcomes, visit: str) -> NDArray[np.bool_]:
    """Mark the knees whose owner came to a visit with the knee not yet replaced."""
    day = np.repeat(outcomes.days[visit].to_numpy(), 2)
    replaced = outcomes.joints["replacement_days"].to_numpy()
    gone = outcomes.joints["replaced_at_baseline"].to_numpy()
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(day) & (day < replaced) & ~gone)


def plan_scans(
    population: Population,
    latents: Mapping[str, Floats],
    outcomes: Outcomes,
    config: PhantomConfig,
    scanners: int,
) -> pd.DataFrame:
    """Decide which knees are scanned at which visit and where.

    Args:
        population: People and knees at enrolment.
        latents: Severity at each visit, `(joints, 4)`.
        outcomes: What happens to people and knees.
        config: Parameters of the cohort.
        scanners: Number of machines there are.

    Returns:
        A row a scan: `joint` (row of the knee), `subject_id`, `laterality`, `visit`, `days`,
        `scan_id`, `sequence`, `repeat` (0, or 1 in a repeated session), the four latents, `site`,
        `scanner` (index), `seed`, `place`, `date`, `series`, `folder` and what went wrong,
        `artefact_ghosting`, `artefact_ghosts`, `artefact_wrap`, `artefact_fat_failure` and
        `artefact_corner_z`, `_y`, `_x`. The last series of a session ranks first, as archives have it.
    """
    n = len(population.subjects)
    dates = enrolment_dates(population)
    first = _first_visits(n, config)
    # Rows of a frame are slow to take one by one.
    sites = population.subjects["site"].to_numpy()
    halves = population.subjects["half"].to_numpy()
    names = population.joints["subject_id"].to_numpy()
    sides = population.joints["laterality"].to_numpy()
    rows = []
    for number, visit in enumerate(config.visits):
        order = list(VISIT_MONTHS).index(visit)
        u = ndtr(normals(config.seed, n, 6, STREAM_SCAN, order))
        again = ndtr(normals(config.seed, n, 2, STREAM_SCAN, order, _AGAIN))
        present = in_place(outcomes, visit)
        came = outcomes.days[visit].to_numpy()
        month_folder, releases = RELEASES[visit]
        fails = _NO_SCAN if visit == "V00" else _NO_SCAN_LATER
        for j in np.flatnonzero(present):
            i = int(j) // 2
            if u[i, j % 2] < fails or number < first[i]:
                continue
            site = str(sites[i])
            machine = SITES.index(site)
            upgraded = config.scanner_upgrade and config.months(visit) >= _UPGRADE_MONTH
            if site == _UPGRADED_SITE and upgraded:
                machine += 1
            if u[i, 2] < config.scanner_changes:
                machine += 1 + int(u[i, 3] * (scanners - 1))
            days = float(came[i])
            date = dates[i] + datetime.timedelta(days=int(days))
            subject_id, side = str(names[j]), str(sides[j])
            release = releases[int(halves[i]) - 1]
            known = {
                "joint": int(j),
                "subject_id": subject_id,
                "laterality": side,
                "visit": visit,
                "days": days,
                **dict(zip(LATENTS, latents[visit][j], strict=True)),
                "site": site,
                "scanner": machine % scanners,
                "date": date,
            }
            sessions = 1 + int(again[i, j % 2] < config.rescans)
            for repeat, name in _series_of(side, sessions, config):
                seed = _seed(config, i, order, int(j) % 2, name, repeat)
                series = _series_number(i, order, int(j) % 2, name, repeat)
                folder = f"{month_folder}/{release}/{subject_id}/{date:%Y%m%d}/{series}"
                rank = sessions - 1 - repeat
                found = asdict(draw(seed, name, config))
                corner = dict(zip("zyx", found.pop("corner"), strict=True))
                found |= {f"corner_{axis}": value for axis, value in corner.items()}
                rows.append(
                    known
                    | {
                        "scan_id": f"{subject_id}:{side}:{visit}:{name}:{rank}",
                        "sequence": name,
                        "repeat": repeat,
                        "seed": seed,
                        "place": _seed(config, i, order, int(j) % 2, DESS, repeat),
                        "series": f"{series}",
                        "folder": folder,
                    }
                    | {f"artefact_{key}": value for key, value in found.items()}
                )
    return pd.DataFrame(rows)


def _first_visits(people: int, config: PhantomConfig) -> NDArray[np.int64]:
    """Place in `config.visits` of the first visit at which each person is scanned."""
    if config.late_entry == 0:
        return np.zeros(people, np.int64)
    u = ndtr(normals(config.seed, people, 2, STREAM_SCAN, _LATE))
    later = 1 + np.floor(u[:, 1] * (len(config.visits) - 1)).astype(np.int64)
    return np.where(u[:, 0] < config.late_entry, later, 0)


def entry_days(plan: pd.DataFrame, joints: int) -> Floats:
    """Day of the first scan of each knee, from which on it is seen; NaN where none was made.

    Args:
        plan: The scans, from `plan_scans`.
        joints: Number of knees.

    Returns:
        Days since enrolment `(joints,)`.
    """
    found = np.full(joints, np.nan)
    if len(plan):
        first = plan.groupby("joint")["days"].min()
        found[first.index.to_numpy()] = first.to_numpy()
    return found


def _series_of(side: str, sessions: int, config: PhantomConfig) -> Iterator[tuple[int, str]]:
    """Sessions and sequences of a knee, in the order in which they are taken."""
    for repeat in range(sessions):
        for name in config.sequences:
            if side == "R" or SEQUENCES[name].both_knees:
                yield repeat, name


def _seed(
    config: PhantomConfig, person: int, visit: int, side: int, sequence: str, repeat: int
) -> int:
    key = [config.seed, person, STREAM_SCAN, visit, side]
    if sequence != DESS or repeat:
        key += [1 + list(SEQUENCES).index(sequence), repeat]
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def _series_number(person: int, visit: int, side: int, sequence: str, repeat: int) -> int:
    """Eight digits of a series; a repeated one is larger."""
    if sequence == DESS:
        return 10_000_000 + (person * 16 + visit) * 4 + side + 2 * repeat
    # Above the DESS of as many people as the config takes.
    imaging = list(RELEASES).index(list(VISIT_MONTHS)[visit])
    others = (person * len(RELEASES) + imaging) * 3 + list(SEQUENCES).index(sequence) - 1
    return 16_400_000 + others * 4 + side + 2 * repeat


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


def accession_number(series: str) -> str:
    """Barcode of a series as its header has it, twelve digits with a leading zero."""
    return f"0166{series}"


def timepoint(visit: str) -> str:
    """Name of a visit as the descriptions have it."""
    return "ENROLLMENT" if visit == "V00" else f"{VISIT_MONTHS[visit]} MONTH"


def study_description(visit: str, laterality: str) -> str:
    """Description of a study; early ones end in a space on the right side, as the OAI's do."""
    space = " " if laterality == "R" and visit in SPACED else ""
    return f"OAI^MR^{timepoint(visit)}^{'RIGHT' if laterality == 'R' else 'LEFT'}{space}"


def series_description(laterality: str, sequence: str = DESS) -> str:
    """Description of the series: the sequence and the side, for which there is no tag."""
    return f"{sequence}_{'RIGHT' if laterality == 'R' else 'LEFT'}"


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
