"""`spinmark discover --embeddings EMBEDDINGS --out PHENOTYPES`: phenotypes, no outcome seen."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spinmark import artefacts, cli
from spinmark.errors import InputError
from spinmark.progress import done, progress
from spinmark_biomarkers.config import DiscoverConfig

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from spinmark_biomarkers.phenotypes.structure.verdict import Judgement


@dataclass(kw_only=True)
class Discover(DiscoverConfig):
    """Find phenotypes among embeddings, without seeing an outcome.

    Args:
        embeddings: The embeddings.
        out: Where to write the phenotypes.
        cohort: The cohort, for the grade of severity alone; without it that question is not asked.
        severity: A variable of the role `structure`. It moves no label; it is asked whether phenotypes are
            more than this grade.
    """

    embeddings: Path
    out: Path
    cohort: Path | None = None
    severity: str = "XRKL"


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("discover", Discover, argv)
    artefacts.read(args.embeddings, "embeddings")
    from spinmark.unsealing import unsealed_before
    from spinmark_biomarkers.embeddings import open_embeddings
    from spinmark_biomarkers.phenotypes.discover import discover
    from spinmark_biomarkers.phenotypes.store import read_phenotypes, write_phenotypes

    inputs = {"embeddings": args.embeddings}
    if args.cohort is not None:
        artefacts.read(args.cohort, "cohort")
        inputs["cohort"] = args.cohort

    def write(folder: Path) -> None:
        embeddings = open_embeddings(args.embeddings)
        grade = None if args.cohort is None else _grade(args.cohort, args.severity, embeddings)
        with progress("discover: resamples") as bar:
            found = discover(embeddings, args, severity=grade, progress=bar)
        write_phenotypes(folder, unsealed_before(found, args.embeddings, args.cohort))
        _draw(found.judgement, folder)

    made = artefacts.make(args.out, "phenotypes", write, config=args, inputs=inputs)
    summary = read_phenotypes(args.out).summary()
    after = summary.get("after_unsealing")
    groups = "1 group" if summary["k"] == 1 else f"{summary['k']} groups"
    told = [f"{args.out}: {groups}, verdict: {summary['verdict']}; labels are frozen"]
    if "severity" in summary:
        told.append(f"  {summary['severity']['sentence']}")
    if after:
        told.append(f"  {after['told']}")
    cohort = args.cohort or "COHORT"
    found = f"--embeddings {args.embeddings} --phenotypes {args.out}"
    # Where to cut a continuum is a convention: its directions say more.
    more = f", spinmark directions --embeddings {args.embeddings} --out DIRECTIONS"
    return done(
        "\n".join(told),
        f"spinmark describe --cohort {cohort} {found} --out DESCRIPTION"
        f"{more if summary['verdict'] == 'continuum' else ''}, or spinmark prognose --cohort {cohort} "
        f"{found} --out PROGNOSIS",
        fresh=made.fresh,
    )


def _draw(judged: "Judgement | None", folder: Path) -> None:
    """Draw what was computed beside the verdict."""
    if judged is not None and judged.consensus is not None:
        from spinmark_biomarkers.figures.structure import structure_page

        structure_page(judged).savefig(folder / "structure.png", dpi=130)


def _grade(folder: Path, variable: str, embeddings: "xr.Dataset") -> "pd.Series":
    """Return a structural variable of each scan, NaN where unknown.

    Raises:
        InputError: There is no such variable, or it is of another role.
    """
    import pandas as pd

    from spinmark.probing import COLUMNS, variables
    from spinmark_data.cohort.reader import Cohort

    cohort = Cohort.open(folder)
    roles = cohort.dictionary.set_index("variable")["role"]
    structural = sorted(roles.index[roles == "structure"])
    if variable not in structural:
        known = f"has the role {roles[variable]}" if variable in roles else "is no variable"
        raise InputError(
            f"--severity: {variable!r} {known}; accepted are variables of the role structure"
            f"{', such as ' + ', '.join(structural[:5]) if structural else ', and the cohort has none'}"
        )
    scans = pd.DataFrame({name: embeddings[name].to_numpy() for name in COLUMNS})
    targets = {target.name: target for target in variables(cohort, scans)}
    if variable not in targets:
        raise InputError(f"--severity: no table of the cohort has {variable!r}")
    return pd.Series(targets[variable].values, index=scans["scan_id"], name=variable)
