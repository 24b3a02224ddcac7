"""Exact Shapley values of a few players (Shapley 1953; Lundberg and Lee 2017 for predictions)."""

from math import factorial

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats

MOST_PLAYERS = 8


def coalitions(players: int) -> npt.NDArray[np.bool_]:
    """Every subset of the players, shape (2^B, B); row r holds player b where bit b of r is set.

    Args:
        players: Their number B.

    Raises:
        InputError: For fewer than 1 or more than 8.
    """
    if not 1 <= players <= MOST_PLAYERS:
        raise InputError(f"blocks: {players}; accepted are 1 to {MOST_PLAYERS} (merge some)")
    return (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(bool)


def shapley_values(worth: Floats) -> Floats:
    """Share the worth of all players among them.

    A player's value is the mean of what joining adds, over all orders in which the players may join.

    Args:
        worth: Of each coalition in the order of `coalitions`, shape (2^B, ...).

    Returns:
        Shape (B, ...); they add to the worth of all less the worth of none.
    """
    players = len(worth).bit_length() - 1
    members = coalitions(players)
    if len(members) != len(worth):
        raise InputError(f"worth: {len(worth)} coalitions; accepted is a power of 2")
    sizes = members.sum(axis=1)
    # The share of the orders in which exactly these come before one player.
    share = np.array(
        [factorial(s) * factorial(players - s - 1) / factorial(players) for s in range(players)]
    )
    values = np.empty((players, *worth.shape[1:]))
    for b in range(players):
        without = np.flatnonzero(~members[:, b])
        gain = worth[without + 2**b] - worth[without]
        values[b] = np.tensordot(share[sizes[without]], gain, axes=1)
    return values
