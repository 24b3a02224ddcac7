"""`spinmark reading-sheets --cohort ... --phenotypes ... --out DIR`: blind sheets for a reader study."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.commands.inspect import open_cohort
from spinmark.errors import InputError
from spinmark.progress import done, progress
from spinmark_biomarkers.phenotypes.reading.config import ReadingConfig


@dataclass(kw_only=True)
class ReadingSheets(ReadingConfig):
    """Make blind reading sheets of phenotypes, forms for readers, and the key apart.

    Args:
        cohort: The cohort, for its volumes.
        embeddings: The embeddings that the phenotypes were found in.
        phenotypes: The phenotypes.
        out: The folder to write: sheets, forms, key and README.md.
    """

    cohort: Path
    embeddings: Path
    phenotypes: Path
    out: Path


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("reading-sheets", ReadingSheets, argv)
    inputs: dict[str, Path | str] = {
        name: getattr(args, name) for name in ("cohort", "embeddings", "phenotypes")
    }
    artefacts.read(args.embeddings, "embeddings")
    found_in = artefacts.read(args.phenotypes, "phenotypes")["inputs"].get("embeddings")
    if found_in not in (None, artefacts.content_hash(args.embeddings)):
        raise InputError(
            f"embeddings: {args.embeddings} are not those that {args.phenotypes} was found in; accepted are "
            "these very embeddings"
        )
    _check_slices(args)
    cohort = open_cohort(args.cohort)
    inputs["cohort"] = str(cohort.hash)

    def write(folder: Path) -> None:
        from spinmark.reading import places_of, write_study
        from spinmark_biomarkers.embeddings import open_embeddings
        from spinmark_biomarkers.phenotypes.reading.plan import plan_readings
        from spinmark_biomarkers.phenotypes.store import read_phenotypes

        places = places_of(cohort)
        plan = plan_readings(
            open_embeddings(args.embeddings),
            read_phenotypes(args.phenotypes),
            args,
            available=list(places),
        )
        with progress("reading-sheets: joints") as bar:
            write_study(folder, plan, cohort, places, args, bar)

    made = artefacts.make(args.out, "reading-sheets", write, config=args, inputs=inputs)
    from spinmark_biomarkers.phenotypes.reading.key import read_key

    plan = read_key(args.out / "key")
    told = [
        f"{args.out}: {plan.sheets['code'].nunique()} sheets and {len(plan.items)} odd-one-out items for "
        f"{args.readers} readers; hand out sheets/ and forms/, keep key/ and run.json",
        *(f"  {note}" for note in plan.notes),
    ]
    where = shlex.quote(str(args.out))
    return done(
        "\n".join(told),
        f"read {where}/README.md; when forms are back: spinmark score-readings --sheets {where} "
        "--readings FORM.csv ... --out SCORES",
        fresh=made.fresh,
    )


def _check_slices(args: ReadingSheets) -> None:
    if not args.slices:
        raise InputError("slices: none; accepted is a name and a share from 0 to 1 for each")
    for name, share in args.slices.items():
        if not 0 <= share <= 1:
            raise InputError(f"slices.{name}: {share:g}; accepted is a share from 0 to 1")
