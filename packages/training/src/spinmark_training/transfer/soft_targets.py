"""What the teacher expects of symptoms is what heads behind the image encoder say: soft targets.

A row whose symptom was not asked has a target as well as any other: what the teacher expects of it. After
Hinton, Vinyals, Dean 2015, arXiv:1503.02531, whose soft targets are those of a classifier.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.losses.core.precision import exact
from spinmark_models.losses.kd import kd
from spinmark_models.tables import TableSchema
from spinmark_training.batch import Batch
from spinmark_training.errors import InputError
from spinmark_training.objectives.label_heads import huber_centre
from spinmark_training.transfer.base import Taught, TransferTerm

FIELD = "transfer.symptoms"


def chosen_columns(schema: TableSchema, symptoms: tuple[str, ...]) -> tuple[int, ...]:
    """Return the places of the teacher's columns that are asked for, in the order of the schema.

    Args:
        schema: The teacher's columns.
        symptoms: Their names, or roles that stand for all their variables.

    Raises:
        InputError: The teacher has none of that name or role.
    """
    groups = schema.groups or ("",) * len(schema.names)
    for name in symptoms:
        if name not in schema.names and name not in groups:
            raise InputError(
                f"{FIELD}: {name!r}; accepted are inputs of the teacher ({', '.join(schema.names)}) and "
                f"their roles {sorted(set(groups))}"
            )
    return tuple(
        i
        for i, (name, group) in enumerate(zip(schema.names, groups, strict=True))
        if name in symptoms or group in symptoms
    )


def said_of(decoded: Tensor, schema: TableSchema, columns: tuple[int, ...]) -> Tensor:
    """Return what is expected of some columns, `(N, W)`.

    Args:
        decoded: A number a column, then a logit a category, `(N, P + categories)`.
        schema: The columns.
        columns: Their places.

    Returns:
        A standardised number a column of numbers, and logits a column of categories, in their order.
    """
    parts = []
    for column in columns:
        before = sum(schema.cardinalities[:column])
        count = schema.cardinalities[column]
        start = len(schema.names) + before if count else column
        parts.append(decoded[:, start : start + max(1, count)])
    return exact(torch.cat(parts, dim=1))


class SoftTargets(TransferTerm):
    """A linear head a variable: Huber loss for numbers, divergence at a temperature for categories.

    The loss is the mean over variables; every row has a target.

    Args:
        features: Length of an embedding.
        sizes: Number of categories of each variable; 0 for a number.
        temperature: Divides the logits of categories.
        start: What the teacher says of the scans at the start, `(scans, W)`: heads begin with the best
            constant.
    """

    constant: Tensor

    def __init__(
        self, features: int, sizes: tuple[int, ...], temperature: float, start: Tensor
    ) -> None:
        super().__init__()
        self._sizes, self._temperature = sizes, temperature
        constant = best_constant(start, sizes, temperature)
        self.heads = nn.Linear(features, len(constant))
        with torch.no_grad():
            self.heads.bias.copy_(constant)
        self.register_buffer("constant", constant, persistent=False)
        self._chance: Tensor | None = None

    def forward(self, embedding: Tensor, taught: Taught, batch: Batch) -> Tensor:
        """Return the mean over variables and rows."""
        if taught.said is None:
            raise AssertionError("the teacher was not asked what it expects of symptoms")
        with torch.no_grad():
            flat = self.constant.expand(len(embedding), -1)
            self._chance = self._compare(flat, taught.said)
        return self._compare(exact(self.heads(embedding)), taught.said)

    def _compare(self, said: Tensor, target: Tensor) -> Tensor:
        widths = [max(1, size) for size in self._sizes]
        losses = [
            kd(own, wanted, self._temperature) if size else F.huber_loss(own, wanted)
            for size, own, wanted in zip(
                self._sizes,
                torch.split(said, widths, dim=1),
                torch.split(target, widths, dim=1),
                strict=True,
            )
        ]
        return torch.stack(losses).mean()

    def figures(self, batch: Batch) -> dict[str, Tensor | float]:
        """Return the loss of heads that say the same of every image."""
        return {} if self._chance is None else {"chance_soft_targets": self._chance}


def best_constant(said: Tensor, sizes: tuple[int, ...], temperature: float) -> Tensor:
    """Return what a head says at best without an image, `(W,)`.

    Args:
        said: What the teacher says of scans, `(scans, W)`.
        sizes: Number of categories of each variable; 0 for a number.
        temperature: Divides the logits of categories.
    """
    parts = []
    widths = [max(1, size) for size in sizes]
    for size, part in zip(sizes, torch.split(said.double(), widths, dim=1), strict=True):
        if size:
            # The mean of the softened probabilities has the least mean divergence.
            share = (part / temperature).softmax(dim=1).mean(dim=0)
            parts.append(share.log() * temperature)
        else:
            parts.append(part.new_tensor([huber_centre(part[:, 0], 1.0)]))
    return torch.cat(parts).float()
