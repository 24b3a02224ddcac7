"""`spinmark inspect COHORT`: what is in a cohort, how large, how complete, and what it looks like."""

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spinmark import artefacts, cli
from spinmark.errors import InputError, UsageError
from spinmark.files import write_whole
from spinmark.progress import done

if TYPE_CHECKING:
    from spinmark_data.cohort.reader import Cohort

BANNER = (
    "What this cohort holds, as it was stored. The page shows scans and their identifiers: keep it as "
    "private as the cohort."
)


@dataclass(kw_only=True)
class Inspect:
    """Tell what is in a cohort, how large it is and how complete.

    Args:
        cohort: The cohort; `spinmark inspect COHORT` will do.
        generation: Which generation; the last by default.
        page: Also write one HTML page with tables, heat maps and contact sheets.
        json: Also write all counts as JSON.
        sheet: Show a contact sheet here (by default on a terminal only).
        scans: Scans of each sequence on the page's contact sheet, at most.
        seed: Seed of the sample that contact sheets show.
    """

    cohort: Path
    generation: int | None = None
    page: Path | None = None
    json: Path | None = None
    sheet: bool | None = None
    scans: int = 12
    seed: int = 0


def main(argv: list[str]) -> int:
    """Run the command."""
    if not argv:
        raise UsageError("which cohort? Give its folder: spinmark inspect COHORT")
    args = cli.parse("inspect", Inspect, cli.positional(argv, "cohort"))
    if args.scans < 1:
        raise UsageError(f"--scans {args.scans}: a contact sheet shows 1 or more")
    cohort = open_cohort(args.cohort, args.generation)
    from spinmark import show
    from spinmark.report.cohort_tables import all_tables, lead
    from spinmark_data.inspect.summary import summarise

    summary = summarise(cohort)
    print(f"{show.plain(str(args.cohort))}: {lead(summary)}")
    show.print_tables(all_tables(summary))
    if sys.stdout.isatty() if args.sheet is None else args.sheet:
        for row in summary.sequences:
            if row.scans:
                show.print_sheet(cohort, row.sequence, args.seed)
    print()
    made = []
    if args.json is not None:
        write_whole(args.json, json.dumps(asdict(summary), indent=1, allow_nan=False) + "\n")
        made.append(f"{args.json} (all counts)")
    if args.page is not None:
        from spinmark.report.cohort_page import page_sections
        from spinmark.report.page import render

        parts = page_sections(cohort, summary, args.scans, args.seed)
        write_whole(args.page, render(f"spinmark inspect {args.cohort.name}", BANNER, parts))
        made.append(f"{args.page} ({args.page.stat().st_size / 1e6:.1f} MB, opens offline)")
    return done(
        "\n".join(made) or "Nothing was written; --page FILE.html makes a page of it.",
        f"spinmark split --cohort {shlex.quote(str(args.cohort))} --out SPLIT",
    )


def open_cohort(path: Path, generation: int | None = None) -> "Cohort":
    """Open a cohort, or say what the folder is instead.

    Raises:
        InputError: No such folder, another artefact, another schema version, or no such generation.
    """
    remote = artefacts.is_url(path)
    if not remote and not path.is_dir():
        what = "is a file" if path.exists() else "no such folder"
        raise InputError(f"{path}: {what}; a cohort is a folder that `spinmark ingest` wrote")
    if not remote and (path / "run.json").is_file():
        artefacts.read(path, "cohort")
    elif (path / "cohort" / "cohort.json").is_file():
        raise InputError(f"{path}: holds a cohort but is none; give {path / 'cohort'}")
    from spinmark_data.cohort.reader import Cohort

    return Cohort.open(path, generation=generation)
