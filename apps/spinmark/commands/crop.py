"""`spinmark crop --cohort COHORT --out NEW --shape 64,160,160`: a cohort cut to its joints."""

import re
from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.progress import done, progress
from spinmark_data.preprocess.crop_config import CropConfig

_NUMBERS = re.compile(r"(--\w+=)?([\d.]+(?:,[\d.]+)+)")


@dataclass(kw_only=True)
class Crop(CropConfig):
    """Make a new cohort of the scans of one that stands, cut about their joints.

    Args:
        cohort: The cohort to cut; it is only read.
        out: Where to write the new one: a folder, or a URL such as s3://bucket/cohort.
    """

    cohort: Path
    out: Path


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("crop", Crop, cli.positional([_bracketed(word) for word in argv], "cohort"))
    artefacts.read(args.cohort, "cohort")
    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.ingest.run import finished
    from spinmark_data.labels.store import LabelSet, read_sets
    from spinmark_data.preprocess.crop_cohort import crop_cohort

    cohort = Cohort.open(args.cohort)
    sets = [LabelSet.open(cohort, name) for name in read_sets(cohort.folder)]

    def write(folder: Path) -> None:
        # Cut short after its last write, in a store: it is of this cohort and these settings.
        if finished(folder):
            return
        with progress("crop: scans") as bar:
            crop_cohort(cohort, folder, args, bar)

    # Label maps may be added without a new generation, so the cohort's hash says nothing of them.
    inputs: dict[str, Path | str] = {"cohort": args.cohort}
    inputs |= {f"label_set_{found.name}": found.hash for found in sets}
    made = artefacts.make(args.out, "cohort", write, config=args, inputs=inputs)
    return done(
        _summary(args.out), f"spinmark split --cohort {args.out} --out SPLIT", fresh=made.fresh
    )


def _bracketed(word: str) -> str:
    """Let `64,160,160` stand for `[64,160,160]`."""
    return _NUMBERS.sub(r"\1[\2]", word) if _NUMBERS.fullmatch(word) else word


def _summary(path: Path) -> str:
    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.labels.store import LabelSet, read_sets

    cohort = Cohort.open(path)
    sequences = cohort.manifest["sequences"]
    scans = ", ".join(
        f"{entry['scans']} of {name} ({' x '.join(map(str, entry['shape']))})"
        for name, entry in sorted(sequences.items())
    )
    flow = cohort.table("flow")
    last = flow[flow["unit"] == "scans"].tail(3)
    left_out = int(last.loc[last["reason"] == "see issues", "excluded"].sum())
    maps = ", ".join(
        f"{sum(len(one.indices(s)) for s in one.sequences)} of {one.name}"
        for one in (LabelSet.open(cohort, name) for name in read_sets(cohort.folder))
    )
    where = f"{cohort.folder.url}/{cohort.manifest['tables']}/issues.parquet"
    return (
        f"{cohort.folder.url}: scans: {scans}; label maps: {maps or 'none'}; left out: {left_out} "
        f"({where})"
    )
