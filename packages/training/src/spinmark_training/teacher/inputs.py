"""What the teacher may see of each scan: its table row, arrays keyed by scan, and earlier visits.

`teacher_table` gathers it as a table, `teacher_rows` as tensors for an encoder.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from spinmark_data.errors import InputError as DataInputError
from spinmark_data.features import TABLE_KEYS, ClinicalTable, clinical_features
from spinmark_data.thinned import Thinned
from spinmark_data.visit_history import earlier_visits
from spinmark_models.tables import EncodedTable, TableSchema, VisitTable
from spinmark_training.config import TeacherConfig
from spinmark_training.errors import InputError
from spinmark_training.sources import CohortLike, SplitLike, scan_sets
from spinmark_training.teacher.arrays import read_array, with_array


@dataclass(frozen=True)
class TeacherTable(ClinicalTable):
    """What the teacher sees of scans.

    Args:
        values: As `ClinicalTable` has it, and so are `dictionary` and `reasons`.
        dictionary: The columns.
        reasons: Why cells are missing.
        earlier: The rows of earlier visits, in the same columns; None where they are not asked for.
        place: `(N, V)`: which rows of `earlier` came before each scan's visit, the oldest first; -1 at the
            front where there are fewer.
        years: `(N, V)`: how long before.
    """

    earlier: ClinicalTable | None = None
    place: npt.NDArray[np.int64] | None = None
    years: npt.NDArray[np.float64] | None = None


def arrays_of(table: ClinicalTable) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return the values of a table and the names of its columns."""
    return table.values.to_numpy(np.float64), [str(name) for name in table.values.columns]


def table_rows(scans: pd.DataFrame, split: SplitLike, *sets: str) -> npt.NDArray[np.int64]:
    """Return one scan of every joint and visit of the subjects of some sets, by row.

    A table has one row a joint and visit however often it was scanned.

    Args:
        scans: One row a scan, in the order of the store.
        split: The split.
        sets: Names of sets.
    """
    known = scans.reset_index(drop=True)
    known = known[scan_sets(known, split)["set"].isin(list(sets)).to_numpy()]
    once = known.sort_values("rank", kind="stable").drop_duplicates(["joint_id", "visit"])
    return np.sort(once.index.to_numpy(np.int64))


def teacher_table(
    cohort: CohortLike,
    scans: pd.DataFrame,
    config: TeacherConfig,
    seed: int = 0,
    split: SplitLike | None = None,
) -> TeacherTable:
    """Gather what the teacher may see of each scan.

    Args:
        cohort: The cohort.
        scans: One row a scan.
        config: Which variables, arrays and visits.
        seed: Decides which cells `missing` takes away.
        split: The split that the teacher is fitted with; arrays that were made by a fitted encoder are
            checked against it.

    Raises:
        InputError: A role or a variable can be no input, no variable is left, a table or an array has
            nothing of these scans, or an array cannot be used.
    """
    thinned = _thinned(cohort, config, seed)
    table = _clinical(thinned, scans, config)
    check_overlap(cohort, scans, table.dictionary)
    for path in config.arrays:
        array = read_array(path, cohort.dictionary, split)
        table = with_array(table, array, share=config.missing, seed=seed)
    if config.visits != "sequence":
        return TeacherTable(table.values, table.dictionary, table.reasons)
    before = earlier_visits(thinned.table, scans)
    earlier = _clinical(thinned, before.visits, config)
    wide = earlier.values.reindex(columns=table.values.columns)
    why = earlier.reasons
    if why is not None:
        why = why.reindex(columns=table.values.columns, fill_value="")
    return TeacherTable(
        table.values,
        table.dictionary,
        table.reasons,
        earlier=ClinicalTable(wide, table.dictionary, why),
        place=before.place,
        years=before.years,
    )


def _thinned(cohort: CohortLike, config: TeacherConfig, seed: int) -> Thinned:
    try:
        return Thinned(cohort, config.missing, seed)
    except DataInputError as error:
        raise InputError(f"teacher.{error}") from None


