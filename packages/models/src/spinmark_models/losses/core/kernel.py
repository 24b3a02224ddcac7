"""The contrastive kernel: any loss of similarities between rows, in little memory.

A contrastive loss sees a matrix of similarities `s = scale * queries @ keys.T + bias`. Held whole, that
matrix and its gradient are what fills the memory. Here a block of its rows is made, turned into
losses and into its own gradient, and given back at once; only the gradients of queries and keys
stay. So memory grows with the batch and not with its square, and the block stays in the cache.

A loss is told to the kernel as a `RowLoss`: from a block of similarities to the loss of each row
and the gradient by the similarities, both written out and not differentiated by autograd.
`spinmark_models.losses.core.info_nce` holds the one that most losses are made of.

On a GPU, products are taken in the dtype of the rows and summed in float32 or float64; on a CPU,
short floats are widened first. Everything else is float32 or float64. Autocast does not reach
inside.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spinmark_models.errors import InputError

RowLoss = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""From similarities `(R, M)` of the query rows in the slice to the losses `(R,)`, and the gradient
`(R, M)` of their sum by the similarities. It may overwrite the similarities."""

PairRule = Callable[[slice], Tensor]
"""From a slice of the query rows to what is known of their pairs with all keys, `(R, M)`."""

# A block of this many similarities stays in a processor's cache, and still fills its arithmetic.
_BLOCK_CPU = 1 << 20
_BLOCK_GPU = 1 << 26
# With fewer rows, the gradient of the keys is read and written more than it is worked on.
_LEAST_ROWS = 64


def rows_per_block(queries: Tensor, keys: Tensor, block_rows: int | None) -> int:
    """How many rows of queries to hold at a time; the number asked for, if one is."""
    if block_rows is not None:
        if block_rows < 1:
            raise InputError(f"block_rows is {block_rows}; use 1 or more.")
        return block_rows
    budget = _BLOCK_CPU if queries.device.type == "cpu" else _BLOCK_GPU
    return min(len(queries), max(_LEAST_ROWS, budget // len(keys)))


def _product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """The product of two matrices in a dtype no shorter than theirs."""
    if a.dtype == dtype:
        return a @ b
    # CUDA sums short floats in long ones and can leave them so.
    return torch.mm(a, b, out_dtype=dtype) if a.is_cuda else (a @ b).to(dtype)


def _add_product_(total: Tensor, a: Tensor, b: Tensor) -> None:
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += _product(a, b, total.dtype)


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
        recorded: bool,
    ) -> Tensor:
        exact = torch.promote_types(queries.dtype, torch.float32)
        ctx.dtypes = (queries.dtype, keys.dtype, exact, exact)
        if queries.device.type == "cpu":
            # Its products of short floats are rounded to short floats.
            queries, keys = queries.to(exact), keys.to(exact)
        by_queries, by_keys, by_scale, by_bias = (
            recorded and needed for needed in ctx.needs_input_grad[:4]
        )
        total = torch.zeros((), dtype=exact, device=queries.device)
        # What nobody asked for is kept empty.
        dq = queries.new_zeros(queries.shape if by_queries or by_scale else 0, dtype=exact)
        dk = keys.new_zeros(keys.shape if by_keys else 0, dtype=exact)
        dbias = torch.zeros_like(total)
        with torch.autocast(queries.device.type, enabled=False):
            for start in range(0, len(queries), block_rows):
                rows = slice(start, min(start + block_rows, len(queries)))
                block = queries[rows]
                similarity = _product(block, keys.T, exact).mul_(scale).add_(bias)
                losses, gradient = row_loss(similarity, rows)
                total += losses.sum()
                # In the rows' own dtype, where a device has arithmetic for it.
                pull = gradient.to(queries.dtype)
                if by_queries or by_scale:
                    _add_product_(dq[rows], pull, keys)
                if by_keys:
                    _add_product_(dk, pull.T, block)
                if by_bias:
                    dbias += gradient.sum()
            # scale * (q . k) is what was differentiated, so its slope by scale is the sum of q . dq.
            dscale = (dq * queries).sum() if by_scale else torch.zeros_like(total)
            ctx.save_for_backward(dq.mul_(scale), dk.mul_(scale), dscale, dbias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        grown = [
            (gradients[0] * part).to(dtype) if wanted else None
            for part, dtype, wanted in zip(
                ctx.saved_tensors, ctx.dtypes, ctx.needs_input_grad[:4], strict=True
            )
        ]
        return (*grown, None, None, None)


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
        InputError: The shapes do not fit, scale or bias is not one number, or `block_rows` is below 1.
    """
    fits = queries_ND.ndim == keys_MD.ndim == 2 and queries_ND.shape[1] == keys_MD.shape[1]
    if not fits or not len(queries_ND) or not len(keys_MD):
        raise InputError(
            f"Queries and keys have shapes {tuple(queries_ND.shape)} and {tuple(keys_MD.shape)}; "
            "both must be (rows, features) with equally many features and at least one row."
        )
    shared = torch.promote_types(queries_ND.dtype, keys_MD.dtype)
    exact = torch.promote_types(shared, torch.float32)
    numbers = [
        n if isinstance(n, Tensor) else torch.tensor(n, dtype=exact, device=queries_ND.device)
        for n in (scale, bias)
    ]
    for number in numbers:
        if number.numel() != 1:
            raise InputError(f"A scale or bias has shape {tuple(number.shape)}; use one number.")
    total: Tensor = _Contrast.apply(  # type: ignore[no-untyped-call]
        queries_ND.to(shared),
        keys_MD.to(shared),
        *(number.reshape(()) for number in numbers),
        row_loss,
        rows_per_block(queries_ND, keys_MD, block_rows),
        torch.is_grad_enabled(),
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
