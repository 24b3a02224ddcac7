"""What a clinical table's columns are, as learnt from training rows only.

- `schema`: `TableSchema`, and rows as tensors in an `EncodedTable` or, with earlier visits, a `VisitTable`.
- `scales`: how far a column spreads.
- `reasons`: why a cell is missing.
- `marginals`: how a column's values are distributed, without any person's row.
"""

from spinmark_models.tables.schema import EncodedTable, TableSchema, VisitTable

__all__ = ["EncodedTable", "TableSchema", "VisitTable"]
