"""Gradient reversal: a classifier looks for the site, and the encoder learns to hide it.

Ganin et al., "Domain-Adversarial Training of Neural Networks", 2015, arXiv:1505.07818.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses.core.batch import process_count, sum_processes
from spinmark_models.losses.core.checks import check_between, check_groups, check_rows
from spinmark_models.losses.core.precision import exact


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(x: Tensor, strength: float = 1.0) -> Tensor:
    """The tensor itself on the way forth, minus `strength` times its gradient on the way back.

    Args:
        x: Any tensor.
        strength: 0 or more; at 0 nothing flows back.

    Raises:
        InputError: The strength is negative.
    """
    check_between("strength", strength, 0, math.inf)
    reversed_: Tensor = _Reverse.apply(x, strength)  # type: ignore[no-untyped-call]
    return reversed_


def reversal_strength(progress: float, gamma: float = 10.0) -> float:
    """How strongly to reverse at a point of the run: `2 / (1 + exp(-gamma progress)) - 1`.

    From 0, while the classifier is still noise, to nearly 1.

    Examples:
        >>> [round(reversal_strength(p), 3) for p in (0.0, 0.1, 0.5, 1.0)]
        [0.0, 0.462, 0.987, 1.0]

    Args:
        progress: Share of the run that is done, from 0 to 1.
        gamma: How soon it grows; 10 in the paper.

    Raises:
        InputError: The progress is out of its range.
    """
    check_between("progress", progress, 0, 1)
    return 2 / (1 + math.exp(-gamma * progress)) - 1


class GradientReversal(nn.Module):
    """`reverse_gradient` as a layer, with a strength that the training loop sets.

    Args:
        strength: The strength to start with, 0 or more.
    """

    def __init__(self, strength: float = 0.0) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, x: Tensor) -> Tensor:
        """The tensor itself; its gradient comes back reversed."""
        return reverse_gradient(x, self.strength)


class DomainClassifier(nn.Module):
    """Guesses a nuisance such as the site from an embedding, by one hidden layer.

    Without batch normalisation, whose statistics would tell one site's batch from another's.

    Args:
        inside: Length of the embedding, and of the condition if there is one.
        domains: Number of sites or scanners.
        hidden: Width of the hidden layer.

    Raises:
        InputError: There are fewer than 2 domains.
    """

    def __init__(self, inside: int, domains: int, hidden: int = 128) -> None:
        super().__init__()
        if domains < 2:
            raise InputError(f"domains is {domains}; use 2 or more.")
        self.layers = nn.Sequential(
            nn.Linear(inside, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, domains)
        )

    def forward(self, x_BE: Tensor) -> Tensor:
        """Logits `(B, domains)`."""
        logits: Tensor = self.layers(x_BE)
        return logits


def domain_adversarial(
    z_ND: Tensor,
    codes_N: Tensor,
    classifier: Callable[[Tensor], Tensor],
    strength: float = 1.0,
    *,
    given_NG: Tensor | None = None,
) -> Tensor:
    """The classifier's mean cross-entropy, which it lowers and the encoder raises.

    Args:
        z_ND: Embeddings; get the reversed gradient.
        codes_N: Integers from 0; a negative one is unknown and left out.
        classifier: From rows to logits, such as `DomainClassifier`; gets the plain gradient.
        strength: Of the reversal; see `reversal_strength`.
        given_NG: What the classifier may know besides, such as severity as one-hot columns. With
            it, the encoder hides only what the embedding says of the site beyond severity; without,
            it also hides severity wherever sites differ in it.

    Returns:
        A scalar, the mean over all known rows of all processes; 0 if there are none.

    Raises:
        InputError: The shapes do not fit, or the strength is negative.
    """
    check_rows(z_ND)
    check_groups(codes_N, len(z_ND), "codes")
    hidden = reverse_gradient(exact(z_ND), strength)
    if given_NG is not None:
        if given_NG.ndim != 2 or len(given_NG) != len(z_ND):
            raise InputError(
                f"given has shape {tuple(given_NG.shape)}; use ({len(z_ND)}, columns)."
            )
        hidden = torch.cat([hidden, given_NG.to(hidden.dtype)], dim=1)
    logits = exact(classifier(hidden))
    known = sum_processes((codes_N >= 0).sum().to(logits.dtype))
    total = F.cross_entropy(logits, codes_N.clamp_min(-1), ignore_index=-1, reduction="sum")
    # Averaged over processes, shares of the whole's count give the whole's mean.
    return total * process_count() / known.clamp_min(1)
