"""Which scans are made: of which knees, at which visits, on which machines."""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import asdict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from spinmark_data.phantom.artefacts import draw
from spinmark_data.phantom.config import VISIT_MONTHS, PhantomConfig
from spinmark_data.phantom.outcomes import Outcomes
from spinmark_data.phantom.population import SITES, STREAM_SCAN, Floats, Population, normals
from spinmark_data.phantom.sequences import DESS, SEQUENCES
from spinmark_data.phantom.series_names import RELEASES
from spinmark_data.phantom.state import LATENTS

FIRST_DAY = datetime.date(2004, 2, 16)

# Scans that fail or are refused, at enrolment and for each later visit.
_NO_SCAN, _NO_SCAN_LATER = 0.005, 0.02
# Key of the stream that decides which sessions are repeated.
_AGAIN = 1
# Key of the stream that decides who is first scanned at a later visit.
_LATE = 60
# The site whose machine was replaced by another between enrolment and this month.
_UPGRADED_SITE, _UPGRADE_MONTH = "C", 18


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
