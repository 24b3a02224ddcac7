"""All scores of a reader study as one tidy table, and one row a phenotype to read."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.reading.alike import named_alike
from spinmark_biomarkers.phenotypes.reading.config import ScoreConfig
from spinmark_biomarkers.phenotypes.reading.forms import CONFIDENCE, ODD, SHEET
from spinmark_biomarkers.phenotypes.reading.metrics import (
    COLUMNS,
    CROSSED,
    THESE,
    Line,
    agreement,
    consistency,
    odd_one_out,
    shares,
    wide,
)
from spinmark_biomarkers.phenotypes.reading.plan import ReadingPlan

FEW_READERS = 3


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a reader study says.

    Args:
        table: Tidy: `metric`, `subset`, `phenotype`, `reader`, `interval` (what it holds for), `value`, `low`,
            `high`, `chance`, `p`, `n` (answers, pairs or units), `unanswered`.
        phenotypes: A row a phenotype with a sheet: its code, accuracy, signs, agreement, suspicions.
        texts: What readers wrote: `code`, `phenotype`, `reader`, `question`, `answer`.
        notes: What to know before believing any of it, in words.
    """

    table: pd.DataFrame
    phenotypes: pd.DataFrame
    texts: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    def figure_of(self, metric: str, subset: str, interval: str) -> dict[str, Any]:
        """Return the row of all readers of a metric; empty if there is none."""
        table = self.table
        rows = table[
            (table["metric"] == metric) & (table["subset"] == subset) & (table["interval"] == interval)
            & (table["reader"] == "all")
        ]  # fmt: skip
        return {} if rows.empty else {str(k): v for k, v in rows.iloc[0].items()}


