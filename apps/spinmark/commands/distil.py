"""`spinmark distil --cohort COHORT --split SPLIT --from RUN --out RUN`: the tables teach the encoder."""

from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.commands._runs import run_inputs, summary
from spinmark.progress import done, progress
from spinmark_training.config import DistilConfig


@dataclass(kw_only=True)
class Distil(DistilConfig):
    """Teach an image encoder what the clinical tables know.

    Args:
        cohort: The cohort.
        split: The split; teacher and encoder see its training subjects only.
        from_run: The pretrained run to start from (`--from`).
        out: Where to write the run.
    """

    cohort: Path
    split: Path
    from_run: Path
    out: Path


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("distil", Distil, argv, aliases={"--from": ["--from_run"]})
    inputs = run_inputs(args.cohort, args.split, from_run=args.from_run)

    def write(folder: Path) -> None:
        from spinmark_data.cohort.reader import Cohort
        from spinmark_data.splits import read_split
        from spinmark_training.distil import distil

        cohort, split = Cohort.open(args.cohort), read_split(args.split)
        with progress("distil: steps") as bar:
            distil(cohort, split, args.from_run, args, folder, progress=bar)

    made = artefacts.make(args.out, "run", write, config=args, inputs=inputs, resumable=True)
    return done(
        summary(args.out),
        f"spinmark embed --cohort {args.cohort} --run {args.out} --out EMBEDDINGS",
        fresh=made.fresh,
    )
