"""`spinmark distil --cohort COHORT --split SPLIT [--from RUN] --out RUN`: the tables teach the encoder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from spinmark import artefacts, cli
from spinmark.commands._folds import Fold, Progress, settings, start_of, train_folds
from spinmark.commands._processes import is_main
from spinmark.commands._runs import fold_summary, run_inputs, summary
from spinmark.progress import done, progress
from spinmark_training.config import CrossfitConfig, DistilConfig

if TYPE_CHECKING:
    from spinmark_data.splits import Split


@dataclass(kw_only=True)
class Distil(DistilConfig):
    """Teach an image encoder what the clinical tables know.

    Args:
        cohort: The cohort.
        split: The split; teacher and encoder see its training subjects only.
        from_run: The pretrained run to start from (`--from`), or a safetensors file from elsewhere; none
            starts from scratch.
        out: Where to write the run.
        fold: Cross-fit: `all` continues the encoder of each fold of a run that was trained so; a number
            continues that one alone, as a job of an array does.
        crossfit: Who is learnt from then; as in the run that is continued.
    """

    cohort: Path
    split: Path
    out: Path
    from_run: Path | None = None
    fold: Fold = None
    crossfit: CrossfitConfig = field(default_factory=CrossfitConfig)


def array_hashes(paths: Sequence[Path]) -> dict[str, str]:
    """The hashes of what the teacher is told beside the tables; a path does not tell what it holds."""
    return {
        f"arrays.{number} {path.name}": artefacts.listing_hash(path)
        if path.is_dir()
        else artefacts.file_hash(path)
        for number, path in enumerate(paths)
    }


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("distil", Distil, argv, aliases={"--from": ["--from_run"]})
    inputs = run_inputs(args.cohort, args.split, from_run=args.from_run)
    inputs |= array_hashes(args.teacher.arrays)

    def train(split: "Split", start: Path | None, folder: Path, bar: Progress) -> None:
        from spinmark_data.cohort.reader import Cohort
        from spinmark_training.distil import distil

        distil(Cohort.open(args.cohort), split, start, args, folder, progress=bar)

    def write(folder: Path) -> None:
        from spinmark_data.splits import read_split

        start = start_of(args.from_run, None)
        with progress("distil: steps") as bar:
            train(read_split(args.split), start, folder, bar)

    if args.fold is not None:
        made_folds = train_folds(
            args, train, label="distil: steps", start=args.from_run, inputs=inputs
        )
        if not is_main(args):
            return 0
        begun = f" --from {args.from_run}" if args.from_run else ""
        again = f"spinmark distil --cohort {args.cohort} --split {args.split}{begun}"
        return fold_summary(again, args.cohort, args.out, args.fold, made_folds)
    main_process = is_main(args)
    made = artefacts.make(
        args.out,
        "run",
        write,
        config=settings(args),
        inputs=inputs,
        resumable=True,
        is_main=main_process,
    )
    if not main_process:
        return 0
    return done(
        summary(args.out),
        f"spinmark embed --cohort {args.cohort} --run {args.out} --out EMBEDDINGS",
        fresh=made.fresh,
    )
