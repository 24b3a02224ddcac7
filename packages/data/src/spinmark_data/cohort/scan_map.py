"""One function over the scans of a cohort, here or on a cluster: one task a scan."""

import copy
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError

SCHEDULERS = ("threads", "processes", "synchronous")
Function = Callable[[NDArray[Any], "pd.Series[Any]"], Mapping[str, float | str]]


class ScanError(RuntimeError):
    """A function failed on a scan; the message names the scan, a note holds the traceback."""


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    index: int
    values: Mapping[str, float | str]
    error: str = ""
    trace: str = ""


# The same with all but the scan given.
_Apply = Callable[[int, "pd.Series[Any]"], _Outcome]
_Task = tuple[int, "pd.Series[Any]"]


def _apply(
    cohort: Cohort,
    sequence: str,
    function: Function,
    stored: bool,
    index: int,
    row: "pd.Series[Any]",
) -> _Outcome:
    """Read one scan and apply the function; a failure is told, not raised."""
    try:
        # A copy has handles of its own, so that threads never share one.
        volume = copy.copy(cohort).read(sequence, np.array([index]))[0]
        if not stored:
            volume = volume.astype(np.float32) * np.float32(row["scale"])
            volume += np.float32(row["offset"])
        found = function(volume, row)
        if not isinstance(found, Mapping):
            raise TypeError(f"the function gave {type(found).__name__}; a mapping is needed")
        if taken := {"scan_id", "error"} & set(found):
            raise ValueError(f"the function gave {sorted(taken)}, which are columns of their own")
        return _Outcome(index=index, values=dict(found))
    except Exception as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return _Outcome(index=index, values={}, error=text, trace=traceback.format_exc())


