"""A queue of keys of past batches, the same in every process.

He, Fan, Wu, Xie, Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", 2019,
arXiv:1911.05722.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses.core.checks import check_groups, check_rows
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.precision import exact


class NegativeQueue(nn.Module):
    """The last `size` keys, oldest overwritten first; saved with checkpoints.

    Args:
        size: K, how many keys it holds.
        features: The length of a key.

    Attributes:
        rows: Keys `(K, D)`, normalised, zeros where none has been put yet.
        groups: The group of each `(K,)`, -1 where it has none.
        put: How many keys have been put in all; the next goes to place `put % K`.

    Raises:
        InputError: A number is below 1.
    """

    rows: Tensor
    groups: Tensor
    put: Tensor

    def __init__(self, size: int, features: int) -> None:
        super().__init__()
        for name, number in (("size", size), ("features", features)):
            if number < 1:
                raise InputError(f"{name} of the queue is {number}; use 1 or more.")
        self.register_buffer("rows", torch.zeros(size, features))
        self.register_buffer("groups", torch.full((size,), -1, dtype=torch.long))
        self.register_buffer("put", torch.zeros((), dtype=torch.long))
        self._held: int | None = 0
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """How many keys it holds by now."""
        # Counted here too: to ask the buffer would wait for the device in every step.
        if self._held is None:
            self._held = min(int(self.put), len(self.rows))
        return self._held

    def filled(self) -> tuple[Tensor, Tensor]:
        """The keys that it holds `(k, D)` and their groups `(k,)`, in no special order."""
        count = len(self)
        return self.rows[:count], self.groups[:count]

    @torch.no_grad()
    def enqueue(self, keys_ND: Tensor, groups: Tensor | None = None) -> None:
        """Puts the keys of all processes in, in the order of their ranks.

        Args:
            keys_ND: This process's keys, every process equally many; normalised here.
            groups: Integers `(N,)`, 0 or more, such as subjects; a negative one is none.

        Raises:
            InputError: The shapes do not fit.
        """
        self.check(keys_ND)
        check_groups(groups, len(keys_ND))
        if groups is None:
            groups = self.groups.new_full((len(keys_ND),), -1)
        keys, _ = gather_rows(F.normalize(exact(keys_ND.detach()), dim=1))
        owners, _ = gather_rows(groups)
        # Of a batch larger than the queue, the last keys stay.
        skipped = max(0, len(keys) - len(self.rows))
        places = torch.arange(skipped, len(keys), device=self.rows.device)
        places = (places + self.put) % len(self.rows)
        self.rows[places] = keys[skipped:].to(self.rows)
        self.groups[places] = owners[skipped:].to(self.groups)
        self._held = min(len(self) + len(keys), len(self.rows))
        self.put += len(keys)

    def check(self, keys_ND: Tensor) -> None:
        """Whether rows are as long as the queue's.

        Raises:
            InputError: They are not.
        """
        check_rows(keys_ND)
        if keys_ND.shape[1] != self.rows.shape[1]:
            raise InputError(
                f"A batch has shape {tuple(keys_ND.shape)} and the queue holds rows of "
                f"{self.rows.shape[1]} features; both must be equally long."
            )


def _forget(queue: nn.Module, incompatible: object) -> None:
    """Has a queue count its keys again after a checkpoint was loaded."""
    if isinstance(queue, NegativeQueue):
        queue._held = None


class Candidates:
    """Keys of a batch followed by a queue, and which of them are no negatives of whom.

    Args:
        keys_ND: The positives of the batch, row by row; normalised.
        queue: Keys of earlier batches.
        groups: Integers `(N,)`; keys of the queue of the same group are left out.

    Attributes:
        keys: `(N + k, D)`.
        own: The index of each row's positive among them.
    """

    def __init__(self, keys_ND: Tensor, queue: NegativeQueue, groups: Tensor | None) -> None:
        rows, self._owners = queue.filled()
        self._groups = groups
        self.keys = torch.cat([keys_ND, rows.to(keys_ND)])
        self.own = torch.arange(len(keys_ND), device=keys_ND.device)

    def ignore(self, rows: slice) -> Tensor:
        """True for the batch's own keys, and for those of the queue that are of the row's group."""
        own = self.own[rows]
        batch = torch.ones(len(own), len(self.own), dtype=torch.bool, device=own.device)
        if self._groups is None:
            queue = batch.new_zeros(len(own), len(self._owners))
        else:
            # The queue writes -1 for no group.
            queue = (self._groups[rows, None] == self._owners) & (self._owners >= 0)
        return torch.cat([batch, queue], dim=1)
