"""A cohort of frames in memory: definitions, endpoints and queries without a store of images."""

from collections.abc import Mapping

import pandas as pd

from spinmark_data.cohort.scans import complete_scans
from spinmark_data.errors import InputError
from spinmark_data.ingest.tableset import COLUMNS, empty_table


class FrameCohort:
    """Tables by name and scans by sequence, as `Cohort` has them, for a notebook or a CSV.

    Args:
        tables: Tables of docs/schemas.md by name; absent ones are empty.
        scans: Scans by sequence, with `subject_id` and what else is known of them.

    Raises:
        InputError: A table of an unknown name or without a column of its schema.
    """

    def __init__(
        self, tables: Mapping[str, pd.DataFrame], scans: Mapping[str, pd.DataFrame] | None = None
    ) -> None:
        if unknown := sorted(set(tables) - set(COLUMNS)):
            raise InputError(f"Unknown tables {unknown}; known ones are {sorted(COLUMNS)}.")
        for name, table in tables.items():
            if absent := [column for column in COLUMNS[name] if column not in table.columns]:
                raise InputError(f"Table '{name}' lacks {absent}.")
        self._tables = {name: tables.get(name, empty_table(name)) for name in COLUMNS}
        self._scans = {name: complete_scans(frame, name) for name, frame in (scans or {}).items()}

    @property
    def sequences(self) -> tuple[str, ...]:
        """The names of the sequences, sorted."""
        return tuple(sorted(self._scans))

    def scans(self, sequence: str) -> pd.DataFrame:
        """One row a scan of a sequence."""
        return self._scans[sequence]

    def table(self, name: str) -> pd.DataFrame:
        """A table by name."""
        return self._tables[name]
