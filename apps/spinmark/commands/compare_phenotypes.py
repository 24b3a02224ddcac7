"""`spinmark compare-phenotypes --reference PHENOTYPES ...`: what phenotypes survive."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spinmark import artefacts, cli
from spinmark.errors import InputError, UsageError
from spinmark.progress import done, progress


@dataclass(kw_only=True)
class ComparePhenotypes:
    """Say how far phenotypes agree across encoders, seeds, sites, knees, folds and cohorts.

    Args:
        reference: The phenotypes that others are compared with.
        others: Other phenotypes of the same scans by name, such as `--others.distilled DIR`: of other
            encoders, or of the same one with other settings.
        embeddings: What the reference was found in; needed for seeds, sites, folds and transport, where it
            is fitted again.
        transport: Embeddings of other cohorts by name, made with the same encoder.
        out: Where to write tables, figures and the page.
        scans: Whose scans are compared, of those that define a joint: of people that no clusterer was
            fitted on, of those that all were, or of everyone. Refits use the fitted ones.
        bootstrap: Subject bootstrap samples in which the reference is fitted again.
        seeds: Further seeds of the clusterer.
        draws: Samples of subjects behind every interval.
        permutations: Permutations behind the p value of the two knees.
        seed: Seed of samples and permutations.
    """

    reference: Path
    others: dict[str, Path] = field(default_factory=dict)
    embeddings: Path | None = None
    transport: dict[str, Path] = field(default_factory=dict)
    out: Path
    scans: Literal["held-out", "fitted", "all"] = "held-out"
    bootstrap: int = 20
    seeds: int = 5
    draws: int = 200
    permutations: int = 2000
    seed: int = 0


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("compare-phenotypes", ComparePhenotypes, argv)
    if not (args.others or args.transport or args.embeddings):
        raise UsageError(
            "nothing to compare with: give --others.NAME PHENOTYPES, --embeddings EMBEDDINGS or both"
        )
    if args.transport and args.embeddings is None:
        raise UsageError("--transport: needs --embeddings, what the reference was found in")
    for name, least in (("bootstrap", 1), ("seeds", 1), ("draws", 20), ("permutations", 19)):
        if getattr(args, name) < least:
            raise InputError(f"{name}: {getattr(args, name)}; accepted is at least {least}")
    inputs: dict[str, Path | str] = {"reference": args.reference}
    artefacts.read(args.reference, "phenotypes")
    for name, path in args.others.items():
        artefacts.read(path, "phenotypes")
        inputs[f"others.{name}"] = path
    named = {} if args.embeddings is None else {"embeddings": args.embeddings}
    for name, path in {**named, **{f"transport.{n}": p for n, p in args.transport.items()}}.items():
        artefacts.read(path, "embeddings")
        inputs[name] = path

    def write(folder: Path) -> None:
        from spinmark.comparing import compare

        with progress("compare-phenotypes: refits") as bar:
            compare(args, folder, bar)

    made = artefacts.make(args.out, "comparison", write, config=args, inputs=inputs)
    told = json.loads((args.out / "summary.json").read_text())["told"]
    return done(
        "\n".join([f"{args.out}: {told[0]}", *(f"  {line}" for line in told[1:])]),
        f"open {args.out}/comparison.html, and read {args.out}/agreement.csv",
        fresh=made.fresh,
    )
