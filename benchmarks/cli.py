"""How long a user waits for a help text: `nox -s bench -- cli`.

Each help text is timed in turn with a Python that does nothing, so that a slow moment of the machine
meets both; medians of wall and CPU seconds, as a whole process. The goals are 0.3 s for the command and
0.5 s for a subcommand.
"""

import json
import os
import statistics
import subprocess
import sys
import time

from spinmark.__main__ import COMMANDS

ROUNDS = 7


def once(words: list[str]) -> tuple[float, float]:
    """Run a command; return its wall and its CPU seconds."""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(words)} ended with status {process.returncode}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Time every help text and print a table, then one JSON line."""
    python = [sys.executable, "-c", "pass"]
    wall: dict[str, float] = {}
    print(f"{'command':12} {'wall s':>8} {'CPU s':>8} {'x bare Python (CPU)':>20}")
    for name in ("", *COMMANDS):
        words = [sys.executable, "-m", "spinmark", *([name] if name else []), "--help"]
        pairs = [(once(words), once(python)) for _ in range(ROUNDS)]
        wall[name], cpu, bare = (
            statistics.median(values)
            for values in zip(*((a[0], a[1], b[1]) for a, b in pairs), strict=True)
        )
        print(f"{name or 'spinmark':12} {wall[name]:8.3f} {cpu:8.3f} {cpu / bare:20.1f}")
    result = {
        "help_seconds": round(wall.pop(""), 3),
        "subcommand_help_seconds": round(max(wall.values()), 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
