"""Modes of bone shape that stand in a cohort, so that later visits are scored by the same ones.

A file `shapes/BONE-DIGEST.npz` is named by its content and never changes. The generation that was
measured with it says so in its provenance, with whom it was fitted on: the split, the settings and the
cohort as it was. Files are written before `cohort.json`, so that what it names is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from spinmark_data.cohort.location import Folder
from spinmark_data.cohort.manifest import sha256
from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.morphometry.shape import ShapeModel

FOLDER = "shapes"
KEY = "shapes"


@dataclass(frozen=True, kw_only=True)
class ShapeModes:
    """Modes of some bones, and where they came from.

    Args:
        models: By bone.
        record: What the provenance of a generation says of them.
    """

    models: Mapping[str, ShapeModel]
    record: Mapping[str, Any]


def describe_modes(models: Mapping[str, ShapeModel], origin: Mapping[str, Any]) -> ShapeModes:
    """Modes with their record: `origin`, and of each bone its file, sha256 and what it explains."""
    entries = {}
    for bone, model in sorted(models.items()):
        digest = sha256(model.to_bytes())
        entries[bone] = {
            "file": f"{FOLDER}/{bone}-{digest[:16]}.npz",
            "sha256": digest,
            "subjects": len(model.subjects),
            "explained": [round(float(share), 4) for share in model.explained],
        }
    return ShapeModes(models=models, record={**origin, "models": entries})


def write_modes(folder: Folder, modes: ShapeModes) -> None:
    """Write the files of some modes; call it before the generation that names them is finished."""
    for bone, entry in modes.record["models"].items():
        folder.write(entry["file"], modes.models[bone].to_bytes())


def carry_modes(cohort: Cohort, folder: Folder) -> dict[str, Any]:
    """Copy the modes that stand in a cohort into another that is made from it.

    Args:
        cohort: Where they stand.
        folder: The other cohort, before its `cohort.json` is written.

    Returns:
        What its provenance has to say of them; empty if there are none.

    Raises:
        InputError: A file is absent or damaged.
    """
    record = kept_record(cohort)
    if record is None:
        return {}
    write_modes(folder, read_modes(cohort, record))
    return {KEY: record}


def kept_record(cohort: Cohort) -> dict[str, Any] | None:
    """What is said of the modes that were last fitted in a cohort; None if there are none."""
    for entry in reversed(cohort.manifest["generations"]):
        record = entry["provenance"].get(KEY)
        if record and entry["generation"] <= cohort.generation:
            return cast("dict[str, Any]", record)
    return None


def read_modes(cohort: Cohort, record: Mapping[str, Any]) -> ShapeModes:
    """The modes that a record tells of.

    Raises:
        InputError: A file is absent or damaged.
    """
    models = {}
    for bone, entry in record["models"].items():
        if problem := _problem(cohort.folder, entry):
            raise InputError(
                f"{cohort.folder.url}/{entry['file']}: {problem}; restore it from a copy of the cohort, "
                "or fit anew with --split and --refit."
            )
        models[bone] = ShapeModel.from_bytes(cohort.folder.read(entry["file"]))
    return ShapeModes(models=models, record=record)


def shape_problems(cohort: Cohort) -> list[tuple[str, str]]:
    """Every file of modes that is not as it was written: its name, and what is wrong."""
    entries = {
        entry["file"]: entry
        for generation in cohort.manifest["generations"]
        for entry in generation["provenance"].get(KEY, {}).get("models", {}).values()
    }
    found = ((name, _problem(cohort.folder, entries[name])) for name in sorted(entries))
    return [(name, problem) for name, problem in found if problem]


def _problem(folder: Folder, entry: Mapping[str, Any]) -> str:
    try:
        content = folder.read(entry["file"])
    except FileNotFoundError:
        return "absent"
    return "" if sha256(content) == entry["sha256"] else "its sha256 is not that of its record"
