"""One vector per scan, from a run's encoder."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from spinmark_models.config import IntensityRule
from spinmark_models.encoders import ImageEncoder
from spinmark_training.config import EmbedConfig
from spinmark_training.errors import InputError
from spinmark_training.sources import (
    CohortLike,
    ScanSource,
    SplitLike,
    check_accelerator,
    scan_sets,
)
from spinmark_training.views import plain_views

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

Progress = Callable[[int, int], None]


def embed_rows(
    encoder: ImageEncoder,
    source: ScanSource,
    rows: npt.NDArray[np.int64],
    intensity: IntensityRule,
    *,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> npt.NDArray[np.float32]:
    """Embed scans without augmentation, in evaluation mode; the encoder's mode is restored.

    Args:
        encoder: The encoder, on `device`.
        source: The scans.
        rows: Which, by row of the source.
        intensity: The rule the encoder was trained with.
        batch_size: Scans at a time.
        device: Where the encoder is.
        progress: Called with scans done and scans in all.

    Returns:
        `(n, E)`.
    """
    training = encoder.training
    encoder.eval()
    parts: list[npt.NDArray[np.float32]] = []
    try:
        with torch.inference_mode():
            for start in range(0, len(rows), batch_size):
                views = plain_views(source, rows[start : start + batch_size], intensity)
                parts.append(encoder(views.to(device)).embedding.float().cpu().numpy())
                if progress is not None:
                    progress(min(start + batch_size, len(rows)), len(rows))
    finally:
        encoder.train(training)
    return np.concatenate(parts)


def folder_hash(folder: Path) -> str:
    """Return the sha256 over the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def embeddings_dataset(
    vectors: npt.NDArray[np.float32],
    cohort: CohortLike,
    split: SplitLike,
    sequence: str,
    *,
    objective: str,
    encoder_hash: str,
) -> xr.Dataset:
    """Label vectors as the schema of embeddings asks.

    Args:
        vectors: `(scan, feature)`, one row a scan of the sequence in the order of the cohort.
        cohort: The cohort.
        split: The split that the encoder was fitted with.
        sequence: The sequence.
        objective: What the encoder learnt from.
        encoder_hash: What identifies the encoder.

    Raises:
        InputError: A value is not finite.
    """
    scans = cohort.scans(sequence).reset_index(drop=True)
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


def embed(
    cohort: CohortLike, run: Path, config: EmbedConfig, *, progress: Progress | None = None
) -> xr.Dataset:
    """Embed every scan of a sequence.

    Args:
        cohort: The cohort.
        run: The run; `set` and `fold` come from the split it was fitted with.
        config: Sequence, batch size and device.
        progress: Called with scans done and scans in all.

    Returns:
        A dataset by the schema of embeddings.

    Raises:
        InputError: No such sequence, scans on another grid, or a subject that the run's split lacks.
    """
    from spinmark_data.splits import read_split
    from spinmark_models.export import load_encoder

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.batch_size < 1:
        raise InputError(f"batch_size: {config.batch_size}; accepted are 1 and more")
    check_accelerator("accelerator", config.accelerator)
    encoder, spec = load_encoder(run / "encoder")
    sequence = config.sequence or str(spec.extra["sequence"])
    split: SplitLike = read_split(run)
    source = ScanSource(cohort, sequence, None)
    scan_sets(source.scans, split)  # before the work, not after it
    if source.shape != encoder.input_shape:
        raise InputError(
            f"sequence {sequence}: its grid is {source.shape}; the encoder of {run} takes "
            f"{encoder.input_shape}"
        )
    cuda = config.accelerator == "gpu" or (
        config.accelerator == "auto" and torch.cuda.is_available()
    )
    device = torch.device("cuda" if cuda else "cpu")
    vectors = embed_rows(
        encoder.to(device),
        source,
        source.rows,
        spec.intensity,
        batch_size=config.batch_size,
        device=device,
        progress=progress,
    )
    return embeddings_dataset(
        vectors,
        cohort,
        split,
        sequence,
        objective=str(spec.extra["objective"]),
        encoder_hash=folder_hash(run / "encoder"),
    )


def write_embeddings(folder: Path, vectors: xr.Dataset) -> None:
    """Write `embeddings.zarr` into a folder.

    Args:
        folder: The folder, which exists.
        vectors: A dataset by the schema of embeddings.
    """
    import warnings

    with warnings.catch_warnings():
        # Zarr v3 has no final specification of variable-length strings yet; readers of both kinds agree.
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")
        vectors.to_zarr(folder / "embeddings.zarr", mode="w", consolidated=False, zarr_format=3)
