"""Label maps of healthy knees of the phantom, on a grid like that of real segmentations."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pandas as pd

from spinmark_data.anatomy_report.measures import measure_anatomy
from spinmark_data.labels.names import PHANTOM
from spinmark_data.morphometry.joint import Joint
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import LATENTS, Grid, JointState

# The field of view of the real label maps at half their resolution.
GRID = Grid(shape=(80, 192, 192), spacing_mm=(1.4, 0.73, 0.73))


def healthy_knees(knees: int, seed: int) -> list[JointState]:
    """The first knees of the minimal phenotype at enrolment, at most one a person.

    Args:
        knees: Their number.
        seed: Seed of the cohort.
    """
    people = sample_population(PhantomConfig(subjects=4 * knees + 16, seed=seed))
    joints = people.joints[people.joints["phenotype"] == 0].drop_duplicates("subject")
    found = []
    for _, knee in joints.head(knees).iterrows():
        person = people.subjects.iloc[int(knee["subject"])]
        found.append(
            JointState(
                laterality=str(knee["laterality"]),
                sex=int(person["sex"]),
                size=float(person["size"]),
                shape=tuple(float(v) for v in people.shape_modes[int(knee["subject"])]),
                fat_mm=float(person["fat_mm"]),
                medial=float(knee["medial"]),
                lesion_seed=int(knee["lesion_seed"]),
                **{name: float(knee[name]) for name in LATENTS},
            )
        )
    return found


def label_map(state: JointState, grid: Grid = GRID) -> Joint:
    """A knee's true labels, as a right knee."""
    made = render_scan(state, SCANNERS[0], grid, seed=0, nuisance=0.0)
    return Joint.of(made.labels, made.affine, PHANTOM, laterality=state.laterality)


def _measured(state: JointState) -> dict[str, float]:
    found = measure_anatomy(label_map(state))
    return {"sex": state.sex, "size": state.size, **found}


def measure_population(knees: int, seed: int, workers: int = 1) -> pd.DataFrame:
    """Measure healthy knees of the phantom.

    Args:
        knees: Their number.
        seed: Seed of the cohort.
        workers: Processes; the result does not depend on it.

    Returns:
        A row a knee: `sex`, `size`, and the measures of `measure_anatomy`.
    """
    return pd.DataFrame(list(_rows(healthy_knees(knees, seed), workers)))


def _rows(states: list[JointState], workers: int) -> Iterator[dict[str, float]]:
    if workers == 1:
        yield from map(_measured, states)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_measured, states)
