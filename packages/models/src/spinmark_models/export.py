"""Encoders as files: weights in safetensors beside a JSON page that says how to use them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from spinmark_models.clinical import TabularEncoder, build_clinical_encoder
from spinmark_models.config import ClinicalEncoderConfig, EncoderConfig, IntensityRule
from spinmark_models.encoders import ImageEncoder, Shape3, build_encoder
from spinmark_models.encoders.settings import as_tuples, resolve
from spinmark_models.errors import InputError
from spinmark_models.intensity import as_rule
from spinmark_models.tables import TableSchema

ENCODER_SCHEMA = "spinmark/encoder"
CLINICAL_SCHEMA = "spinmark/clinical-encoder"
VERSION = 1
# What every page of version 1 says of an encoder; fields that came later are None where absent.
_FIRST_FIELDS = frozenset(
    ("name", "widths", "patch", "stem_kernel", "embedding", "norm", "groups", "in_channels")
)


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """What must be known beside the weights to embed a volume.

    Args:
        config: The architecture.
        input_shape: Grid (z, y, x).
        spacing_mm: Voxel spacing (z, y, x) in millimetres.
        intensity: The intensity rule.
        weights_sha256: Hash of the weights' file: the encoder's identity.
        extra: What the trainer added, such as the objective.
    """

    config: EncoderConfig
    input_shape: Shape3
    spacing_mm: tuple[float, float, float]
    intensity: IntensityRule
    weights_sha256: str
    extra: dict[str, Any]


def _write(folder: Path, module: nn.Module, page_name: str, page: dict[str, Any]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.safetensors"
    # Memory layout is no part of a tensor's content: equal weights must make equal files.
    save_file({k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}, weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    page = {**page, "version": VERSION, "weights_sha256": digest}
    (folder / page_name).write_text(json.dumps(page, indent=2, sort_keys=True) + "\n")
    return digest


def _read_page(folder: Path, page_name: str, schema: str) -> dict[str, Any]:
    path = folder / page_name
    try:
        page = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path} is absent; {folder} holds no encoder of spinmark.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}.") from error
    found = (page.get("schema"), page.get("version")) if isinstance(page, dict) else (None, None)
    if found != (schema, VERSION):
        raise InputError(
            f"{path} says schema {found[0]!r}, version {found[1]!r}; this release reads "
            f"{schema!r}, version {VERSION}."
        )
    return dict(page)


def _load_weights(folder: Path, module: nn.Module, expected_sha256: object) -> None:
    path = folder / "model.safetensors"
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if digest != expected_sha256:
        raise InputError(
            f"{path} has sha256 {digest[:12]}..., its JSON page names "
            f"{str(expected_sha256)[:12]}...; the two are not of one encoder, copy both again."
        )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise InputError(f"{path} does not fit its JSON page: {first}") from error


def save_encoder(
    folder: Path,
    encoder: ImageEncoder,
    *,
    config: EncoderConfig,
    input_shape: Shape3,
    spacing_mm: tuple[float, float, float],
    intensity: IntensityRule | Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Writes `model.safetensors` and `encoder.json`.

    Args:
        folder: Made if absent.
        encoder: The encoder.
        config: Its architecture; fields left at None are written with the encoder's own values.
        input_shape: Grid (z, y, x).
        spacing_mm: Voxel spacing (z, y, x) in millimetres.
        intensity: The intensity rule it was trained with.
        extra: Anything else worth keeping that JSON can hold.

    Returns:
        The sha256 of the weights' file.

    Raises:
        InputError: The intensity rule is impossible.
    """
    page = {
        "schema": ENCODER_SCHEMA,
        # Every value and not only those that were set: another release may have other ones of its own.
        "config": asdict(resolve(config)),
        "input_shape": [int(s) for s in input_shape],
        "spacing_mm": [float(s) for s in spacing_mm],
        "intensity": asdict(as_rule(intensity)),
        "extra": dict(extra or {}),
    }
    return _write(Path(folder), encoder, "encoder.json", page)


def load_encoder(folder: Path) -> tuple[ImageEncoder, EncoderSpec]:
    """Reads what `save_encoder` wrote; the encoder is in evaluation mode.

    Raises:
        InputError: A file is absent, damaged, of another version, or does not fit the other.
    """
    folder = Path(folder)
    page = _read_page(folder, "encoder.json", ENCODER_SCHEMA)
    try:
        raw = page["config"]
        absent = sorted(_FIRST_FIELDS - set(raw))
        if absent:
            raise KeyError(absent[0])
        config = EncoderConfig(**{k: as_tuples(v) for k, v in raw.items()})
        z, y, x = (int(s) for s in page["input_shape"])
        dz, dy, dx = (float(s) for s in page["spacing_mm"])
        spec = EncoderSpec(
            config=config,
            input_shape=(z, y, x),
            spacing_mm=(dz, dy, dx),
            intensity=as_rule(page["intensity"]),
            weights_sha256=str(page["weights_sha256"]),
            extra=dict(page["extra"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / 'encoder.json'} is damaged: {error!r}.") from error
    try:
        encoder = build_encoder(spec.config, spec.input_shape)
    except (InputError, TypeError) as error:
        raise InputError(f"{folder / 'encoder.json'} names no encoder: {error}") from error
    _load_weights(folder, encoder, spec.weights_sha256)
    return encoder.eval(), spec


def save_clinical(folder: Path, encoder: TabularEncoder) -> str:
    """Writes a clinical encoder: `model.safetensors` and `clinical.json` with its table schema.

    The schema tells of training rows by quantiles and shares of each column, and holds no row.

    Returns:
        The sha256 of the weights' file.
    """
    page = {
        "schema": CLINICAL_SCHEMA,
        "config": asdict(encoder.config),
        "table": json.loads(encoder.schema.to_json()),
    }
    return _write(Path(folder), encoder, "clinical.json", page)


def load_clinical(folder: Path) -> TabularEncoder:
    """Reads what `save_clinical` wrote; the encoder is in evaluation mode.

    Raises:
        InputError: A file is absent, damaged, of another version, or does not fit the other.
    """
    folder = Path(folder)
    page = _read_page(folder, "clinical.json", CLINICAL_SCHEMA)
    try:
        schema = TableSchema.from_json(json.dumps(page["table"]))
        config = ClinicalEncoderConfig(**{k: as_tuples(v) for k, v in page["config"].items()})
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'clinical.json'} is damaged: {error!r}.") from error
    encoder = build_clinical_encoder(schema, config)
    _load_weights(folder, encoder, page.get("weights_sha256"))
    return encoder.eval()
