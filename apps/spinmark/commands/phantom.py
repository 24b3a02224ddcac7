"""`spinmark phantom --out DIR --subjects N --seed S`: a knee cohort with known truth."""

import json
from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.errors import UsageError
from spinmark.progress import done, progress
from spinmark_data.phantom.config import PhantomConfig


@dataclass(kw_only=True)
class Phantom(PhantomConfig):
    """Make a knee cohort with known truth, written as a release would be.

    Args:
        out: Where to write `release/` and `truth/`.
        plan: Say what the cohort would hold and cost, and write nothing.
        ceiling: Also write `truth/ceiling.json`: what a perfect method could reach from the images,
            the tables and both. It takes some ten seconds.
    """

    out: Path | None = None
    plan: bool = False
    ceiling: bool = False


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("phantom", Phantom, argv)
    if args.plan:
        return _plan(args)
    if args.out is None:
        raise UsageError("--out: name the folder to write to, or --plan to write nothing")

    def write(folder: Path) -> None:
        from spinmark_data.phantom.write import write_phantom

        with progress("phantom: scans") as bar:
            write_phantom(args, folder, progress=bar)
        if args.ceiling:
            from spinmark_data.phantom.ceiling import ceilings

            text = json.dumps(ceilings(args), indent=2, sort_keys=True) + "\n"
            (folder / "truth" / "ceiling.json").write_text(text, encoding="utf-8")

    made = artefacts.make(args.out, "phantom", write, config=args)
    size = artefacts.size_mb(args.out / "release")
    return done(
        f"{args.out}/release ({args.subjects} subjects, {size:.0f} MB) and its truth beside it",
        f"spinmark ingest --release {args.out}/release --out COHORT",
        fresh=made.fresh,
    )


def _plan(args: Phantom) -> int:
    """Print what the cohort would hold and cost."""
    from spinmark_data.phantom.plan import plan_phantom

    plan = plan_phantom(args)
    shape = " x ".join(str(count) for count in args.grid_shape)
    print(f"{plan.subjects:,} people, about {plan.scans:,} scans; the main grid is {shape} voxels")
    for each in plan.sequences:
        print(
            f"  {each.name}: {each.scans:,} scans, {each.scan_bytes / 1e6:.1f} MB and "
            f"{each.scan_cpu_seconds:.2f} CPU seconds each, measured on one"
        )
    print(f"{plan.bytes / 1e9:,.1f} GB of images")
    print(
        f"{plan.cpu_hours:,.2f} CPU hours ({plan.person_cpu_ms:.0f} ms a person's tables); "
        f"{plan.cpu_hours / plan.workers:,.2f} hours with --workers {plan.workers} on as many free cores"
    )
    print(f"{plan.peak_mb:.0f} MB of memory held while measuring; images are made one at a time")
    preset = f"--preset {args.name} " if args.name != "custom" else ""
    return done(
        "a plan; nothing was written",
        f"spinmark phantom {preset}--subjects 2 --out DIR to try two people, then all of them",
    )
