"""`spinmark split --cohort COHORT --out SPLIT`: training, validation and test subjects."""

from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.progress import done
from spinmark_data.splits_config import SplitConfig


@dataclass(kw_only=True)
class SplitApp(SplitConfig):
    """Divide a cohort by subject into training, validation and test sets.

    Args:
        cohort: The cohort.
        out: Where to write the split.
    """

    cohort: Path
    out: Path


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("split", SplitApp, argv)
    import pandas as pd

    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.splits import read_split, split_subjects, write_split

    artefacts.read(args.cohort, "cohort")
    cohort = Cohort.open(args.cohort)

    def write(folder: Path) -> None:
        outcomes, subjects = cohort.table("outcomes"), cohort.table("subjects")
        if not len(subjects):
            # Images without a clinical table: their subjects are all that is known.
            seen = [cohort.scans(name)["subject_id"] for name in cohort.sequences]
            subjects = pd.DataFrame({"subject_id": pd.concat(seen).unique()})
        frame = split_subjects(subjects, args, outcomes=outcomes if len(outcomes) else None)
        write_split(folder, frame)

    made = artefacts.make(args.out, "split", write, config=args, inputs={"cohort": args.cohort})
    counts = read_split(args.out).frame["set"].value_counts()
    sizes = ", ".join(f"{counts.get(name, 0)} {name}" for name in ("train", "val", "test"))
    return done(
        f"{args.out}: subjects: {sizes}",
        f"spinmark pretrain --cohort {args.cohort} --split {args.out} --out RUN",
        fresh=made.fresh,
    )
