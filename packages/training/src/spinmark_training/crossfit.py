"""Several encoders over the folds of a split, so that each subject meets one that never saw them.

The encoder of a fold learns from the subjects of all other folds, and never from those of the split's
validation set: these watch every run and, seen by no encoder, later anchor the spaces to one another.
The run of each fold is a whole run with a split of its own, in which the fold's subjects are the test set.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spinmark_data.splits import Split, read_split, split_hash, write_split
from spinmark_training.config.crossfit import CrossfitConfig
from spinmark_training.errors import InputError
from spinmark_training.sources import SplitLike

FILE = "crossfit.json"
SCHEMA = "spinmark/crossfit"
VERSION = 1

# Trains the run of a fold with its split, into a folder.
TrainFold = Callable[[int, Split, Path], object]


@dataclass(frozen=True)
class Crossfit:
    """A cross-fitted run.

    Args:
        folder: The run.
        runs: The folder of each fold's run.
        split: The split that the folds come from.
        monitors: Subjects that watched the runs, and that no encoder learnt from.
        record: What `crossfit.json` holds.
    """

    folder: Path
    runs: dict[int, Path]
    split: Split
    monitors: frozenset[str]
    record: dict[str, Any]


def fold_name(fold: int) -> str:
    """Return the name of a fold's folder."""
    return f"fold-{fold}"


def folds_of(split: SplitLike) -> list[int]:
    """Return the folds of a split.

    Raises:
        InputError: There are fewer than two.
    """
    folds = sorted({int(fold) for fold in split.frame["fold"]})
    if len(folds) < 2:
        raise InputError(
            f"split: has {len(folds)} fold; cross-fitting takes 2 and more: make one with "
            "`spinmark split --folds 5`"
        )
    return folds


def chosen_folds(split: SplitLike, fold: int | str) -> list[int]:
    """Return all folds, or the one that is asked for.

    Raises:
        InputError: The split has no such fold.
    """
    folds = folds_of(split)
    if fold == "all":
        return folds
    if fold not in folds:
        raise InputError(f"fold: {fold}; accepted are all and {', '.join(map(str, folds))}")
    return [int(fold)]


def _rank(subject: str) -> str:
    return hashlib.sha256(f"monitor:{subject}".encode()).hexdigest()


def monitors(split: SplitLike, config: CrossfitConfig) -> frozenset[str]:
    """Return the subjects that watch the runs: the validation set, or a share where that is empty.

    Raises:
        InputError: The share is outside (0, 1).
    """
    frame = split.frame
    val = frame.loc[frame["set"] == "val", "subject_id"]
    if len(val):
        return frozenset(map(str, val))
    if not 0 < config.val_share < 1:
        raise InputError(
            f"crossfit.val_share: {config.val_share}; accepted are values in (0, 1), since this split "
            "has no validation set"
        )
    subjects = sorted(map(str, frame.loc[frame["set"] == "train", "subject_id"]), key=_rank)
    return frozenset(subjects[: max(2, round(config.val_share * len(subjects)))])


def fold_split(split: SplitLike, fold: int, config: CrossfitConfig) -> Split:
    """Return the split of a fold's run: its subjects held out, the monitors watching, the others to learn.

    Args:
        split: The whole split.
        fold: The fold.
        config: Whether test subjects of other folds are learnt from.

    Returns:
        A split with the same folds, in which the set `test` holds whoever the encoder does not see.

    Raises:
        InputError: Nobody would be left to learn from or to watch.
    """
    frame = split.frame.sort_values("subject_id").reset_index(drop=True)
    watch = frame["subject_id"].astype(str).isin(monitors(split, config))
    out = frame["fold"] == fold
    if not config.learn_from_test:
        out |= frame["set"] == "test"
    places = np.where(out, "test", np.where(watch, "val", "train")).astype(object)
    frame = frame.assign(set=pd.Series(places, dtype=object))
    for name in ("train", "val"):
        if name not in set(places):
            raise InputError(
                f"fold {fold}: leaves no subject for {name}; use more subjects or other folds"
            )
    return Split(frame=frame, hash=split_hash(frame))


