"""A batch: which joints are in it, and their views, cut when they are asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from spinmark_training.sampling import Place


class Cut(NamedTuple):
    """The views of some joints of a batch.

    Attributes:
        joints: Which of the batch's N joints.
        whole: `(2n, C, D, H, W)` float32, all first views, then all second ones in the same order.
        local: `(L n, C, d, h, w)`, the smaller views, all first ones, then all second ones and so on; none
            where the objective asks for none.
    """

    joints: slice
    whole: Tensor
    local: Tensor | None


@dataclass
class Batch:
    """Two views of N joints and, where asked for, L smaller ones.

    A batch larger than memory holds comes in parts. `stream` may be called more than once and cuts the
    same views each time, since a view follows from its seed alone.

    Attributes:
        first: Row of the scan behind each first view, `(N,)`.
        second: Row of the scan behind each second view, `(N,)`.
        subject: Number of each joint's subject, `(N,)`.
        after: The place after this batch: what to save once it has been learnt from.
        cut: Cuts part `k` on the device that is asked for.
        parts: How many parts there are.
    """

    first: Tensor
    second: Tensor
    subject: Tensor
    after: Place
    cut: Callable[[int, torch.device], Cut]
    parts: int = 1

    def __len__(self) -> int:
        """Return the number of joints."""
        return len(self.first)

    def stream(self, device: torch.device | str = "cpu") -> Iterator[Cut]:
        """Cut the views, part by part, in the order of the joints."""
        for part in range(self.parts):
            yield self.cut(part, torch.device(device))
