"""`spinmark measure COHORT`: volumes, thickness and areas from label maps, into a table."""

from dataclasses import dataclass, field
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.progress import done, progress
from spinmark_data.labels.config import LabelsConfig
from spinmark_data.morphometry.config import MorphometryConfig


@dataclass(kw_only=True)
class Measure(MorphometryConfig):
    """Measure the label maps of a cohort: volumes, cartilage thickness, bone areas.

    Args:
        cohort: The cohort; `spinmark measure COHORT` will do. It gains a generation.
        sequence: Whose label maps; needed where several sequences have some.
        maps: A folder of label maps to add to the cohort first.
        label_maps: How they are read.
    """

    cohort: Path
    sequence: str | None = None
    maps: Path | None = None
    label_maps: LabelsConfig = field(default_factory=LabelsConfig)


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("measure", Measure, cli.positional(argv, "cohort"))
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
            found = measure(folder, args, args.sequence, bar)
        names = len(found.table.columns) - 3
        told.append(f"{len(found.table)} joints measured, {names} variables of role morphometric")
        told.extend(f"  {row.source}: {row.reason}" for row in found.issues.itertuples())

    inputs = {} if args.maps is None else {"maps": artefacts.listing_hash(args.maps)}
    made = artefacts.extend(args.cohort, "cohort", write, config=args, inputs=inputs)
    told.append(f"{args.cohort}: table morphometry")
    return done(
        "\n".join(told), f"spinmark split --cohort {args.cohort} --out SPLIT", fresh=made.fresh
    )
