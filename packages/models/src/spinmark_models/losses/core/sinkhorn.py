"""Balanced soft assignment of a batch to prototypes, by Sinkhorn's iterations.

Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport", 2013, arXiv:1306.0895,
as Caron et al. use it, 2020, arXiv:2006.09882. Everything is done on logarithms, so that a small
`epsilon` neither overflows nor leaves a prototype without mass.
"""

import math

import torch
from torch import Tensor
from torch import distributed as dist

from spinmark_models.errors import InputError
from spinmark_models.losses.core.batch import batch_size
from spinmark_models.losses.core.gather import is_distributed
from spinmark_models.losses.core.precision import exact


def _log_sum_of_all_rows(log_NK: Tensor) -> Tensor:
    """The log of each column's sum of exponents over the rows of all processes, `(1, K)`."""
    highest = log_NK.amax(dim=0, keepdim=True)
    if is_distributed():
        dist.all_reduce(highest, dist.ReduceOp.MAX)
    total = (log_NK - highest).exp().sum(dim=0, keepdim=True)
    if is_distributed():
        dist.all_reduce(total)
    return highest + total.log()


@torch.no_grad()
def sinkhorn(scores_NK: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Probabilities of prototypes for each row, such that all prototypes are used about equally.

    Each iteration divides by the prototypes' sums and then by the rows'. Rows therefore sum to 1
    exactly; prototypes sum to N / K in the limit of many iterations.

    Args:
        scores_NK: Scores of this process's rows, such as cosines; finite. The batch is that of all
            processes, each with equally many rows.
        epsilon: How soft the assignment is; smaller is harder and needs more iterations.
        iterations: Number of iterations; 3 is what SwAV uses.

    Returns:
        Assignments `(N, K)` of this process's rows, without gradient.

    Raises:
        InputError: A number is out of its range, or the scores are no matrix.
    """
    if not epsilon > 0:
        raise InputError(f"epsilon is {epsilon}; it must be above 0.")
    if iterations < 1:
        raise InputError(f"iterations is {iterations}; use 1 or more.")
    share = math.log(batch_size(scores_NK) / max(scores_NK.shape[1], 1))
    log_mass = exact(scores_NK.detach()) / epsilon
    for _ in range(iterations):
        log_mass = log_mass - _log_sum_of_all_rows(log_mass) + share
        log_mass = log_mass - log_mass.logsumexp(dim=1, keepdim=True)
    return log_mass.exp()
