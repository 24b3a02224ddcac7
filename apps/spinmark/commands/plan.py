"""`spinmark plan --cohort COHORT --split SPLIT`: how long a pretraining will take, and how much memory."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from spinmark import cli
from spinmark.commands._runs import run_inputs
from spinmark.progress import done
from spinmark_training.config import PretrainConfig
from spinmark_training.config.plan import PlanConfig

if TYPE_CHECKING:
    from spinmark_training.forecast import Costs, Forecast


@dataclass(kw_only=True)
class Plan(PretrainConfig):
    """Forecast the hours and the memory of a pretraining, from a few steps that are really taken.

    Takes every option of `spinmark pretrain`.

    Args:
        cohort: The cohort.
        split: The split.
        plan: How the forecast is made.
    """

    cohort: Path
    split: Path
    plan: PlanConfig = field(default_factory=PlanConfig)


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("plan", Plan, argv)
    run_inputs(args.cohort, args.split, init_from=args.init_from)
    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.splits import read_split
    from spinmark_training.forecast import forecast, measure

    costs = measure(Cohort.open(args.cohort), read_split(args.split), args, args.plan)
    whole = forecast(costs, args, args.plan)
    for line in tell(costs, whole, args):
        print(line)
    return done(
        f"nothing was written; the forecast is for this machine as busy as it is now, from "
        f"{args.plan.steps} steps",
        f"spinmark pretrain --cohort {args.cohort} --split {args.split} --out RUN, with the same options",
    )


def duration(seconds: float) -> str:
    """Write a time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:.1f} hours"


def tell(costs: "Costs", whole: "Forecast", args: PretrainConfig) -> list[str]:
    """The forecast as lines."""
    steps, world = args.optim.steps, args.trainer.devices * args.trainer.num_nodes
    lines = [
        f"time      {duration(whole.seconds)} for {steps} steps ({whole.epochs:.1f} times every training "
        "subject)",
        f"  start   {costs.start:.1f} s",
        f"  step    {costs.step:.3f} s",
        f"  measure {costs.measurement:.1f} s, every {args.monitor.every or steps} steps",
        f"  save    {costs.checkpoint:.2f} s, every {args.trainer.checkpoint_every_steps or steps} steps",
        f"memory    {whole.peak_mb / 1e3:.2f} GB in a process",
        f"disk      {whole.disk_mb:.1f} MB",
    ]
    if world > 1:
        lines.append(
            f"exchange  {duration(whole.exchange)} between {world} processes, assumed at "
            f"{args.plan.gigabytes_per_second:g} GB/s and not measured"  # type: ignore[attr-defined]
        )
    return lines
