"""A set of label maps beside a cohort's volumes: written once, read lazily.

A cohort holds `labels/NAME.zarr`, with the layout of `images.zarr`, and `labels/NAME.json`, which is
replaced last and counts what the set holds; until then added label maps are invisible. Label maps that
stand never change: another segmentation of the same scans is another set.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from spinmark_data.cohort.direct import DirectArray
from spinmark_data.cohort.encode import shard_key
from spinmark_data.cohort.lazy import lazy_array
from spinmark_data.cohort.ledger import shard_checksum
from spinmark_data.cohort.location import Folder
from spinmark_data.cohort.reader import SELECTABLE, Cohort
from spinmark_data.cohort.volumes import VolumeArray, ZarrArray
from spinmark_data.errors import InputError

SCHEMA = "spinmark/labels"
VERSION = 1
FOLDER = "labels"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def manifest_file(name: str) -> str:
    """The file that counts what a set holds."""
    return f"{FOLDER}/{name}.json"


def images_folder(name: str) -> str:
    """The Zarr store of a set."""
    return f"{FOLDER}/{name}.zarr"


def checked_name(name: str) -> str:
    """A set's name, once it is known to be one.

    Raises:
        InputError: It is not; a name cannot lead out of the cohort.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"name '{name}' of a set of labels; letters, digits, _ and - make a name.")
    return name


def read_sets(folder: Folder) -> list[str]:
    """The names of the sets of label maps that a cohort has, sorted."""
    found = folder.names(FOLDER)
    names = [name.removeprefix(f"{FOLDER}/").removesuffix(".json") for name in found]
    return sorted(name for name in names if _NAME.fullmatch(name))


def read_labels_manifest(folder: Folder, name: str) -> dict[str, Any]:
    """What a set's file holds.

    Raises:
        InputError: There is no such set, or it is of another version.
    """
    file = f"{folder.url}/{manifest_file(name)}"
    try:
        manifest = json.loads(folder.read(manifest_file(name)))
    except FileNotFoundError:
        raise InputError(
            f"{folder.url} has no label maps '{name}'; it has {read_sets(folder)}."
        ) from None
    except ValueError:
        raise InputError(f"{file} cannot be read; add the labels again.") from None
    found = (manifest.get("schema"), manifest.get("version")) if isinstance(manifest, dict) else ()
    if found != (SCHEMA, VERSION):
        raise InputError(f"{file} is not of schema '{SCHEMA}' version {VERSION}; add labels anew.")
    return cast("dict[str, Any]", manifest)


