"""`spinmark score-readings --sheets DIR --readings CSV ... --out DIR`: what readers saw, with intervals."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.progress import done, progress
from spinmark_biomarkers.phenotypes.reading.config import ScoreConfig

BANNER = (
    "What readers saw in groups that a computer made of images alone. They knew nothing of grades, outcomes "
    "or numbers of groups. The page holds no image and names no participant, but tells which sheet was which."
)


@dataclass(kw_only=True)
class ScoreReadings(ScoreConfig):
    """Score what readers said of blind sheets.

    Args:
        sheets: What reading-sheets wrote, with its key.
        readings: Completed forms: `--readings one.csv two.csv`.
        out: The folder to write: scores.csv, phenotypes.csv, words.csv, readings.png and readings.html.
    """

    sheets: Path
    readings: list[Path] = field(default_factory=list)
    out: Path


def listed(argv: Sequence[str]) -> list[str]:
    """Let `--readings` take several files one after the other, as a shell writes them."""
    words: list[str] = []
    files: list[str] = []
    taking = False
    for word in argv:
        if word.startswith("--"):
            taking = word == "--readings"
        elif taking and not word.startswith("["):
            files.append(word)
            continue
        words.append(word)
    if not files:
        return words
    return [*(word for word in words if word != "--readings"), f"--readings={json.dumps(files)}"]


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("score-readings", ScoreReadings, listed(argv))
    artefacts.read(args.sheets, "reading-sheets")
    inputs: dict[str, Path | str] = {"sheets": args.sheets}
    # By content: under which names and in which order files are given is of no consequence.
    hashes = sorted(artefacts.file_hash(path) for path in args.readings)
    inputs |= {f"readings.{number}": value for number, value in enumerate(hashes)}

    def write(folder: Path) -> None:
        from spinmark.report.page import render
        from spinmark.report.readings_page import readings_sections
        from spinmark_biomarkers.figures.reading_scores import scores_figure
        from spinmark_biomarkers.phenotypes.reading.key import read_key
        from spinmark_biomarkers.phenotypes.reading.readings import read_readings
        from spinmark_biomarkers.phenotypes.reading.scoring import score_readings

        plan = read_key(args.sheets / "key")
        readings = read_readings(plan, args.readings)
        with progress("score-readings: metrics") as bar:
            scores = score_readings(plan, readings, args, progress=bar)
        for name, frame in (
            ("scores", scores.table),
            ("phenotypes", scores.phenotypes),
            ("words", scores.texts),
        ):
            frame.to_csv(folder / f"{name}.csv", index=False)
        (folder / "notes.json").write_text(json.dumps(scores.notes, indent=1) + "\n")
        scores_figure(scores).savefig(folder / "readings.png", dpi=150, metadata={"Software": None})
        page = render("spinmark score-readings", BANNER, readings_sections(scores))
        (folder / "readings.html").write_text(page, encoding="utf-8")

    made = artefacts.make(args.out, "readings", write, config=args, inputs=inputs)
    notes = json.loads((args.out / "notes.json").read_text())
    page = shlex.quote(str(args.out / "readings.html"))
    return done(
        "\n".join([f"{args.out}: {notes[0]}", *(f"  {note}" for note in notes[1:])]),
        f"open {page}, and read words.csv beside it: what readers wrote is not scored",
        fresh=made.fresh,
    )
