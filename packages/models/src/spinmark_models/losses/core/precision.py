"""Losses are worked out in float32 or float64, whatever the network ran in."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor
from torch.nn import functional as F

P = ParamSpec("P")


def exact(x: Tensor) -> Tensor:
    """The tensor in float32 if it is in fewer bits; unchanged, float64 included, if not."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def unit(x_ND: Tensor) -> Tensor:
    """Rows at length 1, in float32 at least: a length rounded to bfloat16 shifts cosines by 0.005."""
    return F.normalize(exact(x_ND), dim=1)


def without_autocast(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """A loss whose products autocast does not shorten; for those that take them themselves.

    Args:
        loss: Takes a tensor first.
    """

    @wraps(loss)
    def call(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        given = (*args, *kwargs.values())
        device = next((x.device.type for x in given if isinstance(x, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return loss(*args, **kwargs)

    return call