class LabelSet:
    """A set of label maps of one cohort; open one with `LabelSet.open(cohort, name)`.

    Attributes:
        folder: Where the cohort lies.
        manifest: What `labels/NAME.json` holds.
        name: Name of the set.
    """

    def __init__(self, cohort: Cohort, name: str, manifest: dict[str, Any]) -> None:
        self.folder = cohort.folder
        self.manifest = manifest
        self.name = name
        self._cohort = cohort

    @classmethod
    def open(cls, cohort: Cohort, name: str = "labels") -> "LabelSet":
        """Open a set.

        Raises:
            InputError: The cohort has no such set, or one of another version.
        """
        return cls(cohort, name, read_labels_manifest(cohort.folder, checked_name(name)))

    @property
    def hash(self) -> str:
        """The hash of the content."""
        return str(self.manifest["hash"])

    @property
    def codes(self) -> dict[int, str]:
        """What codes mean."""
        return {int(code): str(name) for code, name in self.manifest["codes"].items()}

    @property
    def sequences(self) -> tuple[str, ...]:
        """The sequences that have label maps, sorted."""
        return tuple(sorted(self.manifest["sequences"]))

    def _entry(self, sequence: str) -> dict[str, Any]:
        if sequence not in self.manifest["sequences"]:
            raise InputError(
                f"No label maps of '{sequence}' in '{self.name}'; there are of {list(self.sequences)}."
            )
        return cast("dict[str, Any]", self.manifest["sequences"][sequence])

    def indices(self, sequence: str) -> NDArray[np.int64]:
        """The place of each label map's scan in `Cohort.scans(sequence)`.

        Raises:
            InputError: There are none of this sequence.
        """
        found = self._in_cohort(sequence)
        return found[found >= 0]

    def places(self, sequence: str) -> NDArray[np.int64]:
        """The place of each of these label maps in the set, as `crop` takes it."""
        return np.flatnonzero(self._in_cohort(sequence) >= 0)

    def _in_cohort(self, sequence: str) -> NDArray[np.int64]:
        """Places in the cohort; -1 where an earlier generation lacks a scan that was labelled later."""
        rows = self._cohort.scans(sequence)
        place = {str(scan): index for index, scan in enumerate(rows["scan_id"])}
        found = [place.get(row["scan_id"], -1) for row in self._entry(sequence)["rows"]]
        return np.array(found, dtype=np.int64)

    def without_rows(self) -> "LabelSet":
        """The same for a worker that is told places: small however many label maps there are."""
        sequences = {
            name: {**entry, "rows": []} for name, entry in self.manifest["sequences"].items()
        }
        return LabelSet(self._cohort, self.name, {**self.manifest, "sequences": sequences})

    def crop(
        self, sequence: str, index: int, start: Sequence[int], size: Sequence[int]
    ) -> NDArray[Any]:
        """A box of one label map.

        Args:
            sequence: The sequence.
            index: Its place in the set, as in `dataset`.
            start: First voxel `(z, y, x)`.
            size: Voxels along each axis.
        """
        entry = self._entry(sequence)
        out = np.empty(tuple(size), np.dtype(entry["dtype"]))
        below = images_folder(self.name)
        array: VolumeArray | None = None
        if self.folder.local is not None:
            array = DirectArray.open(self.folder.local / below / sequence / "volume")
        array = array or ZarrArray(self.folder.zarr_store(below), sequence)
        array.read(index, start, out)
        return out

    def read(self, sequence: str, scan_id: str) -> NDArray[Any]:
        """The label map of one scan, `(z, y, x)`, on the scan's grid and mirrored as it is.

        Raises:
            InputError: The scan has none.
        """
        entry = self._entry(sequence)
        for index, row in enumerate(entry["rows"]):
            if row["scan_id"] == scan_id:
                return self.crop(sequence, index, (0, 0, 0), entry["shape"])
        raise InputError(f"Scan {scan_id} has no label map in '{self.name}'.")

    def dataset(self, sequence: str) -> xr.Dataset:
        """Label maps as a lazy Dataset: `labels(scan, z, y, x)`, with the coordinates of the scans.

        Only scans that have a label map are there; `indices` tells their places in the cohort.
        """
        entry = self._entry(sequence)
        chosen = self.indices(sequence)
        scans, affine, _ = self._cohort.coordinates(sequence)
        places = self.places(sequence)
        shape = (len(entry["rows"]), *entry["shape"])
        whole = lazy_array(cast("Any", self), sequence, shape, np.dtype(entry["dtype"]))
        dataset = xr.Dataset(
            {
                "labels": (("scan", "z", "y", "x"), whole[places]),
                "affine": (("scan", "row", "column"), affine[chosen]),
            },
            coords={name: ("scan", scans[name].to_numpy()[chosen]) for name in scans.columns},
            attrs={"codes": json.dumps(self.codes), "set": self.name},
        )
        for name in SELECTABLE:
            dataset = dataset.set_xindex(name)
        return dataset

    def verify(self) -> list[str]:
        """The scans whose stored label map is absent or does not have its checksum."""
        bad = []
        for sequence in self.sequences:
            for index, row in enumerate(self._entry(sequence)["rows"]):
                try:
                    key = shard_key(sequence, index, 3)
                    data = self.folder.read(f"{images_folder(self.name)}/{key}")
                except FileNotFoundError:
                    bad.append(str(row["scan_id"]))
                    continue
                if shard_checksum(data) != {key: row[key] for key in ("crc32c", "bytes")}:
                    bad.append(str(row["scan_id"]))
        return bad


def label_problems(cohort: Cohort) -> list[tuple[str, str]]:
    """Every stored label map of a cohort that is not as it was written: its set, and what is wrong."""
    return [
        (manifest_file(name), f"the label map of scan {scan_id} is absent or damaged")
        for name in read_sets(cohort.folder)
        for scan_id in LabelSet.open(cohort, name).verify()
    ]


def labels(cohort: Cohort, sequence: str, name: str = "labels") -> xr.DataArray:
    """The label maps of a sequence, lazily: `labels(scan, z, y, x)`, on the grids of their scans.

    Raises:
        InputError: The cohort has no such set, or it holds none of this sequence.
    """
    return LabelSet.open(cohort, name).dataset(sequence)["labels"]
