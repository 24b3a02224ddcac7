"""`spinmark ingest --release DIR --out COHORT`: images and tables into one cohort."""

from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.errors import UsageError
from spinmark.progress import done, progress
from spinmark_data.ingest.config import IngestConfig


@dataclass(kw_only=True)
class Ingest(IngestConfig):
    """Turn a release (DICOM or NIfTI files and tables) into a cohort.

    Args:
        release: The folder that came from outside; it is only read.
        out: Where to write the cohort: a folder, or a URL such as s3://bucket/cohort.
        append: Add what is new in the release to the cohort at `out`, as its next generation.
        dry_run: Print what would be taken and what refused, and write nothing.
    """

    release: Path
    out: Path | None = None
    append: bool = False
    dry_run: bool = False


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("ingest", Ingest, argv, aliases={"--dry-run": ["--dry_run", "true"]})
    from spinmark_data.ingest.plan import plan
    from spinmark_data.ingest.run import finished, ingest

    listing = artefacts.listing_hash(args.release)
    if args.dry_run:
        found = plan(args.release, args)
        print(f"{found.series} series, {found.bytes / 1e9:.3f} GB; it would take:")
        for name, count in found.sequences.items():
            print(f"  {count} of {name}")
        print(f"and refuse {len(found.refused)}:" if found.refused else "and refuse none.")
        for source, reason in found.refused:
            print(f"  {source}: {reason}")
        return done("Nothing was written.", "the same command without --dry-run")
    if args.out is None:
        raise UsageError("--out is missing: the folder where to write the cohort")

    def write(folder: Path) -> None:
        # Cut short after its last write: it is of this release and these settings.
        if not args.append and finished(folder):
            return
        with progress("ingest: series") as bar:
            ingest(args.release, folder, args, append=args.append, progress=bar)

    inputs: dict[str, Path | str] = {"release": listing}
    for name in ("table_map", "clinical_table", "clinical_columns"):
        file = getattr(args, name)
        if file is not None:
            inputs[name] = artefacts.file_hash(file)
    if args.append:
        made = artefacts.extend(args.out, "cohort", write, config=args, inputs=inputs)
    else:
        made = artefacts.make(args.out, "cohort", write, config=args, inputs=inputs, resumable=True)
    return done(
        _summary(args.out),
        f"spinmark split --cohort {args.out} --out SPLIT",
        fresh=made.fresh,
    )


def _summary(path: Path) -> str:
    from spinmark_data.cohort.reader import Cohort

    cohort = Cohort.open(path)
    scans = ", ".join(f"{len(cohort.scans(name))} of {name}" for name in cohort.sequences)
    issues = cohort.table("issues")
    kinds = ", ".join(f"{count} {kind}" for kind, count in issues["kind"].value_counts().items())
    where = cohort.folder.url
    tables = f"{where}/{cohort.manifest['tables']}"
    return (
        f"{where}: generation {cohort.generation}; scans: {scans}; issues: {kinds or 'none'} "
        f"({tables}/issues.parquet)"
    )
