"""A memory bank: one slot for every example of the training set, the same in every process.

Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018,
arXiv:1805.01978. A queue holds the last keys of whoever came by; a bank holds the newest of each.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses.core.checks import check_between, check_groups, check_rows
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.precision import exact


class MemoryBank(nn.Module):
    """What was last said of each example; saved with checkpoints.

    Args:
        slots: How many examples there are, numbered from 0.
        features: The length of a row.
        momentum: Share of a slot that is kept when it is written again, in [0, 1]; the authors' code
            takes 0.5.

    Attributes:
        rows: The slots `(S, D)`, normalised, zeros where nothing has been written yet.
        groups: The group of each slot `(S,)`, -1 where it has none.
        filled: Whether each slot has been written `(S,)`.

    Raises:
        InputError: A number is out of its range.
    """

    rows: Tensor
    groups: Tensor
    filled: Tensor

    def __init__(self, slots: int, features: int, momentum: float = 0.5) -> None:
        super().__init__()
        for name, number in (("slots", slots), ("features", features)):
            if number < 1:
                raise InputError(f"{name} of the bank is {number}; use 1 or more.")
        check_between("bank momentum", momentum, 0, 1)
        self.momentum = momentum
        self.register_buffer("rows", torch.zeros(slots, features))
        self.register_buffer("groups", torch.full((slots,), -1, dtype=torch.long))
        self.register_buffer("filled", torch.zeros(slots, dtype=torch.bool))

    @torch.no_grad()
    def update(self, z_ND: Tensor, slots_N: Tensor, groups_N: Tensor | None = None) -> None:
        """Writes the rows of all processes: `momentum * slot + (1 - momentum) * row`, normalised.

        An empty slot takes the row as it is. Rows of one slot in a batch are averaged before.

        Args:
            z_ND: This process's rows, every process equally many; normalised here.
            slots_N: Integers `(N,)`: the slot of each.
            groups_N: Integers `(N,)`, 0 or more, such as subjects; a negative one is none.

        Raises:
            InputError: The shapes do not fit.
        """
        self.check(z_ND, slots_N)
        check_groups(groups_N, len(z_ND))
        if groups_N is None:
            groups_N = self.groups.new_full((len(z_ND),), -1)
        rows, _ = gather_rows(F.normalize(exact(z_ND.detach()), dim=1))
        slots, _ = gather_rows(slots_N.long())
        owners, _ = gather_rows(groups_N.long())
        # Rows of one slot all write the same then, so that their order does not matter.
        same = (slots[:, None] == slots[None, :]).to(rows)
        new = F.normalize(same @ rows, dim=1).to(self.rows)
        kept = self.momentum * self.filled[slots, None].to(new)
        self.rows[slots] = F.normalize(kept * self.rows[slots] + (1 - kept) * new, dim=1)
        self.groups[slots] = owners
        self.filled[slots] = True

    def check(self, z_ND: Tensor, slots_N: Tensor) -> None:
        """Whether rows are as long as the bank's, and have a slot each.

        Raises:
            InputError: They are not, or have none.
        """
        check_rows(z_ND)
        check_groups(slots_N, len(z_ND), "slots")
        if z_ND.shape[1] != self.rows.shape[1]:
            raise InputError(
                f"A batch has shape {tuple(z_ND.shape)} and the bank holds rows of "
                f"{self.rows.shape[1]} features; both must be equally long."
            )
