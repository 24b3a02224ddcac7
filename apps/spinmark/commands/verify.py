"""`spinmark verify COHORT`: read every file of a cohort and compare its checksums."""

from dataclasses import dataclass
from pathlib import Path

from spinmark import cli
from spinmark.errors import InputError
from spinmark.progress import done, progress

# Problems that are printed; all are counted.
SHOWN = 20


@dataclass(kw_only=True)
class Verify:
    """Read every volume, table and coordinate of a cohort and compare checksums.

    Args:
        cohort: The cohort; `spinmark verify COHORT` will do.
        generation: Which generation; the last by default.
    """

    cohort: Path
    generation: int | None = None


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("verify", Verify, cli.positional(argv, "cohort"))
    from spinmark_data.cohort.verify import verify

    with progress("verify: volumes") as bar:
        found = verify(args.cohort, generation=args.generation, progress=bar)
    for name, problem in found.problems[:SHOWN]:
        print(f"{name}: {problem}")
    if found.problems:
        more = len(found.problems) - SHOWN
        tail = f", {more} of them not shown" if more > 0 else ""
        raise InputError(
            f"{args.cohort}: {len(found.problems)} problems in generation {found.generation}{tail}; bring "
            "those files back from a copy, or ingest the release again"
        )
    return done(
        f"{args.cohort}: generation {found.generation} is whole: {found.shards} volumes, "
        f"{found.bytes / 1e9:.3f} GB, every checksum as written",
        f"spinmark inspect {args.cohort}",
    )
