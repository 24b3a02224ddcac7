"""Which encoder embeds which scans, cut into pieces."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_data.splits import read_split
from spinmark_models.encoders import ImageEncoder
from spinmark_models.export import EncoderSpec, load_encoder
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.config import EmbedConfig
from spinmark_training.crossfit import Crossfit, read_crossfit
from spinmark_training.embedding.pieces import Piece, piece_name
from spinmark_training.embedding.vectors import check_grid, check_views
from spinmark_training.embedding.windows import window_corners
from spinmark_training.errors import InputError
from spinmark_training.sources import (
    CohortLike,
    ScanSource,
    SplitLike,
    check_accelerator,
    scan_sets,
)

Rows = npt.NDArray[np.int64]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """One encoder and the scans that it embeds.

    Args:
        run: Its run.
        encoder_hash: What identifies it.
        rows: Everything it embeds, in ascending order.
        own: The scans whose embedding in the result is its.
        pieces: `rows`, in pieces.
    """

    run: Path
    encoder_hash: str
    rows: Rows
    own: Rows
    pieces: list[Piece]


@dataclass(frozen=True)
class Plan:
    """What there is to be done.

    Args:
        sequence: The sequence.
        objective: What the encoders learnt from.
        uses: What they learnt from beside voxels: variables of the tables, or `outcome:NAME`.
        split: The split that `set` and `fold` come from.
        scans: The scans of the sequence.
        members: By fold; under 0 where there is one encoder.
        crossfit: The cross-fitted run, if it is one.
        anchors: Rows that tell how the spaces lie to one another.
        check: By fold, rows that tell how well they agree.
        parts: By name, the first feature of a part and the one after its last; none for a whole embedding.
    """

    sequence: str
    objective: str
    uses: tuple[str, ...]
    split: SplitLike
    scans: pd.DataFrame
    members: dict[int, Member]
    crossfit: Crossfit | None
    anchors: Rows
    check: dict[int, Rows]
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def pieces(self) -> list[Piece]:
        """All pieces, in an order that every process finds."""
        return [piece for member in self.members.values() for piece in member.pieces]

    @property
    def encoder_hash(self) -> str:
        """What identifies the encoder, or all of them together."""
        hashes = [member.encoder_hash for member in self.members.values()]
        if self.crossfit is None:
            return hashes[0]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def folder_hash(folder: Path) -> str:
    """Return the sha256 over the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run_augment(run: Path) -> AugmentConfig:
    """Return the augmentation that a run was trained with, or the default where it does not say."""
    path = run / "run.json"
    if not path.is_file():
        logger.info("%s: tells no augmentation; views are made with the default one", run)
        return AugmentConfig()
    told = json.loads(path.read_text())["config"].get("augment", {})
    known = {f.name for f in dataclasses.fields(AugmentConfig)}
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in told.items() if k in known
    }
    return AugmentConfig(**values)


def check_config(config: EmbedConfig) -> None:
    """Check the numbers that no other part checks.

    Raises:
        InputError: One is out of its range.
    """
    least = {"batch_size": 1, "workers": 1, "piece": 1, "align.anchors": 2, "align.check": 0}
    least |= {"align.parts": 2, "align.seed": 0}
    for name, lowest in least.items():
        group, _, field = name.rpartition(".")
        value = getattr(getattr(config, group) if group else config, field)
        if value < lowest:
            raise InputError(f"{name}: {value}; accepted are {lowest} and more")
    if config.threads is not None and config.threads < 1:
        raise InputError(f"threads: {config.threads}; accepted are 1 and more")
    check_views(config.views)
    check_accelerator("accelerator", config.accelerator)


def _some(rows: Rows, most: int, seed: int) -> Rows:
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])


