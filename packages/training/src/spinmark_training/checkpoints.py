"""Checkpoints that survive a kill, a full disk and a flipped bit, and that never run code when read.

A checkpoint is a folder, written beside its name and moved into place when it is whole::

    checkpoints/step-00000050/
      weights.safetensors   parameters and buffers of the module
      state.safetensors     every other tensor: the optimiser's, for one
      state.json            the rest: step, place of the feed, schedule, versions
      checksums.json        sha256 of the three files, and of that list itself
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from safetensors.torch import load_file, save_file
from torch import Tensor

from spinmark_training.checkpoint_tree import decode, encode
from spinmark_training.errors import InputError

logger = logging.getLogger(__name__)

FORMAT = 1
KEEP = 2  # the newest may turn out to be damaged; then the one before is taken
WEIGHTS, STATE, REST, SUMS = (
    "weights.safetensors",
    "state.safetensors",
    "state.json",
    "checksums.json",
)
_FILES = (WEIGHTS, STATE, REST)
_PACKAGES = ("lightning", "numpy", "safetensors", "spinmark-training", "torch")


def checkpoint_name(step: int) -> str:
    """Return the name of the checkpoint after a step."""
    return f"step-{step:08d}"


def checkpoint_step(path: Path) -> int:
    """Return the step that a checkpoint was taken after, by its name."""
    return int(path.name.removeprefix("step-"))


def checkpoints_of(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first, whole or not; the folder need not exist."""
    found = folder.glob("step-*") if folder.is_dir() else ()
    return sorted((p for p in found if re.fullmatch(r"step-\d+", p.name)), key=checkpoint_step)


def write_checkpoint(folder: Path, step: int, payload: Mapping[str, Any], keep: int = KEEP) -> Path:
    """Write a checkpoint, and remove those that it makes superfluous.

    Whatever interrupts it, each visible checkpoint is whole, and those before stay until this one is safe
    on the disk.

    Args:
        folder: The folder of checkpoints; it is created.
        step: Steps taken so far.
        payload: Nested dicts, lists, tuples, numbers, texts, None and tensors; the tensors of
            `state_dict` are the weights.
        keep: How many whole checkpoints stay, 1 or more.

    Returns:
        The checkpoint.

    Raises:
        InputError: The payload holds what cannot be stored.
        OSError: The disk is full, or failed.
    """
    final = folder / checkpoint_name(step)
    write_folder(final, payload)
    _prune(folder, step, keep)
    return final


def write_folder(final: Path, payload: Mapping[str, Any]) -> None:
    """Write one checkpoint under a name of your own; an older one of that name is replaced.

    Args:
        final: Its name.
        payload: As for `write_checkpoint`.

    Raises:
        InputError: The payload holds what cannot be stored.
        OSError: The disk is full, or failed.
    """
    weights, tensors, rest = _take_apart(payload)
    folder = final.parent
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        save_file(_storable(weights), partial / WEIGHTS, {"format": "pt"})
        save_file(_storable(tensors), partial / STATE, {"format": "pt"})
        (partial / REST).write_text(json.dumps(rest, indent=1, allow_nan=False) + "\n")
        (partial / SUMS).write_text(_checksums(partial))
        for name in (*_FILES, SUMS):
            _sync(partial / name)
        _sync(partial)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise _disk_error(error, partial) from error
    _replace(partial, final)
    _sync(folder)


def _disk_error(error: BaseException, path: Path) -> BaseException:
    # safetensors reports a full disk in words of its own.
    found = re.search(r"os error (\d+)", str(error), flags=re.IGNORECASE)
    if isinstance(error, OSError) or found is None:
        return error
    number = int(found.group(1))
    return OSError(number, os.strerror(number), str(path))


def _take_apart(
    payload: Mapping[str, Any],
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    others = dict(payload)
    weights = others.pop("state_dict", {})
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items()):
        odd = next(k for k, v in weights.items() if not isinstance(v, Tensor))
        raise InputError(
            f"checkpoint.state_dict.{odd}: it is no tensor; a module's state is all tensors"
        )
    tensors: dict[str, Tensor] = {}
    tree = encode(others, tensors)
    rest = {
        "format": FORMAT,
        "packages": {name: version(name) for name in _PACKAGES},
        "has_weights": "state_dict" in payload,
        "payload": tree,
    }
    return {name: value.detach() for name, value in weights.items()}, tensors, rest


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors contiguous, on the CPU, and none sharing memory with another."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        value = tensor.to("cpu").resolve_conj().resolve_neg().contiguous()
        place = value.untyped_storage().data_ptr()
        apart[name] = value.clone() if place in seen and value.numel() else value
        seen.add(place)
    return apart


