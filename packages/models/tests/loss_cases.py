"""One case a loss: how to call it on made-up inputs, and what it must not depend on.

`test_loss_properties.py` runs every case through what all losses promise. A loss that is in the registry and
not here fails a test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from spinmark_models.losses.clip import clip_loss
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_models.losses.regression import cosine_regression
from spinmark_models.losses.relational import relational_distance
from spinmark_models.losses.sup_con import sup_con


class Inputs(NamedTuple):
    """What a loss may be given: `a` and `b` get gradients.

    Attributes:
        a: Embeddings `(N, D)`.
        b: Their partners `(N, D)`.
        teacher: A teacher's embeddings of the same examples `(N, D + 2)`.
        subject: The subject of each example; some subjects have two.
        label: An integer for each example, from 0 to 2, or -1 for none.
        value: A number for each example, some of them equal.
        event: Whether `value` is a time at which something happened.
    """

    a: Tensor
    b: Tensor
    teacher: Tensor
    subject: Tensor
    label: Tensor
    value: Tensor
    event: Tensor

    def rows(self, index: Tensor | slice | list[int]) -> "Inputs":
        """The examples that an index picks."""
        return Inputs(*(x[index] for x in self))

    def to(self, dtype: torch.dtype) -> "Inputs":
        """The same with embeddings of another dtype."""
        return self._replace(a=self.a.to(dtype), b=self.b.to(dtype), teacher=self.teacher.to(dtype))


def inputs(n: int = 8, d: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64) -> Inputs:
    """Draws inputs."""
    g = torch.Generator().manual_seed(seed)
    rows = [torch.randn(n, k, generator=g, dtype=torch.float64) for k in (d, d, d + 2)]
    return Inputs(
        *rows,
        subject=torch.arange(n) // 2 * 2 // 3,
        label=torch.arange(n) % 4 - 1 if n > 4 else torch.zeros(n, dtype=torch.long),
        value=torch.arange(n, dtype=torch.float64).mul(7).remainder(5),
        event=torch.arange(n) % 3 > 0,
    ).to(dtype)


@dataclass(frozen=True)
class Case:
    """How a loss is called, and what it promises.

    Args:
        call: From inputs to the loss.
        tight: The same at a temperature of 0.01, for a loss that has one.
        learns: Which of `a` and `b` it gives a gradient to.
        ordered: Whether it depends on the order of examples (it should not).
        scales: Which inputs a positive factor for each row must not matter to.
        distributed: Whether the mean over processes is the loss of the whole batch.
        least: Fewest examples that it takes; fewer are refused.
        smooth: Whether finite differences apply (no random draws, no ties at the inputs).
    """

    call: Callable[[Inputs], Tensor]
    tight: Callable[[Inputs], Tensor] | None = None
    learns: tuple[str, ...] = ("a", "b")
    ordered: bool = False
    scales: tuple[str, ...] = ()
    distributed: bool = True
    least: int = 1
    smooth: bool = True


CASES: dict[str, Case] = {
    "nt_xent": Case(
        lambda x: nt_xent(x.a, x.b, 0.2, x.subject),
        tight=lambda x: nt_xent(x.a, x.b, 0.01),
        scales=("a", "b"),
    ),
    "sup_con": Case(
        lambda x: sup_con(x.a, x.label, 0.2, subjects=x.subject),
        tight=lambda x: sup_con(x.a, x.label, 0.01),
        learns=("a",),
        scales=("a",),
    ),
    "clip": Case(
        lambda x: clip_loss(x.a, x.b, 0.2, lam=0.3, groups=x.subject),
        tight=lambda x: clip_loss(x.a, x.b, 0.01),
        scales=("a", "b"),
    ),
    "cosine": Case(lambda x: cosine_regression(x.a, x.b), learns=("a",), scales=("a", "b")),
    "rkd_distance": Case(lambda x: relational_distance(x.a, x.teacher), learns=("a",), least=2),
}
