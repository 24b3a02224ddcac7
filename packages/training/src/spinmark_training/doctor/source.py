"""Where the first value that is not finite comes from: a layer, its weights or a gradient."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Source:
    """Where values stop being finite.

    Attributes:
        kind: `input` (the network was given such values), `layer` or `gradient`.
        name: The layer or the parameter, as the network names it; empty for the network itself.
        text: What was seen and what to do, in one line.
    """

    kind: Literal["input", "layer", "gradient"]
    name: str
    text: str


def _tensors(value: Any) -> Iterator[Tensor]:
    """Find the tensors of numbers in what layers take and return."""
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _finite(value: Any) -> bool:
    return all(bool(torch.isfinite(part).all()) for part in _tensors(value))


def _largest(value: Any) -> float:
    sizes = [float(part.detach().abs().max()) for part in _tensors(value) if part.numel()]
    return max(sizes, default=0.0)


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Put back running statistics, random numbers and gradients."""
    buffers = [(b, b.detach().clone()) for b in module.buffers()]
    gradients = [(p, p.grad) for p in module.parameters()]
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
            for parameter, gradient in gradients:
                parameter.grad = gradient


def _layer_text(name: str, layer: nn.Module, given: Any) -> str:
    what = f"layer {name or '(the network itself)'} ({type(layer).__name__})"
    own = dict(layer.named_parameters(recurse=False)) | dict(layer.named_buffers(recurse=False))
    bad = [key for key, value in own.items() if not _finite(value)]
    if bad:
        return (
            f"{what} holds a {bad[0]} that is not finite: the step before broke it. Lower optim.lr, or "
            "go on from an older checkpoint; in bf16, ask `spinmark selftest` whether this machine computes it"
        )
    return (
        f"{what} is the first to give values that are not finite; its input was, up to "
        f"{_largest(given):.2g}. Lower optim.lr; with trainer.precision 16-mixed try bf16-mixed"
    )


def first_nonfinite_layer(module: nn.Module, run_forward: Callable[[], Any]) -> Source | None:
    """Find the first layer whose output is not finite although its input was.

    Args:
        module: The network; its weights, running statistics and the random numbers stay as they are.
        run_forward: Runs it once, such as `lambda: module(batch)`; it may raise.

    Returns:
        The innermost such layer, the input if that is where it begins, or none if all is finite.
    """
    found: list[Source] = []

    def note(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given = (args, kwargs)
            if found or _finite(output):
                return
            if _finite(given):
                found.append(Source("layer", name, _layer_text(name, layer, given)))
            else:
                text = (
                    f"the input of layer {name or '(the network itself)'} ({type(layer).__name__}) is "
                    "not finite: look for scans with impossible intensities, such as a window of no width"
                )
                found.append(Source("input", name, text))

        return hook

    with ExitStack() as stack:
        stack.enter_context(_undisturbed(module))
        stack.enter_context(torch.no_grad())
        for name, layer in module.named_modules():
            handle = layer.register_forward_hook(note(name), with_kwargs=True)
            stack.callback(handle.remove)
        try:
            run_forward()
        except Exception:  # a loss that refuses such values: the layers before it were seen
            if not found:
                raise
    return found[0] if found else None


def first_nonfinite_gradient(module: nn.Module, run_loss: Callable[[], Tensor]) -> Source | None:
    """Find the parameter whose gradient is the first that is not finite on the way back.

    Args:
        module: The network; its weights, gradients and running statistics stay as they are.
        run_loss: Computes the loss, a finite scalar.

    Returns:
        That parameter, or none if all gradients are finite.
    """
    found: list[Source] = []

    def note(name: str) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            if not found and not _finite(gradient):
                text = (
                    f"the gradient of {name} is the first that is not finite on the way back: what comes "
                    "after it in the network overflows. Lower optim.lr, or raise a temperature or an epsilon"
                )
                found.append(Source("gradient", name, text))

        return hook

    with ExitStack() as stack:
        stack.enter_context(_undisturbed(module))
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                handle = parameter.register_hook(note(name))  # type: ignore[no-untyped-call]
                stack.callback(handle.remove)
        for parameter in module.parameters():
            parameter.grad = None
        run_loss().backward()  # type: ignore[no-untyped-call]
    return found[0] if found else None
