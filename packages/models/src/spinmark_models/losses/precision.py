"""Losses are worked out in float32 or float64, whatever the network ran in."""

import torch
from torch import Tensor


def exact(x: Tensor) -> Tensor:
    """The tensor in float32 if it is in fewer bits; unchanged, float64 included, if not."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
