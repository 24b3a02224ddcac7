"""`spinmark pretrain --cohort COHORT --split SPLIT --out RUN`: an image encoder without labels."""

from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.commands._runs import run_inputs, summary
from spinmark.progress import done, progress
from spinmark_training.config import PretrainConfig


@dataclass(kw_only=True)
class Pretrain(PretrainConfig):
    """Pretrain an image encoder without labels.

    Args:
        cohort: The cohort.
        split: The split; only its training subjects are learnt from.
        out: Where to write the run.
    """

    cohort: Path
    split: Path
    out: Path


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("pretrain", Pretrain, argv, aliases={"--from": ["--init_from"]})
    inputs = run_inputs(args.cohort, args.split, init_from=args.init_from)

    def write(folder: Path) -> None:
        from spinmark_data.cohort.reader import Cohort
        from spinmark_data.splits import read_split
        from spinmark_training.pretrain import pretrain

        with progress("pretrain: steps") as bar:
            pretrain(Cohort.open(args.cohort), read_split(args.split), args, folder, progress=bar)

    made = artefacts.make(args.out, "run", write, config=args, inputs=inputs, resumable=True)
    return done(
        summary(args.out),
        f"spinmark distil --cohort {args.cohort} --split {args.split} --from {args.out} --out RUN2, "
        f"or spinmark embed --cohort {args.cohort} --run {args.out} --out EMBEDDINGS",
        fresh=made.fresh,
    )
