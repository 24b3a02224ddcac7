"""What all exports share: choosing scans, taking back mirroring, whole files only."""

import copy
import fcntl
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.ingest.geometry import lps_axes, mirror

MARK = ".spinmark-export.json"
_FORBIDDEN = frozenset('/\\:*?"<>|')
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One scan of a cohort, without its voxels.

    Args:
        sequence: Its sequence.
        index: Its place in the sequence.
        row: Its row of `Cohort.scans`.
        affine: `(4, 4)`, indices `(z, y, x)` before mirroring to LPS mm.
        echo_time_ms: `(echo,)`, where there are echoes.
    """

    sequence: str
    index: int
    row: Mapping[str, Any]
    affine: NDArray[np.float64]
    echo_time_ms: NDArray[np.float64] | None

    @property
    def name(self) -> str:
        """The scan's identifier with `:` replaced by `_`, for files."""
        return str(self.row["scan_id"]).replace(":", "_")


def list_scans(cohort: Cohort, sequence: str) -> list[Scan]:
    """Every scan of a sequence, in the order of the store.

    Raises:
        InputError: The cohort has no such sequence.
    """
    rows = cohort.scans(sequence).to_dict("records")
    images = cohort.images(sequence)
    affine = np.asarray(images["affine"].values, dtype=np.float64)
    times = None
    if "echo_time_ms" in images.variables:
        times = np.asarray(images["echo_time_ms"].values, dtype=np.float64)
    return [
        Scan(
            sequence=sequence,
            index=index,
            row={str(key): value for key, value in row.items()},
            affine=affine[index],
            echo_time_ms=None if times is None else times[index],
        )
        for index, row in enumerate(rows)
    ]


def all_scans(cohort: Cohort) -> list[Scan]:
    """Every scan of a cohort, by sequence."""
    return [scan for sequence in cohort.sequences for scan in list_scans(cohort, sequence)]


def choose(
    scans: Sequence[Scan],
    cohort: Cohort,
    sequences: Sequence[str] | None,
    subjects: Sequence[str] | None,
) -> list[Scan]:
    """The scans of some sequences and subjects.

    Raises:
        InputError: The cohort has no such sequence or subject, or no scan is left.
    """
    if unknown := sorted(set(sequences or ()) - set(cohort.sequences)):
        raise InputError(f"Unknown sequences {unknown}. This cohort has {list(cohort.sequences)}.")
    known = {str(scan.row["subject_id"]) for scan in scans}
    if absent := sorted(set(subjects or ()) - known):
        raise InputError(
            f"Subjects {absent[:5]} have no scan in this cohort; {len(known)} subjects have, "
            f"such as {sorted(known)[:3]}."
        )
    chosen = [
        scan
        for scan in scans
        if (sequences is None or scan.sequence in sequences)
        and (subjects is None or str(scan.row["subject_id"]) in subjects)
    ]
    if not chosen:
        raise InputError(
            f"This cohort has no scan of the sequences {sequences or list(cohort.sequences)} of "
            f"the subjects {subjects or 'of all'}."
        )
    return chosen


def check_names(chosen: Sequence[Scan], scans: Sequence[Scan]) -> None:
    """Check that the name of each chosen scan can be a file's, and is its alone among all scans.

    Raises:
        InputError: A name cannot be a file's, or two scans would share one.
    """
    owners: dict[str, str] = {}
    wanted = {scan.name.casefold() for scan in chosen}
    for scan in scans:
        if scan.name.casefold() not in wanted:
            continue
        identifier, name = str(scan.row["scan_id"]), scan.name
        if name.startswith(".") or not name.isprintable() or _FORBIDDEN & set(name):
            raise InputError(
                f"scan_id {identifier!r} cannot name a file; letters, digits, '-', '_', '.' and "
                "spaces can, not leading with '.'."
            )
        other = owners.setdefault(name.casefold(), identifier)
        if other != identifier:
            raise InputError(
                f"scan_ids {other!r} and {identifier!r} would both be the file {name!r}; they must "
                "differ in more than case and ':' against '_'."
            )


