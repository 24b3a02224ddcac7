"""The normalisation of an encoder: one kind, in every layer."""

from collections.abc import Iterable
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from spinmark_models.config import EncoderConfig
from spinmark_models.encoders.settings import given

_KINDS: dict[str, type[nn.Module]] = {
    "batch": _BatchNorm,
    "instance": _InstanceNorm,
    "group": nn.GroupNorm,
    "layer": nn.LayerNorm,
}
_BATCH = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def norm_layer(config: EncoderConfig, channels: int, dims: Literal[2, 3] = 3) -> nn.Module:
    """A normalisation of the kind that a configuration names, with scale and shift.

    Args:
        config: A resolved configuration; `norm` and `groups` are used.
        channels: Channels of the maps.
        dims: Axes of the maps: 2 or 3.
    """
    if config.norm == "batch":
        return _BATCH[dims](channels)
    if config.norm == "instance":
        return _INSTANCE[dims](channels, affine=True)
    # The largest divisor within the limit, so that every width works; two channels or more a group,
    # since a group of one channel on a grid of one voxel would be normalised to nothing.
    limit = min(given(config.groups), max(1, channels // 2))
    groups = max(g for g in range(1, limit + 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def assert_one_norm(network: nn.Module, kind: str, exempt: Iterable[nn.Module] = ()) -> None:
    """Walks a network and makes sure that it normalises in one way only.

    Args:
        network: Any module.
        kind: `group`, `batch`, `instance` or `layer`.
        exempt: Modules whose normalisation is of another kind by design, with all that they hold.

    Raises:
        AssertionError: A layer of another kind was found, or none of this one.
    """
    free = {id(m) for module in exempt for m in module.modules()}
    found = {
        name: m
        for name, m in network.named_modules()
        if isinstance(m, (*_KINDS.values(), nn.LocalResponseNorm, nn.RMSNorm)) and id(m) not in free
    }
    strays = [name for name, m in found.items() if not isinstance(m, _KINDS[kind])]
    if strays or not found:
        raise AssertionError(
            f"norm {kind!r} was asked for; of {len(found)} layers, {len(strays)} are of another "
            f"kind: {strays[:3]}"
        )
