"""`spinmark probe --embeddings.NAME DIR ...`: what can be read from embeddings with few labels."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from spinmark import artefacts, cli
from spinmark.errors import InputError
from spinmark.progress import Bar, done, progress

Folders = list[Path] | Path
# Options by the name of an arm.
NAMED = ("embeddings", "finetuned", "runs")
# Stands for the dot of a name such as `coupling-0.33` while options are read, where dots tell levels.
_DOT = "\N{ONE DOT LEADER}"


@dataclass(kw_only=True)
class Probe:
    """Read variables, true latents and the site from embeddings, with few labels and with many.

    Args:
        cohort: The cohort.
        split: The split; probes learn from its training subjects.
        embeddings: Embeddings by the name of their arm, one folder or a list with a folder a run (seed),
            such as `--embeddings.ssl '[RUN0, RUN1, RUN2]'`.
        finetuned: Predictions by the name of their arm, as `spinmark finetune` writes them; one folder or
            a list.
        runs: Distilled runs by name, for retrieval between scans and table rows; one folder or a list in
            the order of the arm's embeddings of that name.
        truth: A phantom's `truth` folder; its latents are probed too.
        out: Where to write tables, figure and summary.
        targets: Variables, latents and endpoints to probe; all that vary by default.
        labels: Labelled joints (of endpoints: events), and `all`.
        draws: Draws of the labelled joints at each number.
        probes: Kinds of probe.
        demographics: Variables that are decoded from the embedding itself; R2 beyond them is reported.
        on: The set that is scored; choose settings on `val`, report `test`.
        against: Arms that others are compared with; all pairs by default.
        sites: Whether to fit probes without each site, and to read the site.
        parts: Whether to probe the parts of an embedding too, where it has any.
        bootstrap: Samples of test subjects behind every interval.
        seed: Seed of the draws and the samples.
    """

    cohort: Path
    split: Path
    embeddings: dict[str, Folders] = field(default_factory=dict)
    finetuned: dict[str, Folders] = field(default_factory=dict)
    runs: dict[str, Folders] = field(default_factory=dict)
    truth: Path | None = None
    out: Path
    targets: list[str] = field(default_factory=list)
    labels: list[int | Literal["all"]] = field(default_factory=lambda: [50, 200, "all"])
    draws: int = 5
    probes: list[Literal["linear", "knn"]] = field(default_factory=lambda: ["linear", "knn"])
    demographics: list[str] = field(default_factory=lambda: ["AGE", "SEX", "BMI"])
    on: Literal["test", "val"] = "test"
    against: list[str] = field(default_factory=list)
    sites: bool = True
    parts: bool = True
    bootstrap: int = 1000
    seed: int = 0


def parse(argv: list[str]) -> Probe:
    """Read the options; names of arms may have dots."""
    words = []
    for word in argv:
        option, _, rest = word.removeprefix("--").partition(".")
        name, equals, value = rest.partition("=")
        named = word.startswith("--") and option in NAMED and name
        words.append(f"--{option}.{name.replace('.', _DOT)}{equals}{value}" if named else word)
    args = cli.parse("probe", Probe, words)
    for option in NAMED:
        given = {name.replace(_DOT, "."): where for name, where in getattr(args, option).items()}
        setattr(args, option, given)
    return args


def main(argv: list[str]) -> int:
    """Run the command."""
    args = parse(argv)
    if args.bootstrap < 100:
        raise InputError(f"bootstrap: {args.bootstrap}; accepted are at least 100 samples")

    def write(folder: Path) -> None:
        with progress("probe: arms") as bar:
            probe(args, folder, bar)

    made = artefacts.make(args.out, "probe", write, config=args, inputs=_inputs(args))
    summary = json.loads((args.out / "summary.json").read_text())
    return done(
        f"{args.out}: {summary['told']}",
        f"open {args.out}/probe.png, and read {args.out}/differences.csv",
        fresh=made.fresh,
    )


def _inputs(args: Probe) -> dict[str, Path | str]:
    from spinmark.probing import folders

    inputs: dict[str, Path | str] = {"cohort": args.cohort, "split": args.split}
    if args.truth is not None:
        inputs["truth"] = artefacts.listing_hash(args.truth)
    for option in NAMED:
        for name, given in getattr(args, option).items():
            for number, folder in enumerate(folders(given, f"{option}.{name}")):
                if option == "embeddings":
                    artefacts.read(folder, "embeddings")
                whole = (folder / "run.json").is_file()
                inputs[f"{option}.{name}.{number}"] = (
                    folder if whole else artefacts.listing_hash(folder)
                )
    return inputs


def probe(args: Probe, out: Path, bar: Bar) -> None:
    """Probe all arms and write tables, figure and summary into a folder."""
    from spinmark import probing, probing_output
    from spinmark_biomarkers.evaluation.probing import arm as arms
    from spinmark_biomarkers.evaluation.probing.confounders import usable
    from spinmark_biomarkers.evaluation.probing.plan import make_plan
    from spinmark_biomarkers.evaluation.probing.table import with_means
    from spinmark_biomarkers.evaluation.subject_scores import counts_of_resamples
    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.splits import read_split

    cohort, split = Cohort.open(args.cohort), read_split(args.split)
    scans, given = probing.read_arms(args.embeddings, cohort, split, args.on)
    every = probing.variables(cohort, scans) + probing.events(cohort.table("outcomes"), scans)
    if args.truth is not None:
        schema = json.loads((args.truth / "schema.json").read_text())
        every += probing.latents(args.truth, schema, scans)
    plan = make_plan(
        scans,
        probing.chosen(every, args.targets),
        budgets=[None if one == "all" else one for one in args.labels],
        draws=args.draws,
        seed=args.seed,
        on=args.on,
    )
    demographics = usable(plan, [t for t in every if t.name in args.demographics])
    resamples = counts_of_resamples(plan.test_subjects[1], draws=args.bootstrap, seed=args.seed)
    found: dict[str, Any] = {}
    for number, one in enumerate(given):
        bar(number, len(given), one.name)
        parts = {one.name: one.runs}
        if args.parts:
            parts |= {
                f"{one.name}[{label}]": [run[:, features] for run in one.runs]
                for label, features in one.parts.items()
            }
        for name, runs in parts.items():
            found[name] = arms.probe_arm(
                plan,
                runs,
                resamples=resamples,
                probes=args.probes,
                demographics=demographics,
                sites=args.sites,
            )
    for name, where in args.finetuned.items():
        said = probing_output.read_finetuned(where, name, plan)
        found[name] = found.get(name, {}) | with_means(
            arms.score_predictions(plan, said, resamples)
        )
    if args.runs:
        from spinmark.probing_retrieval import retrieval

        said_of = retrieval(
            args.runs,
            given,
            plan,
            cohort,
            split,
            resamples=resamples,
            demographics=demographics,
        )
        found = {name: scores | said_of.get(name, {}) for name, scores in found.items()}
    bar(len(given), len(given))
    uses = {one.name: one.uses for one in given}
    probing_output.write(out, plan, found, args, len(demographics), uses)
