"""`spinmark import-zarr --store S --scans CSV --out COHORT`: a Zarr array of scans as a cohort."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.errors import UsageError
from spinmark.progress import done, progress


@dataclass(kw_only=True)
class ImportZarr:
    """Copy a Zarr array of scans and their table into a cohort.

    Args:
        store: A Zarr array (scan, z, y, x) or (scan, echo, z, y, x) of format 2 or 3, or a group.
        scans: A CSV or Parquet file; row i is scan i. It needs subject_id, and may have laterality,
            visit, rank, days, site, scanner, source_sha256, mirrored, scale and offset.
        sequence: What to call the sequence.
        out: Where to write the cohort.
        spacing_mm: Voxel spacing along z, y and x, such as "[0.7, 0.36, 0.36]".
        array: Name of the array, where the store is a group.
        echo_time_ms: Times of the echoes, where the array has them.
        mirror_left: Mirror left joints, so that all look like right ones, and note it.
    """

    store: Path
    scans: Path
    sequence: str
    out: Path
    spacing_mm: tuple[float, float, float] | None = None
    array: str = "volume"
    echo_time_ms: list[float] | None = None
    mirror_left: bool = False


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("import-zarr", ImportZarr, argv)
    spacing = args.spacing_mm
    if spacing is None:
        raise UsageError("--spacing_mm is missing: voxel spacing along z, y and x, in mm")
    from spinmark_data.cohort.import_scans import read_scan_table
    from spinmark_data.cohort.import_zarr import import_zarr

    table = read_scan_table(args.scans)

    def write(folder: Path) -> None:
        with progress("import-zarr: scans") as bar:
            import_zarr(
                args.store,
                folder,
                scans=table,
                sequence=args.sequence,
                spacing_mm=spacing,
                array=args.array,
                echo_time_ms=args.echo_time_ms,
                mirror_left=args.mirror_left,
                progress=bar,
            )

    made = artefacts.make(
        args.out,
        "cohort",
        write,
        config=args,
        inputs={
            "store": artefacts.listing_hash(args.store),
            "scans": hashlib.sha256(args.scans.read_bytes()).hexdigest(),
        },
    )
    return done(
        _summary(args.out, args.sequence),
        f"spinmark split --cohort {args.out} --out SPLIT",
        fresh=made.fresh,
    )


def _summary(path: Path, sequence: str) -> str:
    from spinmark_data.cohort.reader import Cohort

    cohort = Cohort.open(path)
    scans = cohort.scans(sequence)
    left = int((scans["laterality"] == "L").sum())
    told = f"{int(scans['mirrored'].sum())} of {left} left ones mirrored"
    ignored = cohort.table("issues")["source"].tolist()
    more = f"; left out: {', '.join(ignored)}" if ignored else ""
    return f"{path}: {len(scans)} scans of {sequence}, {told}{more}"
