"""Bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Off a terminal a line is written at every tenth of the work, and at least this often (seconds).
QUIET_SECONDS = 20.0


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far a long piece of work is.

    Args:
        label: What is being done, in a few words.

    Yields:
        A function to be called with (done, total).
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task(label, total=None)
            yield lambda done, total: bars.update(task, completed=done, total=total)
    else:
        yield _Lines(label)


class _Lines:
    """Writes a line when a further tenth is done or when long nothing was said."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.start = self.said = time.monotonic()
        self.tenth = -1

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        tenth = 10 * done // max(total, 1)
        if tenth == self.tenth and now - self.said < QUIET_SECONDS:
            return
        self.tenth, self.said = tenth, now
        seconds = now - self.start
        print(f"{self.label}: {done} of {total} ({seconds:.0f} s)", file=sys.stderr, flush=True)


def done(made: str, then: str | None, *, fresh: bool = True) -> int:
    """Say what a command made and what to run next.

    Returns:
        0, the exit status of a command that did its work.
    """
    print(made if fresh else f"{made}\n(it was whole already, from the same inputs: nothing to do)")
    if then:
        print(f"Next: {then}")
    sys.stdout.flush()
    return 0
