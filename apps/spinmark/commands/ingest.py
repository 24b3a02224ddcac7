"""`spinmark ingest --release DIR --out COHORT`: images and tables into one cohort."""

from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.errors import UsageError
from spinmark.files import write_whole
from spinmark.progress import done, progress
from spinmark_data.ingest.config import IngestConfig


@dataclass(kw_only=True)
class Ingest(IngestConfig):
    """Turn a release (DICOM or NIfTI files and tables) into a cohort.

    Args:
        release: The folder that came from outside; it is only read.
        out: Where to write the cohort: a folder, or a URL such as s3://bucket/cohort.
        append: Add what is new in the release to the cohort at `out`, as its next generation.
        dry_run: Print what would be taken and what refused, and write no cohort.
        links: A text file to write where the NDA keeps the selected series that are not on the disk;
            with it nothing is ingested.
        template: A clinical table; print a YAML for its columns to be filled in, and do no more.
    """

    release: Path | None = None
    out: Path | None = None
    append: bool = False
    dry_run: bool = False
    links: Path | None = None
    template: Path | None = None


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("ingest", Ingest, argv, aliases={"--dry-run": ["--dry_run"]})
    if args.template is not None:
        from spinmark_data.ingest.own.template import template

        print(template(args.template), end="")
        return 0
    if args.release is None:
        raise UsageError("--release is missing: the folder that came from outside")
    if args.dry_run or args.links is not None:
        return _look(args, args.release)
    if args.out is None:
        raise UsageError("--out is missing: the folder where to write the cohort")
    return _ingest(args, args.release, args.out)


def _look(args: Ingest, release: Path) -> int:
    from spinmark_data.ingest.plan import plan, survey
    from spinmark_data.ingest.plan_report import report
    from spinmark_data.ingest.selection import describe

    found, told = survey(release, args)
    # First what needs no header, which is all that a large release leaves time for.
    print("\n".join(describe(told)), flush=True)
    if args.links is not None:
        write_whole(args.links, "".join(f"{link}\n" for link in told.links))
        print(f"{len(told.links)} links were written to {args.links}.", flush=True)
    if not args.dry_run:
        return done("No image was read.", "download what the file names, then the same again")
    seen = plan(release, args, found)
    tables = [str(args.clinical_table)] if args.clinical_table is not None else seen.tables
    print("\n".join(report(seen, tables=tables, codes=args.pseudonymise is not None)))
    following = "the same command without --dry-run" if seen.sequences else None
    return done("No cohort was written.", following)


def _ingest(args: Ingest, release: Path, out: Path) -> int:
    from spinmark_data.ingest.plan import survey
    from spinmark_data.ingest.run import finished, ingest
    from spinmark_data.ingest.selection import describe
    from spinmark_data.ingest.staging import work_hash

    listing = artefacts.listing_hash(release)

    def write(folder: Path) -> None:
        # Cut short after its last write: it is of this release and these settings.
        if args.append or not finished(folder):
            found, told = survey(release, args)
            print("\n".join(describe(told)), flush=True)
            with progress("ingest: series") as bar:
                ingest(release, folder, args, append=args.append, found=found, progress=bar)
        if args.labels is not None:
            from spinmark_data.labels.add import ingest_labels

            with progress("ingest: label maps") as bar:
                ingest_labels(folder, release, args, progress=bar)

    inputs: dict[str, Path | str] = {"release": listing}
    for name in ("table_map", "clinical_table", "clinical_columns"):
        file = getattr(args, name)
        if file is not None:
            inputs[name] = artefacts.file_hash(file)
    if args.oai.nda_names is not None:
        inputs["nda_names"] = artefacts.file_hash(args.oai.nda_names)
    if args.labels is not None:
        inputs["labels"] = artefacts.listing_hash(args.labels)
    if args.subjects is not None or args.pseudonymise is not None:
        # What a file of people or a key stands for may change while its name stays.
        inputs["selection"] = work_hash(args)
    if args.append:
        made = artefacts.extend(out, "cohort", write, config=args, inputs=inputs)
    else:
        made = artefacts.make(out, "cohort", write, config=args, inputs=inputs, resumable=True)
    following = f"split --cohort {out} --out SPLIT" if args.labels is None else f"measure {out}"
    return done(_summary(out), f"spinmark {following}", fresh=made.fresh)


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
