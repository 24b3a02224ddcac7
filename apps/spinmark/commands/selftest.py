"""`spinmark selftest`: does this machine compute what it should?"""

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spinmark import cli
from spinmark.errors import InputError, UsageError
from spinmark.files import write_whole
from spinmark.progress import done, progress

if TYPE_CHECKING:
    from spinmark_models.selftest.records import Check, Machine

# The words that begin a line, all of one length.
WORDS = {"pass": "pass", "fail": "FAIL", "skipped": "skip", "measured": "info"}
VERSION = 1


@dataclass(kw_only=True)
class Selftest:
    """Check that this machine computes what it should: bf16, float32, and the same twice.

    Args:
        accelerator: The device; `auto` takes a GPU when there is one.
        threads: CPU threads of torch; none leaves them as they are.
        out: Also write all figures to `selftest.json` in this folder.
    """

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    threads: int | None = None
    out: Path | None = None


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("selftest", Selftest, argv)
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"--threads {args.threads}: use 1 or more")
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise InputError(f"{args.out}: is a file; --out takes a folder")
    import torch

    from spinmark_models.selftest.records import this_machine
    from spinmark_models.selftest.run import run_checks

    if args.accelerator == "gpu" and not torch.cuda.is_available():
        raise InputError("--accelerator gpu: this torch finds no GPU; use auto or cpu")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    on_gpu = args.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    machine = this_machine(device)
    print(tell_machine(machine))
    with progress("selftest: checks") as bar:
        checks = run_checks(device, progress=bar)
    for check in checks:
        print(tell(check))
    if args.out is not None:
        write_whole(args.out / "selftest.json", report(machine, checks))
        print(f"{args.out / 'selftest.json'} (all figures)")
    failed = [check for check in checks if check.verdict == "fail"]
    if failed:
        raise InputError(
            f"{len(failed)} of {len(checks)} checks failed on {machine.name}; the first: "
            f"{failed[0].name}; {failed[0].note}"
        )
    counts = Counter(check.verdict for check in checks)
    parts = [f"{counts['pass']} checks passed"]
    parts += [f"{counts[kind]} {kind}" for kind in ("skipped", "measured") if counts[kind]]
    return done(f"{', '.join(parts)}: nothing wrong was found here", "spinmark demo --out demo")


def tell_machine(machine: "Machine") -> str:
    """One line about the machine."""
    memory = "" if machine.memory_gb is None else f", {machine.memory_gb:.0f} GB"
    below = "" if machine.cuda is None else f", CUDA {machine.cuda}, cuDNN {machine.cudnn}"
    return (
        f"torch {machine.torch} on {machine.device} ({machine.name}{memory}), {machine.threads} CPU "
        f"threads, {machine.system}{below}"
    )


def tell(check: "Check") -> str:
    """One line about a check."""
    line = f"{WORDS[check.verdict]}  {check.name}: "
    if check.figure is None:
        return line + check.note
    figure = f"{check.figure:.3g} {check.unit}".strip()
    if check.tolerance is None:
        return line + figure
    line += f"{figure}, at most {check.tolerance:g}"
    return f"{line}; {check.note}" if check.verdict == "fail" else line


def report(machine: "Machine", checks: "list[Check]") -> str:
    """All figures as JSON; what is no number stands as text."""

    def plain(check: "Check") -> dict[str, Any]:
        row = asdict(check) | {"verdict": check.verdict}
        if check.figure is not None and not math.isfinite(check.figure):
            row["figure"] = str(check.figure)
        return row

    content = {
        "schema": "spinmark/selftest",
        "version": VERSION,
        "machine": asdict(machine),
        "checks": [plain(check) for check in checks],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
