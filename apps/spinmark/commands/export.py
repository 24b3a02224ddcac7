"""`spinmark export --cohort COHORT --to nifti --out DIR`: a cohort for other tools."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spinmark import cli
from spinmark.errors import UsageError
from spinmark.progress import done, progress
from spinmark_data.export.config import ExportConfig


@dataclass(kw_only=True)
class Export(ExportConfig):
    """Write a cohort, or a part of it, as NIfTI, BIDS or OME-Zarr.

    Args:
        cohort: The cohort.
        out: The folder to fill; images that are there already are left alone.
        to: The format.
    """

    cohort: Path
    out: Path
    to: Literal["nifti", "bids", "ome-zarr"] = "nifti"


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("export", Export, argv)
    own = _options(args)
    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.export.bids import export_bids
    from spinmark_data.export.nifti import export_nifti
    from spinmark_data.export.ome_zarr import export_ome_zarr

    write: dict[str, Any] = {
        "nifti": export_nifti,
        "bids": export_bids,
        "ome-zarr": export_ome_zarr,
    }
    with progress("export: scans") as bar:
        images = write[args.to](
            Cohort.open(args.cohort),
            args.out,
            sequences=args.sequences,
            subjects=args.subjects,
            workers=args.workers,
            progress=bar,
            **own,
        )
    return done(f"{args.out}: {len(images)} images as {args.to}", None)


def _options(args: Export) -> dict[str, Any]:
    """Return the options of one format alone, once those of others have been refused."""
    if args.to == "bids":
        if not args.undo_mirror:
            raise UsageError("--undo_mirror false: BIDS takes scans as acquired, never mirrored")
        return {"suffixes": args.suffixes, "body_part": args.body_part}
    if args.suffixes or args.body_part:
        raise UsageError(f"--suffixes and --body_part are for --to bids, not {args.to}")
    return {"undo_mirror": args.undo_mirror}