def _clinical(cohort: Thinned, scans: pd.DataFrame, config: TeacherConfig) -> ClinicalTable:
    if config.arrays and not (config.roles or config.add or config.leave_out):
        return _no_variables(cohort, scans, config)
    try:
        return clinical_features(
            cohort,
            scans,
            roles=config.roles,
            leave_out=config.leave_out,
            add=config.add,
            reasons=config.reasons,
            with_changes=config.visits == "delta",
        )
    except DataInputError as error:
        text = str(error)
        named = text.startswith(("roles:", "add:", "leave_out:"))
        raise InputError(f"teacher{'.' if named else ': '}{text}") from None


def _no_variables(cohort: Thinned, scans: pd.DataFrame, config: TeacherConfig) -> ClinicalTable:
    """The table of a teacher that arrays alone tell something."""
    rows = pd.Index(scans["scan_id"].to_numpy(dtype=object), name="scan_id")
    values = pd.DataFrame(index=rows, dtype="float64")
    why = pd.DataFrame(index=rows, dtype=object) if config.reasons else None
    return ClinicalTable(values, cohort.table("dictionary").iloc[:0], why)


def check_overlap(cohort: CohortLike, scans: pd.DataFrame, dictionary: pd.DataFrame) -> None:
    """Refuse a table of inputs that has rows, but none of any of the scans.

    Args:
        cohort: The cohort.
        scans: One row a scan.
        dictionary: The inputs; `table` says where each comes from.

    Raises:
        InputError: There is such a table.
    """
    for name, key in TABLE_KEYS.items():
        if not (dictionary["table"] == name).any():
            continue
        rows = cohort.table(name)[key].astype(str)
        if rows.empty or len(scans) == 0:
            continue
        if not len(scans[key].astype(str).merge(rows, on=key)):
            example, known = ("/".join(frame.iloc[0]) for frame in (scans[key].astype(str), rows))
            raise InputError(
                f"teacher: the table '{name}' has no row of any scan; scans have {'/'.join(key)} like "
                f"{example!r}, the table like {known!r}"
            )


def encode_table(schema: TableSchema, table: ClinicalTable) -> EncodedTable:
    """Turn what the teacher sees into tensors, a row a scan.

    Args:
        schema: The columns, fitted on training rows.
        table: The rows. With earlier visits, each becomes a sequence `(V + 1, P)`.

    Raises:
        InputError: A column of the schema is absent.
    """
    values, names = arrays_of(table)
    why = None if table.reasons is None else table.reasons.to_numpy(dtype=object)
    earlier = getattr(table, "earlier", None)
    if not isinstance(table, TeacherTable) or earlier is None:
        return schema.encode(values, names, why)
    assert table.place is not None
    assert table.years is not None
    # One call for all, so that what is strange is told once; the last row is no visit at all.
    before, _ = arrays_of(earlier)
    blank = np.full((1, len(names)), np.nan)
    if why is not None:
        none = np.full(blank.shape, "", dtype=object)
        why = np.vstack([why, earlier.reasons.to_numpy(dtype=object), none])
    rows = schema.encode(np.vstack([values, before, blank]), names, why)
    count = len(values)
    last = count + len(before)
    place = np.where(table.place >= 0, table.place + count, last)
    place = np.column_stack([place, np.arange(count)])
    years = np.column_stack([np.nan_to_num(table.years), np.zeros(count)])
    picked = rows.rows(torch.from_numpy(place))
    return VisitTable(*picked, torch.from_numpy(years.astype(np.float32)))


def teacher_rows(
    schema: TableSchema,
    cohort: CohortLike,
    scans: pd.DataFrame,
    config: TeacherConfig,
    seed: int = 0,
    split: SplitLike | None = None,
) -> EncodedTable:
    """Return the table row of every scan as tensors, for an encoder that goes on learning.

    Args:
        schema: The columns, fitted on training rows: `Teacher.encoder.schema`.
        cohort: The cohort.
        scans: One row a scan, in the order of the store.
        config: The teacher's configuration.
        seed: The one that the teacher was fitted with.
        split: The split that the teacher was fitted with.

    Raises:
        InputError: As `teacher_table`, or a column of the schema is absent.
    """
    return encode_table(schema, teacher_table(cohort, scans, config, seed, split))
