"""T2 maps of a cohort's multi-echo scans: NIfTI files, and numbers for `scan_map`."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.scan_map import Function
from spinmark_data.errors import InputError
from spinmark_data.export.common import (
    Progress,
    Scan,
    all_scans,
    check_names,
    choose,
    export_folder,
    for_each,
    list_scans,
    load,
    write_json,
    write_scans,
    write_tsv,
)
from spinmark_data.export.nifti import to_nifti, write_nifti
from spinmark_data.preprocess.relaxometry import T2Fit, fit_t2

if TYPE_CHECKING:
    import pandas as pd

ENDING = "_T2map.nii.gz"
R2_ENDING = "_R2map.nii.gz"
ROW_ENDING = "_T2map.json"
NUMBERS = ("t2_p5_ms", "t2_p50_ms", "t2_p95_ms", "t2_plausible", "t2_r2")
_KNOWN = ("filename", "scan_id", "sequence", "subject_id", "laterality", "visit", "rank", "days")
Floor = Literal["none", "constant"]


def write_t2_maps(
    cohort: Cohort,
    sequences: str | Sequence[str] | None,
    out: Path,
    *,
    subjects: Sequence[str] | None = None,
    skip_first: bool = False,
    floor: Floor = "none",
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Path]:
    """Fit T2 to every scan of multi-echo sequences and write it, in ms, beside its R2.

    `<scan>_T2map.nii.gz` holds ms as float32 and NaN where the fit is not plausible;
    `<scan>_R2map.nii.gz` the share of variance explained, NaN where nothing was fitted;
    `<scan>_T2map.json` the numbers of `t2_row`. Every voxel lies where the patient was; mirroring is
    taken back. `scans.tsv` says what each scan is, `t2.tsv` has the numbers of all.

    Args:
        cohort: The cohort.
        sequences: A sequence with echoes, or several; all that have echoes by default.
        out: Folder to fill; a scan whose files are there is left alone.
        subjects: Identifiers of the subjects; all by default.
        skip_first: See `fit_t2`.
        floor: See `fit_t2`.
        workers: Threads.
        progress: Called with scans done and scans asked for.

    Returns:
        The T2 maps, in the order of the cohort.

    Raises:
        InputError: A sequence is unknown or has one echo, or none has echoes; a scan's echoes do not
            do for the model; or the folder holds something else.
    """
    out = Path(out)
    names = _with_echoes(cohort, [sequences] if isinstance(sequences, str) else sequences)
    everything = all_scans(cohort)
    chosen = choose(everything, cohort, names, subjects)
    check_names(chosen, everything)

    def write(scan: Scan) -> None:
        t2, r2, numbers = (out / f"{scan.name}{end}" for end in (ENDING, R2_ENDING, ROW_ENDING))
        # The numbers come last, so that a scan that has them is whole.
        if t2.exists() and r2.exists() and numbers.exists():
            return
        stored, affine = load(cohort, scan, undo_mirror=True)
        values = stored * np.float32(scan.row["scale"]) + np.float32(scan.row["offset"])
        name = str(scan.row["scan_id"])
        try:
            fit = fit_t2(values, _times(scan), skip_first=skip_first, floor=floor)
        except InputError as error:
            raise InputError(f"Scan {name}: {error}") from None
        maps = ((r2, fit.r2), (t2, np.where(fit.plausible, fit.t2_ms, np.float32(np.nan))))
        for path, image in maps:
            write_nifti(path, to_nifti(image, affine, scale=1.0, offset=0.0, name=name))
        row = {key: None if value != value else value for key, value in t2_row(fit).items()}
        write_json(numbers, row)

    with export_folder(out, "t2map", cohort, {"skip_first": skip_first, "floor": floor}):
        for_each(write, chosen, workers=workers, progress=progress)
        write_scans(out, everything, ENDING)
        _write_rows(out, everything)
    return [out / f"{scan.name}{ENDING}" for scan in chosen]


def _with_echoes(cohort: Cohort, sequences: Sequence[str] | None) -> list[str]:
    """The sequences asked for, once each is known to have echoes; by default all that have."""
    if sequences is None:
        found = [name for name in cohort.sequences if _echoes(list_scans(cohort, name))]
        if not found:
            raise InputError(
                f"No sequence of this cohort has echo times; T2 needs two echoes or more, and there are "
                f"{list(cohort.sequences)}."
            )
        return found
    for name in sequences:
        _check_echoes(list_scans(cohort, name), name)
    return list(sequences)


def _write_rows(out: Path, scans: Sequence[Scan]) -> None:
    """Write `t2.tsv`: the numbers of every scan whose maps lie in the folder."""
    rows = []
    for scan in scans:
        numbers = out / f"{scan.name}{ROW_ENDING}"
        if numbers.exists():
            known = {"filename": f"{scan.name}{ENDING}", **scan.row, "sequence": scan.sequence}
            rows.append({**known, **json.loads(numbers.read_text())})
    write_tsv(out / "t2.tsv", [*_KNOWN, *NUMBERS], rows)


def t2_function(
    cohort: Cohort, sequence: str, *, skip_first: bool = False, floor: Floor = "none"
) -> Function:
    """A function for `cohort.scan_map.map_scans`: numbers of each scan's T2 map.

    They are `t2_p5_ms`, `t2_p50_ms` and `t2_p95_ms` over voxels with a plausible fit, `t2_plausible`,
    the share of the fitted voxels that have one, and `t2_r2`, the median R2 of the fitted.

    Raises:
        InputError: The sequence is unknown or has one echo.
    """
    scans = list_scans(cohort, sequence)
    _check_echoes(scans, sequence)
    times = {str(scan.row["scan_id"]): _times(scan) for scan in scans}
    return partial(_summary, times=times, skip_first=skip_first, floor=floor)


def _summary(
    volume: NDArray[Any],
    row: "pd.Series[Any]",
    *,
    times: Mapping[str, NDArray[np.float64]],
    skip_first: bool,
    floor: Floor,
) -> dict[str, float | str]:
    return t2_row(fit_t2(volume, times[str(row["scan_id"])], skip_first=skip_first, floor=floor))


def t2_row(fit: T2Fit) -> dict[str, float | str]:
    """Numbers of one fit; see `t2_function`."""
    fitted = np.isfinite(fit.t2_ms)
    low = middle = high = quality = share = float("nan")
    if fitted.any():
        quality = float(np.median(fit.r2[fitted]))
        share = float(fit.plausible.sum() / fitted.sum())
    if fit.plausible.any():
        low, middle, high = (float(v) for v in np.percentile(fit.t2_ms[fit.plausible], (5, 50, 95)))
    return dict(zip(NUMBERS, (low, middle, high, share, quality), strict=True))


def _echoes(scans: Sequence[Scan]) -> bool:
    return all(scan.echo_time_ms is not None and len(scan.echo_time_ms) > 1 for scan in scans)


def _check_echoes(scans: Sequence[Scan], sequence: str) -> None:
    if not _echoes(scans):
        raise InputError(f"Sequence '{sequence}' has no echo times; T2 needs two echoes or more.")


def _times(scan: Scan) -> NDArray[np.float64]:
    assert scan.echo_time_ms is not None  # Checked for every scan of the sequence.
    return scan.echo_time_ms
