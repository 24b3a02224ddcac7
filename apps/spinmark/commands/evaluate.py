"""`spinmark evaluate --truth DIR ...`: score a run against a phantom's truth."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from spinmark import artefacts, cli
from spinmark.errors import InputError
from spinmark.progress import done


@dataclass(kw_only=True)
class Evaluate:
    """Score a run against the truth of a phantom.

    Args:
        truth: The phantom's `truth` folder.
        cohort: The cohort.
        split: The split.
        embeddings: Embeddings by name, such as `--embeddings.ssl DIR`; the first is named
            `distilled` where there is one.
        phenotypes: The phenotypes.
        prognosis: The prognosis.
        out: Where to write the evaluation.
        on: The set that is scored; choose settings on `val` (probes only), report `test`.
        bootstrap: Subject bootstrap samples of every interval.
        seed: Seed of the bootstrap.
    """

    truth: Path
    cohort: Path
    split: Path
    embeddings: dict[str, Path] = field(default_factory=dict)
    phenotypes: Path | None = None
    prognosis: Path | None = None
    out: Path
    on: Literal["test", "val"] = "test"
    bootstrap: int = 200
    seed: int = 0


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("evaluate", Evaluate, argv)
    inputs: dict[str, Path | str] = {"cohort": args.cohort, "split": args.split}
    inputs["truth"] = artefacts.listing_hash(args.truth)
    inputs |= {f"embeddings.{name}": path for name, path in args.embeddings.items()}
    if not args.embeddings:
        raise InputError("--embeddings is empty; name at least one, as --embeddings.ssl DIR")
    for kind in ("phenotypes", "prognosis"):
        if getattr(args, kind) is not None:
            inputs[kind] = getattr(args, kind)

    def write(folder: Path) -> None:
        (folder / "metrics.json").write_text(json.dumps(evaluate(args), indent=1) + "\n")

    made = artefacts.make(args.out, "evaluation", write, config=args, inputs=inputs)
    return done(
        f"{args.out}/metrics.json: what the run found of the truth",
        f"spinmark report --cohort {args.cohort} --evaluation {args.out} --out report.html",
        fresh=made.fresh,
    )


def evaluate(args: Evaluate) -> dict[str, Any]:
    """Compute every figure of metrics.json."""
    import pandas as pd

    from spinmark import scoring
    from spinmark_biomarkers.embeddings import open_embeddings
    from spinmark_biomarkers.phenotypes.store import read_phenotypes
    from spinmark_data.cohort.reader import Cohort

    schema = json.loads((args.truth / "schema.json").read_text())
    cohort = Cohort.open(args.cohort)
    embeddings = {name: open_embeddings(path) for name, path in args.embeddings.items()}
    joints = pd.read_parquet(args.truth / "joints.parquet")
    held = scoring.held_out(
        next(iter(embeddings.values())),
        pd.read_parquet(args.truth / "scans.parquet"),
        schema["latents"],
        args.on,
    )
    options = {"draws": args.bootstrap, "seed": args.seed}
    matrices = scoring.representations(cohort, embeddings, held)
    figures = scoring.probe_scores(scoring.residuals(matrices, held), held, **options)
    figures["site_balanced_accuracy"] = scoring.site_scores(matrices, held, **options)
    # Clusterer and survival model were fitted on validation subjects too: on them they are not scored.
    held_out = args.on == "test"
    if args.phenotypes is not None and held_out:
        found = read_phenotypes(args.phenotypes).to_dataset()
        figures["phenotypes"] = scoring.phenotype_scores(found, joints, held, **options)
    if args.prognosis is not None and held_out:
        outcomes = cohort.table("outcomes")
        figures["prognosis"] = scoring.prognosis_scores(
            pd.read_parquet(args.prognosis / "metrics.parquet"),
            outcomes[outcomes["endpoint"] == "replacement"],
            joints,
            held.scans[held.test],
            **options,
        )
    return {"scored_on": args.on, **figures}