def _checksums(folder: Path) -> str:
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)}
        for name in _FILES
    }
    # Without a last newline, so that no byte of it can be missing unseen.
    return json.dumps({"files": files, "sha256": _digest(files)}, indent=1)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(partial: Path, final: Path) -> None:
    if final.exists():
        # A folder cannot be moved onto one that holds files. A kill in between leaves the one before.
        _remove(final)
    partial.rename(final)


def _remove(path: Path) -> None:
    """Remove a checkpoint so that a kill on the way never leaves half of one under its name."""
    hidden = path.with_name(f".{path.name}.removed")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden)


def _prune(folder: Path, step: int, keep: int) -> None:
    whole = 0
    for path in reversed(checkpoints_of(folder)):
        if path.is_dir() and checkpoint_step(path) <= step and whole < keep and _looks_whole(path):
            whole += 1
        elif path.is_dir():
            # Also one of a later step: the run has gone back behind it, since it was damaged.
            _remove(path)
    for left in (*folder.glob(".step-*.partial"), *folder.glob(".step-*.removed")):
        shutil.rmtree(left, ignore_errors=True)


def _looks_whole(path: Path) -> bool:
    """Whether the files are there in their sizes: quick, and enough to see a torn one."""
    try:
        files = json.loads((path / SUMS).read_text())["files"]
        return all((path / name).stat().st_size == files[name]["bytes"] for name in _FILES)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_checkpoint(path: Path) -> None:
    """Compare the files of a checkpoint with their checksums.

    Raises:
        InputError: One is missing or differs; the message names it.
    """
    if path.suffix == ".ckpt":
        raise InputError(
            f"{path}: a checkpoint of an earlier version, which this one does not read; finish the run with "
            "the version that began it, or remove the file to begin again"
        )
    try:
        record = json.loads((path / SUMS).read_text())
        files, own = record["files"], record["sha256"]
    except FileNotFoundError:
        raise InputError(f"{path / SUMS}: no such file; a whole checkpoint has one") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path / SUMS}: cannot be read ({_line(error)})") from None
    if own != _digest(files) or set(files) != set(_FILES):
        raise InputError(f"{path / SUMS}: its content does not match its own checksum")
    for name in _FILES:
        try:
            found = _sha256(path / name)
        except OSError as error:
            raise InputError(f"{path / name}: cannot be read ({error.strerror})") from None
        if found != files[name]["sha256"]:
            raise InputError(f"{path / name}: its content does not match its checksum")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint whose checksums hold; no code in it is ever run.

    Args:
        path: The checkpoint.

    Returns:
        The payload that `write_checkpoint` was given, its tensors on the CPU.

    Raises:
        InputError: It is damaged, or of another version; the message names the file.
    """
    check_checkpoint(path)
    rest = json.loads((path / REST).read_text())
    if rest.get("format") != FORMAT:
        raise InputError(
            f"{path / REST}: format {rest.get('format')}; this version reads format {FORMAT}: use the "
            "version that wrote it"
        )
    payload: dict[str, Any] = decode(rest["payload"], load_file(path / STATE))
    if rest["has_weights"]:
        payload["state_dict"] = load_file(path / WEIGHTS)
    return payload


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that is whole, or none.

    A damaged one is passed over with a warning that names the file and the reason.

    Args:
        folder: The folder of checkpoints; it need not exist.

    Raises:
        InputError: The folder holds checkpoints of an earlier version.
    """
    for path in reversed(checkpoints_of(folder)):
        try:
            check_checkpoint(path)
        except InputError as error:
            logger.warning("a damaged checkpoint is passed over: %s", error)
            continue
        return path
    for old in sorted(folder.glob("step-*.ckpt"), reverse=True):
        check_checkpoint(old)
    return None


def newest_weights(folder: Path, prefix: str = "") -> dict[str, Tensor] | None:
    """Return the weights of the newest whole checkpoint whose names begin with a prefix, without it.

    Args:
        folder: The folder of checkpoints; it need not exist.
        prefix: Such as `objective.`.

    Returns:
        The weights on the CPU by name, or none if there is no whole checkpoint.

    Raises:
        InputError: The checkpoints are those of an earlier version.
    """
    path = newest_checkpoint(folder)
    if path is None:
        return None
    found = load_file(path / WEIGHTS)
    return {name[len(prefix) :]: v for name, v in found.items() if name.startswith(prefix)}


class FolderCheckpoints(CheckpointIO):
    """Lets a Lightning trainer save and restore checkpoints as folders.

    A path whose name is `step-` and a number is one of a row, of which the last `keep` stay; another
    name stands alone.

    Args:
        keep: How many whole checkpoints of a row stay, 1 or more.
    """

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; called on one process."""
        path = Path(path)
        if re.fullmatch(r"step-\d+", path.name):
            write_checkpoint(path.parent, checkpoint_step(path), checkpoint, self._keep)
        else:
            write_folder(path, checkpoint)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint to the CPU; the trainer moves it where it belongs."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, if it is there."""
        if Path(path).exists():
            _remove(Path(path))
