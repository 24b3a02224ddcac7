"""`spinmark evaluate --truth DIR ...`: score a run against a phantom's truth."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from spinmark import artefacts, cli
from spinmark.commands.prognose import check_definition, outcomes_of
from spinmark.errors import InputError
from spinmark.progress import done

# Whose hazard `truth/joints.parquet` holds.
TRUE_ENDPOINT = "replacement"


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
        trajectories: The trajectories.
        prognosis: The prognosis; of knee replacement, whose hazard a phantom's truth holds.
        definition: The definition that the prognosis was made with, if there was one.
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
    trajectories: Path | None = None
    prognosis: Path | None = None
    definition: Path | None = None
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
    check_definition(args.prognosis, args.definition, args.cohort)
    if args.prognosis is not None:
        _check_endpoint(args.prognosis, args.definition, args.truth)
    for kind in ("phenotypes", "trajectories", "prognosis", "definition"):
        if getattr(args, kind) is not None:
            inputs[kind] = getattr(args, kind)
    settings = asdict(args)
    if args.definition is None:
        # An evaluation without a definition is the same as one made before there were any.
        del settings["definition"]
    if args.trajectories is None:
        del settings["trajectories"]

    def write(folder: Path) -> None:
        (folder / "metrics.json").write_text(json.dumps(evaluate(args), indent=1) + "\n")

    made = artefacts.make(args.out, "evaluation", write, config=settings, inputs=inputs)
    return done(
        f"{args.out}/metrics.json: what the run found of the truth",
        f"spinmark report --cohort {args.cohort} --evaluation {args.out} --out report.html",
        fresh=made.fresh,
    )


def _check_endpoint(prognosis: Path, definition: Path | None, truth: Path) -> None:
    """Refuse to compare a prognosis with the true hazard of another endpoint.

    Raises:
        InputError: The prognosis is of something else than knee replacement.
    """
    endpoint = str(artefacts.read(prognosis, "prognosis")["config"]["endpoint"])
    kind = endpoint
    if definition is not None:
        built = artefacts.read(definition, "definition")["config"]["endpoints"]
        kind = str(built.get(endpoint, {}).get("definition", endpoint))
    if kind != TRUE_ENDPOINT:
        raise InputError(
            f"{prognosis}: is of the endpoint '{endpoint}', but {truth} holds the true hazard of "
            f"'{TRUE_ENDPOINT}' alone; accepted is a prognosis of that, or leave --prognosis out"
        )


def _trajectories(folder: Path, args: Evaluate, latents: list[str]) -> dict[str, Any]:
    import pandas as pd

    from spinmark.scoring_trajectories import trajectory_scores
    from spinmark_biomarkers.phenotypes.trajectories.store import read_trajectories

    return trajectory_scores(
        read_trajectories(folder),
        pd.read_parquet(args.truth / "scans.parquet"),
        latents,
        on=args.on,
        draws=args.bootstrap,
        seed=args.seed,
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
    baseline = scoring.structural_baseline(cohort, held)
    comparisons = scoring.COMPARISONS
    if baseline is not None:
        matrices[scoring.STRUCTURAL] = baseline.matrix
        comparisons += ((next(iter(embeddings)), scoring.STRUCTURAL),)
    errors = scoring.residuals(matrices, held)
    figures = scoring.probe_scores(errors, held, comparisons=comparisons, **options)
    if baseline is not None:
        figures[scoring.STRUCTURAL] = baseline.counts
    figures["site_balanced_accuracy"] = scoring.site_scores(matrices, held, **options)
    # Clusterer and survival model were fitted on validation subjects too: on them they are not scored.
    held_out = args.on == "test"
    if args.phenotypes is not None and held_out:
        found = read_phenotypes(args.phenotypes).to_dataset()
        figures["phenotypes"] = scoring.phenotype_scores(found, joints, held, **options)
    if args.trajectories is not None and held_out:
        artefacts.read(args.trajectories, "trajectories")
        figures["trajectories"] = _trajectories(args.trajectories, args, schema["latents"])
    if args.prognosis is not None and held_out:
        given = args.definition
        outcomes = cohort.table("outcomes") if given is None else outcomes_of(given)
        endpoint = artefacts.read(args.prognosis, "prognosis")["config"]["endpoint"]
        predicted = pd.read_parquet(args.prognosis / "risk.parquet").index
        # A cross-fitted prognosis was scored on all of its joints.
        crossfit = artefacts.read(args.prognosis, "prognosis")["config"].get("crossfit", False)
        scored = held.scans if crossfit else held.scans[held.test]
        figures["prognosis"] = scoring.prognosis_scores(
            pd.read_parquet(args.prognosis / "metrics.parquet"),
            outcomes[outcomes["endpoint"] == endpoint],
            joints,
            scored[scored["joint_id"].isin(predicted)],
            **options,
        )
    return {"scored_on": args.on, **figures}