def score_readings(
    plan: ReadingPlan,
    readings: pd.DataFrame,
    config: ScoreConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score completed forms against the key.

    Args:
        plan: The study, from its key.
        readings: As `read_readings` gives them.
        config: Samples, coverage and seed.
        progress: Called with (done, total).

    Raises:
        InputError: Settings out of range, or no reader has handed in the first phase.
    """
    if config.bootstrap < 100:
        raise InputError(f"bootstrap: {config.bootstrap}; accepted are at least 100 samples")
    if not 0 < config.level < 1:
        raise InputError(f"level: {config.level}; accepted is a number between 0 and 1")
    first = readings[readings["part"].isin([ODD, SHEET])]
    readers = sorted(first["reader"].unique())
    if not readers:
        raise InputError("readings: no form of the first phase; accepted is one or more")
    rows: list[Line] = []
    steps = [odd_one_out, consistency, agreement, shares]
    for done, step in enumerate(steps):
        if progress is not None:
            progress(done, len(steps))
        rows += step(plan, readings, config)
    if progress is not None:
        progress(len(steps), len(steps))
    table = pd.DataFrame(rows, columns=[*COLUMNS])
    table["phenotype"] = table["phenotype"].astype("Int64")
    table["n"] = table["n"].astype("Int64")
    table["unanswered"] = table["unanswered"].astype("Int64")
    for name in ("value", "low", "high", "chance", "p"):
        table[name] = table[name].astype(np.float64)
    scores = Scores(
        table=table, phenotypes=_by_phenotype(plan, readings, table), texts=_texts(plan, readings)
    )
    return Scores(
        table=table,
        phenotypes=scores.phenotypes,
        texts=scores.texts,
        notes=_notes(plan, scores, readings, readers),
    )


def _by_phenotype(plan: ReadingPlan, readings: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    sheets = plan.sheets.drop_duplicates("code").set_index("code")["phenotype"]
    codes = list(sheets.index)
    accuracy = table[
        (table["metric"] == "odd_one_out_accuracy") & (table["subset"] == "majority")
        & (table["interval"] == CROSSED)
    ].set_index("phenotype")  # fmt: skip
    answers = {
        question: wide(readings, SHEET, question, codes)
        for question in ("known sign", "confidence", "artefact suspected", "related to disease")
    }
    alike = (
        named_alike(answers["known sign"].to_numpy(dtype=object), draws=1, seed=0).sheets
        if codes and len(answers["known sign"])
        else np.full(len(codes), np.nan)
    )
    rows = []
    for place, code in enumerate(codes):
        given = {
            question: [one for one in table_of[code] if one]
            for question, table_of in answers.items()
        }
        signs = Counter(given["known sign"])
        # The commonest first; ties by name, so that no order of readers shows.
        ranked = sorted(signs.items(), key=lambda pair: (-pair[1], pair[0]))
        own = accuracy.loc[sheets[code]] if sheets[code] in accuracy.index else None
        sure = [CONFIDENCE.index(one) + 1 for one in given["confidence"]]
        rows.append(
            {
                "phenotype": int(sheets[code]),
                "code": code,
                "accuracy": np.nan if own is None else float(own["value"]),
                "low": np.nan if own is None else float(own["low"]),
                "high": np.nan if own is None else float(own["high"]),
                "signs": "; ".join(f"{name} ({n})" for name, n in ranked),
                "named_alike": float(alike[place]),
                "confidence": float(np.median(sure)) if sure else np.nan,
                "artefact_suspected": given["artefact suspected"].count("yes"),
                "disease_related": given["related to disease"].count("yes"),
                "readers": len(given["known sign"]),
            }
        )
    columns = [
        "phenotype", "code", "accuracy", "low", "high", "signs", "named_alike", "confidence",
        "artefact_suspected", "disease_related", "readers",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).sort_values("phenotype").reset_index(drop=True)


def _texts(plan: ReadingPlan, readings: pd.DataFrame) -> pd.DataFrame:
    """What was written in words, by phenotype, for the organiser to compare."""
    asked = ("what they have in common", "which artefact", "name", "same as sheet", "known pattern")
    own = readings[readings["question"].isin(asked) & (readings["answer"] != "")]
    sheets = plan.sheets.drop_duplicates("code").set_index("code")["phenotype"]
    frame = own.assign(phenotype=own["code"].map(sheets).astype(np.int64))
    frame = frame[["phenotype", "code", "question", "reader", "answer"]]
    return frame.sort_values(["phenotype", "question", "reader"]).reset_index(drop=True)


def _notes(
    plan: ReadingPlan, scores: Scores, readings: pd.DataFrame, readers: list[str]
) -> list[str]:
    notes = [f"{len(readers)} reader{'s' if len(readers) > 1 else ''}: {', '.join(readers)}"]
    unpaired = sorted(set(readings["reader"]) - set(readers))
    if len(readers) < FEW_READERS:
        notes.append(
            f"with fewer than {FEW_READERS}, nothing can be said of other readers with any precision: read the "
            "intervals over items"
        )
    if unpaired:
        notes.append(f"names but no first phase from {', '.join(unpaired)}")
    missing = int(((readings["part"] == ODD) & (readings["answer"] == "")).sum())
    if missing:
        notes.append(f"{missing} answers of the odd-one-out task are missing and left out")
    overall = scores.figure_of("odd_one_out_accuracy", "all", CROSSED)
    if overall and np.isfinite(overall["low"]):
        told = "above" if overall["low"] > overall["chance"] else "not above"
        notes.append(
            f"odd ones are found {told} chance: {overall['value']:.2f} ({overall['low']:.2f} to "
            f"{overall['high']:.2f}) for {overall['chance']:.2f}"
        )
    control = scores.figure_of("odd_one_out_accuracy", "controls", THESE)
    if control and np.isfinite(control["low"]) and control["low"] > control["chance"]:
        notes.append(
            f"controls have no odd one, and yet it was 'found' in {control['value']:.0%}: the sheets tell "
            "something else, and no accuracy here may be believed"
        )
    seen = plan.sheets["code"].nunique()
    if seen < 10:
        notes.append(
            f"{seen} sheets: intervals of agreement, which resample sheets, are rough with fewer than ten"
        )
    return [*notes, *plan.notes]
