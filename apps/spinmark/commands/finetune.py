"""`spinmark finetune --cohort C --split S --run RUN --out DIR`: the encoder learns a few labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spinmark import artefacts, cli
from spinmark.progress import done, progress
from spinmark_training.config import FinetuneConfig

FILE = "finetuned.parquet"


@dataclass(kw_only=True)
class Finetune(FinetuneConfig):
    """Fine-tune a run's encoder on a few labelled joints, and predict scans that it has not seen.

    Args:
        cohort: The cohort.
        split: The split; labelled joints are drawn from its training subjects.
        run: The run whose encoder is fine-tuned, or, with `--fresh`, whose architecture is trained from
            scratch.
        out: Where to write the predictions.
        truth: A phantom's `truth` folder, whose latents are then targets.
        targets: Variables of the tables; with `truth` they may be left out.
        labels: Labelled joints of each fit: numbers, and `all`.
        draws: Draws of labelled joints, one fit each; of `all` there is one.
        on: The set that is predicted; choose settings on `val`, report `test`.
        seed: Of the draws, as of `spinmark probe`, and of the fits.
    """

    cohort: Path
    split: Path
    run: Path
    out: Path
    truth: Path | None = None
    targets: tuple[str, ...] = ()
    labels: tuple[int | Literal["all"], ...] = (50, 200, "all")
    draws: int = 5
    on: Literal["test", "val"] = "test"
    seed: int = 0


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("finetune", Finetune, argv)
    inputs: dict[str, Path | str] = {}
    for kind in ("cohort", "split", "run"):
        artefacts.read(getattr(args, kind), kind)
        inputs[kind] = getattr(args, kind)
    if args.truth is not None:
        inputs["truth"] = artefacts.listing_hash(args.truth)

    def write(folder: Path) -> None:
        import shutil

        from spinmark import finetuning
        from spinmark_data.cohort.reader import Cohort
        from spinmark_data.splits import read_split
        from spinmark_training.probes.finetune import Finetuner
        from spinmark_training.sources import scan_sets

        cohort, split = Cohort.open(args.cohort), read_split(args.split)
        tuner = Finetuner(cohort, split, args.run, args)
        sets = scan_sets(tuner.scans, split)["set"]
        plan = finetuning.plan_fits(
            cohort,
            tuner.scans.assign(set=sets.to_numpy()),
            args.targets,
            args.truth,
            labels=args.labels,
            draws=args.draws,
            seed=args.seed,
            on=args.on,
        )
        with progress("finetune: fits") as bar:
            found = finetuning.run_fits(tuner, plan, folder, seed=args.seed, progress=bar)
        found.to_parquet(folder / FILE, index=False)
        shutil.rmtree(folder / finetuning.PIECES)

    made = artefacts.make(args.out, "finetuned", write, config=args, inputs=inputs, resumable=True)
    return done(
        f"{args.out}/{FILE}: what the fine-tuned encoder says of the set {args.on}",
        f"spinmark probe --cohort {args.cohort} --split {args.split} --finetuned.finetuned {args.out} "
        "--embeddings.NAME EMBEDDINGS --out PROBE",
        fresh=made.fresh,
    )
