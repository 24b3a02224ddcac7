"""The contrastive kernel: any loss of similarities between rows, in little memory.

A contrastive loss sees a matrix of similarities `s = scale * queries @ keys.T + bias`. Held whole, that
matrix and its gradient are what fills the memory. Here a block of its rows is made, turned into
losses and into its own gradient, and given back at once; only the gradients of queries and keys
stay. So memory grows with the batch and not with its square, and the block stays in the cache.

A loss is told to the kernel as a `RowLoss`: from a block of similarities to the loss of each row
and the gradient by the similarities, both written out and not differentiated by autograd.
`spinmark_models.losses.info_nce` holds the one that most losses are made of.

Products are taken in the dtype of the rows, everything after them in float32 or float64. Autocast
does not reach inside.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spinmark_models.errors import InputError

RowLoss = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""From similarities `(R, M)` of the query rows in the slice to the losses `(R,)`, and the gradient
`(R, M)` of their sum by the similarities. It may overwrite the similarities."""

PairRule = Callable[[slice], Tensor]
"""From a slice of the query rows to what is known of their pairs with all keys, `(R, M)`."""

# A block of this many similarities stays in a processor's cache, and still fills its arithmetic.
_BLOCK_CPU = 1 << 21
_BLOCK_GPU = 1 << 26


def _rows_per_block(queries: Tensor, keys: Tensor, block_rows: int | None) -> int:
    if block_rows is not None:
        if block_rows < 1:
            raise InputError(f"block_rows is {block_rows}; use 1 or more.")
        return block_rows
    budget = _BLOCK_CPU if queries.device.type == "cpu" else _BLOCK_GPU
    return min(len(queries), max(16, budget // max(1, len(keys))))


class _Contrast(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        scale: Tensor,
        bias: Tensor,
        row_loss: RowLoss,
        block_rows: int,
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad[:4])
        exact = torch.promote_types(queries.dtype, torch.float32)
        total = torch.zeros((), dtype=exact, device=queries.device)
        if wanted:
            by_query = torch.empty(queries.shape, dtype=exact, device=queries.device)
            by_key = torch.zeros(keys.shape, dtype=exact, device=keys.device)
            by_bias = torch.zeros_like(total)
        with torch.autocast(queries.device.type, enabled=False):
            for start in range(0, len(queries), block_rows):
                rows = slice(start, min(start + block_rows, len(queries)))
                block = queries[rows]
                similarity = (block @ keys.T).to(exact).mul_(scale).add_(bias)
                losses, gradient = row_loss(similarity, rows)
                total += losses.sum()
                if not wanted:
                    continue
                # In the rows' own dtype, where a device has arithmetic for it.
                pull = gradient.to(queries.dtype)
                by_query[rows] = pull @ keys
                by_key += pull.T @ block
                by_bias += gradient.sum()
        if wanted:
            # scale * (q . k) is what was differentiated, so its slope by scale is the sum of q . dq.
            by_scale = (by_query * queries).sum()
            ctx.save_for_backward(
                (by_query * scale).to(queries.dtype),
                (by_key * scale).to(keys.dtype),
                by_scale,
                by_bias,
            )
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        down = gradients[0]
        parts = ctx.saved_tensors
        grown = [
            (down * part).to(part.dtype) if wanted else None
            for part, wanted in zip(parts, ctx.needs_input_grad[:4], strict=True)
        ]
        return (*grown, None, None)


def contrast(
    queries_ND: Tensor,
    keys_MD: Tensor,
    row_loss: RowLoss,
    *,
    scale: float | Tensor = 1.0,
    bias: float | Tensor = 0.0,
    block_rows: int | None = None,
) -> Tensor:
    """The sum over queries of a loss of their similarities with all keys.

    Args:
        queries_ND: The rows that losses belong to.
        keys_MD: What they are contrasted with; the same tensor where a batch is contrasted with itself.
        row_loss: The loss of a block of rows.
        scale: Factor of the dot products, such as one over the temperature; may be learnt.
        bias: Added after that; may be learnt.
        block_rows: Rows held at a time; chosen from the number of keys if none is given.

    Returns:
        A scalar, differentiable once by queries, keys, scale and bias.

    Raises:
        InputError: The shapes do not fit, or `block_rows` is below 1.
    """
    fits = queries_ND.ndim == keys_MD.ndim == 2 and queries_ND.shape[1] == keys_MD.shape[1]
    if not fits or not len(queries_ND) or not len(keys_MD):
        raise InputError(
            f"Queries and keys have shapes {tuple(queries_ND.shape)} and {tuple(keys_MD.shape)}; "
            "both must be (rows, features) with equally many features and at least one row."
        )
    exact = torch.promote_types(queries_ND.dtype, torch.float32)
    numbers = [
        n if isinstance(n, Tensor) else torch.tensor(n, dtype=exact, device=queries_ND.device)
        for n in (scale, bias)
    ]
    total: Tensor = _Contrast.apply(  # type: ignore[no-untyped-call]
        queries_ND,
        keys_MD,
        *numbers,
        row_loss,
        _rows_per_block(queries_ND, keys_MD, block_rows),
    )
    return total


def differentiated(loss_of: Callable[[Tensor, slice], Tensor]) -> RowLoss:
    """A `RowLoss` whose gradient autograd works out, one block at a time.

    For losses whose gradient is long to write; slower than a written one, in the same memory.

    Args:
        loss_of: From similarities `(R, M)` and the slice of their rows to losses `(R,)`; must not
            change the similarities.
    """

    def row_loss(similarity_RM: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = similarity_RM.detach().requires_grad_()
            losses = loss_of(leaf, rows)
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        return losses.detach(), gradient

    return row_loss
