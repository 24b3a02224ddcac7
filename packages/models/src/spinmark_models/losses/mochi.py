"""Hard negative mixing: besides the negatives, mixtures of the hardest ones.

Kalantidis, Sariyildiz, Pion, Weinzaepfel, Larlus, "Hard Negative Mixing for Contrastive Learning",
2020, arXiv:2010.01028.
"""

import math

import torch
from torch import Tensor

from spinmark_models.errors import InputError
from spinmark_models.losses.core.checks import (
    check_fixed,
    check_groups,
    check_pair,
    check_temperature,
)
from spinmark_models.losses.core.gather import place_of_rows
from spinmark_models.losses.core.info_nce import shifted_softmax_
from spinmark_models.losses.core.kernel import contrast
from spinmark_models.losses.core.negative_queue import Candidates, NegativeQueue
from spinmark_models.losses.core.pairs import ignored_pairs, keep_negatives_, two_views
from spinmark_models.losses.core.precision import unit

# So many numbers of mixtures and similarities are held at a time.
_BLOCK = 1 << 22


def mochi_chance(negatives: int, mixed: int = 32, with_query: int = 16) -> float:
    """The loss of an encoder that maps all views to one point: ln(1 + negatives and mixtures)."""
    return math.log(1 + negatives + mixed + with_query)


def mochi(
    z1_ND: Tensor,
    z2_ND: Tensor,
    temperature: float = 0.2,
    *,
    queue: NegativeQueue | None = None,
    hardest: int = 64,
    mixed: int = 32,
    with_query: int = 16,
    generator: torch.Generator | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """InfoNCE over the partner, all negatives, and mixtures of a row's hardest negatives `n`.

    A mixture is `(a n_i + (1 - a) n_j) / length` with a from U(0, 1), or, with the query `q`,
    `(b q + (1 - b) n_j) / length` with b from U(0, 0.5); i and j are drawn from the hardest. Weights,
    lengths and choices are not differentiated, and neither is q within a mixture; the negatives are,
    where they have a gradient.

    Args:
        z1_ND: First views, or with a queue the queries; normalised here.
        z2_ND: Second views row by row, or with a queue the keys, which get no gradient.
        temperature: Divides the cosines.
        queue: Keys of earlier batches: the negatives of z1. Without one, the negatives are the batch's
            other views, and both views are queries.
        hardest: How many of the most similar negatives are mixed; all if there are fewer.
        mixed: How many mixtures of two negatives each query gets.
        with_query: How many mixtures of the query and a negative each query gets.
        generator: Where the draws come from, on the CPU; torch's own if none is given. Several
            processes that are to give what one would need equally seeded ones.
        groups: Integers `(N,)`; views of other pairs of the same group are neither positives nor
            negatives. A negative one is no group.

    Returns:
        A scalar. A query without negatives contributes 0.

    Raises:
        InputError: Shapes differ, or a number is out of its range.
    """
    check_pair(z1_ND, z2_ND)
    check_temperature(temperature)
    check_fixed(temperature)
    check_groups(groups, len(z1_ND))
    mixing = _Mixing(hardest, mixed, with_query, 1 / temperature)
    a, b = unit(z1_ND), unit(z2_ND)
    if queue is None:
        views = two_views(a, b)
        ignore = ignored_pairs(views, groups)
        queries, keys, partner, itself = views.queries, views.keys, views.partner, views.itself
        places, total = views.itself, len(views.keys)
    else:
        queue.check(z2_ND)
        candidates = Candidates(b.detach(), queue, groups)
        ignore = candidates.ignore
        queries, keys, partner, itself = a, candidates.keys, candidates.own, None
        start, total = place_of_rows(len(a))
        places = candidates.own + start
    # Every process draws for all queries, so that each mixes as a single process would.
    draws = torch.rand(total, mixing.draws, generator=generator).to(a).index_select(0, places)
    vectors = keys.detach()

    def row_loss(similarity_RM: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        near = keep_negatives_(similarity_RM, rows, partner, itself_N=itself, ignore=ignore)
        mixtures, index, share = mixing.mix(similarity_RM, vectors, draws[rows])
        similarity_RM.scatter_(1, partner[rows, None], near)
        log_total, probability = shifted_softmax_(torch.cat([similarity_RM, mixtures], dim=1))
        gradient, pushed = probability.tensor_split([len(vectors)], dim=1)
        pushed = torch.cat([pushed[:, : mixing.mixed], pushed], dim=1)
        gradient.scatter_add_(1, index, pushed * share)
        gradient.scatter_add_(1, partner[rows, None], torch.full_like(near, -1))
        return log_total - near[:, 0], gradient

    held = len(keys) + 2 * mixing.parts * keys.shape[1]
    block_rows = max(1, min(len(queries), _BLOCK // held))
    loss = contrast(queries, keys, row_loss, scale=1 / temperature, block_rows=block_rows)
    return loss / len(queries)


class _Mixing:
    """How mixtures are made.

    Attributes:
        parts: How many negatives go into the mixtures of a row: two into each of the first, one each
            into those with the query.
        draws: How many random numbers a row needs.
    """

    def __init__(self, hardest: int, mixed: int, with_query: int, scale: float) -> None:
        named = (("hardest", hardest, 1), ("mixed", mixed, 0), ("with_query", with_query, 0))
        for name, value, least in named:
            if value < least:
                raise InputError(f"{name} is {value}; use {least} or more.")
        self.hardest, self.mixed, self.with_query, self.scale = hardest, mixed, with_query, scale
        self.parts = 2 * mixed + with_query
        self.draws = self.parts + mixed + with_query

    def mix(
        self, similarity_RM: Tensor, keys_MD: Tensor, draws_RU: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The similarities of the rows' mixtures, and which keys they are made of.

        Args:
            similarity_RM: Similarities, minus infinity where a key is no negative.
            keys_MD: The keys, normalised.
            draws_RU: Numbers from U(0, 1).

        Returns:
            Similarities `(R, S)`, minus infinity in rows without negatives; the keys of the parts
            `(R, P)`: all first ones, all second ones, and those mixed with the query; and the parts'
            shares `(R, P)`.
        """
        m = self.mixed
        counts = (similarity_RM > -torch.inf).sum(dim=1, keepdim=True)
        top = similarity_RM.topk(min(self.hardest, len(keys_MD)), dim=1)
        choice, of_two, of_query = draws_RU.tensor_split([self.parts, self.parts + m], dim=1)
        rank = (choice * counts.clamp_max(self.hardest)).long()
        index = top.indices.gather(1, rank)
        similarity = top.values.gather(1, rank).masked_fill(counts == 0, 0)
        first, second, _ = index.tensor_split([m, 2 * m], dim=1)
        between = (keys_MD[first] * keys_MD[second]).sum(dim=2)
        one, two = _shares(of_two, between)
        query, other = _shares(of_query / 2, similarity[:, 2 * m :] / self.scale)
        share = torch.cat([one, two, other], dim=1)
        first_part, second_part, query_part = (similarity * share).tensor_split([m, 2 * m], dim=1)
        mixtures = torch.cat([first_part + second_part, query_part + query * self.scale], dim=1)
        return mixtures.masked_fill(counts == 0, -torch.inf), index, share


def _shares(weight: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of two unit vectors in their mixture, which is of length 1 as well."""
    rest = 1 - weight
    length = (weight**2 + rest**2 + 2 * weight * rest * cosine).clamp_min(1e-12).sqrt()
    return weight / length, rest / length
