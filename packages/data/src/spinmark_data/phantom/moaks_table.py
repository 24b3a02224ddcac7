"""The MOAKS tables of a release: which knees were read by which project, and what they hold."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from spinmark_data.phantom.config import VISIT_MONTHS, PhantomConfig
from spinmark_data.phantom.moaks import COLUMNS, ERRORS, codes_of, read_scores
from spinmark_data.phantom.population import STREAM_READER, Floats, Population, normals
from spinmark_data.phantom.regional_truth import regional_truth
from spinmark_data.phantom.sheets import VERSION, Sheet
from spinmark_data.phantom.state import LATENTS, JointState

STEM = "kMRI_SQ_MOAKS_BICL"
# Reading projects and the shares of the knees read; the names are not numbers and must stay text.
PROJECTS = {"65": 0.55, "63A": 0.15, "63C": 0.10, "30": 0.12, "22": 0.08}
# Share of the knees read that a second project read as well.
_TWICE = 0.12
# Share of a reader's error that stays with the knee, whose visits are seen side by side.
_LASTING = 0.6
_UNREADABLE = 0.004
# Keys of this module's streams under STREAM_READER, beyond those of visits and of `clinic`.
_CHOICE, _ERRORS, _HOLES = 200, 210, 220
_SIDES = {1: "Right", 2: "Left"}
_TECHNICAL = ".T: Technical Problems"


def joint_state(population: Population, scan: pd.Series) -> JointState:
    """The joint of a planned scan.

    Args:
        population: People and knees at enrolment.
        scan: Row of the plan.
    """
    joint = int(scan["joint"])
    person, knee = population.subjects.iloc[joint // 2], population.joints.iloc[joint]
    return JointState(
        laterality=str(scan["laterality"]),
        sex=int(person["sex"]),
        size=float(person["size"]),
        shape=tuple(float(v) for v in population.shape_modes[joint // 2]),
        fat_mm=float(person["fat_mm"]),
        medial=float(knee["medial"]),
        lesion_seed=int(knee["lesion_seed"]),
        **{name: float(scan[name]) for name in LATENTS},
    )


def _chosen(population: Population, config: PhantomConfig) -> tuple[NDArray[np.bool_], Floats]:
    """The knees that are read, and uniform numbers `(joints, 3)` for their projects."""
    n = len(population.subjects)
    u = ndtr(normals(config.seed, n, 8, STREAM_READER, _CHOICE)).reshape(2 * n, 4)
    return u[:, 0] < config.moaks_share, u[:, 1:]


def regions_of(population: Population, plan: pd.DataFrame, config: PhantomConfig) -> pd.DataFrame:
    """The regional truth of the joints that are read, or of all that are scanned.

    Args:
        population: People and knees at enrolment.
        plan: The scans.
        config: Parameters of the cohort.

    Returns:
        `subject_id`, `laterality`, `visit` and the columns of `regional_truth`, with `joint` (row of
        the knee) first; a knee whose joint was replaced has no scan and no row.
    """
    scans = plan.drop_duplicates(["joint", "visit"]) if len(plan) else plan
    if not config.regional_truth and len(scans):
        read, _ = _chosen(population, config)
        scans = scans[read[scans["joint"].to_numpy()] & scans["visit"].isin(config.moaks_visits)]
    frames = []
    # All visits of a joint in turn: its healthy shape is then at hand.
    for _, scan in scans.sort_values(["joint", "visit"], kind="stable").iterrows():
        frame = regional_truth(joint_state(population, scan))
        for place, name in enumerate(("joint", "subject_id", "laterality", "visit")):
            frame.insert(place, name, scan[name])
        frames.append(frame)
    if frames:
        return pd.concat(frames, ignore_index=True)
    empty = regional_truth(_NOBODY).head(0)
    for place, name in enumerate(("joint", "subject_id", "laterality", "visit")):
        empty.insert(place, name, pd.Series(dtype="int64" if name == "joint" else object))
    return empty


_NOBODY = JointState(
    laterality="R",
    sex=1,
    size=1.0,
    shape=(0.0,) * 6,
    fat_mm=8.0,
    medial=0.5,
    bone=0.0,
    cartilage=0.0,
    inflammation=0.0,
    hypertrophy=0.0,
    lesion_seed=0,
)


def _errors(population: Population, config: PhantomConfig, visit: str, project: str) -> Floats:
    """Errors of a project's reader `(joints, ERRORS)`, part of which stay with the knee."""
    n, reader = len(population.subjects), list(PROJECTS).index(project)
    order = list(VISIT_MONTHS).index(visit)
    lasting, passing = (
        normals(config.seed, n, 2 * ERRORS, STREAM_READER, _ERRORS, reader, key).reshape(
            2 * n, ERRORS
        )
        for key in (99, order)
    )
    return np.asarray(np.sqrt(_LASTING) * lasting + np.sqrt(1 - _LASTING) * passing)


