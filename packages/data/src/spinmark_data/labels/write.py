"""Writing a set of label maps: staged shards to their places, and the file that counts them last."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.cohort.encode import encode_root, encode_sequence, shard_key
from spinmark_data.cohort.location import Folder
from spinmark_data.cohort.manifest import digest
from spinmark_data.errors import InputError
from spinmark_data.labels.store import SCHEMA, VERSION, images_folder, manifest_file


@dataclass(frozen=True, kw_only=True)
class StagedLabels:
    """One label map, whose shard lies where unfinished work does.

    Args:
        scan_id: Its scan.
        sequence: The scan's sequence.
        index: The scan's place in the sequence.
        staged: The shard's file within the cohort.
        checksum: Of the shard, after `cohort.ledger.shard_checksum`.
        codes: The codes that it holds, sorted, without 0.
        sha256: Of the file that it came from.
    """

    scan_id: str
    sequence: str
    index: int
    staged: str
    checksum: Mapping[str, Any]
    codes: Sequence[int]
    sha256: str


class LabelsWriter:
    """Adds label maps to a set; readers see them after `finish`.

    Args:
        folder: The cohort.
        name: Name of the set.
        codes: What codes mean, by code as text.
        sequences: What the set's file says of its sequences so far; added to.
    """

    def __init__(
        self, folder: Folder, name: str, codes: Mapping[str, str], sequences: dict[str, Any]
    ) -> None:
        self._folder = folder
        self._name = name
        self._codes = dict(codes)
        self._sequences = sequences
        self._write(encode_root())

    def _write(self, files: Mapping[str, bytes]) -> None:
        for key, data in files.items():
            self._folder.write(f"{images_folder(self._name)}/{key}", data)

    def add(
        self,
        sequence: str,
        taken: Sequence[StagedLabels],
        *,
        shape: Sequence[int],
        dtype: str,
        scans: pd.DataFrame,
        affine: NDArray[np.float64],
    ) -> None:
        """Put staged shards where they stay, in the order of their scans, and lengthen coordinates.

        Args:
            sequence: Their sequence.
            taken: The label maps.
            shape: `(z, y, x)`.
            dtype: How codes are stored.
            scans: All rows of the sequence in the cohort.
            affine: `(scan, 4, 4)` of these rows.

        Raises:
            InputError: The set stores this sequence as another type.
        """
        entry = self._sequences.setdefault(
            sequence, {"shape": list(shape), "dtype": dtype, "rows": []}
        )
        if entry["dtype"] != dtype:
            raise InputError(
                f"'{self._name}' stores {sequence} as {entry['dtype']}; set dtype to that."
            )
        below = images_folder(self._name)
        group = sorted(taken, key=lambda one: one.index)
        for place, one in enumerate(group, len(entry["rows"])):
            self._folder.place(one.staged, f"{below}/{shard_key(sequence, place, 3)}")
            row = {"scan_id": one.scan_id, "source_sha256": one.sha256, "codes": list(one.codes)}
            entry["rows"].append({**row, **one.checksum})
        place_of = {str(scan): index for index, scan in enumerate(scans["scan_id"])}
        order = [place_of[row["scan_id"]] for row in entry["rows"]]
        # Codes are no intensities: the scan's scale says nothing of them.
        rows = scans.iloc[order].reset_index(drop=True).assign(scale=1.0, offset=0.0)
        rows["source_sha256"] = pd.Series([r["source_sha256"] for r in entry["rows"]], dtype=object)
        self._write(
            encode_sequence(
                sequence, shape=shape, dtype=np.dtype(dtype), scans=rows, affine=affine[order]
            )
        )

    def finish(self) -> None:
        """Write the file that counts what the set holds."""
        content = {"codes": self._codes, "sequences": self._sequences}
        whole = {"schema": SCHEMA, "version": VERSION, **content, "hash": digest(content)}
        text = json.dumps(whole, indent=1, sort_keys=True) + "\n"
        self._folder.write(manifest_file(self._name), text.encode())
