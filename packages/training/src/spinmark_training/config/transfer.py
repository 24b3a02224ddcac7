"""How the teacher's knowledge reaches the image encoder."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(kw_only=True)
class PartsConfig:
    """An embedding in two parts: one that the table explains, and one that it does not.

    The terms between image and table see the first `table` features alone, the self-supervised objective
    the whole. Penalties make the rest shun the teacher's latent, and the table part shun the rest.

    Args:
        table: Features of the part that the table explains.
        terms: Penalties by name and weight: `orthogonal` (squared correlations), `hsic` (any dependence),
            `conditional` (any dependence, that on the latent among scans that are alike in `given`).
        given: The variable along which `conditional` lets the image part go with the table: codes and
            grades as they are, a continuous one in fifths.
    """

    table: int
    terms: dict[str, float] = field(default_factory=lambda: {"orthogonal": 1.0})
    given: str | None = None


@dataclass(kw_only=True)
class TransferConfig:
    """How the teacher's knowledge reaches the image encoder.

    Args:
        terms: Losses between image and table by name and weight, keys of
            `spinmark_training.transfer.TRANSFERS`.
        temperature: Divides the cosines between images and tables: `clip`, `siglip`, `near_tables`.
        learn_temperature: Whether `clip` learns it, from that value on; `siglip` does in any case.
        direction: Weight of finding the table of an image against finding the image of a table, in
            [0, 1] (the lambda of arXiv:2303.14080): `clip`, `near_tables`.
        ignore_same_subject: Whether a subject's other joints are no negatives: `clip`, `siglip`,
            `near_tables`, `crd`.
        softness: How fast the weight of a positive falls with the similarity of table rows: `near_tables`.
        kd_temperature: Divides the logits of `kd`.
        crd_temperature: Divides the cosines of `crd`.
        symptoms: Variables that `soft_targets` predicts, or roles that stand for all their variables; the
            teacher has to have them among its inputs.
        soft_temperature: Divides the logits of categories in `soft_targets`.
        teacher: `frozen`: it stays as it was fitted. `joint`: it learns along, from the contrast with the
            images. `mutual`: image encoder and clinical encoder each learn from the other's moving average.
        corruption: Share of each row's cells that a teacher that learns along sees replaced.
        pretext: Weight of such a teacher's own pretext loss.
        momentum: Share of the moving averages of `mutual` that is kept at a step, at the start; it grows to
            1. None: 0.996 in long runs, and `1 - 10 / steps` where that is less.
        balance: `weights`: losses are multiplied by their weights. `gradients`: by their weights and by
            what brings their gradient at the embedding to the size of the self-supervised one.
        memory: Share of the averaged sizes of gradients that is kept at a step.
        parts: An embedding in two parts; none for a whole one.
    """

    terms: dict[str, float] = field(default_factory=lambda: {"clip": 2.0, "rkd_distance": 1.0})
    temperature: float = 0.15
    learn_temperature: bool = False
    direction: float = 0.5
    ignore_same_subject: bool = False
    softness: float = 0.1
    kd_temperature: float = 4.0
    crd_temperature: float = 0.07
    symptoms: tuple[str, ...] = ("symptom",)
    soft_temperature: float = 1.0
    teacher: Literal["frozen", "joint", "mutual"] = "frozen"
    corruption: float = 0.3
    pretext: float = 1.0
    momentum: float | None = None
    balance: Literal["weights", "gradients"] = "weights"
    memory: float = 0.9
    parts: PartsConfig | None = None