def _readers(
    first: Floats, twice: Floats, second: Floats
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each project and the knees that it reads."""
    names = np.array(list(PROJECTS))
    edges = np.cumsum(list(PROJECTS.values()))[:-1]
    main = np.searchsorted(edges, first, side="right")
    other = (main + 1 + (second * (len(names) - 1)).astype(int)) % len(names)
    for k, name in enumerate(names):
        yield str(name), (main == k) | ((twice < _TWICE) & (other == k))


def moaks_sheets(
    population: Population, regions: pd.DataFrame, config: PhantomConfig
) -> list[Sheet]:
    """Build kMRI_SQ_MOAKS_BICLNN: a row a knee and reading project, for the knees that were read.

    Args:
        population: People and knees at enrolment.
        regions: The regional truth of the scanned joints (`regions_of`).
        config: Parameters of the cohort.

    Returns:
        A sheet for each of `config.moaks_visits` at which a knee was read.
    """
    read, u = _chosen(population, config)
    sheets = []
    for visit in config.moaks_visits:
        here = regions[(regions["visit"] == visit) & read[regions["joint"].to_numpy(dtype=int)]]
        if not len(here):
            continue
        tables = []
        for project, knees in _readers(u[:, 0], u[:, 1], u[:, 2]):
            mine = here[knees[here["joint"].to_numpy(dtype=int)]]
            joints = mine["joint"].drop_duplicates().to_numpy(dtype=int)
            if not len(joints):
                continue
            errors = _errors(population, config, visit, project)[joints]
            scores = read_scores(mine, errors, config.reader_error)
            tables.append(scores.assign(joint=joints, READPRJ=project))
        table = pd.concat(tables).sort_values(["joint", "READPRJ"], kind="stable")
        sheets.append(_sheet(table, population, visit, config))
    return sheets


def _sheet(table: pd.DataFrame, population: Population, visit: str, config: PhantomConfig) -> Sheet:
    stem = f"{STEM}{visit[1:]}"
    sheet = Sheet(stem=stem, file=stem)
    joint = table["joint"].to_numpy(dtype=int)
    order = list(VISIT_MONTHS).index(visit)
    n = len(population.subjects)
    holes = ndtr(normals(config.seed, n, 2 * len(COLUMNS), STREAM_READER, _HOLES, order))
    holes = holes.reshape(2 * n, len(COLUMNS))
    sheet.add("ID", population.joints["subject_id"].to_numpy()[joint])
    sheet.add("SIDE", np.where(joint % 2 == 0, 1, 2), codes=_SIDES)
    sheet.add("READPRJ", table["READPRJ"].to_numpy())
    sheet.add("VERSION", [VERSION] * len(table))
    for k, name in enumerate(COLUMNS):
        lost = np.where(holes[joint, k] < _UNREADABLE, _TECHNICAL, "").astype(object)
        sheet.add(f"{visit}{name}", table[name].to_numpy(), codes=codes_of(name), reasons=lost)
    return sheet
