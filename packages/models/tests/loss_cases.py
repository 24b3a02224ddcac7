"""One case a loss: how to call it on made-up inputs, and what it must not depend on.

`test_loss_properties.py` runs every case through what all losses promise. A loss that is in the registry and
not here fails a test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from spinmark_models.losses.adversarial import domain_adversarial
from spinmark_models.losses.barlow_twins import barlow_twins
from spinmark_models.losses.byol import byol
from spinmark_models.losses.cka import cka_loss, debiased_cka_loss
from spinmark_models.losses.clip import clip_loss
from spinmark_models.losses.core.memory_bank import MemoryBank
from spinmark_models.losses.core.negative_queue import NegativeQueue
from spinmark_models.losses.crd import crd
from spinmark_models.losses.debiased import debiased
from spinmark_models.losses.decoupled import decoupled
from spinmark_models.losses.dino import dino
from spinmark_models.losses.hard_negative import hard_negative
from spinmark_models.losses.independence import conditional_independence
from spinmark_models.losses.instance_bank import instance_bank
from spinmark_models.losses.kd import kd
from spinmark_models.losses.koleo import koleo
from spinmark_models.losses.metadata import metadata_enhanced
from spinmark_models.losses.mochi import mochi
from spinmark_models.losses.moco import moco, moco_v3
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_models.losses.pkt import pkt
from spinmark_models.losses.rank_n_contrast import rank_n_contrast, rank_n_contrast_censored
from spinmark_models.losses.regression import cosine_regression
from spinmark_models.losses.relational import relational_distance
from spinmark_models.losses.relational_angle import relational_angle
from spinmark_models.losses.ring import ring
from spinmark_models.losses.semi_hard import semi_hard
from spinmark_models.losses.siglip import siglip
from spinmark_models.losses.similarity_preserving import similarity_preserving
from spinmark_models.losses.simsiam import simsiam
from spinmark_models.losses.sup_con import sup_con
from spinmark_models.losses.swav import swav
from spinmark_models.losses.tabular_similarity import tabular_similarity
from spinmark_models.losses.vicreg import vicreg
from spinmark_models.losses.vid import vid
from spinmark_models.losses.vime import vime
from spinmark_models.losses.w_mse import w_mse
from spinmark_models.losses.y_aware import y_aware


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


def table(x: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """A small clinical table with gaps, the ranges of its columns and which of them are names."""
    label = x.label.double().masked_fill(x.label < 0, torch.nan)
    columns = torch.stack([x.value, label, x.event.double()], dim=1)
    return columns, torch.tensor([4.0, 2.0, 1.0]), torch.tensor([False, False, True])


def tabular(x: Inputs, temperature: float, top_k: int | None) -> Tensor:
    """`tabular_similarity` on that table."""
    rows, ranges, nominal = table(x)
    return tabular_similarity(
        x.a, x.b, rows, ranges, temperature, nominal=nominal, top_k=top_k, groups=x.subject
    )


def queue_for(x: Inputs, size: int = 12) -> NegativeQueue:
    """A full queue whose keys are the same in every process."""
    d = x.a.shape[1]
    queue = NegativeQueue(size, d).to(x.a.dtype)
    rows = torch.randn(size, d, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    groups = torch.arange(size) % 5 - 1
    queue.load_state_dict(
        {"rows": rows / rows.norm(dim=1, keepdim=True), "groups": groups, "put": torch.tensor(size)}
    )
    return queue


def bank_for(x: Inputs, slots: int = 6) -> MemoryBank:
    """A bank that is the same in every process; its last slot is empty."""
    d = x.a.shape[1]
    bank = MemoryBank(slots, d).to(x.a.dtype)
    rows = torch.randn(slots, d, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    filled = torch.arange(slots) < slots - 1
    state = {
        "rows": rows / rows.norm(dim=1, keepdim=True) * filled[:, None],
        "groups": (torch.arange(slots) % 4 - 1).masked_fill(~filled, -1),
        "filled": filled,
    }
    bank.load_state_dict(state)
    return bank


def momentum_keys(x: Inputs) -> tuple[Tensor, Tensor]:
    """Two keys of each example, apart from what gets a gradient."""
    d = x.a.shape[1]
    return x.teacher[:, :d], x.teacher[:, -d:]


def mix(x: Inputs, temperature: float, queued: bool = False) -> Tensor:
    """`mochi` with the draws of one seed."""
    return mochi(
        x.a,
        x.b,
        temperature,
        queue=queue_for(x) if queued else None,
        hardest=6,
        mixed=5,
        with_query=4,
        generator=torch.Generator().manual_seed(1),
        groups=x.subject,
    )


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
        bounded: Whether it holds less than a number for each pair of rows.
    """

    call: Callable[[Inputs], Tensor]
    tight: Callable[[Inputs], Tensor] | None = None
    learns: tuple[str, ...] = ("a", "b")
    ordered: bool = False
    scales: tuple[str, ...] = ()
    distributed: bool = True
    least: int = 1
    smooth: bool = True
    bounded: bool = True


