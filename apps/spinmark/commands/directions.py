"""`spinmark directions --embeddings EMBEDDINGS --out DIR`: axes through embeddings, no outcome seen."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spinmark import artefacts, cli
from spinmark.errors import InputError
from spinmark.progress import done, progress
from spinmark_biomarkers.phenotypes.description.config import ROLES
from spinmark_biomarkers.phenotypes.directions.config import DirectionsConfig


@dataclass(kw_only=True)
class Directions(DirectionsConfig):
    """Find axes through embeddings, for where phenotypes are a continuum, without seeing an outcome.

    Args:
        embeddings: The embeddings.
        cohort: The cohort; the axes are then described by its variables.
        roles: Roles of the variables that describe; `outcome` is refused.
        adjust: What adjusted effects are adjusted for: variables, `site` and `scanner`, where there are such.
        on: Whose joints are described: those of test subjects, or all.
        members: Joints listed at each end and in the middle of an axis, at most.
        out: Where to write the axes.
    """

    embeddings: Path
    cohort: Path | None = None
    roles: list[str] = field(default_factory=lambda: list(ROLES))
    adjust: list[str] = field(default_factory=lambda: ["AGE", "SEX", "BMI", "site", "scanner"])
    on: Literal["test", "all"] = "test"
    members: int = 6
    out: Path


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("directions", Directions, argv)
    if args.members < 1:
        raise InputError(f"--members: {args.members}; accepted is at least 1")
    # Asked here as well: axes come before their description and take long.
    if "outcome" in args.roles:
        raise InputError(
            "--roles: outcome tells what becomes of people, which no description may see; accepted are "
            f"{', '.join(ROLES)}"
        )
    inputs: dict[str, Path | str] = {"embeddings": args.embeddings}
    artefacts.read(args.embeddings, "embeddings")
    if args.cohort is not None:
        artefacts.read(args.cohort, "cohort")
        inputs["cohort"] = args.cohort

    def write(folder: Path) -> None:
        from spinmark.directing import describe, gather, write_beside
        from spinmark_biomarkers.embeddings import open_embeddings
        from spinmark_biomarkers.phenotypes.directions.find import find_directions
        from spinmark_biomarkers.phenotypes.directions.store import write_directions
        from spinmark_data.cohort.reader import Cohort

        embeddings = open_embeddings(args.embeddings)
        with progress("directions: resamples") as bar:
            found = find_directions(embeddings, args, progress=bar)
        described = None
        if args.cohort is not None:
            opened = Cohort.open(args.cohort)
            given = gather(
                opened, embeddings, found, roles=args.roles, adjust=args.adjust, on=args.on
            )
            described = describe(given, draws=max(args.permutations, 99), seed=args.seed)
        write_directions(folder, found)
        write_beside(folder, found, described, per=args.members)

    made = artefacts.make(args.out, "directions", write, config=args, inputs=inputs)
    from spinmark_biomarkers.phenotypes.directions.store import read_directions

    facts = read_directions(args.out).summary()
    steady = sum(axis["stability"] in ("stable", "highly stable") for axis in facts["axes"])
    doubt = {row["axis"] for row in facts["artefacts"] if row["flag"] == "artefact suspected"}
    suspects = f"; artefact suspected: {', '.join(map(str, sorted(doubt)))}" if doubt else ""
    held = facts["variance_held_out"]
    share = "" if held is None else f", {held:.0%} of the variance of held-out subjects"
    return done(
        f"{args.out}: {facts['axes_number']} axes ({facts['method']}), {steady} stable{share}{suspects}; "
        "axes are frozen",
        f"open {shlex.quote(str(args.out / 'directions.html'))} in a browser",
        fresh=made.fresh,
    )
