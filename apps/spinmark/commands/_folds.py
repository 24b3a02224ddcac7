"""Training over the folds of a split: `--fold all`, or one fold at a time as the jobs of an array."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from spinmark import artefacts
from spinmark.commands._processes import is_main, refuse_several
from spinmark.errors import InputError
from spinmark.progress import progress
from spinmark_training.config import CrossfitConfig, TrainerConfig

if TYPE_CHECKING:
    from spinmark_data.splits import Split

Fold = int | Literal["all"] | None
Progress = Callable[[int, int], None]
# Trains a run: with a split, from the fold's own start if there is one, into a folder.
Train = Callable[["Split", "Path | None", Path, Progress], object]


class FoldArgs(Protocol):
    """What a training command is told."""

    split: Path
    out: Path
    fold: Fold
    crossfit: CrossfitConfig
    trainer: TrainerConfig


@dataclass(frozen=True)
class Folds:
    """What `train_folds` did.

    Args:
        fresh: False if it was there already.
        trained: Folds with a whole run.
        folds: Folds of the split.
    """

    fresh: bool
    trained: int
    folds: int


def settings(args: Any) -> dict[str, Any]:
    """The options of a run; those of the folds only where they are used."""
    found = asdict(args)
    if args.fold is None:
        del found["fold"], found["crossfit"]
    return found


def start_of(run: Path | None, fold: int | None) -> Path | None:
    """Return the run that a fold starts from: of a cross-fitted run the one of the same fold.

    Args:
        run: What was given as `--from`.
        fold: The fold; None where there are none.

    Raises:
        InputError: A cross-fitted run without folds, or the other way round.
    """
    from spinmark_training.crossfit import read_crossfit

    # Weights from elsewhere have seen nobody of this cohort.
    if run is None or run.suffix == ".safetensors":
        return run
    found = read_crossfit(run)
    if fold is None:
        if found is not None:
            raise InputError(
                f"{run}: holds an encoder for each fold; give --fold all, or --from {run}/fold-0"
            )
        return run
    if found is None or fold not in found.runs:
        raise InputError(
            f"{run}: holds no encoder that did without fold {fold}; --fold continues runs that were "
            "trained with --fold all on the same split"
        )
    return found.runs[fold]


def _waiting(out: Path) -> Path:
    """The folder where runs of folds wait until all are there."""
    return out.parent / f".{out.name}.folds"


def train_folds(
    args: FoldArgs,
    train: Train,
    *,
    label: str,
    start: Path | None,
    inputs: dict[str, Path | str],
) -> Folds:
    """Train one fold, or all that are left, and make one run of them.

    Each fold's run is an artefact of its own: whole or absent, resumed when cut short, and left alone
    when it is there.

    Args:
        args: The options of the command.
        train: Trains a run.
        label: What is being done, in a few words.
        start: What was given as `--from`.
        inputs: What the run is made from.
    """
    from spinmark_data.splits import read_split
    from spinmark_training.crossfit import chosen_folds, fold_name, fold_split, folds_of, gather

    assert args.fold is not None
    if args.fold == "all":
        refuse_several(args)
    split, waiting = read_split(args.split), _waiting(args.out)
    options = settings(args)

    def one(fold: int, folder: Path) -> bool:
        own, begin = fold_split(split, fold, args.crossfit), start_of(start, fold)

        def write(run: Path) -> None:
            with progress(f"{label}, fold {fold}") as bar:
                train(own, begin, run, bar)

        config = {**options, "fold": fold}
        return artefacts.make(
            folder,
            "run",
            write,
            config=config,
            inputs=inputs,
            resumable=True,
            is_main=is_main(args),
        ).fresh

    def write_all(folder: Path) -> None:
        left = [k for k in folds_of(split) if not (folder / fold_name(k)).exists()]
        for fold in left:
            one(fold, waiting / fold_name(fold))
        for fold in left:
            (waiting / fold_name(fold)).rename(folder / fold_name(fold))
        gather(split, folder, args.crossfit)

    number = len(folds_of(split))
    if args.fold != "all" and not args.out.exists():
        (fold,) = chosen_folds(split, args.fold)
        fresh = one(fold, waiting / fold_name(fold))
        there = sum((waiting / fold_name(k)).exists() for k in folds_of(split))
        return Folds(fresh, there, number)
    made = artefacts.make(
        args.out, "run", write_all, config={**options, "fold": "all"}, inputs=inputs, resumable=True
    )
    shutil.rmtree(waiting, ignore_errors=True)
    return Folds(made.fresh, number, number)
