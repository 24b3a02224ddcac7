"""`spinmark measure COHORT`: volumes, thickness and areas from label maps, into a table."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from spinmark import artefacts, cli
from spinmark.errors import UsageError
from spinmark.progress import done, progress
from spinmark_data.labels.config import LabelsConfig
from spinmark_data.morphometry.config import MorphometryConfig

if TYPE_CHECKING:
    from spinmark_data.morphometry.shape_plan import Training


@dataclass(kw_only=True)
class Measure(MorphometryConfig):
    """Measure the label maps of a cohort: volumes, cartilage thickness, bone areas and shapes.

    Args:
        cohort: The cohort; `spinmark measure COHORT` will do. It gains a generation.
        sequence: Whose label maps; needed where several sequences have some.
        maps: A folder of label maps to add to the cohort first.
        label_maps: How they are read.
        split: Fit modes of bone shape on its training subjects, and score every knee by them. They stay
            in the cohort: later calls score by them, with this split or without one.
        refit: Fit them anew though the cohort has modes of this split, such as after more training
            subjects got label maps.
    """

    cohort: Path
    sequence: str | None = None
    maps: Path | None = None
    label_maps: LabelsConfig = field(default_factory=LabelsConfig)
    split: Path | None = None
    refit: bool = False


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("measure", Measure, cli.positional(argv, "cohort"))
    if args.split is None and args.refit:
        raise UsageError("--refit fits shapes on the training subjects of a --split; give one")
    if args.split is not None and args.shape_modes == 0:
        raise UsageError("--split fits modes of shape, and --shape_modes 0 asks for none")
    training = None if args.split is None else _training(args.split)
    from spinmark_data.morphometry.measure import measure

    told = []

    def write(folder: Path) -> None:
        if args.maps is not None:
            from spinmark_data.labels.add import add_labels

            with progress("measure: label maps") as bar:
                added = add_labels(folder, args.maps, args.label_maps, bar)
            told.append(f"{added.added} label maps were added, {added.stood} stood before")
            told.extend(f"  {row.source}: {row.reason}" for row in added.issues.itertuples())
        with progress("measure: scans") as bar:
            found = measure(folder, args, args.sequence, bar, training=training, refit=args.refit)
        names = len(found.table.columns) - 3
        told.append(f"{len(found.table)} joints measured, {names} variables of role morphometric")
        told.extend(f"  {row.source}: {row.reason}" for row in found.issues.itertuples())
        told.extend(found.notes)

    inputs: dict[str, Path | str] = {}
    if args.maps is not None:
        inputs["maps"] = artefacts.listing_hash(args.maps)
    if args.split is not None:
        inputs["split"] = args.split
    made = artefacts.extend(args.cohort, "cohort", write, config=args, inputs=inputs)
    told.append(f"{args.cohort}: table morphometry")
    then = f"spinmark split --cohort {args.cohort} --out SPLIT"
    if args.split is not None:
        then = f"spinmark pretrain --cohort {args.cohort} --split {args.split} --out RUN"
    return done("\n".join(told), then, fresh=made.fresh)


def _training(split: Path) -> "Training":
    """Whom a split lets shapes be learnt from."""
    import pandas as pd

    from spinmark_data.morphometry.shape_plan import Training
    from spinmark_data.splits import read_split

    artefacts.read(split, "split")
    found = read_split(split)
    scans = None
    if (split / "scans.parquet").is_file():
        # A split forward in time: what came after the cut is not learnt from.
        frame = pd.read_parquet(split / "scans.parquet")
        scans = frozenset(frame.loc[frame["set"] == "train", "scan_id"].astype(str))
    return Training(split=found.hash, subjects=found.subjects("train"), scans=scans)
