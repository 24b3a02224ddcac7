"""Linear heads that say labels from embeddings, and their loss: numbers and classes alike, cells masked."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.losses.core.batch import process_count, sum_processes
from spinmark_models.losses.core.precision import exact

CLASS_KINDS = ("nominal", "binary")
_HALVINGS = 60


@dataclass(frozen=True)
class LabelColumns:
    """The labels of every scan, numbers before classes.

    Attributes:
        names: The variables, those of numbers first.
        numbers: `(scans, F)` float64, standardised over the scans that have them; NaN where unknown.
        codes: `(scans, K)` int64, -1 where unknown.
        sizes: Number of classes of each of the K variables.
    """

    names: tuple[str, ...]
    numbers: Tensor
    codes: Tensor
    sizes: tuple[int, ...]


class LabelHeads(nn.Module):
    """A linear head a variable, which starts at the best constant.

    Numbers are learnt by a Huber loss, classes by cross-entropy. With an infinite `delta` both are, up to a
    constant, negative log-likelihoods in nats, of unit variance for numbers, so that variables count
    alike: the loss is the mean over variables of the mean over their known cells. A variable that is
    unknown of the whole batch contributes 0.

    Args:
        inside: Length of the embedding.
        labels: The labels of each scan.
        delta: Standard deviations beyond which an error counts linearly; infinite for squared errors.
    """

    numbers: Tensor
    codes: Tensor
    constant: Tensor

    def __init__(self, inside: int, labels: LabelColumns, delta: float) -> None:
        super().__init__()
        self.names = labels.names
        self.sizes = labels.sizes
        self.delta = delta
        constant = best_constant(labels, delta).float()
        self.linear = nn.Linear(inside, len(constant))
        with torch.no_grad():
            self.linear.bias.copy_(constant)
        # What is known of people travels with the cohort, never with a checkpoint.
        self.register_buffer("constant", constant, persistent=False)
        self.register_buffer("numbers", labels.numbers.float(), persistent=False)
        self.register_buffer("codes", labels.codes, persistent=False)

    def forward(self, embedding: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return standardised numbers `(N, F)`, and logits `(N, classes)` of each variable of classes.

        Args:
            embedding: `(N, E)`.
        """
        return self._divided(self.linear(embedding))

    def loss(self, embedding: Tensor, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss over all processes, and figures of it.

        Args:
            embedding: `(N, E)`, with gradient.
            rows: The scan behind each of them, `(N,)`.

        Returns:
            The loss, and `chance`, that of the best constants, and `labelled`, the share of known cells.
        """
        numbers, codes = self.numbers[rows], self.codes[rows]
        known = torch.cat([numbers.isfinite(), codes >= 0], dim=1)
        count = sum_processes(known.sum(dim=0).float())
        # Averaged over processes, shares of the whole's count give the whole's mean.
        weight = process_count() / (count.clamp_min(1) * len(count))
        loss = (self._sums(self.linear(embedding), numbers, codes) * weight).sum()
        with torch.no_grad():
            flat = self.constant.expand(len(rows), -1)
            chance = (self._sums(flat, numbers, codes) * weight).sum()
            return loss, {
                "chance": sum_processes(chance) / process_count(),
                "labelled": count.mean() / (len(rows) * process_count()),
            }

    def _divided(self, said: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        sizes = [self.numbers.shape[1], *self.sizes]
        numbers, *logits = torch.split(exact(said), sizes, dim=1)
        return numbers, tuple(logits)

    def _sums(self, said: Tensor, numbers: Tensor, codes: Tensor) -> Tensor:
        """The sum over known cells of each variable's loss, `(F + K,)`."""
        guesses, logits = self._divided(said)
        target = numbers.to(guesses.dtype)
        apart = F.huber_loss(guesses, target.nan_to_num(0), reduction="none", delta=self.delta)
        sums = [apart.masked_fill(target.isnan(), 0).sum(dim=0)]
        sums += [
            F.cross_entropy(each, codes[:, i], ignore_index=-1, reduction="sum")[None]
            for i, each in enumerate(logits)
        ]
        return torch.cat(sums)


def best_constant(labels: LabelColumns, delta: float) -> Tensor:
    """Return what a head says at best without an image: `(F + sum of sizes,)` float64.

    Args:
        labels: The labels; those of scans that are not seen are unknown.
        delta: As for `LabelHeads`.

    Returns:
        The centre of each number under the Huber loss, then the log frequencies of each variable's classes.
    """
    centres = [huber_centre(column[column.isfinite()], delta) for column in labels.numbers.T]
    shares = [
        torch.bincount(codes[codes >= 0], minlength=size).double() / (codes >= 0).sum()
        for codes, size in zip(labels.codes.T, labels.sizes, strict=True)
    ]
    return torch.cat([torch.tensor(centres, dtype=torch.float64), *(each.log() for each in shares)])


def huber_centre(values: Tensor, delta: float) -> float:
    """Return the number with the least sum of Huber losses: the mean for an infinite `delta`.

    The sum's slope falls with the number, so that halving an interval finds it (Huber 1964,
    "Robust Estimation of a Location Parameter").

    Args:
        values: `(n,)` float64, one or more.
        delta: Distance beyond which an error counts linearly.
    """
    low, high = values.min(), values.max()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = (values - middle).clamp(-delta, delta).sum() > 0
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return float((low + high) / 2)
