"""`spinmark quality COHORT --out DIR`: measure every scan, find copies, and show the worst first."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.commands.inspect import open_cohort
from spinmark.errors import UsageError
from spinmark.progress import done, progress
from spinmark_data.quality.config import QualityConfig

BANNER = (
    "Scans that are unlike the others of their sequence and scanner, the worst first. They stand "
    "under numbers; whose they are is in quality.parquet, under the same place. Keep the page as "
    "private as the cohort."
)


@dataclass(kw_only=True)
class Quality(QualityConfig):
    """Measure the quality of every scan of a cohort, find copies, and show the worst first.

    Args:
        cohort: The cohort; `spinmark quality COHORT` will do.
        out: The folder to write: quality.parquet, duplicates.csv, batches.csv and quality.html.
        generation: Which generation of the cohort; the last by default.
    """

    cohort: Path
    out: Path
    generation: int | None = None


def main(argv: list[str]) -> int:
    """Run the command."""
    if not argv:
        raise UsageError("which cohort? Give its folder: spinmark quality COHORT --out DIR")
    args = cli.parse("quality", Quality, cli.positional(argv, "cohort"))
    cohort = open_cohort(args.cohort, args.generation)

    def write(folder: Path) -> None:
        from spinmark.report.page import render
        from spinmark.report.quality_page import quality_sections
        from spinmark_data.quality.assess import assess

        with progress("quality: scans") as bar:
            found = assess(cohort, args, progress=bar)
        # The subject stands in scan_id; what is joined needs no second copy of it.
        table = found.scans.drop(columns=["subject_id", "laterality"])
        table.to_parquet(folder / "quality.parquet", index=False)
        found.duplicates.to_csv(folder / "duplicates.csv", index=False)
        found.batches.to_csv(folder / "batches.csv", index=False)
        page = render("spinmark quality", BANNER, quality_sections(cohort, found, args))
        (folder / "quality.html").write_text(page, encoding="utf-8")

    made = artefacts.make(
        args.out, "quality", write, config=args, inputs={"cohort": str(cohort.hash)}
    )
    return done(
        f"{made.path}: {_told(made.path)}",
        f"open {shlex.quote(str(made.path / 'quality.html'))}",
        fresh=made.fresh,
    )


def _told(folder: Path) -> str:
    import pandas as pd

    scans = pd.read_parquet(folder / "quality.parquet", columns=["flagged"])
    pairs = pd.read_csv(folder / "duplicates.csv", usecols=["verdict"])
    wrong = int((pairs["verdict"] == "error").sum())
    return (
        f"{len(scans):,} scans, {int(scans['flagged'].sum()):,} flagged; {wrong:,} pairs of scans "
        "that should differ show one image"
    )
