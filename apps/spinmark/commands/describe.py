"""`spinmark describe --phenotypes PHENOTYPES --out DIR`: what phenotypes are, by variables not used."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.errors import InputError
from spinmark.progress import done, progress
from spinmark_biomarkers.phenotypes.description.config import DescribeConfig, check_config

BANNER = (
    "What the members of each phenotype have more of than other joints, in variables that the phenotypes were "
    "not made of, without any outcome. The page may show slices of scans: keep it as private as the cohort."
)


@dataclass(kw_only=True)
class Describe(DescribeConfig):
    """Describe phenotypes by variables that they were not made of, without seeing an outcome.

    Args:
        cohort: The cohort.
        embeddings: The embeddings that the phenotypes were found in.
        phenotypes: The phenotypes.
        quality: What `spinmark quality` wrote; its metrics then join the batch panel.
        pictures: Whether the page shows a slice of each chosen member.
        out: The folder to write.
    """

    cohort: Path
    embeddings: Path
    phenotypes: Path
    quality: Path | None = None
    pictures: bool = True
    out: Path


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("describe", Describe, argv)
    check_config(args)
    inputs: dict[str, Path | str] = {}
    for kind in ("cohort", "embeddings", "phenotypes", "quality"):
        path = getattr(args, kind)
        if path is not None:
            artefacts.read(path, kind)
            inputs[kind] = path
    found_in = artefacts.read(args.phenotypes, "phenotypes")["inputs"].get("embeddings")
    if found_in not in (None, artefacts.content_hash(args.embeddings)):
        raise InputError(
            f"embeddings: {args.embeddings} are not those that {args.phenotypes} was found in; accepted are "
            "these very embeddings"
        )

    def write(folder: Path) -> None:
        from spinmark.describing import describe
        from spinmark.describing_material import gather
        from spinmark.describing_output import write_description
        from spinmark.report.description_page import description_sections
        from spinmark.report.page import render

        with progress("describe: tables") as bar:
            described = describe(
                gather(args.cohort, args.embeddings, args.phenotypes, args.quality, args), args, bar
            )
        sections = description_sections(described, args, pictures=args.pictures)
        write_description(folder, described, sections)
        page = render("spinmark describe", BANNER, sections)
        (folder / "description.html").write_text(page, encoding="utf-8")

    made = artefacts.make(args.out, "description", write, config=args, inputs=inputs)
    summary = json.loads((args.out / "description.json").read_text())
    return done(
        f"{args.out}: {summary['told']}",
        f"open {shlex.quote(str(args.out / 'description.html'))} in a browser",
        fresh=made.fresh,
    )
