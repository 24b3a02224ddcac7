"""`spinmark trajectories --embeddings EMBEDDINGS --out TRAJECTORIES`: how joints move between visits."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.progress import done, progress
from spinmark_biomarkers.phenotypes.trajectories.config import TrajectoriesConfig

BANNER = (
    "How joints move through the space of embeddings between their visits. No outcome was seen. Joints stand "
    "under numbers and colours alone; whose they are is in the tables beside this page."
)


@dataclass(kw_only=True)
class Trajectories(TrajectoriesConfig):
    """Follow joints over their visits: paths, transitions, groups of them, and speed.

    Args:
        embeddings: The embeddings, with two visits a joint or more.
        phenotypes: Phenotypes, for a direction between two of them and speeds by phenotype.
        out: Where to write tables, figures and the page.
    """

    embeddings: Path
    phenotypes: Path | None = None
    out: Path


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("trajectories", Trajectories, argv)
    artefacts.read(args.embeddings, "embeddings")
    inputs: dict[str, Path | str] = {"embeddings": args.embeddings}
    if args.phenotypes is not None:
        artefacts.read(args.phenotypes, "phenotypes")
        inputs["phenotypes"] = args.phenotypes

    def write(folder: Path) -> None:
        from spinmark.report.page import render
        from spinmark.report.trajectories_page import trajectories_sections
        from spinmark_biomarkers.embeddings import open_embeddings
        from spinmark_biomarkers.figures.trajectories import (
            group_arrows,
            path_map,
            speed_intervals,
        )
        from spinmark_biomarkers.phenotypes.store import read_phenotypes
        from spinmark_biomarkers.phenotypes.trajectories.find import find_trajectories
        from spinmark_biomarkers.phenotypes.trajectories.store import write_trajectories

        given = args.phenotypes
        labels = None if given is None else read_phenotypes(given).to_dataset()
        with progress("trajectories: components and draws") as bar:
            found = find_trajectories(
                open_embeddings(args.embeddings), args, phenotypes=labels, progress=bar
            )
        write_trajectories(folder, found)
        drawn = {
            "paths": path_map(found),
            "groups": group_arrows(found),
            "speeds": speed_intervals(found),
        }
        for name, figure in drawn.items():
            figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
        page = render("spinmark trajectories", BANNER, trajectories_sections(found, drawn))
        (folder / "trajectories.html").write_text(page, encoding="utf-8")

    made = artefacts.make(args.out, "trajectories", write, config=args, inputs=inputs)
    page = shlex.quote(str(args.out / "trajectories.html"))
    return done(f"{args.out}: {_told(args.out)}", f"open {page} in a browser", fresh=made.fresh)


def _told(folder: Path) -> str:
    from spinmark_biomarkers.phenotypes.trajectories.store import read_trajectories

    facts = read_trajectories(folder).summary()
    speed, mean = facts["speed"], facts["speed"]["population"]
    known = speed["reliability"]
    lines = [
        f"{facts['joints']} joints, {facts['transitions']} transitions, verdict: {facts['verdict']}",
        f"  left out: {sum(facts['left_out'].values())}, frozen as {facts['frozen_hash'][:12]}",
        f"  speed along '{facts['direction']['name']}': {mean['value']:.3g} a year "
        f"({mean['low']:.3g} to {mean['high']:.3g}), reliability of a joint's own "
        f"{'not known' if known is None else f'{known:.2f}'}",
    ]
    if not facts["noise_seen"]:
        lines.append(
            "  two visits a joint and no rescans: noise rests on assumptions; read `quotient` beside "
            "`speed` in speeds.parquet"
        )
    return "\n".join(lines)
