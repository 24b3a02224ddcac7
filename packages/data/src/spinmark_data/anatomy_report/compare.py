"""Where real knees fall in the phantom's population, measure by measure."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError

LOW, HIGH = 0.025, 0.975
COMPATIBLE, OUTSIDE = "compatible", "outside"
_FEWEST = 20


def compare(population: pd.DataFrame, real: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Set real knees against a population.

    Args:
        population: A row a knee of the phantom, a column a measure.
        real: Measures of each real knee, by its name.

    Returns:
        A row a measure: `measure`, `mean`, `sd`, `low` and `high` (2.5 and 97.5 %), and for each real
        knee its value, `NAME_percentile` (mid-rank, 0 to 100) and `NAME_verdict`: `compatible` within
        low and high, else `outside`; empty where it lacks the measure.

    Raises:
        InputError: Fewer than 20 knees: their 2.5 % would be no more than the smallest.
    """
    if len(population) < _FEWEST:
        raise InputError(f"{len(population)} phantoms; at least {_FEWEST} are needed.")
    rows = []
    for measure in sorted(population.columns, key=_order):
        values = population[measure].dropna().to_numpy(float)
        if not len(values) or not any(measure in knee for knee in real.values()):
            continue
        low, high = np.quantile(values, [LOW, HIGH])
        row: dict[str, object] = {"measure": measure, "mean": values.mean()}
        row |= {"sd": values.std(ddof=1), "low": low, "high": high}
        for name, knee in real.items():
            value = knee.get(measure, np.nan)
            row |= {name: value, f"{name}_percentile": np.nan, f"{name}_verdict": ""}
            if np.isfinite(value):
                below = (values < value).mean() + (values == value).mean() / 2
                row[f"{name}_percentile"] = 100 * below
                row[f"{name}_verdict"] = COMPATIBLE if low <= value <= high else OUTSIDE
        rows.append(row)
    return pd.DataFrame(rows)


# Kinds of measures, in the order in which a table shows them, with what they are and their unit.
KINDS = {
    "VOL": ("volume", "mm3"),
    "SAB": ("area of a bone's surface", "mm2"),
    "WID": ("width, medial to lateral", "mm"),
    "DEP": ("depth, front to back; of the trochlea, its groove's", "mm"),
    "HGT": ("height", "mm"),
    "LEN": ("length, front to back", "mm"),
    "RAD": ("radius of the posterior condyle", "mm"),
    "ANG": ("angle of the trochlea's groove", "degrees"),
    "POS": ("height over the joint line", "mm"),
    "MEX": ("extrusion of a meniscus", "mm"),
    "TAB": ("area that cartilage covers", "mm2"),
    "THC": ("mean thickness of cartilage", "mm"),
    "THC05": ("thickness, 5 % of the area is thinner", "mm"),
    "THC25": ("thickness, 25 %", "mm"),
    "THC50": ("thickness, 50 %", "mm"),
    "THC75": ("thickness, 75 %", "mm"),
    "THC95": ("thickness, 95 %", "mm"),
}


def _order(measure: str) -> tuple[int, str]:
    kind = measure.split("_")[0]
    return (list(KINDS).index(kind) if kind in KINDS else len(KINDS), measure)


def counts(table: pd.DataFrame, name: str) -> tuple[int, int]:
    """Measures of a real knee that are compatible, and all that it has."""
    verdicts = table[f"{name}_verdict"]
    return int((verdicts == COMPATIBLE).sum()), int((verdicts != "").sum())


def markdown(table: pd.DataFrame, names: tuple[str, ...]) -> str:
    """The comparison as Markdown tables, one a kind of measure."""
    parts = []
    kinds = table["measure"].str.split("_").str[0]
    for kind, (what, unit) in KINDS.items():
        chosen = table[kinds == kind]
        if chosen.empty:
            continue
        head = ["measure", "phantom mean", "SD", "2.5 to 97.5 %"]
        head += [f"knee {name} (percentile)" for name in names]
        lines = [f"**{kind}**: {what}, {unit}.", "", f"| {' | '.join(head)} |"]
        lines.append("|" + "---|" * len(head))
        for row in chosen.to_dict("records"):
            cells = [f"`{row['measure']}`", _number(row["mean"]), _number(row["sd"])]
            cells.append(f"{_number(row['low'])} to {_number(row['high'])}")
            cells += [_cell(row, name) for name in names]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _cell(row: Mapping[Hashable, Any], name: str) -> str:
    verdict = row[f"{name}_verdict"]
    if not verdict:
        return "not labelled"
    text = f"{_number(row[name])} ({row[f'{name}_percentile']:.0f})"
    return f"**{text} outside**" if verdict == OUTSIDE else text


def _number(value: object) -> str:
    number = float(str(value))
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"
