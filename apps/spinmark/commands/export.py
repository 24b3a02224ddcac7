"""`spinmark export --cohort COHORT --to nifti --out DIR`: a cohort for other tools."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spinmark import cli
from spinmark.errors import UsageError
from spinmark.progress import done, progress
from spinmark_data.export.config import ExportConfig


@dataclass(kw_only=True)
class Export(ExportConfig):
    """Write a cohort, or a part of it, as NIfTI, BIDS or OME-Zarr, or its T2 maps.

    Args:
        cohort: The cohort.
        out: The folder to fill; images that are there already are left alone.
        to: The format.
    """

    cohort: Path
    out: Path
    to: Literal["nifti", "bids", "ome-zarr", "t2map"] = "nifti"


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("export", Export, argv)
    own = _options(args)
    from spinmark_data.cohort.reader import Cohort

    with progress("export: scans") as bar:
        images = _writer(args.to)(
            Cohort.open(args.cohort),
            out=args.out,
            sequences=args.sequences,
            subjects=args.subjects,
            workers=args.workers,
            progress=bar,
            **own,
        )
    if args.to == "t2map":
        return done(f"{args.out}: {len(images)} T2 maps in ms, as many R2 maps, and t2.tsv", None)
    return done(f"{args.out}: {len(images)} images as {args.to}", None)


def _writer(form: str) -> Callable[..., list[Path]]:
    """Return what writes a format; each is imported when it is asked for."""
    if form == "bids":
        from spinmark_data.export.bids import export_bids

        return export_bids
    if form == "ome-zarr":
        from spinmark_data.export.ome_zarr import export_ome_zarr

        return export_ome_zarr
    if form == "t2map":
        from spinmark_data.preprocess.t2_maps import write_t2_maps

        return write_t2_maps
    from spinmark_data.export.nifti import export_nifti

    return export_nifti


def _options(args: Export) -> dict[str, Any]:
    """Return the options of one format alone, once those of others have been refused."""
    if args.to != "bids" and (args.suffixes or args.body_part):
        raise UsageError(f"--suffixes and --body_part are for --to bids, not {args.to}")
    if args.to != "t2map" and (args.skip_first or args.floor != "none"):
        raise UsageError(f"--skip_first and --floor are for --to t2map, not {args.to}")
    if args.to in ("bids", "t2map") and not args.undo_mirror:
        what = "BIDS takes scans" if args.to == "bids" else "T2 maps lie"
        raise UsageError(f"--undo_mirror false: {what} as acquired, never mirrored")
    if args.to == "bids":
        return {"suffixes": args.suffixes, "body_part": args.body_part}
    if args.to == "t2map":
        return {"skip_first": args.skip_first, "floor": args.floor}
    return {"undo_mirror": args.undo_mirror}
