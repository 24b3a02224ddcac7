"""Rank-N-Contrast: embeddings lie as far apart as their values say, in rank.

Zha et al., "Rank-N-Contrast: Learning Continuous Representations for Regression", 2022,
arXiv:2210.01189. Its extension to times that are known to lie beyond a last visit only is this
project's.
"""

import math

import torch
from torch import Tensor

from spinmark_models.errors import InputError
from spinmark_models.losses.core.batch import process_count
from spinmark_models.losses.core.checks import (
    check_fixed,
    check_groups,
    check_rows,
    check_temperature,
)
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.ranked import Ranking, ranked_contrast


def rank_n_contrast_chance(n: int) -> float:
    """The loss of an encoder that maps `n` rows to one point, where no distances of values tie.

    >>> round(rank_n_contrast_chance(3), 4)
    0.3466
    """
    return math.lgamma(n) / (n - 1)


def rank_n_contrast(z_ND: Tensor, values_N: Tensor, temperature: float = 2.0) -> Tensor:
    """The mean over pairs i, j of the cross-entropy of j among the rows k at least as far in value.

    A row k is as far as j from i if |v_i - v_k| >= |v_i - v_j|; the similarity is minus the distance of
    embeddings.

    Args:
        z_ND: Embeddings, not normalised. Several views of an example are several rows.
        values_N: A number for each row; rows without one (NaN) are left out.
        temperature: Divides the distances.

    Returns:
        A scalar; 0 where fewer than two rows have a value.

    Raises:
        InputError: Fewer than two rows, shapes that do not fit or a temperature not above 0.
    """
    check_groups(values_N, len(z_ND), "values")
    return _rank_n_contrast(z_ND, values_N, None, temperature)


def rank_n_contrast_censored(
    z_ND: Tensor, time_N: Tensor, event_N: Tensor, temperature: float = 2.0
) -> Tensor:
    """Rank-N-Contrast by times of which some are only known to be later than a last visit.

    A row k is contrasted with the pair i, j only if |T_i - T_k| >= |T_i - T_j| holds for all true times
    T that the observations allow: T = time with an event, any T > time without one. So

    - j has an event, and
    - if i has an event: k has one with |t_i - t_k| >= |t_i - t_j|, or k has none and
      max(0, t_k - t_i) >= |t_i - t_j|;
    - if i has none: k has an event with t_k <= t_j and (t_j + t_k) / 2 <= t_i.

    Two events at one time beyond the middle tie for a censored i whatever the truth, which ranks
    nothing; they are not contrasted. With events throughout this is `rank_n_contrast`.

    Args:
        z_ND: Embeddings, not normalised.
        time_N: Time of the event or of the last visit, in any unit; rows without one (NaN) are left
            out.
        event_N: True or 1 where `time_N` is that of an event.
        temperature: Divides the distances.

    Returns:
        A scalar, the mean over all pairs of a row i and another row j with an event; 0 without any.

    Raises:
        InputError: Fewer than two rows, shapes that do not fit or a temperature not above 0.
    """
    check_groups(time_N, len(z_ND), "time")
    check_groups(event_N, len(z_ND), "event")
    return _rank_n_contrast(z_ND, time_N, event_N > 0, temperature)


def _rank_n_contrast(
    z_ND: Tensor, time_N: Tensor, event_N: Tensor | None, temperature: float
) -> Tensor:
    check_rows(z_ND)
    check_temperature(temperature)
    check_fixed(temperature)
    # Whether two distances of values tie should not hang on the precision of the network.
    own = time_N.double()
    time, start = gather_rows(own)
    if len(time) < 2:
        raise InputError(f"A batch has {len(time)} example(s); this loss ranks at least 2.")
    known = time.isfinite()
    event = known if event_N is None else gather_rows(event_N.to(torch.uint8))[0] > 0
    columns = torch.arange(len(time), device=time.device)

    def rule(rows: slice) -> Ranking:
        itself = columns[start : start + len(own)][rows, None]
        candidate = known[None, :] & known[itself] & (columns[None, :] != itself)
        apart = time[None, :] - own[rows, None]
        if event_N is None:
            return Ranking(apart.abs_(), None, candidate, candidate)
        key, threshold = _certain(apart, time, own[rows], event, event_N[rows])
        return Ranking(key, threshold, candidate & event[None, :], candidate)

    pairs = ((known & event).sum() * (known.sum() - 1)).clamp_min(1)
    total = ranked_contrast(z_ND, rule, temperature)
    # The sum over this process's rows, so that the mean over processes is the whole's mean.
    return total * (process_count() / pairs.double()).to(total.dtype)


def _certain(
    apart_RM: Tensor, time_M: Tensor, anchor_R: Tensor, event_M: Tensor, happened_R: Tensor
) -> tuple[Tensor, Tensor]:
    """Keys and thresholds `(R, M)` by which a row k is farther than j whatever the true times."""
    # From an event, one later than a last visit is at least as far as that visit.
    least = torch.where(event_M, apart_RM.abs(), apart_RM.clamp_min(0))
    # A censored anchor is nearer to the later of two events once it is past their middle.
    before = torch.where(event_M, -time_M, -torch.inf)
    middle = torch.maximum(-time_M[None, :], time_M[None, :] - 2 * anchor_R[:, None])
    happened = happened_R[:, None]
    return (
        torch.where(happened, least, before),
        torch.where(happened, apart_RM.abs(), middle),
    )
