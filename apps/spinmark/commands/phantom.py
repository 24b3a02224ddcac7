"""`spinmark phantom --out DIR --subjects N --seed S`: a knee cohort with known truth."""

from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.progress import done, progress
from spinmark_data.phantom.config import PhantomConfig


@dataclass(kw_only=True)
class Phantom(PhantomConfig):
    """Make a knee cohort with known truth, written as a release would be.

    Args:
        out: Where to write `release/` and `truth/`.
    """

    out: Path


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("phantom", Phantom, argv)

    def write(folder: Path) -> None:
        from spinmark_data.phantom.write import write_phantom

        with progress("phantom: scans") as bar:
            write_phantom(args, folder, progress=bar)

    made = artefacts.make(args.out, "phantom", write, config=args)
    size = artefacts.size_mb(args.out / "release")
    return done(
        f"{args.out}/release ({args.subjects} subjects, {size:.0f} MB) and its truth beside it",
        f"spinmark ingest --release {args.out}/release --out COHORT",
        fresh=made.fresh,
    )
