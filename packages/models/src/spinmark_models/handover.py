"""An encoder made ready for somebody who has neither the cohort nor the rest of spinmark.

The folder holds the encoder's own two files, byte for byte, and beside them

- `use.json`: how the axes of a volume run, and a check: the vector of a made-up volume,
- `encoder.onnx`, where it was asked for,
- `README.md`: what to do, in words.

Who gets it runs `check_folder` first, and then `spinmark_models.embed.embed_volumes`.
"""

import json
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spinmark_models.embed import check_volume, embed_volumes
from spinmark_models.errors import InputError
from spinmark_models.export import EncoderSpec, load_encoder
from spinmark_models.onnx_file import check_of, write_onnx
from spinmark_models.onnx_graph import OnnxCheck

USE_SCHEMA = "spinmark/encoder-use"
VERSION = 1
FILES = ("encoder.json", "model.safetensors")
CHECK_TOLERANCE = 1e-4
"""Largest difference of a feature from the vector in `use.json`, over that vector's root mean square."""
_TELLING = 5


@dataclass(frozen=True, kw_only=True)
class HandedOver:
    """What `hand_over` wrote.

    Attributes:
        spec: The encoder's page.
        onnx: How well the ONNX file agrees with it, where there is one.
    """

    spec: EncoderSpec
    onnx: OnnxCheck | None


def hand_over(
    encoder: Path,
    out: Path,
    *,
    axes: str | None = None,
    onnx: bool = False,
    names: Collection[str] = (),
) -> HandedOver:
    """Fills a folder for somebody else.

    Args:
        encoder: The encoder's folder.
        out: The folder to fill; made if absent.
        axes: How training volumes lay: which way axes run, and whether left joints are mirrored.
        onnx: Whether to write `encoder.onnx` too.
        names: Identifiers of participants; none of them may stand in what is handed over.

    Returns:
        The encoder's page, and how well the ONNX file agrees.

    Raises:
        InputError: The encoder cannot be read, its page names a participant, or the ONNX file cannot be
            made or disagrees.
    """
    encoder, out = Path(encoder), Path(out)
    network, spec = load_encoder(encoder)
    refuse_names(encoder / "encoder.json", names)
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(encoder / name, out / name)
    told = {"axes": axes} if axes else {}
    checked = None
    if onnx:
        checked = write_onnx((network, spec), out / "encoder.onnx", metadata=told)
    use: dict[str, Any] = {
        "schema": USE_SCHEMA,
        "version": VERSION,
        "weights_sha256": spec.weights_sha256,
        "axes": axes,
        "check": check_of(network, spec),
        "onnx": None if checked is None else asdict(checked),
    }
    (out / "use.json").write_text(json.dumps(use, indent=2) + "\n")
    (out / "README.md").write_text(_readme(spec, axes, checked))
    return HandedOver(spec=spec, onnx=checked)


def refuse_names(page: Path, names: Collection[str]) -> None:
    """Makes sure that an encoder's page names no participant.

    Args:
        page: `encoder.json`.
        names: The participants' identifiers.

    Raises:
        InputError: One stands there, as a key, a text, a word of one, or a number.
    """
    known = set(map(str, names))
    # Short identifiers, such as 12, stand in many a text by chance.
    telling = {name for name in known if len(name) >= _TELLING}
    for where, text in _words(json.loads(page.read_text())):
        # A scan_id or a joint_id has the subject's name before its first colon.
        found = known & {text} or telling & set(re.split(r"[:/\s,;]+", text))
        if found:
            raise InputError(
                f"{page}: {where} names participant {min(found)}; nothing was written. An encoder's page "
                "may name no participant."
            )


def check_folder(folder: Path | str, *, tolerance: float = CHECK_TOLERANCE) -> float:
    """Embeds the made-up volume on this machine, and compares with what the sender's machine gave.

    Args:
        folder: A folder that `hand_over` filled.
        tolerance: The largest difference accepted, over the root mean square of the vector.

    Returns:
        The largest difference of a feature, over the same.

    Raises:
        InputError: A file is absent or damaged, the files are not of one encoder, or the vectors differ.
    """
    folder = Path(folder)
    loaded = load_encoder(folder)
    spec = loaded[1]
    path = folder / "use.json"
    try:
        use = json.loads(path.read_text())
        if (use["schema"], use["version"]) != (USE_SCHEMA, VERSION):
            raise InputError(
                f"{path} says schema {use['schema']!r}, version {use['version']!r}; this release reads "
                f"{USE_SCHEMA!r}, version {VERSION}."
            )
        expected = np.asarray(use["check"]["embedding"], np.float64)
        sha256 = str(use["weights_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is absent or damaged: {error!r}.") from error
    if sha256 != spec.weights_sha256:
        raise InputError(
            f"{path} is of the encoder {sha256[:12]}..., beside it lies {spec.weights_sha256[:12]}...; "
            "copy the whole folder again."
        )
    found = embed_volumes(loaded, check_volume(spec.input_shape), spacing_mm=spec.spacing_mm)[0]
    if found.shape != expected.shape:
        raise InputError(f"{path} holds {expected.size} features; the encoder makes {found.size}.")
    root_mean_square = float(np.sqrt(np.mean(expected**2)))
    difference = float(np.abs(found - expected).max()) / max(root_mean_square, 1e-30)
    if not difference <= tolerance:
        raise InputError(
            f"{folder}: the check's vector differs by {difference:.2g} from that of {path}; {tolerance:g} is "
            "accepted. encoder.json was changed, or this machine computes in another way."
        )
    return difference


def _words(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every key, text and number of a page, with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (where or "a key"), str(key)
            yield from _words(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _words(inner, f"{where}[{i}]")
    elif isinstance(value, str):
        yield where, value
    elif isinstance(value, int) and len(str(value)) >= _TELLING:
        yield where, str(value)


def _readme(spec: EncoderSpec, axes: str | None, onnx: OnnxCheck | None) -> str:
    shape = " x ".join(map(str, spec.input_shape))
    spacing = " x ".join(f"{s:g}" for s in spec.spacing_mm)
    sequence = spec.extra.get("sequence")
    lines = [
        "# An image encoder",
        "",
        f"A volume becomes a vector of {spec.config.embedding} numbers. No table and no other scan is needed.",
        "",
        f"- Grid: {shape} voxels (z, y, x), at {spacing} mm.",
        f"- A volume lies: {axes or 'not told; ask who made this folder'}.",
        f"- Sequence: {sequence or 'not told; ask who made this folder'}.",
        f"- sha256 of model.safetensors: {spec.weights_sha256}",
        "",
        "With spinmark-models alone:",
        "",
        "    from spinmark_models.embed import embed_volumes",
        "    from spinmark_models.handover import check_folder",
        "",
        '    check_folder("this-folder")',
        f'    embed_volumes("this-folder", volume, spacing_mm={spec.spacing_mm})',
        "",
    ]
    if onnx is not None:
        lines += [
            "encoder.onnx is the same network for other languages; its metadata say what to do with the",
            f"intensities first. It agrees within {onnx.difference:.1g} standard deviations of the embedding.",
            "",
        ]
    return "\n".join(lines)
