"""Write the comparison: `python -m spinmark_data.anatomy_report --real A.nrrd B.nrrd --out docs`.

Writes `concepts/phantom-anatomy.csv` and `images/phantom-anatomy.png` under the folder, and the tables
into `concepts/phantom-anatomy.md` between its marks. The real label maps are those of the public
segmentations on the OAI's DESS grid, right knees with the codes of `labels.names.KNEE`.
"""

import argparse
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from spinmark_data.anatomy_report.aligned import Aligned, align
from spinmark_data.anatomy_report.compare import compare, counts, markdown
from spinmark_data.anatomy_report.measures import measure_anatomy
from spinmark_data.anatomy_report.picture import draw
from spinmark_data.anatomy_report.population import healthy_knees, label_map, measure_population
from spinmark_data.errors import InputError
from spinmark_data.labels.names import KNEE
from spinmark_data.labels.read import read_label_map
from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.frame import knee_frame
from spinmark_data.morphometry.joint import Joint
from spinmark_data.morphometry.knee import find_covers

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def report(real: Sequence[Path], out: Path, knees: int, seed: int, workers: int) -> pd.DataFrame:
    """Measure real knees and phantoms, and write table and picture.

    Args:
        real: Label maps of real right knees.
        out: The folder of the documentation.
        knees: Phantoms to measure.
        seed: Seed of their cohort.
        workers: Processes.

    Returns:
        The comparison (`compare.compare`).

    Raises:
        InputError: A label map cannot be read or measured, or the page lacks its marks.
    """
    names = tuple(string.ascii_lowercase[: len(real)])
    joints: dict[str, Joint] = {}
    for name, path in zip(names, real, strict=True):
        read = read_label_map(path)
        joints[name] = Joint.of(read.labels, read.affine, KNEE)
    page = out / "concepts" / "phantom-anatomy.md"
    before, after = _around_the_tables(page)
    measured = {name: measure_anatomy(joint) for name, joint in joints.items()}
    table = compare(measure_population(knees, seed, workers), measured)
    table.round(4).to_csv(page.with_suffix(".csv"), index=False)
    page.write_text(f"{before}{_tables(table, names, knees)}{after}", encoding="utf-8")
    rows = {f"real, knee {name}": _turned(joint) for name, joint in joints.items()}
    for index, state in enumerate(healthy_knees(2, seed)):
        rows[f"phantom {index + 1}"] = _turned(label_map(state))
    draw(rows, out / "images" / "phantom-anatomy.png")
    return table


def _turned(joint: Joint) -> Aligned:
    return align(joint, knee_frame(find_covers(joint, MorphometryConfig())))


def _around_the_tables(page: Path) -> tuple[str, str]:
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise InputError(f"{page} lacks the marks {BEGIN} and {END}, each once.")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n", f"{END}{rest.split(END)[1]}"


def _tables(table: pd.DataFrame, names: tuple[str, ...], knees: int) -> str:
    lines = [f"\n{knees} healthy phantoms.", ""]
    for name in names:
        within, whole = counts(table, name)
        lines.append(f"- Knee {name}: {within} of {whole} measures are compatible.")
    return "\n".join(lines) + "\n\n" + markdown(table, names) + "\n"


def main(argv: Sequence[str] | None = None) -> Mapping[str, tuple[int, int]]:
    """Parse the command line and write the report; returns the compatible measures of each knee."""
    parser = argparse.ArgumentParser(prog="python -m spinmark_data.anatomy_report")
    parser.add_argument("--real", type=Path, nargs="+", required=True, help="label maps")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the docs")
    parser.add_argument("--knees", type=int, default=80, help="phantoms to measure")
    parser.add_argument("--seed", type=int, default=1, help="seed of their cohort")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args(argv)
    table = report(args.real, args.out, args.knees, args.seed, args.workers)
    names = string.ascii_lowercase[: len(args.real)]
    return {name: counts(table, name) for name in names}


if __name__ == "__main__":
    main()
