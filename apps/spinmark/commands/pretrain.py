"""`spinmark pretrain --cohort COHORT --split SPLIT --out RUN`: an image encoder without labels."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from spinmark import artefacts, cli
from spinmark.commands._folds import Fold, Progress, settings, start_of, train_folds
from spinmark.commands._processes import is_main
from spinmark.commands._runs import fold_summary, run_inputs, summary
from spinmark.progress import done, progress
from spinmark_training.config import CrossfitConfig, PretrainConfig

if TYPE_CHECKING:
    from spinmark_data.splits import Split


@dataclass(kw_only=True)
class Pretrain(PretrainConfig):
    """Pretrain an image encoder without labels.

    Args:
        cohort: The cohort.
        split: The split; only its training subjects are learnt from.
        out: Where to write the run.
        fold: Cross-fit: `all` trains an encoder for each fold of the split, which never sees that fold;
            a number trains that one alone, as a job of an array does.
        crossfit: Who is learnt from then.
    """

    cohort: Path
    split: Path
    out: Path
    fold: Fold = None
    crossfit: CrossfitConfig = field(default_factory=CrossfitConfig)


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("pretrain", Pretrain, argv, aliases={"--from": ["--init_from"]})
    inputs = run_inputs(args.cohort, args.split, init_from=args.init_from)

    def train(split: "Split", start: Path | None, folder: Path, bar: Progress) -> None:
        from spinmark_data.cohort.reader import Cohort
        from spinmark_training.pretrain import pretrain

        config = replace(args, init_from=start)
        pretrain(Cohort.open(args.cohort), split, config, folder, progress=bar)

    def write(folder: Path) -> None:
        from spinmark_data.splits import read_split

        start = start_of(args.init_from, None)
        with progress("pretrain: steps") as bar:
            train(read_split(args.split), start, folder, bar)

    if args.fold is not None:
        made_folds = train_folds(
            args, train, label="pretrain: steps", start=args.init_from, inputs=inputs
        )
        if not is_main(args):
            return 0
        start = f" --from {args.init_from}" if args.init_from else ""
        again = f"spinmark pretrain --cohort {args.cohort} --split {args.split}{start}"
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
        f"spinmark distil --cohort {args.cohort} --split {args.split} --from {args.out} --out RUN2, "
        f"or spinmark embed --cohort {args.cohort} --run {args.out} --out EMBEDDINGS",
        fresh=made.fresh,
    )
