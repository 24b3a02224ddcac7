"""`spinmark prognose --cohort COHORT --embeddings EMBEDDINGS --out PROGNOSIS`: ten-year risk."""

from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.errors import InputError
from spinmark.progress import done, progress
from spinmark_biomarkers.survival.config import PrognoseConfig

MODELS = (
    ("clinical",),
    ("kl",),
    ("embedding",),
    ("clinical", "kl"),
    ("clinical", "embedding"),
    ("clinical", "kl", "embedding"),
)


@dataclass(kw_only=True)
class Prognose(PrognoseConfig):
    """Estimate ten-year risk with death competing.

    Args:
        cohort: The cohort.
        embeddings: The embeddings.
        phenotypes: Frozen phenotypes; needed before outcomes are read.
        seed: Seed of chains and bootstrap.
        out: Where to write the prognosis.
    """

    cohort: Path
    embeddings: Path
    phenotypes: Path
    out: Path
    seed: int = 0


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("prognose", Prognose, argv)
    args.sampler.seed = args.seed
    inputs: dict[str, Path | str] = {}
    for kind in ("cohort", "embeddings", "phenotypes"):
        inputs[kind] = getattr(args, kind)
        artefacts.read(getattr(args, kind), kind)

    def write(folder: Path) -> None:
        from spinmark.designs import baseline_scans, designs
        from spinmark_biomarkers.embeddings import open_embeddings
        from spinmark_biomarkers.phenotypes.store import read_phenotypes
        from spinmark_biomarkers.survival.prognosis import prognose
        from spinmark_biomarkers.survival.store import write_prognosis
        from spinmark_data.cohort.reader import Cohort

        cohort, embeddings = Cohort.open(args.cohort), open_embeddings(args.embeddings)
        frozen = read_phenotypes(args.phenotypes)
        known_at = frozen.known_at.set_index("joint_id")["known_at"]
        outcomes = cohort.table("outcomes")
        if not len(outcomes):
            raise InputError(f"{args.cohort}: has no outcomes; ingest a release with OUTCOMES99")
        # A joint first scanned at a later visit would enter with what was not known at the origin.
        covariates = {
            name: frame[frame.index.isin(known_at.index)]
            for name, frame in designs(cohort, embeddings, MODELS).items()
        }
        sets = baseline_scans(embeddings).drop_duplicates("subject_id").set_index("subject_id")
        with progress("prognose: models") as bar:
            result = prognose(
                outcomes, covariates, sets["set"], args, known_at=known_at, progress=bar
            )
        write_prognosis(folder, result)

    made = artefacts.make(args.out, "prognosis", write, config=args, inputs=inputs)
    return done(
        f"{args.out}: cumulative incidence, metrics and diagnostics of {len(MODELS)} models",
        f"spinmark report --cohort {args.cohort} --embeddings {args.embeddings} "
        f"--phenotypes {args.phenotypes} --prognosis {args.out} --out report.html",
        fresh=made.fresh,
    )