def train_folds(
    train: TrainFold, split: SplitLike, out: Path, folds: Iterable[int], config: CrossfitConfig
) -> None:
    """Train the runs of some folds.

    Args:
        train: Called with the fold, its split and its folder; `pretrain` and `distil` resume a folder
            that holds a part of a run.
        split: The whole split.
        out: The folder of the runs.
        folds: Which, see `chosen_folds`.
        config: Who is learnt from.
    """
    splits = {fold: fold_split(split, fold, config) for fold in folds}
    for fold, own in splits.items():
        train(fold, own, out / fold_name(fold))


def _of_fold(run: Path, split: Split) -> dict[str, Any]:
    encoder = json.loads((run / "encoder" / "encoder.json").read_text())
    counts = split.frame["set"].value_counts()
    return {
        "run": run.name,
        "weights_sha256": encoder["weights_sha256"],
        "split_hash": split.hash,
        "steps": encoder["extra"].get("steps"),
        "subjects": {name: int(counts.get(name, 0)) for name in ("train", "val", "test")},
    }


def _findings(runs: dict[int, Path]) -> list[dict[str, Any]]:
    """Collect what the doctor found in each run, the fold named."""
    found: list[dict[str, Any]] = []
    for fold, run in runs.items():
        path = run / "doctor.json"
        report = json.loads(path.read_text()) if path.is_file() else {"findings": []}
        for finding in report["findings"]:
            text = f"fold {fold}: {finding['text']}"
            found.append({**finding, "fold": fold, "text": text})
    return found


def gather(split: SplitLike, out: Path, config: CrossfitConfig) -> Crossfit:
    """Make one cross-fitted run of the whole runs of all folds in a folder.

    Writes `crossfit.json`, `doctor.json` with the findings of all folds, and the whole split.

    Args:
        split: The whole split.
        out: The folder, with a run for each fold.
        config: As the folds were trained.

    Raises:
        InputError: A fold has no whole run, or one of another split.
    """
    runs: dict[int, Path] = {}
    folds: dict[str, Any] = {}
    for fold in folds_of(split):
        run, own = out / fold_name(fold), fold_split(split, fold, config)
        if not (run / "encoder" / "encoder.json").is_file():
            raise InputError(f"{run}: holds no whole run; train this fold with --fold {fold}")
        if read_split(run).hash != own.hash:
            raise InputError(
                f"{run}: was trained with another split; train this fold again with --fold {fold}"
            )
        runs[fold], folds[str(fold)] = run, _of_fold(run, own)
    record = {
        "schema": SCHEMA,
        "version": VERSION,
        "split_hash": split.hash,
        "learn_from_test": config.learn_from_test,
        "monitors": sorted(monitors(split, config)),
        "folds": folds,
    }
    write_split(out, split.frame)
    (out / "doctor.json").write_text(json.dumps({"findings": _findings(runs)}, indent=2) + "\n")
    (out / FILE).write_text(json.dumps(record, indent=2) + "\n")
    found = read_crossfit(out)
    assert found is not None
    return found


def read_crossfit(run: Path) -> Crossfit | None:
    """Read a cross-fitted run; None for a run with one encoder.

    Raises:
        InputError: It is of another version, or lacks a fold's run.
    """
    path = run / FILE
    if not path.is_file():
        return None
    record = json.loads(path.read_text())
    if (record.get("schema"), record.get("version")) != (SCHEMA, VERSION):
        raise InputError(
            f"{path}: schema {record.get('schema')} version {record.get('version')}; accepted is "
            f"{SCHEMA} {VERSION}"
        )
    runs = {int(fold): run / str(of["run"]) for fold, of in record["folds"].items()}
    for fold, folder in runs.items():
        if not (folder / "encoder" / "encoder.json").is_file():
            raise InputError(
                f"{run}: the run of fold {fold} is absent; copy the whole folder again"
            )
    return Crossfit(run, runs, read_split(run), frozenset(record["monitors"]), record)
