"""A generation that changes tables alone: what was measured after the scans were stored."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from spinmark_data.cohort.generation import GenerationWriter
from spinmark_data.cohort.ledger import read_ledger
from spinmark_data.cohort.location import Folder, locate
from spinmark_data.cohort.lock import sole_writer
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.sink import open_sink
from spinmark_data.ingest.merge_tables import same_rows
from spinmark_data.ingest.tableset import COLUMNS


def amend(
    path: str | Path | Folder,
    change: Callable[[Cohort], Mapping[str, pd.DataFrame]],
    provenance: Mapping[str, Any],
) -> int:
    """Add a generation in which some tables are others; scans and shards stay as they are.

    Args:
        path: The cohort.
        change: Gives whole tables by name, from the cohort as it stands when nobody else can write
            it; the others are taken over.
        provenance: Where they came from; added to what is said of the generation before.

    Returns:
        The generation that stands then: the one before, if it says the same already.

    Raises:
        InputError: There is no cohort, another process writes it, or a table has a name that the
            schema does not know.
    """
    folder = locate(path)
    with sole_writer(folder):
        cohort = Cohort.open(folder)
        tables = {name: cohort.table(name) for name in COLUMNS}
        changed = change(cohort)
        if all(name in tables and same_rows(tables[name], changed[name]) for name in changed):
            return cohort.generation
        store = cohort.manifest["store"]
        writer = GenerationWriter(
            folder=folder,
            sink=open_sink(folder, store),
            store=store,
            earlier=cohort.manifest["generations"],
            ledger=read_ledger(folder, cohort.generation),
        )
        before = cohort.manifest["provenance"]
        writer.finish({**tables, **changed}, {**before, **provenance})
        return writer.number
