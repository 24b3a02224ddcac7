"""Numbers keyed by scan as inputs of the teacher, such as embeddings of reports."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_data.cohort.scans import SCAN_COLUMNS
from spinmark_data.features import ClinicalTable
from spinmark_data.thinned import lost_scans
from spinmark_training.errors import InputError
from spinmark_training.sources import SplitLike

FORMATS = (".parquet", ".csv", ".npz", ".nc", ".zarr")
_FORBIDDEN = ("outcome", "administrative")
# What an artefact says of its scans; no measurement of them.
_PLACES = frozenset({*SCAN_COLUMNS, "sequence", "set", "fold", "months", "feature"})


@dataclass(frozen=True)
class ScanArray:
    """Numbers of some scans.

    Args:
        name: Stem of the file: columns are called `NAME[0]`, `NAME[1]`, ...
        path: Where it lies, for messages.
        scan_ids: The scans, `(N,)`, each once.
        values: `(N, F)` float64, NaN where unknown.
    """

    name: str
    path: Path
    scan_ids: "pd.Index[str]"
    values: npt.NDArray[np.float64]


def read_array(path: Path, dictionary: pd.DataFrame, split: SplitLike | None = None) -> ScanArray:
    """Read numbers keyed by scan.

    Args:
        path: A Parquet or CSV table with `scan_id` and numbers; an embeddings artefact, or another Zarr
            or NetCDF dataset with `embedding(scan, feature)` and the coordinate `scan_id`; or an NPZ with the
            arrays `scan_id` and `embedding`.
        dictionary: The cohort's; a column named like an outcome in it is refused.
        split: The split in use: what was made by an encoder that had learnt from others than its training
            subjects is refused.

    Raises:
        InputError: It cannot be read, names a scan twice, holds what is no finite number, says that it is
            an outcome, or was fitted on held-out subjects.
    """
    path = Path(path)
    file = path / "embeddings.zarr" if (path / "embeddings.zarr").is_dir() else path
    if file.suffix not in FORMATS:
        raise InputError(
            f"teacher.arrays: {path}; accepted are files that end with {list(FORMATS)}"
        )
    try:
        if file.suffix in (".parquet", ".csv"):
            frame, attributes = _table(file)
        elif file.suffix == ".npz":
            frame, attributes = _npz(file)
        else:
            frame, attributes = _dataset(file, path, split)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"teacher.arrays: {path} cannot be read: {text}") from error
    _check_attributes(path, attributes)
    numbers = _numbers(path, frame, dictionary)
    ids = frame["scan_id"].astype(str)
    twice = ids[ids.duplicated()]
    if len(twice):
        raise InputError(f"teacher.arrays: {path} has scan {twice.iloc[0]} twice; once is accepted")
    name = path.name if path.is_dir() and file != path else file.stem
    return ScanArray(name, path, pd.Index(ids), numbers)


def with_array(
    table: ClinicalTable, array: ScanArray, *, share: float = 0.0, seed: int = 0
) -> ClinicalTable:
    """Add the columns of an array to a table; a scan that it lacks has missing cells.

    Args:
        table: A row a scan.
        array: The numbers.
        share: How many of its scans lose it for good; its row counts as one cell.
        seed: Which of them.

    Raises:
        InputError: It has none of the scans.
    """
    place = array.scan_ids.get_indexer(table.values.index)
    if len(place) and not (place >= 0).any():
        raise InputError(
            f"teacher.arrays: {array.path} has none of the {len(place)} scans; they are called like "
            f"{table.values.index[0]!r}, there like {next(iter(array.scan_ids), '')!r}"
        )
    lost = lost_scans(array.scan_ids.to_series(), array.name, share, seed)
    known = np.where(lost[:, None], np.nan, array.values)
    rows = np.where((place >= 0)[:, None], known[place], np.nan)
    names = [f"{array.name}[{i}]" for i in range(rows.shape[1])]
    taken = sorted(set(names) & set(table.values.columns))
    if taken:
        raise InputError(
            f"teacher.arrays: {array.path} gives the column {taken[0]!r}, which is there already; give "
            "files of different names"
        )
    columns = pd.DataFrame(rows, columns=names, index=table.values.index)
    extra = pd.DataFrame(
        {"variable": names, "kind": "continuous", "role": f"array {array.name}", "table": "array"}
    )
    why = table.reasons
    if why is not None:
        why = pd.concat([why, pd.DataFrame("", why.index, names, dtype=object)], axis=1)
    return ClinicalTable(
        values=pd.concat([table.values, columns], axis=1),
        dictionary=pd.concat([table.dictionary, extra], ignore_index=True),
        reasons=why,
    )


def _table(file: Path) -> tuple[pd.DataFrame, Mapping[Any, Any]]:
    if file.suffix == ".csv":
        return pd.read_csv(file, dtype={"scan_id": str}), {}
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    attributes = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    attributes.pop("pandas", None)
    frame = table.to_pandas()
    return frame.reset_index() if frame.index.name == "scan_id" else frame, attributes


def _npz(file: Path) -> tuple[pd.DataFrame, Mapping[Any, Any]]:
    with np.load(file, allow_pickle=False) as arrays:
        absent = sorted({"scan_id", "embedding"} - set(arrays.files))
        if absent:
            raise InputError(f"teacher.arrays: {file} has no array '{absent[0]}'")
        extra = {k: str(arrays[k]) for k in arrays.files if arrays[k].ndim == 0}
        return _frame(file, arrays["scan_id"], arrays["embedding"]), extra


def _dataset(
    file: Path, path: Path, split: SplitLike | None
) -> tuple[pd.DataFrame, Mapping[Any, Any]]:
    import xarray as xr

    options: dict[str, Any] = {"engine": "zarr", "consolidated": False}
    with xr.open_dataset(file, **(options if file.suffix == ".zarr" else {})) as dataset:
        absent = [name for name in ("embedding", "scan_id") if name not in dataset]
        if absent:
            raise InputError(f"teacher.arrays: {path} has no '{absent[0]}'")
        dataset = dataset.load()
    if dataset["embedding"].dims[:1] != dataset["scan_id"].dims:
        raise InputError(
            f"teacher.arrays: {path} has embedding{dataset['embedding'].dims}; accepted is (scan, feature)"
        )
    if split is not None:
        _check_fitted(path, dataset, split)
    attributes = {**dataset.attrs, **dataset["embedding"].attrs}
    return _frame(path, dataset["scan_id"].to_numpy(), dataset["embedding"].to_numpy()), attributes


def _frame(path: Path, scan_ids: npt.NDArray[Any], values: npt.NDArray[Any]) -> pd.DataFrame:
    if values.ndim != 2 or len(values) != len(scan_ids):
        raise InputError(
            f"teacher.arrays: {path} has {len(scan_ids)} scan_id and an embedding of shape "
            f"{values.shape}; accepted is (scan, feature)"
        )
    frame = pd.DataFrame(values, columns=[str(i) for i in range(values.shape[1])])
    return frame.assign(scan_id=[str(scan) for scan in scan_ids])


def _check_fitted(path: Path, dataset: Any, split: SplitLike) -> None:
    """Refuse what an encoder made that had learnt from others than the training subjects."""
    attributes = dataset.attrs
    if "crossfit" in attributes:
        raise InputError(
            f"teacher.arrays: {path} is of {attributes['crossfit']} cross-fitted encoders, which have learnt "
            "from subjects outside the training set; accepted are embeddings of one encoder"
        )
    says = {"set", "subject_id"} <= set(dataset.variables)
    of = attributes.get("split_hash")
    # A split has one hash; without it, what is said of each subject has to do.
    if of == split.hash or (of is None and not says):
        return
    train = set(split.frame.loc[split.frame["set"] == "train", "subject_id"].astype(str))
    if not says:
        raise InputError(
            f"teacher.arrays: {path} was made with another split and does not say whom it was fitted on; "
            "accepted are embeddings of an encoder of this split"
        )
    seen = dataset["subject_id"].to_numpy()[dataset["set"].to_numpy() == "train"]
    stray = sorted({str(subject) for subject in seen} - train)
    if stray:
        raise InputError(
            f"teacher.arrays: {path} was made by an encoder that has learnt from subject {stray[0]}, no "
            f"training subject of this split ({len(stray)} such); accepted is an encoder of this split"
        )


def _check_attributes(path: Path, attributes: Mapping[Any, Any]) -> None:
    role = str(attributes.get("role", "")).strip().lower()
    if role.startswith(_FORBIDDEN):
        raise InputError(
            f"teacher.arrays: {path} has the role {role!r}, which can never be an input"
        )
    try:
        uses = json.loads(attributes.get("uses", "[]"))
    except (TypeError, ValueError):
        uses = []
    learnt = [str(use) for use in uses if str(use).lower().startswith("outcome")]
    if learnt:
        raise InputError(
            f"teacher.arrays: {path} was made by an encoder that has learnt from {learnt[0]!r}; an outcome "
            "can never be an input"
        )


def _numbers(path: Path, frame: pd.DataFrame, dictionary: pd.DataFrame) -> npt.NDArray[np.float64]:
    if "scan_id" not in frame.columns:
        raise InputError(
            f"teacher.arrays: {path} has no column 'scan_id'; it has {list(map(str, frame.columns))[:8]}"
        )
    columns = [column for column in frame.columns if column not in _PLACES]
    if not columns:
        raise InputError(f"teacher.arrays: {path} has no column of numbers beside 'scan_id'")
    barred: dict[str, str] = {}
    if {"variable", "role"} <= set(dictionary.columns):
        barred = {
            str(name): str(role)
            for name, role in zip(dictionary["variable"], dictionary["role"], strict=True)
            if role in _FORBIDDEN
        }
    for column in columns:
        if str(column) in barred:
            raise InputError(
                f"teacher.arrays: {path} has the column {column!r}, in the dictionary of the role "
                f"{barred[str(column)]!r}, which can never be an input"
            )
        if not pd.api.types.is_numeric_dtype(frame[column]):
            raise InputError(
                f"teacher.arrays: {path} has the column {column!r}, which holds no numbers; accepted are "
                "'scan_id' and columns of numbers"
            )
    values = frame[columns].to_numpy(np.float64, na_value=np.nan)
    if np.isinf(values).any():
        raise InputError(f"teacher.arrays: {path} has infinite values; use finite numbers or NaN")
    return values
