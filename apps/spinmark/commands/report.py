"""`spinmark report --cohort COHORT ... --out report.html`: one page from all of it."""

from dataclasses import dataclass, field
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.commands.prognose import check_definition, outcomes_of
from spinmark.files import write_whole
from spinmark.progress import done


@dataclass(kw_only=True)
class Report:
    """Assemble one HTML page from all of it.

    Args:
        cohort: The cohort.
        runs: Runs by name, such as `--runs.ssl DIR`.
        embeddings: The embeddings that the phenotypes came from.
        phenotypes: The phenotypes.
        prognosis: The prognosis.
        definition: The definition that the prognosis was made with, if there was one.
        evaluation: The evaluation against a phantom's truth.
        out: The HTML file.
    """

    cohort: Path
    runs: dict[str, Path] = field(default_factory=dict)
    embeddings: Path | None = None
    phenotypes: Path | None = None
    prognosis: Path | None = None
    definition: Path | None = None
    evaluation: Path | None = None
    out: Path


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("report", Report, argv)
    kinds = ("cohort", "embeddings", "phenotypes", "prognosis", "definition", "evaluation")
    paths = {kind: path for kind in kinds if (path := getattr(args, kind)) is not None}
    for kind, path in paths.items():
        artefacts.read(path, kind)
    check_definition(args.prognosis, args.definition, args.cohort)
    if args.prognosis is not None and args.phenotypes is not None:
        from spinmark.unsealing import check_phenotypes

        check_phenotypes(args.prognosis, args.phenotypes)
    from spinmark.report import sections
    from spinmark.report.page import render
    from spinmark.report.prognosis_page import prognosis_section
    from spinmark_data.cohort.reader import Cohort

    cohort = Cohort.open(args.cohort)
    sequence = cohort.sequences[0]
    parts = [sections.cohort_section(cohort, sequence)]
    if args.runs:
        parts.append(sections.training_section(args.runs))
    if args.embeddings is not None and args.phenotypes is not None:
        from spinmark_biomarkers.embeddings import open_embeddings
        from spinmark_biomarkers.phenotypes.store import read_phenotypes

        vectors, found = open_embeddings(args.embeddings), read_phenotypes(args.phenotypes)
        parts += sections.phenotype_section(cohort, vectors, found, vectors.attrs["sequence"])
        if args.prognosis is not None:
            defined = args.definition
            outcomes = cohort.table("outcomes") if defined is None else outcomes_of(defined)
            parts.append(prognosis_section(args.prognosis, outcomes, found))
    if args.evaluation is not None:
        parts.insert(1, sections.evaluation_section(args.evaluation))
    parts.append(sections.provenance_section({**paths, **args.runs}))
    made_up = args.evaluation is not None
    banner = (
        "Made-up cohort: every person and scan in it was synthesised. It shows that the software works."
        if made_up
        else "For research. Nothing here is validated for the care of patients."
    )
    write_whole(args.out, render("spinmark report", banner, parts))
    return done(f"{args.out} ({args.out.stat().st_size / 1e6:.1f} MB, opens offline)", None)
