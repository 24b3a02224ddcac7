"""`spinmark attribute --cohort COHORT --run RUN --out DIR`: what makes scans and table rows alike."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.progress import done, progress
from spinmark_training.config.attribution import AttributionConfig

BANNER = (
    "What of a scan, and what of its table row, makes a distilled encoder find the two alike. Scans stand "
    "under their place in summary.json. The pictures show scans: keep the page as private as the cohort."
)


@dataclass(kw_only=True)
class Attribute(AttributionConfig):
    """Attribute the similarity of scans and their table rows to voxels and cells.

    Args:
        cohort: The cohort.
        run: A distilled run.
        out: The folder to write.
    """

    cohort: Path
    run: Path
    out: Path


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("attribute", Attribute, argv)
    inputs: dict[str, Path | str] = {"cohort": args.cohort, "run": args.run}
    for kind, path in (("cohort", args.cohort), ("run", args.run)):
        artefacts.read(path, kind)

    def write(folder: Path) -> None:
        from spinmark.report.attribution_page import attribution_sections
        from spinmark.report.page import render
        from spinmark_data.cohort.reader import Cohort
        from spinmark_training.attribution import attribution, write_attribution

        found = attribution(Cohort.open(args.cohort), args.run, args)
        with progress("attribute: scans") as bar:
            written = write_attribution(folder, found, progress=bar)
        page = render("spinmark attribute", BANNER, attribution_sections(written))
        (folder / "attribution.html").write_text(page, encoding="utf-8")

    made = artefacts.make(args.out, "attribution", write, config=args, inputs=inputs)
    summary = json.loads((args.out / "summary.json").read_text())
    lines = [f"{args.out}: what makes {len(summary['scans'])} scans like their table rows"]
    lines += [f"  {warning}" for warning in summary["warnings"]]
    page = shlex.quote(str(args.out / "attribution.html"))
    return done("\n".join(lines), f"open {page} in a browser", fresh=made.fresh)