def map_scans(
    cohort: Cohort,
    sequence: str,
    function: Function,
    *,
    client: Any = None,
    scheduler: Literal["threads", "processes", "synchronous"] | None = None,
    indices: Sequence[int] | NDArray[np.int64] | None = None,
    values: Literal["physical", "stored"] = "physical",
    errors: Literal["raise", "collect"] = "raise",
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Apply a function to scans, each in a task of its own that reads its voxels where it runs.

    Args:
        cohort: The cohort; workers must reach it by the same path.
        sequence: Name of the sequence.
        function: Takes a volume `(z, y, x)` or `(echo, z, y, x)` and the scan's row of `Cohort.scans`,
            and gives numbers or texts by name. Left joints come mirrored, as they are stored.
        client: A `distributed.Client`; its workers do the work.
        scheduler: Without a client, a scheduler of dask on this machine: `threads` (the default),
            `processes` or `synchronous`. With processes a script needs `if __name__ == "__main__":`.
        indices: Places in `Cohort.scans(sequence)`; all by default.
        values: What the volume holds: `physical`, which is `stored * scale + offset` as float32, or
            `stored`, the integers alone.
        errors: `raise` ends at the first scan that fails; `collect` goes on, leaves its numbers NaN
            and adds the column `error`, empty where all went well.
        progress: Called with scans done and scans asked for.

    Returns:
        One row a scan in the order of `indices`: `scan_id`, then what the function gave.

    Raises:
        ScanError: The function failed on a scan, and `errors` is `raise`.
        InputError: An unknown sequence, scheduler or option, or an index outside of the sequence.
    """
    rows = cohort.scans(sequence)
    chosen = np.arange(len(rows)) if indices is None else np.asarray(indices).reshape(-1)
    _check(chosen, len(rows), sequence, client, scheduler, values, errors)
    tasks = [(int(index), rows.iloc[int(index)]) for index in chosen]
    outcomes: dict[int, _Outcome] = {}

    def take(outcome: _Outcome) -> None:
        if outcome.error and errors == "raise":
            raise _failure(str(rows["scan_id"].iloc[outcome.index]), outcome)
        outcomes[outcome.index] = outcome
        if progress is not None:
            progress(len(outcomes), len(tasks))

    apply = partial(_apply, cohort, sequence, function, values == "stored")
    if client is None:
        _on_this_machine(scheduler or "threads", take, apply, tasks)
    else:
        _on_client(client, take, apply, tasks)
    return _frame([outcomes[index] for index, _ in tasks], rows, errors == "collect")


def _check(
    chosen: NDArray[Any],
    count: int,
    sequence: str,
    client: Any,
    scheduler: str | None,
    values: str,
    errors: str,
) -> None:
    if client is not None and scheduler is not None:
        raise InputError(f"Both a client and the scheduler '{scheduler}' are given; give one.")
    if scheduler is not None and scheduler not in SCHEDULERS:
        raise InputError(
            f"Unknown scheduler '{scheduler}'. Valid schedulers are {list(SCHEDULERS)}."
        )
    if values not in ("physical", "stored"):
        raise InputError(f"Unknown values '{values}'. Valid values are physical and stored.")
    if errors not in ("raise", "collect"):
        raise InputError(f"Unknown errors '{errors}'. Valid ways are raise and collect.")
    if chosen.size and chosen.dtype.kind not in "iu":
        raise InputError(f"indices are {chosen.dtype}; whole numbers are needed.")
    outside = [int(index) for index in chosen if not 0 <= index < count]
    if outside:
        raise InputError(
            f"Scan index {outside[0]} of '{sequence}', which holds scans 0 to {count - 1}."
        )
    if len(set(chosen.tolist())) < chosen.size:
        raise InputError("indices hold a scan twice; each can be asked for once.")


def _failure(scan_id: str, outcome: _Outcome) -> ScanError:
    failure = ScanError(f"Scan {scan_id}: {outcome.error}")
    if outcome.trace:
        failure.add_note(outcome.trace.rstrip())
    return failure


def _on_this_machine(
    scheduler: str,
    take: Callable[[_Outcome], None],
    apply: _Apply,
    tasks: Sequence[_Task],
) -> None:
    from dask.base import compute
    from dask.callbacks import Callback
    from dask.delayed import delayed

    def finished(key: Any, outcome: Any, *_: Any) -> None:
        if isinstance(outcome, _Outcome):
            take(outcome)

    calculate: Any = compute
    one = delayed(apply, pure=False, traverse=False)
    work = [one(index, row) for index, row in tasks]
    watch: Any = Callback
    with watch(posttask=finished):
        calculate(*work, scheduler=scheduler, optimize_graph=False)


def _on_client(
    client: Any,
    take: Callable[[_Outcome], None],
    apply: _Apply,
    tasks: Sequence[_Task],
) -> None:
    from distributed import as_completed

    # The cohort goes with every task: it is small, and what is scattered dies with its worker.
    futures = {client.submit(apply, index, row, pure=False): index for index, row in tasks}
    try:
        for future in as_completed(futures):
            take(_outcome(future, futures[future]))
    finally:
        client.cancel(list(futures))


def _outcome(future: Any, index: int) -> _Outcome:
    """What a future holds; a worker that died is a failure of the scan it died on."""
    if future.status == "finished":
        outcome: _Outcome = future.result()
        return outcome
    error = future.exception() if future.status == "error" else None
    text = f"{type(error).__name__}: {' '.join(str(error).split())}" if error else future.status
    return _Outcome(index=index, values={}, error=text)


def _frame(outcomes: Sequence[_Outcome], rows: pd.DataFrame, collect: bool) -> pd.DataFrame:
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.values))
    columns: dict[str, Any] = {
        "scan_id": [str(rows["scan_id"].iloc[outcome.index]) for outcome in outcomes]
    }
    for name in names:
        columns[name] = [outcome.values.get(name, np.nan) for outcome in outcomes]
    if collect:
        columns["error"] = [outcome.error for outcome in outcomes]
    text = dict.fromkeys({"scan_id", "error"} & set(columns), object)
    return pd.DataFrame(columns).astype(text)
