"""`spinmark discover --embeddings EMBEDDINGS --out PHENOTYPES`: phenotypes, no outcome seen."""

from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.progress import done, progress
from spinmark_biomarkers.config import DiscoverConfig


@dataclass(kw_only=True)
class Discover(DiscoverConfig):
    """Find phenotypes among embeddings, without seeing an outcome.

    Args:
        embeddings: The embeddings.
        out: Where to write the phenotypes.
    """

    embeddings: Path
    out: Path


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("discover", Discover, argv)
    artefacts.read(args.embeddings, "embeddings")
    from spinmark_biomarkers.embeddings import open_embeddings
    from spinmark_biomarkers.phenotypes.discover import discover
    from spinmark_biomarkers.phenotypes.store import read_phenotypes, write_phenotypes

    def write(folder: Path) -> None:
        with progress("discover: resamples") as bar:
            found = discover(open_embeddings(args.embeddings), args, progress=bar)
        write_phenotypes(folder, found)

    made = artefacts.make(
        args.out, "phenotypes", write, config=args, inputs={"embeddings": args.embeddings}
    )
    summary = read_phenotypes(args.out).summary()
    return done(
        f"{args.out}: {summary['k']} groups, verdict: {summary['verdict']}; labels are frozen",
        f"spinmark prognose --cohort COHORT --embeddings {args.embeddings} "
        f"--phenotypes {args.out} --out PROGNOSIS",
        fresh=made.fresh,
    )
