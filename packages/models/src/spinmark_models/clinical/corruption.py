"""Corrupted rows: cells replaced by draws from training marginals, and groups of cells hidden.

SCARF: Bahri, Jiang, Tay, Metzler, "Scarf: Self-Supervised Contrastive Learning using Random Feature
Corruption", 2021, arXiv:2106.15147. VIME: Yoon, Zhang, Jordon, van der Schaar, "VIME: Extending the
Success of Self- and Semi-supervised Learning to Tabular Domain", NeurIPS 2020.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from spinmark_models.clinical.samplers import Sampler
from spinmark_models.errors import InputError
from spinmark_models.tables import EncodedTable

SCARF_RATE = 0.6
VIME_RATE = 0.3


class Corrupted(NamedTuple):
    """Rows after corruption.

    Attributes:
        table: The rows.
        chosen: `(N, P)`, cells that a draw replaced.
        changed: `(N, P)`, those of them that now differ from what they were: a draw may hit the old
            value, which nobody could tell. VIME predicts these.
    """

    table: EncodedTable
    chosen: Tensor
    changed: Tensor


def _check_rate(name: str, rate: float) -> None:
    if not 0 <= rate <= 1:
        raise InputError(f"{name} is {rate}; use a number from 0 to 1.")


def choose_cells(
    allowed_NP: Tensor,
    rate: float,
    generator: torch.Generator | None = None,
    how: Literal["each", "share"] = "each",
) -> Tensor:
    """Draws cells.

    Args:
        allowed_NP: Cells that may be drawn.
        rate: How many of them, from 0 to 1.
        generator: Draws them.
        how: `each`: every cell by itself with probability `rate`, as in VIME. `share`: of a row's M
            allowed cells exactly floor(rate * M), as in SCARF.

    Raises:
        InputError: An impossible rate, or another way.
    """
    _check_rate("rate", rate)
    draws = torch.rand(allowed_NP.shape, generator=generator, device=allowed_NP.device)
    if how == "each":
        return (draws < rate) & allowed_NP
    if how != "share":
        raise InputError(f"Unknown way to choose cells {how!r}. Valid ways are ['each', 'share'].")
    place = draws.masked_fill(~allowed_NP, 2.0).argsort(dim=1, stable=True).argsort(dim=1)
    # In double precision: 0.3 * 10 is 3 there, and would be 2 after rounding in single.
    wanted = (allowed_NP.sum(dim=1, keepdim=True).double() * rate + 1e-9).floor()
    return (place < wanted) & allowed_NP


def choose_shares(
    allowed: Tensor, generator: torch.Generator | None = None, *, all_of: float = 0.1
) -> Tensor:
    """Draws cells, of each row another share: even from 0 to 1, and in some rows all.

    Args:
        allowed: Cells that may be drawn, `(N, ...)`.
        generator: Draws them.
        all_of: Share of the rows of which all cells are drawn.
    """
    device = allowed.device
    share = torch.rand(len(allowed), generator=generator, device=device)
    every = torch.rand(len(allowed), generator=generator, device=device) < all_of
    share = torch.where(every, torch.ones_like(share), share)
    draws = torch.rand(allowed.shape, generator=generator, device=device)
    return (draws < share.reshape(-1, *[1] * (allowed.ndim - 1))) & allowed


def corrupt(
    table: EncodedTable,
    sampler: Sampler,
    rate: float,
    generator: torch.Generator | None = None,
    *,
    how: Literal["each", "share"] = "each",
    fill_missing: bool = False,
) -> Corrupted:
    """Replaces cells by draws from their column's marginal.

    Args:
        table: Encoded rows.
        sampler: Where draws come from: `MarginalSampler` or `RowSampler`, of training rows.
        rate: How many cells, see `choose_cells`.
        generator: Draws cells and what they become.
        how: See `choose_cells`.
        fill_missing: Whether missing cells may become observed ones. Off, as a rule: which cells are
            missing is part of what a row says.

    Raises:
        InputError: An impossible rate, or another way.
    """
    allowed = torch.ones_like(table.observed) if fill_missing else table.observed
    chosen = choose_cells(allowed, rate, generator, how)
    numbers, codes = sampler.draw(len(chosen), generator, chosen.device)
    numbers = torch.where(chosen, numbers.to(table.numbers.dtype), table.numbers)
    codes = torch.where(chosen, codes, table.codes)
    other = (numbers != table.numbers) | (codes != table.codes) | ~table.observed
    corrupted = EncodedTable(
        numbers, codes, table.observed | chosen, table.reasons.masked_fill(chosen, 0)
    )
    return Corrupted(corrupted, chosen, chosen & other)


def scarf(
    table: EncodedTable,
    sampler: Sampler,
    generator: torch.Generator | None = None,
    rate: float = SCARF_RATE,
) -> Corrupted:
    """The corrupted view of SCARF, to be contrasted with the rows as they are.

    Args:
        table: Encoded rows.
        sampler: Where draws come from.
        generator: Draws cells and what they become.
        rate: Share of each row's observed cells. The paper takes 0.6; beside images 0.3 is in use
            (Hager et al. 2023, arXiv:2303.14080).
    """
    return corrupt(table, sampler, rate, generator, how="share")


def vime(
    table: EncodedTable,
    sampler: Sampler,
    generator: torch.Generator | None = None,
    rate: float = VIME_RATE,
) -> Corrupted:
    """The corrupted rows of VIME, whose corrupted cells and true values are to be told.

    Args:
        table: Encoded rows.
        sampler: Where draws come from.
        generator: Draws cells and what they become.
        rate: Chance of each observed cell.
    """
    return corrupt(table, sampler, rate, generator)


def drop_groups(
    groups_P: Sequence[str],
    n: int,
    rate: float,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Draws which groups of columns each row loses: each with the chance `rate`, at times all.

    Args:
        groups_P: The group of each column.
        n: Rows.
        rate: From 0 to 1.
        generator: Draws them; of the same device.
        device: Where they are wanted.

    Returns:
        `(n, P)`, cells to hide.

    Raises:
        InputError: An impossible rate, or no groups.
    """
    _check_rate("group dropout", rate)
    if not groups_P:
        raise InputError(
            f"group dropout is {rate} and the table schema has no groups; fit it with groups=..., or "
            "use 0."
        )
    names = sorted(set(groups_P))
    place = torch.tensor([names.index(group) for group in groups_P], device=device)
    draws = torch.rand((n, len(names)), generator=generator, device=device)
    return (draws < rate).gather(1, place.expand(n, -1))
