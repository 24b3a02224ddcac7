"""A cohort that stands, cut to its joints: a new cohort of the same scans on a smaller grid.

Scans are cut in parallel and their shards staged; the rest is written once, in the order of the parent
cohort, so that nothing depends on the number of workers. `cohort.json` comes last.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from spinmark_data.cluster import run_tasks
from spinmark_data.cluster_config import ClusterConfig
from spinmark_data.cohort.generation import GenerationWriter
from spinmark_data.cohort.ledger import Record
from spinmark_data.cohort.location import Folder, locate
from spinmark_data.cohort.lock import sole_writer
from spinmark_data.cohort.manifest import FILE, STAGING, digest, staging_folder
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.sink import open_sink
from spinmark_data.errors import InputError
from spinmark_data.labels.store import LabelSet, checked_name, read_sets
from spinmark_data.preprocess.crop_config import CropConfig
from spinmark_data.preprocess.crop_scan import CropWork, StoredScan, cut_scan
from spinmark_data.preprocess.crop_write import new_tables, write_images, write_labels
from spinmark_data.preprocess.grid import target_grid

Progress = Callable[[int, int], None]
_BELOW = staging_folder(1)
_MARK = f"{_BELOW}/crop"
_KILLED = "the process that cut it was killed again and again (out of memory?)"


@dataclass(frozen=True, kw_only=True)
class CropSummary:
    """What a crop did.

    Args:
        scans: Scans that the new cohort holds, by sequence.
        quarantined: Scans without anything to cut about.
        refused: Scans that could not be cut otherwise.
        labels: Label maps that went along, by set.
    """

    scans: dict[str, int]
    quarantined: int
    refused: int
    labels: dict[str, int]


def crop_cohort(
    cohort: Cohort | Folder | Path | str,
    out: Folder | Path | str,
    config: CropConfig,
    progress: Progress | None = None,
) -> CropSummary:
    """Make a new cohort of the scans of one that stands, cut about their joints.

    Scans keep their rows (identifiers, days, sites, hashes of their sources); scale and offset change
    only where voxels are resampled. All tables go along, `issues` and `flow` gaining rows, and so do all
    label maps of the scans that are taken. The cohort that stands is only read.

    Args:
        cohort: The cohort to cut.
        out: Where to write the new one: a folder, or a URL that fsspec knows.
        config: Settings.
        progress: Called with scans done and scans asked for.

    Raises:
        InputError: A sequence, a set of label maps or a code is unknown, no scan can be cut, a stored
            scan is damaged, or there is something else at `out`.
    """
    parent = cohort if isinstance(cohort, Cohort) else Cohort.open(cohort)
    sequences = _sequences(parent, config)
    names = read_sets(parent.folder)
    if config.centre == "labels" and config.labels not in names:
        LabelSet.open(parent, checked_name(config.labels))  # Tells which there are.
    sets = {name: LabelSet.open(parent, name) for name in names}
    codes = _codes(sets[config.labels], config) if config.centre == "labels" else []
    folder = locate(out)
    with sole_writer(folder):
        if folder.exists(FILE):
            raise InputError(f"{folder.url} holds a cohort already; choose another folder.")
        _clear(folder)
        try:
            return _crop(parent, folder, config, sequences, sets, codes, progress)
        except BaseException:
            with suppress(InputError, OSError):
                _clear(folder)
            raise


def _sequences(parent: Cohort, config: CropConfig) -> list[str]:
    asked = parent.sequences if config.sequences is None else config.sequences
    if unknown := sorted(set(asked) - set(parent.sequences)):
        raise InputError(f"Unknown sequences {unknown}. This cohort has {list(parent.sequences)}.")
    return sorted(set(asked))


def _codes(found: LabelSet, config: CropConfig) -> list[int]:
    """The codes to lie in the middle."""
    if config.codes is not None:
        if unknown := sorted(set(config.codes) - set(found.codes)):
            raise InputError(
                f"codes {unknown} mean nothing in '{found.name}'; it has {found.codes}."
            )
        return sorted(set(config.codes))
    if codes := sorted(code for code, name in found.codes.items() if "cartilage" in name):
        return codes
    raise InputError(
        f"No code of '{found.name}' is named after cartilage; give --codes of {found.codes}."
    )


def _clear(folder: Folder) -> None:
    """Remove what a crop that was cut short left; anything else there is refused."""
    names = folder.names()
    ours = _MARK in names
    if not ours and any(not name.startswith(".") or name.startswith(STAGING) for name in names):
        raise InputError(f"{folder.url} holds files that are no cohort; choose another folder.")
    below = {name.partition("/")[0] for name in names} if ours else set()
    # The mark goes last.
    for name in sorted(name for name in below if not name.startswith(".")):
        folder.remove(name)
    folder.remove(_BELOW)


def _crop(
    parent: Cohort,
    folder: Folder,
    config: CropConfig,
    sequences: Sequence[str],
    sets: Mapping[str, LabelSet],
    codes: Sequence[int],
    progress: Progress | None,
) -> CropSummary:
    folder.write(_MARK, b"")
    scans = [scan for name in sequences for scan in _stored(parent, name, sets)]
    work = CropWork(
        cohort=parent,
        sets={name: found.without_rows() for name, found in sets.items()},
        out=folder,
        below=_BELOW,
        config=config,
        codes=codes,
        dtypes={name: _dtype(parent, name, config) for name in sequences},
    )
    records = _cut_all(work, scans, progress)
    taken = [record for record in records if record["status"] == "taken"]
    left_out = [record for record in records if record["status"] != "taken"]
    if not taken:
        first = f": {left_out[0]['scan_id']}: {left_out[0]['reason']}" if left_out else ""
        raise InputError(
            f"None of the {len(scans)} scans of {parent.folder.url} can be cut{first}."
        )
    recipe = {**config.settings, "codes": list(codes)}
    recipe["label_sets"] = {name: found.hash for name, found in sets.items()}
    writer = GenerationWriter(
        folder=folder,
        sink=open_sink(folder, parent.manifest["store"]),
        store=parent.manifest["store"],
    )
    written = write_images(writer, parent, work, taken, digest(recipe)[:16])
    labels = {name: write_labels(folder, sets[name], taken, written) for name in sets}
    # Slow to import. Scores of shape go along in the table, and so do the modes that they come from.
    from spinmark_data.morphometry.shape_store import carry_modes

    before = {**parent.manifest["provenance"], **carry_modes(parent, folder)}
    this = {"parent": parent.hash, "generation": parent.generation, **recipe}
    writer.finish(
        new_tables(parent, len(scans), records), {**before, "crop": [*before.get("crop", []), this]}
    )
    folder.remove(_BELOW)
    kinds = Counter(record["kind"] for record in left_out)
    return CropSummary(
        scans=dict(Counter(record["sequence"] for record in taken)),
        quarantined=kinds["quarantined"],
        refused=kinds["refused"],
        labels={name: count for name, count in labels.items() if count},
    )


def _stored(parent: Cohort, sequence: str, sets: Mapping[str, LabelSet]) -> list[StoredScan]:
    """The scans of a sequence, each with the places of its label maps."""
    places: dict[str, dict[str, int]] = {}
    for name, found in sets.items():
        entry = found.manifest["sequences"].get(sequence, {"rows": []})
        for place, row in enumerate(entry["rows"]):
            places.setdefault(str(row["scan_id"]), {})[name] = place
    rows, affine, _ = parent.coordinates(sequence)
    return [
        StoredScan(
            sequence=sequence,
            index=index,
            scan_id=str(row["scan_id"]),
            affine=affine[index],
            mirrored=bool(row["mirrored"]),
            scale=float(row["scale"]),
            offset=float(row["offset"]),
            places=places.get(str(row["scan_id"]), {}),
        )
        for index, row in enumerate(rows.to_dict("records"))
    ]


def _dtype(parent: Cohort, sequence: str, config: CropConfig) -> str:
    """How the cut voxels of a sequence are stored: as before, unless some scan is resampled."""
    own = parent.images(sequence)["volume"].dtype
    affines = parent.coordinates(sequence)[1]
    grids = (target_grid((1, 1, 1), one, spacing_mm=config.spacing_mm) for one in affines)
    whole = all(
        np.allclose(grid.affine[:3, :3], one[:3, :3], rtol=0, atol=1e-9)
        for grid, one in zip(grids, affines, strict=True)
    )
    return np.dtype(own if whole else np.int16).str


def _lost(scan: StoredScan) -> Record:
    told = {"sequence": scan.sequence, "index": scan.index, "scan_id": scan.scan_id}
    why = {"kind": "refused", "reason": _KILLED, "action": "use fewer workers, or more memory"}
    return {**told, "status": "refused", **why}


def _cut_all(work: CropWork, scans: list[StoredScan], progress: Progress | None) -> list[Record]:
    """A record a scan, in their order, whoever cut it."""
    found: dict[tuple[str, int], Record] = {}
    results = run_tasks(
        partial(cut_scan, work),
        scans,
        cluster=ClusterConfig(),
        workers=work.config.workers,
        lost=_lost,
    )
    for record in results:
        found[record["sequence"], record["index"]] = record
        if progress is not None:
            progress(len(found), len(scans))
    return [found[scan.sequence, scan.index] for scan in scans]
