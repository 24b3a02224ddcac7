"""The parameters of views as one file, to be applied again."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from spinmark_training.augment.parameters import AugmentParameters, parameters_from
from spinmark_training.errors import InputError

_FORMAT = "spinmark augmentation 1"


def write_parameters(path: Path, parameters: AugmentParameters) -> None:
    """Writes parameters to a safetensors file; an existing file is replaced as a whole."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in parameters.tensors().items()}
    beside = path.with_name(f"{path.name}.part")
    save_file(tensors, beside, metadata={"format": _FORMAT})
    beside.replace(path)


def read_parameters(path: Path) -> AugmentParameters:
    """Reads what `write_parameters` wrote.

    Raises:
        InputError: The file is not there, or holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("format")
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read as augmentation parameters: {reason}.") from error
    if found != _FORMAT:
        raise InputError(f"{path} has the format {found!r}; use {_FORMAT!r}.")
    return parameters_from(tensors)