def shared_rows(
    scans: pd.DataFrame, crossfit: Crossfit, folds: npt.NDArray[np.int64], config: EmbedConfig
) -> tuple[Rows, dict[int, Rows]]:
    """Choose the scans that every encoder embeds.

    The anchors are scans of the subjects that watched the runs, since no encoder was trained on them; the
    checks are scans of other subjects, a fold's encoder apart from all others in not having seen them.

    Args:
        scans: The scans of the sequence.
        crossfit: The run.
        folds: The fold of each scan.
        config: How many, and the seed.

    Returns:
        The anchors, and the checks by fold.

    Raises:
        InputError: There are no anchors.
    """
    watch = scans["subject_id"].astype(str).isin(crossfit.monitors).to_numpy()
    anchors = _some(np.flatnonzero(watch), config.align.anchors, config.align.seed)
    if not len(anchors):
        raise InputError(
            f"{crossfit.folder}: none of its validation subjects has a scan in this cohort, so that the "
            "folds' spaces cannot be aligned; embed the cohort it was trained on"
        )
    learnt = ~watch
    if not crossfit.record["learn_from_test"]:
        learnt &= (scan_sets(scans, crossfit.split)["set"] != "test").to_numpy()
    check = {
        fold: _some(np.flatnonzero(learnt & (folds == fold)), config.align.check, config.align.seed)
        for fold in crossfit.runs
    }
    return anchors, check


def _identity(cohort: CohortLike, sequence: str, run: Path, config: EmbedConfig) -> dict[str, Any]:
    drawn = config.views.count > 0
    return {
        "encoder": folder_hash(run / "encoder"),
        "cohort": cohort.hash,
        "sequence": sequence,
        "windows": asdict(config.windows),
        "views": [config.views.count, config.views.seed] if drawn else None,
        "augment": asdict(run_augment(run)) if drawn else None,
    }


def _member(
    cohort: CohortLike, sequence: str, run: Path, rows: Rows, own: Rows, config: EmbedConfig
) -> Member:
    identity = _identity(cohort, sequence, run, config)
    cuts = [rows[start : start + config.piece] for start in range(0, len(rows), config.piece)]
    pieces = [Piece(run, part, piece_name(identity, part)) for part in cuts]
    return Member(run, str(identity["encoder"]), rows, own, pieces)


def _check_encoder(
    encoder: ImageEncoder, spec: EncoderSpec, source: ScanSource, config: EmbedConfig
) -> None:
    if check_grid(encoder, source, config.windows):
        window_corners(source.shape, encoder.input_shape, config.windows.overlap)
    if not np.allclose(spec.spacing_mm, source.spacing_mm, rtol=0.01):
        logger.warning(
            "sequence %s: its voxels are %s mm, the encoder was trained on %s mm",
            *(source.sequence, source.spacing_mm, spec.spacing_mm),
        )


def make_plan(cohort: CohortLike, run: Path, config: EmbedConfig) -> Plan:
    """Decide which encoder embeds which scans.

    Args:
        cohort: The cohort.
        run: A run, cross-fitted or with one encoder.
        config: How to embed.

    Raises:
        InputError: A setting is out of its range, there is no such sequence, the scans are on a grid that
            the encoder does not take, or a subject has scans that the run's split lacks.
    """
    check_config(config)
    crossfit = read_crossfit(run)
    runs = {0: run} if crossfit is None else crossfit.runs
    encoder, spec = load_encoder(next(iter(runs.values())) / "encoder")
    sequence = config.sequence or str(spec.extra["sequence"])
    source = ScanSource(cohort, sequence, None)
    _check_encoder(encoder, spec, source, config)
    split: SplitLike = read_split(run) if crossfit is None else crossfit.split
    folds = scan_sets(source.scans, split)["fold"].to_numpy(np.int64)
    anchors, check = np.empty(0, np.int64), dict[int, Rows]()
    if crossfit is not None:
        anchors, check = shared_rows(source.scans, crossfit, folds, config)
    members = {}
    for fold, folder in runs.items():
        own = source.rows if crossfit is None else np.flatnonzero(folds == fold)
        rows = np.unique(np.concatenate([own, anchors, *check.values()]))
        members[fold] = _member(cohort, sequence, folder, rows, own, config)
    objective = str(spec.extra["objective"])
    uses = tuple(map(str, spec.extra.get("uses", ())))
    # Encoders of folds are turned into one space, which mixes their features.
    found = spec.extra.get("parts", {}) if crossfit is None else {}
    parts = {str(name): (int(ends[0]), int(ends[1])) for name, ends in found.items()}
    return Plan(
        sequence, objective, uses, split, source.scans, members, crossfit, anchors, check, parts
    )
