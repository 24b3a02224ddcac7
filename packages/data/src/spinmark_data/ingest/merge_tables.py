"""Tables of a new generation: what stood, with the rows that a release brings in place of theirs."""

from collections.abc import Mapping

import pandas as pd

from spinmark_data.ingest.tableset import KEYS

# Of a joint at a visit; a row of `visits` or `subjects` leaves the side, or the visit too, empty.
_CELL = ["subject_id", "laterality", "visit"]


def append_rows(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Rows below rows; concatenation with an empty frame would warn about types in pandas."""
    if first.empty:
        return second.reset_index(drop=True)
    if second.empty:
        return first.reset_index(drop=True)
    return pd.concat([first, second], ignore_index=True)


def merge_tables(
    standing: Mapping[str, pd.DataFrame], new: Mapping[str, pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """Merge tables of the schema by key; a row of the release replaces the one that stood.

    Reasons of missing cells follow the row that they belong to. `issues` and `flow` gain rows.

    Args:
        standing: The tables of the generation before.
        new: The tables of the release.
    """
    merged = {}
    for name, frame in new.items():
        before = standing[name]
        if name == "missing":
            before = _still_missing(before, new)
        elif name in KEYS and not frame.empty:
            key = list(KEYS[name])
            came = pd.MultiIndex.from_frame(frame[key].astype(str))
            before = before[~pd.MultiIndex.from_frame(before[key].astype(str)).isin(came)]
        merged[name] = append_rows(before, frame)
        if name == "issues":
            # A series that stays out is found again at every append.
            merged[name] = merged[name].drop_duplicates(ignore_index=True)
        if name in KEYS and name != "dictionary":
            merged[name] = merged[name].sort_values(list(KEYS[name]), ignore_index=True)
    return merged


def same_rows(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether two tables say the same, whatever types and order they are kept in."""
    if set(first.columns) != set(second.columns):
        return False

    def rows(frame: pd.DataFrame) -> list[str]:
        plain = frame[sorted(frame.columns)].astype(object)
        lists = plain.where(plain.notna(), None).to_numpy().tolist()
        return sorted(repr([float(v) if isinstance(v, int) else v for v in row]) for row in lists)

    return rows(first) == rows(second)


def _still_missing(missing: pd.DataFrame, new: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    came: set[tuple[str, ...]] = set()
    # A visit of which every cell is missing has no row but in this table.
    for name in ("subjects", "visits", "joints", "missing"):
        came.update(_cells(new[name]))
    return missing[[cell not in came for cell in _cells(missing)]]


def _cells(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    keys = frame.reindex(columns=_CELL).astype(object)
    return list(keys.where(keys.notna(), "").astype(str).itertuples(index=False, name=None))