def teachers(x: Inputs) -> tuple[Tensor, Tensor]:
    """What a teacher says of both views, as wide as `a` and `b`."""
    return x.teacher[:, :-2], x.teacher[:, 2:]


def linear(z: Tensor) -> Tensor:
    """A fixed classifier of three domains."""
    return z @ torch.linspace(-1, 1, 3 * z.shape[1], dtype=z.dtype).view(-1, 3)


def residual(x: Inputs) -> Tensor:
    """What is left of the label where all four of its values are equally likely."""
    return torch.nn.functional.one_hot(x.label + 1, 4) - 0.25


def cells(x: Inputs) -> Tensor:
    """`vime` of a table whose rows have different numbers of cells."""
    target = x.teacher[:, : x.b.shape[1]]
    return vime(
        x.a,
        target > 0.3,
        torch.nn.functional.huber_loss(x.b, target.to(x.b.dtype), reduction="none"),
        visible_NP=target < x.value[:, None],
        observed_NP=target < 1,
        alpha=0.7,
    )


CASES: dict[str, Case] = {
    "nt_xent": Case(
        lambda x: nt_xent(x.a, x.b, 0.2, x.subject),
        tight=lambda x: nt_xent(x.a, x.b, 0.01),
        scales=("a", "b"),
    ),
    "decoupled": Case(
        lambda x: decoupled(x.a, x.b, 0.2, groups=x.subject),
        tight=lambda x: decoupled(x.a, x.b, 0.01, sigma=0.5),
        scales=("a", "b"),
    ),
    "debiased": Case(
        lambda x: debiased(x.a, x.b, 0.5, groups=x.subject),
        tight=lambda x: debiased(x.a, x.b, 0.01),
        scales=("a", "b"),
    ),
    "hard_negative": Case(
        lambda x: hard_negative(x.a, x.b, 0.5, groups=x.subject),
        tight=lambda x: hard_negative(x.a, x.b, 0.01),
        scales=("a", "b"),
    ),
    # The draws go by row, and weights of mixtures are not differentiated.
    "mochi": Case(
        lambda x: mix(x, 0.2),
        tight=lambda x: mix(x, 0.01),
        ordered=True,
        scales=("a", "b"),
        smooth=False,
    ),
    "ring": Case(
        lambda x: ring(x.a, x.b, 0.2, inner=0.1, outer=0.5, groups=x.subject),
        tight=lambda x: ring(x.a, x.b, 0.01),
        scales=("a", "b"),
    ),
    "semi_hard": Case(lambda x: semi_hard(x.a, x.b, groups=x.subject), scales=("a", "b")),
    "moco": Case(
        lambda x: moco(x.a, x.b.detach(), queue_for(x), 0.2, x.subject),
        tight=lambda x: moco(x.a, x.b.detach(), queue_for(x), 0.01),
        learns=("a",),
        scales=("a", "b"),
    ),
    "moco_v3": Case(
        lambda x: moco_v3(x.a, x.b, *momentum_keys(x), 0.2, x.subject),
        tight=lambda x: moco_v3(x.a, x.b, *momentum_keys(x), 0.01),
        scales=("a", "b"),
    ),
    "instance_bank": Case(
        lambda x: instance_bank(x.a, bank_for(x), x.label + 1, 0.2, groups=x.subject),
        tight=lambda x: instance_bank(x.a, bank_for(x), x.label + 1, 0.01),
        learns=("a",),
        scales=("a",),
    ),
    "sup_con": Case(
        lambda x: sup_con(x.a, x.label, 0.2, subjects=x.subject),
        tight=lambda x: sup_con(x.a, x.label, 0.01),
        learns=("a",),
        scales=("a",),
    ),
    "rank_n_contrast": Case(
        lambda x: rank_n_contrast(x.a, x.value),
        tight=lambda x: rank_n_contrast(x.a, x.value, 0.01),
        learns=("a",),
        least=2,
    ),
    "rank_n_contrast_censored": Case(
        lambda x: rank_n_contrast_censored(x.a, x.value, x.event),
        tight=lambda x: rank_n_contrast_censored(x.a, x.value, x.event, 0.01),
        learns=("a",),
        least=2,
    ),
    "y_aware": Case(
        lambda x: y_aware(x.a, x.b, x.value, 0.2, bandwidth=1.5, groups=x.subject),
        tight=lambda x: y_aware(x.a, x.b, x.value, 0.01),
        scales=("a", "b"),
    ),
    "tabular_similarity": Case(
        lambda x: tabular(x, 0.2, 2),
        tight=lambda x: tabular(x, 0.01, None),
        scales=("a", "b"),
    ),
    "metadata_enhanced": Case(
        lambda x: metadata_enhanced(x.a, x.b, x.subject, x.label % 2, 200 * x.value, 0.2),
        tight=lambda x: metadata_enhanced(x.a, x.b, x.subject, x.label % 2, 200 * x.value, 0.01),
        scales=("a", "b"),
    ),
    "clip": Case(
        lambda x: clip_loss(x.a, x.b, 0.2, lam=0.3, groups=x.subject),
        tight=lambda x: clip_loss(x.a, x.b, 0.01),
        scales=("a", "b"),
    ),
    "siglip": Case(
        lambda x: siglip(x.a, x.b, groups=x.subject),
        tight=lambda x: siglip(x.a, x.b, 100.0, -50.0),
        scales=("a", "b"),
    ),
    "cosine": Case(lambda x: cosine_regression(x.a, x.b), learns=("a",), scales=("a", "b")),
    "rkd_distance": Case(
        lambda x: relational_distance(x.a, x.teacher), learns=("a",), least=2, bounded=False
    ),
    "byol": Case(lambda x: byol(x.a, x.b, *teachers(x)), scales=("a", "b")),
    "simsiam": Case(lambda x: simsiam(x.a, x.b, *teachers(x)), scales=("a", "b")),
    "barlow_twins": Case(lambda x: barlow_twins(x.a, x.b), least=2),
    "vicreg": Case(lambda x: vicreg(x.a, x.b), least=2),
    "w_mse": Case(lambda x: w_mse(x.a, x.b), least=2),
    # The assignments depend on the scores and get no gradient, so differences do not apply.
    "swav": Case(
        lambda x: swav(x.a, x.b), tight=lambda x: swav(x.a, x.b, 0.01, epsilon=0.01), smooth=False
    ),
    "dino": Case(
        lambda x: dino([x.a, x.b], teachers(x), x.teacher[0, :-2] * 0),
        tight=lambda x: dino([x.a, x.b], teachers(x), x.teacher[0, :-2] * 0, 0.01, 0.01),
    ),
    "koleo": Case(lambda x: koleo(x.a, x.subject), learns=("a",), scales=("a",), least=2),
    "kd": Case(
        lambda x: kd(x.a, x.teacher[:, :-2]),
        tight=lambda x: kd(x.a, x.teacher[:, :-2], 0.01),
        learns=("a",),
    ),
    "crd": Case(
        lambda x: crd(x.a, x.b, 0.2, log_mean=0.3, groups=x.subject),
        tight=lambda x: crd(x.a, x.b, 0.01),
        scales=("a", "b"),
    ),
    "rkd_angle": Case(
        lambda x: relational_angle(x.a, x.teacher), learns=("a",), least=3, bounded=False
    ),
    "cka": Case(lambda x: cka_loss(x.a, x.teacher), learns=("a",), least=2),
    "cka_debiased": Case(
        lambda x: debiased_cka_loss(x.a, x.teacher), learns=("a",), least=4, bounded=False
    ),
    "pkt": Case(lambda x: pkt(x.a, x.teacher), learns=("a",), scales=("a",), least=2),
    "similarity_preserving": Case(lambda x: similarity_preserving(x.a, x.teacher), learns=("a",)),
    "vid": Case(lambda x: vid(x.a, x.teacher[:, :-2], x.teacher[0, 2:] * 0 + 0.7), learns=("a",)),
    # The gradient is reversed, so differences do not apply.
    "domain_adversarial": Case(
        lambda x: domain_adversarial(x.a, x.label, linear, 0.7), learns=("a",), smooth=False
    ),
    "conditional_independence": Case(
        lambda x: conditional_independence(x.a, residual(x), x.label, bandwidth=1.5),
        learns=("a",),
        least=4,
        bounded=False,
    ),
    "vime": Case(cells),
}
