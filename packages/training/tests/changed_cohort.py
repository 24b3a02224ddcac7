"""A cohort in which a test has replaced some tables."""

from typing import Any

import pandas as pd

from spinmark_data.cohort.reader import Cohort


class Changed:
    """A cohort some of whose tables are others."""

    def __init__(self, cohort: Cohort, **tables: pd.DataFrame) -> None:
        self._cohort, self._tables = cohort, tables

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cohort, name)

    @property
    def dictionary(self) -> pd.DataFrame:
        return self.table("dictionary")

    def table(self, name: str) -> pd.DataFrame:
        return self._tables[name].copy() if name in self._tables else self._cohort.table(name)
