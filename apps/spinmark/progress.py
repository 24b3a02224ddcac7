"""Bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

# Off a terminal a line is written at every tenth of the work, and at least this often (seconds).
QUIET_SECONDS = 20.0
# A rate over less (seconds) says nothing.
SHORT_SECONDS = 1.0


class Bar(Protocol):
    """Is told how far the work is."""

    def __call__(self, done: int, total: int, text: str = "") -> None:
        """Show it.

        Args:
            done: What is done.
            total: What there is.
            text: What else is worth a glance, such as the loss.
        """


@contextmanager
def progress(label: str) -> Iterator[Bar]:
    """Show how far a long piece of work is, how fast it goes and how long it will take.

    Args:
        label: What is being done, in a few words.

    Yields:
        A function to be called with (done, total) and, if wanted, a short text.
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
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task(label, total=None, text="")
            rate = _Rate()

            def show(done: int, total: int, text: str = "") -> None:
                said = ", ".join(part for part in (rate.pace(done), text) if part)
                bars.update(task, completed=done, total=total, text=said)

            yield show
    else:
        yield _Lines(label)


class _Rate:
    """How fast the work goes, from the first call on: what a resumed run had done before is not counted."""

    def __init__(self) -> None:
        self.first: tuple[float, int] | None = None

    def per_second(self, done: int) -> float | None:
        """Return the speed, or none while it is too early to tell."""
        now = time.monotonic()
        if self.first is None:
            self.first = (now, done)
        seconds, more = now - self.first[0], done - self.first[1]
        return more / seconds if seconds >= SHORT_SECONDS and more > 0 else None

    def pace(self, done: int) -> str:
        """Return the speed in words."""
        speed = self.per_second(done)
        if speed is None:
            return ""
        return f"{speed:.3g} a second" if speed >= 1 else f"{1 / speed:.3g} s each"


class _Lines:
    """Writes a line when a further tenth is done or when long nothing was said."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.start = self.said = time.monotonic()
        self.tenth = -1
        self.rate = _Rate()

    def __call__(self, done: int, total: int, text: str = "") -> None:
        now = time.monotonic()
        speed = self.rate.per_second(done)
        tenth = 10 * done // max(total, 1)
        if tenth == self.tenth and now - self.said < QUIET_SECONDS:
            return
        self.tenth, self.said = tenth, now
        spent = f"{now - self.start:.0f} s"
        if speed is not None and done < total:
            spent += f", {self.rate.pace(done)}, {(total - done) / speed:.0f} s to go"
        line = f"{self.label}: {done} of {total} ({spent})"
        print(f"{line}; {text}" if text else line, file=sys.stderr, flush=True)


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
