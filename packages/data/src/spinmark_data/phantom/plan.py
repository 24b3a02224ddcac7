"""What a cohort would cost, told before it is made: from a few people and a scan of each sequence."""

import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.images import render_all
from spinmark_data.phantom.population import Population
from spinmark_data.phantom.simulate import simulate

_SAMPLE = 60
_SMALL = (8, 16, 16)


@dataclass(frozen=True, kw_only=True)
class SequencePlan:
    """What one sequence would hold and cost.

    Args:
        name: The sequence.
        scans: Series of it, estimated.
        scan_bytes: Bytes of one series as written, the label map with it where there is one.
        scan_cpu_seconds: CPU seconds to render and write one series.
    """

    name: str
    scans: int
    scan_bytes: int
    scan_cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class PhantomPlan:
    """What a cohort would hold and cost.

    Args:
        subjects: People.
        sequences: The sequences, in order.
        person_cpu_ms: CPU milliseconds to make a person's tables and truth.
        peak_mb: Most memory that the process held while it measured, in megabytes.
        workers: Processes that would render.
    """

    subjects: int
    sequences: tuple[SequencePlan, ...]
    person_cpu_ms: float
    peak_mb: float
    workers: int

    @property
    def scans(self) -> int:
        """Series of all sequences."""
        return sum(each.scans for each in self.sequences)

    @property
    def bytes(self) -> int:
        """Bytes of all series."""
        return sum(each.scans * each.scan_bytes for each in self.sequences)

    @property
    def cpu_hours(self) -> float:
        """CPU hours of all scans and tables."""
        scans = sum(each.scans * each.scan_cpu_seconds for each in self.sequences)
        return (scans + self.subjects * self.person_cpu_ms / 1000) / 3600


def plan_phantom(config: PhantomConfig) -> PhantomPlan:
    """Measure a few people's tables and a scan of each sequence, and count up to the whole cohort.

    The scans are written to a temporary folder, to weigh them, and removed. No other image is made.

    Args:
        config: Parameters of the cohort.
    """
    people = min(config.subjects, _SAMPLE)
    sample = config.plain(subjects=people, workers=1)
    # What is built once, however many people follow, is no person's cost.
    simulate(sample.plain(subjects=1))
    start = time.process_time()
    made = simulate(sample)
    population, scans = made.population, made.plan
    person = (time.process_time() - start) / people
    small = sample.plain(
        grid_shape=_SMALL,
        spacing_mm=(10.0, 5.0, 5.0),
        coarse_grid=True,
        sequences=sample.sequences[:1],
        sequence_spacing_mm={},
    )
    # Nor is what is imported and built once, whatever the grid, any scan's.
    _one_scan(population, scans[scans["sequence"] == small.sequences[0]].head(1), small)
    found = []
    for name in sample.sequences:
        mine = scans[scans["sequence"] == name]
        seconds, size = _one_scan(population, mine.head(1), sample) if len(mine) else (0.0, 0)
        found.append(
            SequencePlan(
                name=name,
                scans=round(len(mine) / people * config.subjects),
                scan_bytes=size,
                scan_cpu_seconds=seconds,
            )
        )
    return PhantomPlan(
        subjects=config.subjects,
        sequences=tuple(found),
        person_cpu_ms=1000 * person,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        workers=config.workers,
    )


def _one_scan(
    population: Population, scan: pd.DataFrame, config: PhantomConfig
) -> tuple[float, int]:
    """Render and write one scan; return its CPU seconds and its bytes."""
    with tempfile.TemporaryDirectory(prefix="spinmark-plan-") as folder:
        start = time.process_time()
        render_all(population, scan, config, Path(folder))
        seconds = time.process_time() - start
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return seconds, size
