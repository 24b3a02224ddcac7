"""What an encoder of tables is asked beside hidden cells and VIME: SCARF, and given variables.

SCARF: Bahri, Jiang, Tay, Metzler, "Scarf: Self-Supervised Contrastive Learning using Random Feature
Corruption", 2021, arXiv:2106.15147.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spinmark_models.clinical.corruption import choose_cells, corrupt
from spinmark_models.clinical.samplers import Sampler
from spinmark_models.errors import InputError
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_models.tables import EncodedTable, TableSchema, VisitTable

if TYPE_CHECKING:
    from spinmark_models.clinical.base import TabularEncoder

# Share of the rows of which `supervised` hides all labels.
_ALL_LABELS = 0.5
# Share of the cells that each side of `scarf` loses.
_HIDDEN = 0.3


def projector(latent: int, hidden: int) -> nn.Sequential:
    """SCARF's head, which is left behind after training: two layers and a ReLU between them."""
    return nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, hidden))


def scarf_loss(
    encoder: "TabularEncoder",
    head: nn.Module,
    sampler: Sampler,
    table: EncodedTable,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A row and its corrupted view should find each other among all rows: NT-Xent behind a head.

    Which cells are missing would tell a row from others without a look at any value. Therefore missing
    cells take part in the corruption, and both sides lose three cells in ten, each its own.

    Args:
        encoder: The encoder.
        head: What its embeddings go through.
        sampler: Where corrupted cells come from.
        table: Encoded rows.
        generator: Draws cells, and what they become.
    """
    config, rows = encoder.config, table.flat()
    flat = corrupt(
        rows, sampler, config.corruption_rate(), generator, how="share", fill_missing=True
    ).table
    # A visit that never was stays none.
    said = rows.observed.any(dim=1)[:, None]
    pairs = zip(flat, rows, strict=True)
    flat = EncodedTable(*(torch.where(said, new, old) for new, old in pairs))
    view = flat if table.years is None else as_visits(flat, table.years)
    hidden = [
        choose_cells(x.observed, _HIDDEN, generator) | encoder.dropped(x, generator)
        for x in (table, view)
    ]
    first, second = encoder(table, hidden[0]), encoder(view, hidden[1])
    return nt_xent(head(first), head(second), config.temperature)


def as_visits(flat: EncodedTable, years_NV: Tensor) -> VisitTable:
    """Rows of visits `(N * V, P)` as sequences `(N, V, P)` again."""
    shape = years_NV.shape
    numbers, codes, observed, reasons = (part.reshape(*shape, -1) for part in flat)
    return VisitTable(numbers, codes, observed, reasons, years_NV)


def label_columns(schema: TableSchema, labels: Sequence[str]) -> tuple[int, ...]:
    """The places of the columns that have one of some names or groups.

    Args:
        schema: The columns.
        labels: Names of columns, or of groups.

    Raises:
        InputError: One is neither; or every column is asked for and the row says nothing else.
    """
    groups = schema.groups or ("",) * len(schema.names)
    for label in labels:
        if label not in schema.names and label not in groups:
            raise InputError(
                f"clinical labels name {label!r}; valid are the columns {list(schema.names)}"
                + (f" and the groups {sorted(set(groups))}." if schema.groups else ".")
            )
    found = tuple(
        j
        for j, (name, group) in enumerate(zip(schema.names, groups, strict=True))
        if name in labels or group in labels
    )
    if not found or len(found) == len(schema.names):
        raise InputError(
            f"clinical labels {list(labels)} are {len(found)} of {len(schema.names)} columns; some must "
            "be asked for, and others left to tell them from."
        )
    return found


def hide_labels(
    table: EncodedTable,
    labels_P: Tensor,
    rate: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws the cells that `supervised` hides.

    Of half of the rows all labels, so that they are to be told from the other inputs; of the others each
    label with a chance of one half, so that they are told from one another too. Other cells with the
    chance `rate`. In sequences, the labels of the own visit; those of earlier visits count as other cells.

    Args:
        table: Encoded rows.
        labels_P: Which columns are labels.
        rate: See above.
        generator: Draws them.
    """
    device = table.observed.device
    hidden = choose_cells(table.observed, rate, generator)
    now = table.now()
    whole = torch.rand((len(now.observed), 1), generator=generator, device=device) < _ALL_LABELS
    some = choose_cells(now.observed, 0.5, generator)
    asked = (whole | some) & now.observed
    if table.years is None:
        return torch.where(labels_P, asked, hidden)
    own = torch.where(labels_P, asked, hidden[:, -1])
    return torch.cat([hidden[:, :-1], own[:, None]], dim=1)
