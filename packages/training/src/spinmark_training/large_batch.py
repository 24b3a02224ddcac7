"""Embedding a batch: at once, or part by part with exact gradients in the memory of one part.

Gradient caching (Gao, Zhang, Han, Callan, "Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup", 2021, arXiv:2101.06983): the parts are embedded without a graph, the loss is taken of all
embeddings together, and its gradient with respect to them is handed to each part, which is embedded once
more with a graph of its own. That is the gradient of the whole batch, as long as an example's embedding
does not depend on the others beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spinmark_training.batch import Batch, Cut
from spinmark_training.errors import InputError
from spinmark_training.objectives.base import Views

Embed = Callable[[Tensor], Tensor]
"""From volumes `(B, C, D, H, W)` to embeddings `(B, E)`."""

_OVER_BATCH = (nn.modules.batchnorm._BatchNorm,)


def refuse_batch_norm(encoder: nn.Module) -> None:
    """Refuse an encoder whose embedding of an example depends on the others of its part.

    Raises:
        InputError: It holds a batch normalisation; the message names the layer.
    """
    for name, layer in encoder.named_modules():
        if isinstance(layer, _OVER_BATCH):
            raise InputError(
                f"trainer.micro_batch: the encoder's layer {name!r} is {type(layer).__name__}, whose "
                "statistics would be those of a part; accepted are encoders without batch "
                "normalisation, such as encoder.name resnet10 with encoder.norm group"
            )


def embed_in_parts(
    embed: Embed,
    parameters: Sequence[nn.Parameter],
    batch: Batch,
    device: torch.device,
    *,
    local: bool = True,
    seen: Callable[[Cut], None] | None = None,
) -> Views:
    """Embed a batch that comes in parts, with a gradient where gradients are enabled.

    Args:
        embed: The encoder's embedding.
        parameters: Those of the encoder.
        batch: The batch.
        device: Where the encoder is.
        local: Whether the smaller views are embedded too.
        seen: Called with the first part's views.

    Returns:
        Embeddings in the order of the joints, whatever the parts.
    """
    learnt = [p for p in parameters if p.requires_grad]
    if not (torch.is_grad_enabled() and learnt):
        return _joined(list(_parts(embed, batch, device, local, seen)))
    whole, small = _Cached.apply(embed, batch, device, local, seen, *learnt)  # type: ignore[no-untyped-call]
    return Views(whole, small if len(small) else None)


def embed_cut(embed: Embed, cut: Cut, *, local: bool = True) -> Views:
    """Embed the views of some joints.

    Args:
        embed: The encoder's embedding.
        cut: The views.
        local: Whether the smaller views are embedded too.
    """
    small = embed(cut.local) if local and cut.local is not None else None
    return Views(embed(cut.whole), small)


def _parts(
    embed: Embed,
    batch: Batch,
    device: torch.device,
    local: bool,
    seen: Callable[[Cut], None] | None,
) -> Iterator[Views]:
    for number, cut in enumerate(batch.stream(device)):
        if number == 0 and seen is not None:
            seen(cut)
        yield embed_cut(embed, cut, local=local)


def _interleaved(parts: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Rows of parts, each a stack of equally many rows a view, as one such stack."""
    stacks = [
        part.reshape(-1, size, part.shape[1]) for part, size in zip(parts, sizes, strict=True)
    ]
    return torch.cat(stacks, dim=1).flatten(0, 1)


def _joined(parts: Sequence[Views]) -> Views:
    sizes = [len(part.whole) // 2 for part in parts]
    whole = _interleaved([part.whole for part in parts], sizes)
    small = [part.local for part in parts if part.local is not None]
    return Views(whole, _interleaved(small, sizes) if small else None)


def _of_part(gradient: Tensor, total: int, joints: slice) -> Tensor:
    """The rows of a part in a stack of `total` joints a view."""
    return gradient.reshape(-1, total, gradient.shape[1])[:, joints].flatten(0, 1)


class _Cached(torch.autograd.Function):
    """Embeddings of all parts; on the way back each part is embedded again, with its graph."""

    @staticmethod
    def forward(
        ctx: Any,
        embed: Embed,
        batch: Batch,
        device: torch.device,
        local: bool,
        seen: Callable[[Cut], None] | None,
        *parameters: nn.Parameter,
    ) -> tuple[Tensor, Tensor]:
        ctx.embed, ctx.batch, ctx.device, ctx.local = embed, batch, device, local
        ctx.parameters = parameters
        ctx.autocast = (
            torch.is_autocast_enabled(device.type),
            torch.get_autocast_dtype(device.type),
        )
        ctx.random = []
        parts: list[Views] = []
        stream = batch.stream(device)
        while True:
            # Dropout must fall alike both times.
            ctx.random.append(_random_state(device))
            cut = next(stream, None)
            if cut is None:
                break
            if not parts and seen is not None:
                seen(cut)
            parts.append(embed_cut(embed, cut, local=local))
        joined = _joined(parts)
        small = joined.whole.new_empty(0) if joined.local is None else joined.local
        return joined.whole, small

    @staticmethod
    def backward(ctx: Any, whole: Tensor, small: Tensor) -> Any:
        total = len(whole) // 2
        sums: list[Tensor | None] = [None] * len(ctx.parameters)
        enabled, dtype = ctx.autocast
        after = _random_state(ctx.device)
        for state, cut in zip(ctx.random, ctx.batch.stream(ctx.device), strict=False):
            _set_random_state(ctx.device, state)
            with torch.enable_grad(), torch.autocast(ctx.device.type, dtype, enabled=enabled):
                views = embed_cut(ctx.embed, cut, local=ctx.local)
            outputs, gradients = [views.whole], [_of_part(whole, total, cut.joints)]
            if views.local is not None:
                outputs.append(views.local)
                gradients.append(_of_part(small, total, cut.joints))
            found = torch.autograd.grad(outputs, ctx.parameters, gradients, allow_unused=True)
            del views, outputs
            for i, gradient in enumerate(found):
                if gradient is not None:
                    kept = sums[i]
                    # Not in place: weights that are added to each other share one gradient tensor.
                    sums[i] = gradient if kept is None else kept + gradient
        _set_random_state(ctx.device, after)
        return (None, None, None, None, None, *sums)


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), cuda


def _set_random_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
