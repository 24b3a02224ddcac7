"""What readers saw, as sections of a page."""

import math

import pandas as pd

from spinmark.report.page import Picture, Section, Table
from spinmark_biomarkers.figures.reading_scores import scores_figure
from spinmark_biomarkers.phenotypes.reading.metrics import CROSSED, EXACT, THESE
from spinmark_biomarkers.phenotypes.reading.scoring import Scores

NAMES = {
    "odd_one_out_accuracy": "odd one out, accuracy",
    "consistency": "same answer to a repeated item",
    "alpha": "Krippendorff's alpha",
    "named_alike": "pairs of readers who give one sign",
    "artefact_suspected": "sheets suspected of an artefact",
    "disease_related": "sheets held to be related to disease",
}


def readings_sections(scores: Scores) -> list[Section]:
    """The page: what to know first, the figure, tables, and what was written."""
    parts = [_lead(scores), _phenotypes(scores), _readers(scores), _agreement(scores)]
    return [*parts, _words(scores)] if len(scores.texts) else parts


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) or math.isnan(high) else f"{low:.2f} to {high:.2f}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _lead(scores: Scores) -> Section:
    return Section(
        key="found",
        title="What was found",
        lead="The odd-one-out task asks whether readers see what the clusterer found; the known sign, "
        "whether they call it the same; controls, whether the sheets tell anything that they should not.",
        notes=scores.notes,
        pictures=[
            Picture(
                figure=scores_figure(scores),
                title="Accuracy and agreement",
                method="Points are shares of answers given. Bars are intervals: of all readers for other "
                "readers and items, of one reader by Clopper and Pearson, of agreement from resampled sheets.",
                caveat="A phenotype that readers cannot tell may still be real: they saw a few slices.",
            )
        ],
    )


def _phenotypes(scores: Scores) -> Section:
    rows = [
        [
            str(row["phenotype"]),
            str(row["code"]),
            _number(row["accuracy"]),
            _interval(row["low"], row["high"]),
            str(row["signs"]),
            _number(row["named_alike"]),
            _number(row["confidence"]),
            f"{row['artefact_suspected']} of {row['readers']}",
            f"{row['disease_related']} of {row['readers']}",
        ]
        for _, row in scores.phenotypes.iterrows()
    ]
    columns = [
        "phenotype", "sheet", "odd one out", "interval", "known signs (readers)", "named alike",
        "median confidence", "artefact", "disease",
    ]  # fmt: skip
    return Section(
        key="phenotypes",
        title="Phenotype by phenotype",
        lead="A row a sheet. Accuracy is that of the items in which the phenotype has the majority.",
        tables=[
            Table(
                title="Sheets",
                columns=columns,
                rows=rows,
                note="Named alike: share of pairs of readers who chose one sign; 'other' is alike to nothing.",
            )
        ],
    )


def _readers(scores: Scores) -> Section:
    table = scores.table
    own = table[table["metric"].isin(["odd_one_out_accuracy", "consistency"])]
    pooled = own[(own["reader"] == "all") & own["phenotype"].isna()]
    single = own[own["interval"] == EXACT]

    def rows(frame: pd.DataFrame, by: str) -> list[list[str]]:
        return [
            [
                NAMES[str(row["metric"])],
                str(row["subset"]),
                str(row[by]),
                _number(row["value"]),
                _interval(row["low"], row["high"]),
                _number(row["chance"]),
                str(row["n"]),
                str(row["unanswered"]),
            ]
            for _, row in frame.iterrows()
        ]

    columns = ["score", "items", "", "value", "interval", "chance", "answers", "unanswered"]
    return Section(
        key="readers",
        title="Readers",
        lead="Of all readers two intervals are told: one for other readers and items of the kind, and one for "
        "these readers alone and other items. With two or three readers the first is wide, and rightly.",
        tables=[
            Table(
                title="All readers",
                columns=[name or "holds for" for name in columns],
                rows=rows(pooled, "interval"),
                note=f"'{CROSSED}': readers crossed with items; '{THESE}': these readers.",
            ),
            Table(
                title="One by one",
                columns=[name or "reader" for name in columns],
                rows=rows(single, "reader"),
                note="Exact intervals: the items of one reader are independent.",
            ),
        ],
    )


def _agreement(scores: Scores) -> Section:
    table = scores.table
    own = table[table["metric"].isin(["alpha", "named_alike"])]
    rows = [
        [
            NAMES[str(row["metric"])],
            "known sign" if row["metric"] == "named_alike" else str(row["subset"]),
            _number(row["value"]),
            _interval(row["low"], row["high"]),
            _number(row["chance"]),
            str(row["n"]),
            str(row["unanswered"]),
        ]
        for _, row in own.iterrows()
    ]
    return Section(
        key="agreement",
        title="Agreement",
        lead="Alpha is 1 where readers agree, 0 where they agree as chance has it, and below 0 where they "
        "disagree by system. It has no value where all gave one answer."
        if rows
        else "One reader: there is nothing to agree with.",
        tables=[
            Table(
                title="Between readers",
                columns=["score", "question", "value", "interval", "chance", "n", "unanswered"],
                rows=rows,
                note="n: units with two answers or more, or pairs of readers. Chance of named alike: pairs of "
                "readers on two different sheets.",
            )
        ]
        if rows
        else [],
    )


def _words(scores: Scores) -> Section:
    columns = ["phenotype", "code", "question", "reader", "answer"]
    return Section(
        key="words",
        title="What was written",
        lead="As it was written, and not scored: whether two descriptions mean one thing, people must judge.",
        tables=[Table.of("Words", scores.texts[columns])],
    )
