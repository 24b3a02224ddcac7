"""The clinical tables of a release that is not the OAI's."""

from pathlib import Path

from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.source import Found
from spinmark_data.ingest.tableset import TableSet


def read_own_tables(release: Path, found: Found, config: IngestConfig) -> TableSet:
    """Read the clinical table that the configuration names, or else those of BIDS datasets.

    Args:
        release: The release.
        found: What it holds.
        config: Names the table and its description.

    Returns:
        The tables, with identifiers as they stand there; empty where there are none.

    Raises:
        InputError: See `read_plain_tables`.
    """
    if config.clinical_table is not None:
        from spinmark_data.ingest.own.tables import read_plain_tables

        return read_plain_tables(config.clinical_table, config.clinical_columns)
    if found.bids:
        from spinmark_data.ingest.own.bids_tables import read_bids_tables

        return read_bids_tables(release, found.bids, config.clinical_columns)
    return TableSet.empty()
