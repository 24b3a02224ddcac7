"""A cohort's scans measured, compared with each other and ranked, the worst first."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.scan_map import map_scans
from spinmark_data.errors import InputError
from spinmark_data.ingest.geometry import lps_axes
from spinmark_data.quality.batches import batch_effects
from spinmark_data.quality.config import QualityConfig
from spinmark_data.quality.duplicates import find_duplicates
from spinmark_data.quality.measure import Measure
from spinmark_data.quality.outliers import LIMITS, RULES, judge

_PLACES = ["subject_id", "laterality", "visit", "site", "scanner"]
_TEXTS = ("modality", "noise_method", "ghost_axis", "voxels_sha256", "fingerprint")
_NUMBERS = ("signal", *RULES, *(name for name in LIMITS if name != "copies"))


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What was found.

    Attributes:
        scans: A row a scan, the worst first: `place` (from 1), `scan_id`, `sequence`, `index` (its place in
            `Cohort.scans`), `visit`, `site`, `scanner`, the metrics, `z_<metric>`, `flags`, `flagged`, `score`.
        duplicates: Pairs, as `find_duplicates` gives them.
        batches: Shifts of sites and scanners, as `batch_effects` gives them.
    """

    scans: pd.DataFrame
    duplicates: pd.DataFrame
    batches: pd.DataFrame


def assess(
    cohort: Cohort,
    config: QualityConfig,
    *,
    scheduler: Literal["threads", "processes", "synchronous"] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Assessment:
    """Check every scan of a cohort.

    A scan that cannot be read is flagged `unreadable`; the others go on.

    Args:
        cohort: The cohort.
        config: What to look at and how strict to be.
        scheduler: As `map_scans` takes it.
        progress: Called with scans done and scans in all.

    Raises:
        InputError: The cohort has no such sequence, or no scans.
    """
    chosen = (
        cohort.sequences if config.sequences is None else tuple(dict.fromkeys(config.sequences))
    )
    counts = {name: len(cohort.scans(name)) for name in chosen}
    total, done = sum(counts.values()), 0
    if not total:
        raise InputError(f"{cohort.folder.url}: has no scans of {list(chosen)} to check.")
    parts = []
    for name in chosen:
        before = done
        follow = None if progress is None else _after(progress, before, total)
        parts.append(_measured(cohort, name, config, scheduler, follow))
        done += counts[name]
    scans = pd.concat(parts, ignore_index=True)
    pairs = find_duplicates(scans, config.duplicate_bits)
    scans = scans.drop(columns="right_left")
    wrong = pairs[pairs["verdict"] == "error"]
    copies = pd.concat([wrong["scan_id_a"], wrong["scan_id_b"]]).value_counts()
    scans["copies"] = scans["scan_id"].map(copies).fillna(0).astype("int64")
    ranked = judge(scans, config).sort_values(
        ["score", "scan_id"], ascending=[False, True], kind="stable", ignore_index=True
    )
    ranked.insert(0, "place", np.arange(1, len(ranked) + 1))
    return Assessment(scans=ranked, duplicates=pairs, batches=batch_effects(scans))


def _after(
    progress: Callable[[int, int], None], before: int, total: int
) -> Callable[[int, int], None]:
    return lambda done, _: progress(before + done, total)


def _measured(
    cohort: Cohort,
    sequence: str,
    config: QualityConfig,
    scheduler: Literal["threads", "processes", "synchronous"] | None,
    progress: Callable[[int, int], None] | None,
) -> pd.DataFrame:
    rows, affines, times = cohort.coordinates(sequence)
    dz, dy, dx = (float(s) for s in cohort.manifest["sequences"][sequence]["spacing_mm"][-3:])
    by_scan = {} if times is None else dict(zip(rows["scan_id"], times, strict=True))
    right_left = np.array([lps_axes(affine).index(0) for affine in affines], dtype=np.int64)
    measure = Measure(
        spacing_mm=(dz, dy, dx),
        modality=config.modality,
        echo_time_ms=by_scan,
        right_left={str(s): int(a) for s, a in zip(rows["scan_id"], right_left, strict=True)},
    )
    found = map_scans(
        cohort,
        sequence,
        measure,
        scheduler=scheduler,
        values="stored",
        errors="collect",
        progress=progress,
    )
    found["echo_deviation_ms"] = _echo_deviation(times, len(rows))
    for name in _NUMBERS:
        found[name] = found[name].astype("float64") if name in found else np.nan
    for name in _TEXTS:
        texts = found[name] if name in found else pd.Series("", index=found.index)
        found[name] = texts.astype(object).fillna("")
    places = rows[_PLACES].reset_index(drop=True)
    found.insert(1, "sequence", sequence)
    found.insert(2, "index", np.arange(len(rows)))
    found["right_left"] = right_left
    return pd.concat([found.iloc[:, :3], places, found.iloc[:, 3:]], axis=1)


def _echo_deviation(times: NDArray[np.float64] | None, count: int) -> NDArray[np.float64]:
    """Largest departure of a scan's echo times from the sequence's median ones, in ms."""
    if times is None or not count:
        return np.full(count, np.nan)
    away = np.abs(times - np.nanmedian(times, axis=0))
    return np.asarray(away.max(axis=1), dtype=np.float64)
