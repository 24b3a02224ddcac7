"""The page of `spinmark compare-phenotypes`: each comparison as a figure with its method and caveat."""

from pathlib import Path
from typing import Any

import pandas as pd

from spinmark.files import write_whole
from spinmark.report.page import Picture, Section, Table, render
from spinmark_biomarkers.figures import stability as draw
from spinmark_biomarkers.phenotypes.stability.knees import Knees
from spinmark_biomarkers.phenotypes.stability.labelings import Labelings
from spinmark_biomarkers.phenotypes.stability.report import StabilityReport
from spinmark_biomarkers.phenotypes.stability.transport import Transport

BANNER = "For research. Agreement says that labels can be found again, not that they mean anything."
ACROSS = (
    "Labels are renamed to the reference's by Jaccard similarity (Hungarian). Bars: 95 % over resampled "
    "people.",
    "Encoders that were trained on the same images may agree on the same artefact.",
)
SEEDS = (
    "The fitted scans clustered again from other random starts.",
    "Agreement here is the least that can be asked for: the people and the images are the same.",
)
KNEES = (
    "Cohen's kappa of the right with the left knee; p from left knees that change owners, also within sites.",
    "Knees of a person share site, scanner, age and weight, so that agreement is no proof of a phenotype.",
)
SITES = (
    "Share of each phenotype among the fitted scans of a site. Bars: 95 % over resampled people.",
    "Sites recruit different people; a difference is a question and no artefact by itself.",
)
CARRIED = (
    "The new cohort labelled by the frozen model and by a fit of its own; pairs of different people count.",
    "A cohort with other scanners may fail for its images alone.",
)


def write(
    out: Path,
    facts: dict[str, Any],
    together: Labelings | None,
    knees: Knees | None,
    report: StabilityReport | None,
    carried: dict[str, Transport],
) -> None:
    """Write `comparison.html` and its figures as PNG.

    Args:
        out: The folder.
        facts: What `summary.json` holds.
        together: Other labelings of the same scans.
        knees: The two knees of a person.
        report: The refits.
        carried: Transport by the name of the cohort.
    """
    drawn: dict[str, Picture] = {}

    def add(name: str, figure: Any, title: str, words: tuple[str, str]) -> None:
        figure.savefig(out / f"{name}.png", dpi=110, metadata={"Software": None})
        drawn[name] = Picture(figure=figure, title=title, method=words[0], caveat=words[1])

    if together is not None:
        title = "Agreement with other labelings"
        add("agreement", draw.agreement_forest(together.to_frame(), title=title), title, ACROSS)
    if knees is not None:
        add("knees", draw.knee_table(knees), "Right and left knees of a person", KNEES)
    if report is not None and report.seeds is not None:
        title = "Agreement across seeds of the clusterer"
        add("seeds", draw.agreement_forest(report.seeds.to_frame(), title=title), title, SEEDS)
    if report is not None and report.frequencies is not None:
        add("sites", draw.site_shares(report.frequencies), "Phenotypes at each site", SITES)
    for name, one in carried.items():
        figure = draw.transport_bars(one, name=name)
        add(f"transport-{name}", figure, f"Transport to {name}", CARRIED)
    compared = facts["compared"]
    section = Section(
        key="comparison",
        title="How far the phenotypes agree",
        lead=(
            f"Labels {facts['frozen_hash'][:16]}. Labelings and knees are compared on {compared['n']} "
            f"scans of {compared['n_subjects']} people ({compared['scans']}), refits on those that the "
            "clusterer was fitted on."
        ),
        pictures=list(drawn.values()),
        tables=_tables(report),
        notes=facts["told"],
    )
    write_whole(out / "comparison.html", render("spinmark compare-phenotypes", BANNER, [section]))


def _tables(report: StabilityReport | None) -> list[Table]:
    if report is None:
        return []
    rows = pd.DataFrame(report.phenotypes)
    rows["entropy"] = [one and one["value"] for one in rows["entropy"]]
    tables = [
        Table.of(
            "Each phenotype when people are drawn again",
            rows[["phenotype", "n", "jaccard", "low", "high", "stability", "dissolved", "entropy"]],
            "Mean Jaccard similarity with its 95 % range; entropy 0 is certain, 1 even between all.",
        )
    ]
    if report.sites is not None:
        sites = report.sites.pivot_table(
            index="site", columns="quantity", values="value", observed=True, aggfunc="first"
        )
        # A site with too few people, here or elsewhere, has no value and is named all the same.
        reasons = report.sites.groupby("site")["reason"].first()
        sites = sites.reindex(reasons.index)
        if (reasons != "").any():
            sites["not done"] = reasons
        sites = sites.reset_index()
        shown = [c for c in ("site", "share", "ari", "ami", "not done") if c in sites]
        note = (
            "A fit without a site's people labels its scans; share with the label of the whole fit."
        )
        tables.append(Table.of("Leaving each site out", sites[shown], note))
    if report.folds is not None:
        note = "Jaccard similarity of each fold's clusters with those of a fit to the other folds."
        tables.append(Table.of("Folds of the cross-fitted run", report.folds.quality, note))
    return tables
