"""`spinmark split --cohort COHORT --out SPLIT`: training, validation and test subjects."""

from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinmark import artefacts, cli
from spinmark.errors import InputError
from spinmark.progress import done
from spinmark_data.splits_config import SplitConfig

if TYPE_CHECKING:
    import pandas as pd

    from spinmark_data.cohort.reader import Cohort

# A split made before these options came is the same as one made without them.
_LATER = ("definition", "manifests", "forward_column", "forward_after", "forward_day",
          "forward_visit", "forward_same_subjects")  # fmt: skip


@dataclass(kw_only=True)
class SplitApp(SplitConfig):
    """Divide a cohort by subject into training, validation and test sets.

    Args:
        cohort: The cohort.
        out: Where to write the split.
        definition: Divide only the subjects that this definition left in.
    """

    cohort: Path
    out: Path
    definition: Path | None = None


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("split", SplitApp, argv)
    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.splits import read_split, split_subjects, write_split

    artefacts.read(args.cohort, "cohort")
    cohort = Cohort.open(args.cohort)
    inputs: dict[str, Path | str] = {"cohort": args.cohort}
    if args.definition is not None:
        from spinmark.commands.define import of_cohort

        of_cohort(args.definition, args.cohort)
        inputs["definition"] = args.definition

    def write(folder: Path) -> None:
        outcomes, subjects = cohort.table("outcomes"), _subjects(cohort, args.definition)
        frame = split_subjects(subjects, args, outcomes=outcomes if len(outcomes) else None)
        write_split(folder, frame)
        _write_more(folder, frame, cohort, args)

    made = artefacts.make(args.out, "split", write, config=_settings(args), inputs=inputs)
    counts = read_split(args.out).frame["set"].value_counts()
    sizes = ", ".join(f"{counts.get(name, 0)} {name}" for name in ("train", "val", "test"))
    return done(
        f"{args.out}: subjects: {sizes}",
        f"spinmark pretrain --cohort {args.cohort} --split {args.out} --out RUN",
        fresh=made.fresh,
    )


def _settings(args: SplitApp) -> dict[str, Any]:
    """The options, without later ones that were left at their defaults."""
    defaults = {item.name: item.default for item in fields(args) if item.default is not MISSING}
    return {
        name: value
        for name, value in asdict(args).items()
        if name not in _LATER or value != defaults[name]
    }


def _subjects(cohort: "Cohort", definition: Path | None) -> "pd.DataFrame":
    """The subjects to divide."""
    import pandas as pd

    subjects = cohort.table("subjects")
    if not len(subjects):
        # Images without a clinical table: their subjects are all that is known.
        seen = [cohort.scans(name)["subject_id"] for name in cohort.sequences]
        subjects = pd.DataFrame({"subject_id": pd.concat(seen).unique()})
    if definition is None:
        return subjects
    analysed = set(pd.read_parquet(definition / "joints.parquet")["subject_id"])
    if not analysed:
        raise InputError(f"{definition}: leaves nobody to divide")
    return subjects[subjects["subject_id"].isin(analysed)].reset_index(drop=True)


def _write_more(folder: Path, frame: "pd.DataFrame", cohort: "Cohort", args: SplitApp) -> None:
    """Write what was asked for beside the split: the set of each scan, folds, test-retest pairs."""
    import pandas as pd

    from spinmark_data.cohort.query import retest_pairs
    from spinmark_data.splits import fold_manifest
    from spinmark_data.splits_forward import time_forward

    if args.forward:
        scans = pd.concat([cohort.scans(name) for name in cohort.sequences], ignore_index=True)
        scans = scans[scans["subject_id"].isin(set(frame["subject_id"]))]
        time_forward(scans, frame, args).to_parquet(folder / "scans.parquet", index=False)
    if args.manifests:
        fold_manifest(frame).to_parquet(folder / "folds.parquet", index=False)
        pairs = retest_pairs(cohort).merge(frame, on="subject_id")
        pairs.to_parquet(folder / "retest_pairs.parquet", index=False)
