"""One vector per scan, from a run's encoder or from the encoders of a cross-fitted run.

On one machine, and on a cluster as an array of jobs whose pieces the last command merges::

    spinmark embed --cohort COHORT --run RUN --out EMBEDDINGS --workers 4
    spinmark embed --cohort COHORT --run RUN --out EMBEDDINGS --shard 0/10
"""

import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import xarray as xr

from spinmark_training.config import EmbedConfig
from spinmark_training.embedding.crossfitted import Embedded, one_space
from spinmark_training.embedding.pieces import read_piece
from spinmark_training.embedding.plan import Member, Plan, folder_hash, make_plan
from spinmark_training.embedding.table import (
    NOT_FINITE,
    SCAN_COORDINATES,
    embeddings_dataset,
    with_crossfit,
    with_parts,
    with_uncertainty,
    write_embeddings,
)
from spinmark_training.embedding.vectors import Vectors, embed_rows
from spinmark_training.embedding.work import do_pieces
from spinmark_training.errors import InputError
from spinmark_training.sources import CohortLike

__all__ = [
    "SCAN_COORDINATES",
    "embed",
    "embed_rows",
    "embed_shard",
    "embeddings_dataset",
    "folder_hash",
    "write_embeddings",
]

Progress = Callable[[int, int], None]
# Options that change where and how fast, not what.
_INCIDENTAL = ("workers", "threads", "piece", "batch_size", "accelerator")
logger = logging.getLogger(__name__)


def _gather(member: Member, folder: Path) -> Vectors:
    """Put the pieces of a member together, in the order of its rows."""
    parts = []
    for piece in member.pieces:
        found = read_piece(folder, piece)
        if found is None:
            raise InputError(f"{folder}: piece {piece.name} has gone; run the same command again")
        parts.append(found)
    return Vectors(
        np.concatenate([part.plain for part in parts]),
        np.concatenate([part.views for part in parts]),
        np.concatenate([part.bad for part in parts]),
    )


def _one_space(plan: Plan, folder: Path, config: EmbedConfig) -> Embedded:
    found = {fold: _gather(member, folder) for fold, member in plan.members.items()}
    if plan.crossfit is None:
        return Embedded(found[0], None)
    return one_space(plan, found, config.align)


def _dataset(plan: Plan, cohort: CohortLike, made: Embedded, config: EmbedConfig) -> xr.Dataset:
    names = plan.scans["scan_id"].to_numpy().astype(str)
    left_out = sorted(names[made.vectors.bad])
    if left_out and (config.bad_scans == "refuse" or len(left_out) == len(names)):
        raise InputError(
            f"scan {left_out[0]}: {NOT_FINITE} ({len(left_out)} of {len(names)} scans); accepted are "
            "numbers, or bad_scans: quarantine, which embeds the others"
        )
    rows = np.flatnonzero(~made.vectors.bad)
    vectors = Vectors(made.vectors.plain[rows], made.vectors.views[rows], made.vectors.bad[rows])
    dataset = embeddings_dataset(
        vectors.plain,
        cohort,
        plan.split,
        plan.sequence,
        objective=plan.objective,
        encoder_hash=plan.encoder_hash,
        rows=rows,
    )
    # A command adds options of its own, such as paths, which are no part of this.
    names_of = [f.name for f in fields(EmbedConfig) if f.name not in _INCIDENTAL]
    told = {name: value for name, value in asdict(config).items() if name in names_of}
    dataset = dataset.assign_attrs(uses=json.dumps(plan.uses))
    dataset = dataset.assign_attrs(config=json.dumps(told | {"sequence": plan.sequence}))
    if config.views.count:
        dataset = with_uncertainty(dataset, vectors, average=config.views.average)
    if made.report is not None:
        dataset = with_crossfit(dataset, made.report)
    if plan.parts:
        dataset = with_parts(dataset, plan.parts)
    if left_out:
        logger.warning(
            "%d scans are left out, such as %s: %s", len(left_out), left_out[0], NOT_FINITE
        )
        dataset = dataset.assign_attrs(quarantined=json.dumps(left_out))
    return dataset


def embed(
    cohort: CohortLike,
    run: Path,
    config: EmbedConfig,
    *,
    pieces: Path | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Embed every scan of a sequence.

    The embeddings of a cross-fitted run are those of the encoder that never saw the subject, in a space
    that the encoders share.

    Args:
        cohort: The cohort.
        run: The run; `set` and `fold` come from the split it was fitted with.
        config: Sequence, batches, device, windows and views.
        pieces: A folder for work in progress: what is there already, from the same inputs, is not
            computed again. None for one that is removed at the end.
        progress: Called with scans done and scans in all.

    Returns:
        A dataset by the schema of embeddings.

    Raises:
        InputError: A setting is out of its range, there is no such sequence, the scans are on a grid that
            the encoder does not take, a subject has scans that the run's split lacks, or a scan gives no
            finite embedding.
    """
    plan = make_plan(cohort, run, config)
    if pieces is None:
        with tempfile.TemporaryDirectory(prefix="spinmark-") as folder:
            return _embed(plan, cohort, config, Path(folder), progress)
    return _embed(plan, cohort, config, pieces, progress)


def _embed(
    plan: Plan, cohort: CohortLike, config: EmbedConfig, folder: Path, progress: Progress | None
) -> xr.Dataset:
    do_pieces(cohort, plan.sequence, config, plan.pieces, folder, progress=progress)
    return _dataset(plan, cohort, _one_space(plan, folder, config), config)


def embed_shard(
    cohort: CohortLike,
    run: Path,
    config: EmbedConfig,
    *,
    pieces: Path,
    shard: tuple[int, int],
    progress: Progress | None = None,
) -> int:
    """Embed one share of the work, to be put together by `embed` with the same folder.

    Args:
        cohort: The cohort.
        run: The run.
        config: As for `embed`.
        pieces: The folder for work in progress, which all shares use.
        shard: Which share, from 0 on, and how many there are.
        progress: Called with scans done and scans in all of the share.

    Returns:
        The number of scans of the share, counted once for each encoder.

    Raises:
        InputError: As for `embed`, or there is no such share.
    """
    number, count = shard
    if not 0 <= number < count:
        raise InputError(
            f"shard: {number}/{count}; accepted are 0/{max(count, 1)} and on, below {count}"
        )
    plan = make_plan(cohort, run, config)
    share = plan.pieces[number::count]
    if share:
        do_pieces(cohort, plan.sequence, config, share, pieces, progress=progress)
    return sum(len(piece.rows) for piece in share)
