"""Vectors labelled as the schema of embeddings asks, and written."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from spinmark_training.embedding.vectors import Vectors
from spinmark_training.errors import InputError
from spinmark_training.sources import CohortLike, SplitLike, scan_sets

SCAN_COORDINATES = (
    "scan_id",
    "subject_id",
    "laterality",
    "joint_id",
    "visit",
    "rank",
    "days",
    "site",
    "scanner",
)
NOT_FINITE = "voxels or their scale are not finite"


def embeddings_dataset(
    vectors: npt.NDArray[np.float32],
    cohort: CohortLike,
    split: SplitLike,
    sequence: str,
    *,
    objective: str,
    encoder_hash: str,
    rows: npt.NDArray[np.int64] | None = None,
) -> xr.Dataset:
    """Label vectors as the schema of embeddings asks.

    Args:
        vectors: `(scan, feature)`, one row a scan of the sequence in the order of the cohort.
        cohort: The cohort.
        split: The split that the encoder was fitted with.
        sequence: The sequence.
        objective: What the encoder learnt from.
        encoder_hash: What identifies the encoder.
        rows: The scans that the vectors are of; none for all of the sequence.

    Raises:
        InputError: A value is not finite.
    """
    scans = cohort.scans(sequence).reset_index(drop=True)
    if rows is not None:
        scans = scans.iloc[rows].reset_index(drop=True)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputError(
            f"embedding: scan {scans['scan_id'][bad[0]]} has values that are not finite ({len(bad)} such "
            "scans); finite ones are accepted; look at the run's doctor.json"
        )
    sets = scan_sets(scans, split)
    coordinates: dict[str, Any] = {}
    for name in SCAN_COORDINATES:
        values = scans[name].to_numpy()
        if values.dtype.kind not in "iuf":
            values = values.astype(object)
        coordinates[name] = ("scan", values)
    coordinates["set"] = ("scan", sets["set"].to_numpy().astype(object))
    coordinates["fold"] = ("scan", sets["fold"].to_numpy(np.int64))
    coordinates["feature"] = ("feature", np.arange(vectors.shape[1]))
    return xr.Dataset(
        {"embedding": (("scan", "feature"), vectors.astype(np.float32))},
        coords=coordinates,
        attrs={
            "schema": "spinmark/embeddings",
            "version": 1,
            "sequence": sequence,
            "objective": objective,
            "encoder_hash": encoder_hash,
            "cohort_hash": cohort.hash,
            "split_hash": split.hash,
        },
    )


def with_uncertainty(dataset: xr.Dataset, vectors: Vectors, *, average: bool) -> xr.Dataset:
    """Add what random views tell of the embeddings.

    Adds `embedding_sd(scan, feature)`, the standard deviation over a scan's views, and
    `uncertainty(scan)`: the root of its summed squares, in units of the same figure between scans that
    are not test scans. At 1 the views of one scan differ as much as scans do.

    Args:
        dataset: The plain embeddings.
        vectors: Of the same scans, with views `(n, V, E)`.
        average: Whether the embedding becomes the mean over the plain scan and its views.

    Returns:
        The dataset with the variables.
    """
    views = vectors.views.astype(np.float64)
    sd = views.std(axis=1, ddof=1)
    fitted = (dataset["set"] != "test").to_numpy()
    known = vectors.plain[fitted if fitted.sum() > 1 else slice(None)].astype(np.float64)
    between = float(np.sqrt(known.var(axis=0, ddof=1).sum())) if len(known) > 1 else 0.0
    within = np.sqrt((sd**2).sum(axis=1))
    ratio = within / between if between > 0 else np.full(len(within), np.nan)
    if average:
        whole = np.concatenate([vectors.plain[:, None], views], axis=1).mean(axis=1)
        dataset = dataset.assign(embedding=(("scan", "feature"), whole.astype(np.float32)))
    return dataset.assign(
        embedding_sd=(("scan", "feature"), sd.astype(np.float32)),
        uncertainty=(("scan",), ratio.astype(np.float32)),
    )


def with_parts(dataset: xr.Dataset, parts: Mapping[str, tuple[int, int]]) -> xr.Dataset:
    """Say of each feature which part of the embedding it belongs to, in the coordinate `part(feature)`.

    Args:
        dataset: Embeddings.
        parts: By name, the first feature of a part and the one after its last; together all features.

    Raises:
        InputError: They are not those of the embedding.
    """
    count = dataset.sizes["feature"]
    names = np.full(count, "", dtype=object)
    for name, (start, stop) in parts.items():
        names[start:stop] = name
    if (names == "").any() or sum(stop - start for start, stop in parts.values()) != count:
        raise InputError(
            f"encoder.json: parts {dict(parts)}; the embedding has {count} features, of which each belongs "
            "to one part"
        )
    return dataset.assign_coords(part=("feature", names))


def with_crossfit(dataset: xr.Dataset, report: Mapping[str, Any]) -> xr.Dataset:
    """Mark embeddings of which each was made by the encoder that never saw the subject.

    `fold(scan)` then names that encoder, and downstream stages may take every subject as never seen.
    """
    return dataset.assign_attrs(crossfit=len(report["folds"]), alignment=json.dumps(dict(report)))


def issues_table(scan_ids: list[str]) -> pd.DataFrame:
    """List the scans that could not be embedded, in the columns of a cohort's issues."""
    return pd.DataFrame(
        {
            "source": pd.Series(scan_ids, dtype=object),
            "kind": "quarantined",
            "reason": NOT_FINITE,
            "action": "left out of the embeddings; ingest this scan again, or exclude it",
        }
    )


def write_embeddings(folder: Path, vectors: xr.Dataset) -> None:
    """Write `embeddings.zarr` into a folder.

    Beside it `alignment.json` of cross-fitted encoders, and `issues.parquet` of scans without embedding.

    Args:
        folder: The folder, which exists.
        vectors: A dataset by the schema of embeddings.
    """
    with warnings.catch_warnings():
        # Zarr v3 has no final specification of variable-length strings yet; readers of both kinds agree.
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")
        vectors.to_zarr(folder / "embeddings.zarr", mode="w", consolidated=False, zarr_format=3)
    if "alignment" in vectors.attrs:
        report = json.loads(vectors.attrs["alignment"])
        (folder / "alignment.json").write_text(json.dumps(report, indent=2) + "\n")
    if "quarantined" in vectors.attrs:
        left_out = json.loads(vectors.attrs["quarantined"])
        issues_table(left_out).to_parquet(folder / "issues.parquet", index=False)