def load(
    cohort: Cohort, scan: Scan, *, undo_mirror: bool
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """A scan's voxels as stored, and the affine that places them where the patient was.

    Args:
        cohort: The cohort.
        scan: Which scan.
        undo_mirror: Whether a mirrored scan is flipped back. If not, its voxels stay in the
            mirrored order and the affine runs the other way along that axis, so that every voxel
            keeps its place in millimetres all the same.

    Returns:
        `(z, y, x)` or `(echo, z, y, x)`, and `(4, 4)` from indices `(z, y, x)` to LPS mm.
    """
    # A copy has handles of its own, so that threads never share one.
    volume = copy.copy(cohort).read(scan.sequence, np.array([scan.index]))[0]
    if not scan.row["mirrored"]:
        return volume, scan.affine
    if undo_mirror:
        return mirror(volume, scan.affine), scan.affine
    axis = lps_axes(scan.affine).index(0)
    turned = scan.affine.copy()
    turned[:3, 3] += turned[:3, axis] * (volume.shape[volume.ndim - 3 + axis] - 1)
    turned[:3, axis] *= -1
    return volume, turned


def for_each(
    work: Callable[[Scan], object],
    scans: Sequence[Scan],
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> None:
    """Do something with every scan, in threads; the first failure ends it."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        try:
            for done, _ in enumerate(pool.map(work, scans), start=1):
                if progress is not None:
                    progress(done, len(scans))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside its final name and move it into place when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    with beside.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_file(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def cell(value: Any) -> str:
    """A value as a cell of a tab-separated table after BIDS: `n/a` for what is missing.

    >>> "|".join(cell(v) for v in (2.0, 0.5, float("nan"), "", True, "two  words"))
    '2|0.5|n/a|n/a|true|two words'
    """
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return "n/a"
        return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
    text = " ".join(str(value).split()) if value is not None else ""
    return text if text not in ("", "<NA>", "NaT", "None") else "n/a"


def write_tsv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a tab-separated table; a column that a row lacks is `n/a` there."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(cell(row.get(column)) for column in columns) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def write_scans(out: Path, scans: Sequence[Scan], ending: str) -> None:
    """Write `scans.tsv`: what is known of every scan that lies in an export."""
    rows = []
    for scan in scans:
        if not (out / f"{scan.name}{ending}").exists():
            continue
        times = scan.echo_time_ms
        echoes = "" if times is None else " ".join(repr(float(time)) for time in times)
        file = f"{scan.name}{ending}"
        rows.append({"filename": file, **scan.row, "sequence": scan.sequence, "echo_ms": echoes})
    columns = ["filename", "scan_id", "sequence"]
    columns += [name for name in scans[0].row if name not in columns]
    write_tsv(out / "scans.tsv", [*columns, "echo_ms"], rows)


@contextmanager
def export_folder(
    out: Path, form: str, cohort: Cohort, settings: Mapping[str, Any]
) -> Iterator[None]:
    """Hold a folder for one export of one cohort; later calls go on with what is there.

    Args:
        out: The folder; made if absent.
        form: The format.
        cohort: What is exported.
        settings: What files that are there already must have been written with.

    Raises:
        InputError: The folder holds something else, an export of another cohort or with other
            settings, or another process is writing it.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder for the export.")
    if out.is_dir() and not (out / MARK).exists() and any(out.iterdir()):
        raise InputError(f"{out} holds files that no export wrote; choose another folder.")
    out.mkdir(parents=True, exist_ok=True)
    now = {"schema": "spinmark/export", "version": 1, "format": form, "cohort": cohort.hash}
    now |= settings
    with (out / MARK).open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{out}: another process is writing it; wait for it.") from None
        handle.seek(0)
        before = _read_mark(handle.read(), now)
        if differ := [key for key in {**now, **before} if before.get(key) != now.get(key)]:
            raise InputError(
                f"{out} was exported with another {differ[0]} ({before.get(differ[0])!r}, now "
                f"{now.get(differ[0])!r}); choose another folder."
            )
        handle.seek(0)
        handle.truncate()
        handle.write(json.dumps(now, sort_keys=True) + "\n")
        handle.flush()
        yield


def _read_mark(text: str, default: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a folder was exported with; a call cut short before it said so had written nothing."""
    try:
        found = json.loads(text) if text.strip() else default
    except ValueError:
        found = default
    return found if isinstance(found, Mapping) else default


def export_each(
    cohort: Cohort,
    out: Path,
    write: Callable[[Path, Scan, NDArray[Any], NDArray[np.float64]], object],
    *,
    form: str,
    ending: str,
    sequences: Sequence[str] | None,
    subjects: Sequence[str] | None,
    undo_mirror: bool,
    workers: int,
    progress: Progress | None,
) -> list[Path]:
    """Write a file or folder a scan, named by its scan_id, and `scans.tsv`.

    Args:
        cohort: The cohort.
        out: Folder to fill; a scan's file that is there is whole and is left alone.
        write: Writes a scan, whole or not at all: path, scan, voxels as stored, and affine.
        form: The format, for the mark.
        ending: Of the files.
        sequences: Names of the sequences; all by default.
        subjects: Identifiers of the subjects; all by default.
        undo_mirror: Whether mirrored volumes are flipped back to the order of the acquisition.
        workers: Threads.
        progress: Called with scans done and scans asked for.

    Returns:
        The files of the scans asked for, in the order of the cohort.

    Raises:
        InputError: Nothing to export, names that cannot be files', or a folder of something else.
    """
    everything = all_scans(cohort)
    chosen = choose(everything, cohort, sequences, subjects)
    check_names(chosen, everything)
    paths = {scan.name: out / f"{scan.name}{ending}" for scan in chosen}

    def one(scan: Scan) -> None:
        if not paths[scan.name].exists():
            write(paths[scan.name], scan, *load(cohort, scan, undo_mirror=undo_mirror))

    with export_folder(out, form, cohort, {"undo_mirror": undo_mirror}):
        for_each(one, chosen, workers=workers, progress=progress)
        write_scans(out, everything, ending)
    return list(paths.values())
