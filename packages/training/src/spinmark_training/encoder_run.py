"""How an encoder is run in training: memory layout, compilation, what is kept for the way back."""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spinmark_models.encoders import ImageEncoder
from spinmark_models.encoders.blocks import BasicBlock, Bottleneck
from spinmark_models.encoders.resenc import ResidualBlockD
from spinmark_models.encoders.vit import TransformerBlock
from spinmark_training.errors import InputError

BLOCKS = (BasicBlock, Bottleneck, ResidualBlockD, TransformerBlock)
"""What is kept or computed again as a whole."""

# Where channels last are faster, measured forward and backward in float32 on one CPU thread at 24 x 64 x 64:
# resenc 1.7 times; resnet10 0.95, resnet50 0.99 and densenet121 0.86 times, which stay as they are. residual3d
# lays itself out so.
_FASTER_LAST = frozenset({"resenc"})


def recompute_blocks(encoder: ImageEncoder) -> int:
    """Make an encoder compute the inside of its blocks again on the way back, in place.

    Chen, Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv:1604.06174. The
    gradients are the same.

    Args:
        encoder: The encoder.

    Returns:
        How many blocks there are.

    Raises:
        InputError: The encoder has no such block, or a batch normalisation inside of one would see each
            batch twice.
    """
    blocks = [block for block in encoder.modules() if isinstance(block, BLOCKS)]
    if not blocks:
        raise InputError(
            f"trainer.checkpoint_activations: {encoder.config.name} has no blocks to compute again; "
            "accepted are residual3d, resnet*, resenc, slices and vit3d"
        )
    for block in blocks:
        if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in block.modules()):
            raise InputError(
                "trainer.checkpoint_activations: a batch normalisation would count each batch twice; "
                "accepted are encoders with encoder.norm group, instance or layer"
            )
        run = partial(checkpoint, block.forward, use_reentrant=False)
        setattr(block, "forward", run)  # noqa: B010 - a method, to the type checker
    return len(blocks)


def embedding_of(
    encoder: ImageEncoder, *, channels_last: bool | None = None, compiled: bool = False
) -> Callable[[Tensor], Tensor]:
    """Return the function from volumes to embeddings that the steps use.

    Args:
        encoder: The encoder; its weights stay where they are.
        channels_last: Whether weights and volumes are laid out with channels last; none does what was
            measured to be faster.
        compiled: Whether torch compiles it, at its first call.
    """
    if channels_last is None:
        on_cpu = next(encoder.parameters()).device.type == "cpu"
        channels_last = True if on_cpu and encoder.config.name in _FASTER_LAST else None
    if channels_last is not None:
        _lay_out(encoder, channels_last)
    run = cast("Callable[[Tensor], Tensor]", torch.compile(encoder) if compiled else encoder)

    def embed(volumes: Tensor) -> Tensor:
        if channels_last:
            volumes = volumes.contiguous(memory_format=torch.channels_last_3d)
        return run(volumes).embedding  # type: ignore[attr-defined, no-any-return]

    return embed


@torch.no_grad()
def lay_out_alike(optimizer: torch.optim.Optimizer) -> None:
    """Give the state of an optimiser the memory layout of its weights, in place; the values stay.

    A fused optimiser takes weight, gradient and moments as they lie in memory. With other layouts it
    would mix their entries up, without a word on a CPU.

    Args:
        optimizer: Its state may come from a checkpoint.
    """
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            alike = isinstance(value, Tensor) and value.shape == weight.shape
            if alike and value.stride() != weight.stride():
                state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _lay_out(encoder: ImageEncoder, channels_last: bool) -> None:
    """Lay out the kernels of convolutions over volumes; flat ones keep their own layout."""
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    for weight in encoder.parameters():
        if weight.ndim == 5:
            weight.data = weight.data.contiguous(memory_format=layout)
