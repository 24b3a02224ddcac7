"""Table rows as the paths that attribution walks: cells as vectors, and where they begin."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from spinmark_models.clinical import TabularEncoder
from spinmark_models.tables import EncodedTable, TableSchema
from spinmark_training.errors import InputError

Kind = Literal["missing", "median"]
UNGROUPED = "other"


@dataclass(frozen=True)
class Visits:
    """Where a row is a sequence of visits, which of them there are.

    Attributes:
        years: How long each lies before the row's own, `(V,)`.
        present: Whether anything was observed at it, `(V,)`; it stays so along a path.
    """

    years: Tensor
    present: Tensor


@dataclass(frozen=True)
class CellPath:
    """A row and where its path begins, as the encoder's vectors of cells.

    A number is scaled within its vector, a category picks one, a missing cell has one of its own: a
    straight path between such vectors makes sense where one between codes does not.

    Attributes:
        tokens: The row `(P, T)`, or `(V, P, T)` where it is a sequence of visits.
        baseline: The row that the path begins at, in the same shape.
        visits: The visits of a sequence.
    """

    tokens: Tensor
    baseline: Tensor
    visits: Visits | None = None

    @property
    def differ(self) -> npt.NDArray[np.bool_]:
        """Which columns differ from the baseline's, `(P,)`; the others have no attribution."""
        different = (self.tokens != self.baseline).any(-1)
        columns: npt.NDArray[np.bool_] = (
            different.reshape(-1, different.shape[-1]).any(0).cpu().numpy()
        )
        return columns

    def by_column(self, attribution: Tensor) -> npt.NDArray[np.float64]:
        """Add up attributions in the shape of the tokens, over all visits: `(P,)`."""
        cells = attribution.double().sum(-1)
        added: npt.NDArray[np.float64] = cells.reshape(-1, cells.shape[-1]).sum(0).cpu().numpy()
        return added


def latents(clinical: TabularEncoder, tokens: Tensor, visits: Visits | None = None) -> Tensor:
    """Embed rows given as vectors of cells.

    Args:
        clinical: The teacher's encoder.
        tokens: `(N, P, T)`, or `(N, V, P, T)` with `visits`.
        visits: Those of a sequence, the same for all rows.

    Returns:
        `(N, L)`, not standardised.
    """
    if visits is None:
        embedded: Tensor = clinical.encoder(tokens)
        return embedded
    assert clinical.history is not None
    each = clinical.encoder(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
    count = len(tokens)
    joined: Tensor = clinical.history(
        each, visits.years.expand(count, -1), visits.present.expand(count, -1)
    )
    return joined


@torch.no_grad()
def cell_path(clinical: TabularEncoder, row: EncodedTable, kind: Kind) -> CellPath:
    """Return a row's path.

    Args:
        clinical: The teacher's encoder, trained or random.
        row: One row.
        kind: `missing`: every cell missing for no known reason, which the encoder knows from its
            training; `median`: every cell the median, or the commonest category, of the rows that the
            encoder's columns were fitted on.

    Raises:
        InputError: `median`, and the columns' categories were not counted.
    """
    visits = None
    if clinical.history is not None:
        # A row without earlier visits is a sequence of one.
        years = torch.zeros_like(row.numbers[:, :1]) if row.years is None else row.years
        present = row.observed.reshape(-1, row.observed.shape[-1]).any(1)
        visits = Visits(years[0], present)
    flat = row.flat()
    tokens = clinical.tokens(flat)
    if kind == "missing":
        baseline = clinical.tokens(flat, torch.ones_like(flat.observed))
    else:
        middle = median_row(clinical.schema).to(flat.observed.device)
        baseline = clinical.tokens(middle).expand_as(tokens)
    if visits is None:
        return CellPath(tokens[0], baseline[0])
    return CellPath(tokens, baseline, visits)


def median_row(schema: TableSchema) -> EncodedTable:
    """Return the row of every column's median, or commonest category.

    Raises:
        InputError: The categories were not counted when the schema was fitted.
    """
    count = len(schema.names)
    codes = np.zeros((1, count), np.int64)
    for place, categories in enumerate(schema.categories):
        if not categories:
            continue
        if not schema.marginals:
            raise InputError(
                "table_baseline: 'median' needs the shares of categories, which this teacher was fitted "
                "without; accepted is 'missing'"
            )
        codes[0, place] = int(np.argmax(schema.marginals[place].shares))
    # Numbers are stored as distances from the median.
    return EncodedTable(
        torch.zeros(1, count),
        torch.from_numpy(codes),
        torch.ones(1, count, dtype=torch.bool),
        torch.zeros(1, count, dtype=torch.long),
    )


def described(schema: TableSchema, dictionary: pd.DataFrame) -> pd.DataFrame:
    """Return what is known of the teacher's variables, in its order.

    Args:
        schema: Its columns.
        dictionary: Rows of the dictionary.

    Returns:
        `variable`, `label`, `role` and `group`; the group of a variable without one is `other`.
    """
    rows = dictionary.drop_duplicates("variable").set_index("variable").reindex(schema.names)
    words = {
        name: rows[name].fillna("").astype(str).to_numpy() for name in ("label", "role", "group")
    }
    words["label"] = np.where(words["label"] == "", np.array(schema.names), words["label"])
    words["group"] = np.where(words["group"] == "", UNGROUPED, words["group"])
    return pd.DataFrame({"variable": list(schema.names), **words})
