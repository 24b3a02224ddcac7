"""Hard-negative weighting: debiased contrast in which near negatives weigh more.

Robinson, Chuang, Sra, Jegelka, "Contrastive Learning with Hard Negative Samples", 2020,
arXiv:2010.04592.
"""

from functools import partial

from torch import Tensor

from spinmark_models.errors import InputError
from spinmark_models.losses.core.info_nce import shifted_softmax_
from spinmark_models.losses.debiased import debiased_by
from spinmark_models.losses.nt_xent import nt_xent_chance


def hard_negative_chance(n: int) -> float:
    """The loss of an encoder that maps all views of `n` pairs to one point: that of NT-Xent."""
    return nt_xent_chance(n)


def hard_negative(
    z1_ND: Tensor,
    z2_ND: Tensor,
    temperature: float = 0.5,
    *,
    tau_plus: float = 0.1,
    beta: float = 1.0,
    groups: Tensor | None = None,
) -> Tensor:
    """The debiased loss, with the mass of the negatives `sum_k w_k exp s_k`.

    The weights are `w_k = exp(beta s_k) / mean_j exp(beta s_j)` over the view's own negatives.

    Args:
        z1_ND: First views; normalised here.
        z2_ND: Second views, row by row the partners of the first.
        temperature: Divides the cosines.
        tau_plus: The share of negatives that are positives in truth, in [0, 1).
        beta: How much more near negatives weigh, 0 or more; 0 gives the debiased loss, and with
            `tau_plus` 0 NT-Xent.
        groups: Integers `(N,)`; views of other pairs of the same group are neither positives nor
            negatives. A negative one is no group.

    Returns:
        A scalar. A view without negatives contributes 0.

    Raises:
        InputError: Shapes differ, or a number is out of its range.
    """
    if not beta >= 0:
        raise InputError(f"beta is {beta}; use 0 or more.")
    mass = partial(weighted_mass_, beta=beta)
    return debiased_by(mass, z1_ND, z2_ND, temperature, tau_plus, groups)


def weighted_mass_(similarity_RM: Tensor, counts_R: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """The log of the weighted mass of each row's negatives, and its slope by the similarities.

    `log m = log K + log sum exp((beta + 1) s) - log sum exp(beta s)`, so the slope is
    `(beta + 1) softmax((beta + 1) s) - beta softmax(beta s)`.

    Args:
        similarity_RM: Similarities, minus infinity where a key is no negative; overwritten.
        counts_R: K, the number of each row's negatives.
        beta: How much more near negatives weigh.

    Returns:
        `(R,)` and `(R, M)`; a row without negatives gets minus infinity and zeros.
    """
    if beta == 0:
        return shifted_softmax_(similarity_RM)
    weights, softer = shifted_softmax_(similarity_RM * beta)
    mass, slope = shifted_softmax_(similarity_RM.mul_(beta + 1))
    log_mass = counts_R.to(mass.dtype).log() + mass - weights.masked_fill(counts_R == 0, 0)
    return log_mass, slope.mul_(beta + 1).sub_(softer, alpha=beta)
