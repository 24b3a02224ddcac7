"""A batch: which joints are in it, and their views, cut when they are asked for."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from spinmark_training.feed.ahead import ahead
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
        joint: Number of each joint, `(N,)`. A joint of which several visits were asked for has as many
            rows; by default every row is a joint of its own.
        waited: Seconds that whoever streams it has waited for views.
    """

    first: Tensor
    second: Tensor
    subject: Tensor
    after: Place
    cut: Callable[[int, torch.device], Cut]
    parts: int = 1
    joint: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    waited: float = 0.0

    def __post_init__(self) -> None:
        """Number the joints where nobody has."""
        if len(self.joint) != len(self.first):
            self.joint = torch.arange(len(self.first), device=self.first.device)

    def __len__(self) -> int:
        """Return the number of joints."""
        return len(self.first)

    def stream(self, device: torch.device | str = "cpu") -> Iterator[Cut]:
        """Cut the views, part by part, in the order of the joints.

        While a part is being used the next one is cut in a thread, and none after that: let go of a part
        before the next is asked for, as a `for` loop does, and memory holds two of them.

        Args:
            device: Where the views are wanted.
        """
        where = torch.device(device)
        ready = ahead(lambda part: self.cut(part, where), range(self.parts), min(1, self.parts - 1))
        while True:
            begun = time.perf_counter()
            found = next(ready, None)
            self.waited += time.perf_counter() - begun
            if found is None:
                return
            yield found
            # What is held here would be a third part in memory.
            del found
