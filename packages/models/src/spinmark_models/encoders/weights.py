"""Weights from a local safetensors file, with a report of what matched. Nothing is ever unpickled."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from spinmark_models.errors import InputError

PREFIXES = ("module.", "model.", "encoder.", "backbone.", "network.", "net.")
"""What trainers put before the names of a network that they wrap."""

# How the layers of published residual networks are called here.
_RENAMES = ((r"\bbn(\d)\b", r"norm\1"), (r"\bdownsample\b", "shortcut"))


@dataclass(frozen=True, kw_only=True)
class WeightReport:
    """What became of each tensor.

    Attributes:
        path: The file.
        matched: Names that were loaded.
        inflated: Those of them whose kernel was spread along z.
        missing: Names of the network that the file lacks; they keep their values.
        unexpected: Names of the file, as stripped and renamed, that the network lacks.
        mismatched: Name, shape in the file, shape in the network; not loaded.
    """

    path: Path
    matched: tuple[str, ...]
    inflated: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network was loaded and every tensor of the file used."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        """The counts, and the first names of each kind."""
        differ = [f"{n} {tuple(a)} for {tuple(b)}" for n, a, b in self.mismatched]
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        lines = [
            f"{self.path}: {len(self.matched)} of {total} tensors loaded, {len(self.inflated)} of "
            "them inflated"
        ]
        lines += [
            _line("missing from the file", self.missing),
            _line("not in the network", self.unexpected),
            _line("of another shape", differ),
        ]
        return "\n".join(lines)


def _line(what: str, names: Sequence[str], most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"  {what}: {len(names)}" + (f" ({', '.join(names[:most])}{rest})" if names else "")


def _strip(name: str, prefixes: Iterable[str]) -> str:
    found = next((p for p in prefixes if p and name.startswith(p)), None)
    return name if found is None else _strip(name[len(found) :], prefixes)


def _own_name(name: str, prefixes: Sequence[str], rename: bool) -> str:
    name = _strip(name, prefixes)
    if rename:
        for pattern, own in _RENAMES:
            name = re.sub(pattern, own, name)
    return name


def inflate_kernel(kernel_OIHW: Tensor, depth: int) -> Tensor:
    """Spreads a 2D kernel along z, so that a volume of equal slices gives what a slice gave.

    Carreira & Zisserman 2017 (arXiv:1705.07750): the kernel repeated, over the number of repetitions.
    At the ends of the stack, where convolutions see padding, the two differ.

    Args:
        kernel_OIHW: `(O, I, H, W)`.
        depth: Kernel size along z.

    Returns:
        `(O, I, depth, H, W)`.
    """
    return kernel_OIHW[:, :, None].repeat(1, 1, depth, 1, 1) / depth


def _fit(tensor: Tensor, own: Tensor, inflate: bool, sum_channels: bool) -> Tensor:
    convolution = tensor.ndim in (4, 5) and own.ndim in (4, 5)
    if sum_channels and convolution and own.shape[1] == 1 and tensor.shape[1] > 1:
        tensor = tensor.sum(1, keepdim=True)
    if inflate and tensor.ndim == 4 and own.ndim == 5:
        tensor = inflate_kernel(tensor, own.shape[2])
    return tensor


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} is absent; name a local safetensors file.") from error
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors ({error}); pickled checkpoints are not opened, "
            "save their tensors with safetensors first."
        ) from error


def _converted(tensor: Tensor, own: Tensor, name: str) -> Tensor:
    if tensor.is_floating_point() != own.is_floating_point() or tensor.is_complex():
        raise InputError(f"{name} is of {tensor.dtype} in the file and {own.dtype} in the network.")
    # After the conversion, as what is finite in the file can be too large for a shorter float.
    converted = tensor.to(own.dtype)
    if not bool(torch.isfinite(converted).all()):
        raise InputError(f"{name} holds values that are no numbers in {own.dtype}.")
    return converted


def load_weights(
    network: nn.Module,
    path: Path,
    *,
    prefixes: Sequence[str] = (),
    rename: bool = False,
    inflate: bool = False,
    sum_channels: bool = False,
    strict: bool = False,
) -> WeightReport:
    """Loads what fits of a file into a network, in place.

    Args:
        network: Any module, such as an encoder or its `trunk`.
        path: A local safetensors file.
        prefixes: Stripped from the names in the file, over and over; `PREFIXES` holds usual ones.
        rename: Whether names as torchvision and MONAI give them to residual networks (`bn1`,
            `downsample`) are turned into the ones used here.
        inflate: Whether 2D kernels are spread along z where the network has 3D ones.
        sum_channels: Whether a kernel over several channels, such as red, green and blue, is summed
            where the network takes one: as if the grey picture were given in each.
        strict: Whether anything missing, left over or of another shape is an error.

    Returns:
        What matched and what did not.

    Raises:
        InputError: The file cannot be read, two of its names become one, a tensor of it is not
            finite or of another kind of number, nothing matches, or `strict` is not met. The network
            is unchanged then.
    """
    path = Path(path)
    found: dict[str, Tensor] = {}
    for raw, tensor in _read(path).items():
        name = _own_name(raw, prefixes, rename)
        if name in found:
            raise InputError(
                f"{path}: {raw!r} and another tensor both become {name!r}; strip less."
            )
        found[name] = tensor
    own = network.state_dict()
    fitted = {k: _fit(v, own[k], inflate, sum_channels) for k, v in found.items() if k in own}
    good = {
        k: _converted(v, own[k], f"{path}: {k!r}")
        for k, v in fitted.items()
        if v.shape == own[k].shape
    }
    report = WeightReport(
        path=path,
        matched=tuple(good),
        inflated=tuple(k for k, v in good.items() if found[k].ndim == 4 and v.ndim == 5),
        missing=tuple(k for k in own if k not in found),
        unexpected=tuple(k for k in found if k not in own),
        mismatched=tuple(
            (k, tuple(found[k].shape), tuple(own[k].shape)) for k in fitted if k not in good
        ),
    )
    if not good or (strict and not report.complete):
        raise InputError(" ".join(line.strip() for line in str(report).splitlines()))
    network.load_state_dict(good, strict=False)
    return report
