"""The files of a cohort that was cut: staged shards to their places, label maps, tables."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.cohort.generation import GenerationWriter
from spinmark_data.cohort.ledger import Record, code_hash, read_ledger
from spinmark_data.cohort.location import Folder
from spinmark_data.cohort.reader import Cohort
from spinmark_data.ingest.geometry import spacing_of
from spinmark_data.ingest.merge_tables import append_rows
from spinmark_data.ingest.tableset import COLUMNS
from spinmark_data.labels.store import LabelSet
from spinmark_data.labels.write import LabelsWriter, StagedLabels
from spinmark_data.preprocess.crop_scan import CropWork

Coordinates = tuple[pd.DataFrame, NDArray[np.float64]]


def write_images(
    writer: GenerationWriter, parent: Cohort, work: CropWork, taken: list[Record], made_by: str
) -> dict[str, Coordinates]:
    """Put the staged shards of every sequence where they stay, and write their coordinates.

    Args:
        writer: Of the cut cohort.
        parent: The cohort that was cut.
        work: How.
        taken: Records of `cut_scan`, in the order of the parent cohort.
        made_by: What identifies the settings, for the ledger.

    Returns:
        The rows and affines of each sequence that has scans.
    """
    ledger = {row["scan_id"]: row for row in read_ledger(parent.folder, parent.generation)}
    written: dict[str, Coordinates] = {}
    for sequence in sorted({record["sequence"] for record in taken}):
        group = [record for record in taken if record["sequence"] == sequence]
        chosen = [record["index"] for record in group]
        rows, _, times = parent.coordinates(sequence)
        scans = rows.iloc[chosen].reset_index(drop=True)
        scans["scale"] = [record["scale"] for record in group]
        scans["offset"] = [record["offset"] for record in group]
        affine = np.array([record["affine"] for record in group])
        spacing = parent.manifest["sequences"][sequence]["spacing_mm"]
        if work.config.spacing_mm is not None:
            steps = [[round(step, 4) for step in spacing_of(one)] for one in affine]
            spacing = np.median(steps, axis=0).tolist()
        writer.add_sequence(
            sequence,
            shape=group[0]["shape"],
            spacing_mm=spacing,
            dtype=np.dtype(work.dtypes[sequence]),
            scans=scans,
            affine=affine,
            echo_time_ms=None if times is None else times[chosen],
        )
        for index, record in enumerate(group):
            writer.place_shard(record["staged"], sequence, index, len(record["shape"]))
            before = ledger[record["scan_id"]]
            kept = {key: before[key] for key in ("scan_id", "source", "listing", "source_sha256")}
            sums = {key: record[key] for key in ("crc32c", "bytes")}
            made = {"code": code_hash(), "config": made_by}
            writer.record({**kept, **sums, **made}, sequence, index)
        written[sequence] = (scans, affine)
    return written


def write_labels(
    folder: Folder,
    found: LabelSet,
    taken: list[Record],
    written: Mapping[str, Coordinates],
) -> int:
    """Write one set of label maps, if a scan that was taken has one.

    Args:
        folder: The cut cohort.
        found: The set of the cohort that was cut.
        taken: Records of `cut_scan`.
        written: What `write_images` returned.

    Returns:
        How many label maps it holds.
    """
    name = found.name
    having = [record for record in taken if name in record["labels"]]
    if not having:
        return 0
    writer = LabelsWriter(folder, name, found.manifest["codes"], {})
    for sequence in sorted({record["sequence"] for record in having}):
        entry = found.manifest["sequences"][sequence]
        hashes = {row["scan_id"]: row["source_sha256"] for row in entry["rows"]}
        scans, affine = written[sequence]
        place_of = {str(scan): index for index, scan in enumerate(scans["scan_id"])}
        staged = []
        for record in (record for record in having if record["sequence"] == sequence):
            one, scan_id = record["labels"][name], record["scan_id"]
            staged.append(
                StagedLabels(
                    scan_id=scan_id,
                    sequence=sequence,
                    index=place_of[scan_id],
                    staged=one["staged"],
                    checksum={key: one[key] for key in ("crc32c", "bytes")},
                    codes=one["codes"],
                    sha256=hashes[scan_id],
                )
            )
        shape = next(record["shape"] for record in having if record["sequence"] == sequence)[-3:]
        writer.add(sequence, staged, shape=shape, dtype=entry["dtype"], scans=scans, affine=affine)
    writer.finish()
    return len(having)


def new_tables(parent: Cohort, asked: int, records: list[Record]) -> dict[str, pd.DataFrame]:
    """The tables of the cohort that was cut; `issues` and `flow` tell what happened here, too.

    Args:
        parent: The cohort that was cut.
        asked: Scans of the sequences that were asked for.
        records: Records of `cut_scan`.
    """
    tables = {name: parent.table(name) for name in COLUMNS}
    issues = []
    for record in records:
        if record["status"] == "taken":
            issues += [(record["scan_id"], "repaired", *told) for told in record["repairs"]]
        else:
            told = (record["kind"], record["reason"], record["action"])
            issues.append((record["scan_id"], *told))
    rows = pd.DataFrame(issues, columns=list(COLUMNS["issues"]), dtype=object)
    tables["issues"] = append_rows(tables["issues"], rows)
    whole = sum(len(parent.scans(name)) for name in parent.sequences)
    kinds = Counter(record.get("kind", "taken") for record in records)
    flow: list[tuple[str, str, int, int, str]] = [("scans before cropping", "scans", whole, 0, "")]
    for step, n, why in (
        ("scans of other sequences", whole - asked, "not asked for"),
        ("scans without anything to cut about", kinds["quarantined"], "see issues"),
        ("scans that could not be cut", kinds["refused"], "see issues"),
    ):
        flow.append((step, "scans", flow[-1][2] - n, n, why if n else ""))
    flow.append(("scans cut and stored", "scans", kinds["taken"], 0, ""))
    more = pd.DataFrame(flow, columns=list(COLUMNS["flow"]))
    tables["flow"] = append_rows(tables["flow"], more)
    return tables
