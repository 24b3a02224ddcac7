"""The table rows behind scans, as a term or a teacher that learns along reads them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spinmark_models.tables import EncodedTable, TableSchema


@dataclass(frozen=True)
class ScanTables:
    """The teacher's input of every scan that may be learnt from.

    Attributes:
        schema: The columns.
        rows: One encoded row a scan that may be learnt from.
        place: `(scans,)`, which of them a scan is taught by; one past the end for every other scan, so that
            a slip ends the run.
    """

    schema: TableSchema
    rows: EncodedTable
    place: Tensor


def scan_tables(
    schema: TableSchema, table: EncodedTable, seen: Tensor, given: Tensor
) -> ScanTables:
    """Pick the rows that may be learnt from.

    Args:
        schema: The columns.
        table: One row a scan.
        seen: Which scans may be learnt from.
        given: The scan whose row each of `seen` is taught by.
    """
    place = torch.full((len(table.numbers),), len(seen))
    place[seen] = torch.arange(len(seen))
    return ScanTables(schema, table.rows(given), place)


class CellColumns(nn.Module):
    """Table rows as columns for Gower's similarity.

    Args:
        tables: The rows; ranges are theirs.
    """

    place: Tensor
    values: Tensor
    ranges: Tensor

    def __init__(self, tables: ScanTables) -> None:
        super().__init__()
        names = torch.tensor(tables.schema.cardinalities) > 0
        rows = tables.rows.now()
        values = torch.where(names, rows.codes.float(), rows.numbers)
        unknown = ~rows.observed
        highest = values.masked_fill(unknown, -torch.inf).amax(dim=0)
        lowest = values.masked_fill(unknown, torch.inf).amin(dim=0)
        # A column that none of these scans has is no column that two of them share.
        spread = (highest - lowest).clamp_min(0).nan_to_num(0, 0, 0)
        self.register_buffer("place", tables.place, persistent=False)
        self.register_buffer("values", values.masked_fill(unknown, torch.nan), persistent=False)
        self.register_buffer("ranges", spread, persistent=False)
        # On the CPU: the similarity goes through the columns by their kind.
        self.nominal = names.cpu()

    def forward(self, scans: Tensor) -> Tensor:
        """Return the rows `(N, P)` of some scans; NaN where a cell is missing."""
        return self.values[self.place[scans.to(self.place.device)]]


class EncodedRows(nn.Module):
    """Table rows as a clinical encoder takes them.

    Args:
        tables: The rows.
    """

    place: Tensor

    def __init__(self, tables: ScanTables) -> None:
        super().__init__()
        self.register_buffer("place", tables.place, persistent=False)
        for name, part in tables.rows._asdict().items():
            self.register_buffer(name, part, persistent=False)

    def forward(self, scans: Tensor) -> EncodedTable:
        """Return the rows of some scans."""
        whole = EncodedTable(*(getattr(self, name) for name in EncodedTable._fields))
        return whole.rows(self.place[scans.to(self.place.device)])
