"""Axes as a page: what they are, how far to trust them, what goes with them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from spinmark.report.page import Picture, Section, Table
from spinmark_biomarkers.figures import directions as figures

if TYPE_CHECKING:
    from spinmark_biomarkers.phenotypes.directions.find import Directions

BANNER = (
    "Directions through embeddings, found without any outcome and frozen. For research. Nothing here is "
    "validated for the care of patients."
)
GIVES = {
    "pca": "Principal axes follow the largest variance, whatever causes it; a scanner may lead.",
    "ica": "Independent axes say nothing of each other: where causes act apart, each axis is one of them.",
    "sparse": "Sparse axes touch few features each, which helps where features have names.",
    "archetypes": "Archetypes are extreme joints; every joint is a mixture of them.",
    "reliable": "Reliable axes differ most between people and least between repeats of one person.",
}
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class NamedPicture(Picture):
    """A figure that is also written as a file.

    Args:
        key: The name of the file.
    """

    key: str


def directions_sections(found: "Directions", described: pd.DataFrame | None) -> list[Section]:
    """The page, without an identifier.

    Args:
        found: The axes.
        described: Their description, where there was a cohort.
    """
    parts = [_what(found), _trust(found)]
    if described is not None:
        parts.append(_described(described))
    return parts


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0%}"


def _what(found: "Directions") -> Section:
    facts = found.facts
    named = "feature_name" in found.dataset.variables
    names = found.dataset["feature_name"].values.astype(str).tolist() if named else None
    pictures = [
        NamedPicture(
            key="loadings",
            figure=figures.loadings_map(found, features=names),
            title="What each axis adds to the features",
            method="Loadings over the largest of their axis.",
            caveat="The features of a learnt embedding have no names; only their grouping can be read.",
        )
    ]
    if facts["axes_number"] > 1:
        scores = NamedPicture(
            key="scores",
            figure=figures.score_map(found),
            title="Joints along the first two axes",
            method="A point a joint, from the scans that define scores.",
            caveat="Two axes of all; a cloud without gaps is what a continuum looks like.",
        )
        pictures.insert(0, scores)
    return Section(
        key="what",
        title="What was found",
        lead=(
            f"{facts['axes_number']} axes ({facts['axes_chosen']['how']}). {GIVES[facts['method']]} They "
            f"give back {_percent(facts['variance_fitted'])} of the variance of fitted scans and "
            f"{_percent(facts['variance_held_out'])} of that of held-out subjects."
        ),
        pictures=pictures,
        notes=[f"Axes and scores are frozen: {found.dataset.attrs['frozen_hash'][:16]}."],
    )


def _trust(found: "Directions") -> Section:
    facts = found.facts
    pictures = [
        NamedPicture(
            key="stability",
            figure=figures.axis_stability_bars(found),
            title="Stability of each axis",
            method="Whole people drawn again, everything refitted, axes matched by their absolute correlation.",
            caveat="An artefact is stable too; axes of like variance swap and mix, and look unstable.",
        ),
        NamedPicture(
            key="artefacts",
            figure=figures.axis_artefacts(found),
            title="Is an axis a scanner, a site or a side?",
            method="Eta squared with a permutation test that moves whole people.",
            caveat="Sites may recruit different people, so an association is not proof.",
        ),
    ]
    if facts["reliability"]:
        reliability = NamedPicture(
            key="reliability",
            figure=figures.reliability_dots(found),
            title="How reliably a score repeats",
            method="ICC(1) of a one-way analysis of variance, intervals by resampled subjects.",
            caveat="Between visits knees change, and the two sides differ: only rescans measure noise alone.",
        )
        pictures.append(reliability)
    columns = ["axis", "variance_share", "similarity", "low", "high", "stability"]
    extra = [name for name in ("start_agreement", "reliability") if name in facts["axes"][0]]
    table = pd.DataFrame(facts["axes"])[[*columns, *extra]]
    return Section(
        key="trust",
        title="How far to trust them",
        lead=(
            "An axis is a candidate biomarker if it is stable, repeats, and is no artefact. What it means is "
            "asked of variables that it was not made of, and of frozen outcomes only after that."
        ),
        pictures=pictures,
        tables=[Table.of("Axes", table, "low and high: 95 % range over resamples of subjects.")],
    )


def _described(described: pd.DataFrame) -> Section:
    rows = described[described["q"].astype(float) <= 0.05]
    tables = []
    for axis, own in described.groupby("axis", sort=False):
        strongest = own.assign(size=own["effect"].astype(float).abs()).dropna(subset=["p"])
        strongest = strongest.sort_values(["p", "variable"], kind="stable").head(SHOWN)
        names = ["label", "effect_name", "effect", "low", "high", "q", "adjusted_effect"]
        tables.append(Table.of(str(axis), strongest[names], _note()))
    pictures: list[Any] = []
    if described["effect"].notna().any():
        pictures.append(
            NamedPicture(
                key="described",
                figure=figures.described_axes(described),
                title="What goes with each axis",
                method="Standardised slopes and odds ratios, intervals by subject.",
                caveat="An association with an axis is no cause; variables that agree say one thing twice.",
            )
        )
    tests = int(described["p"].notna().sum())
    return Section(
        key="described",
        title="What goes with them",
        lead=(
            f"{len(rows)} of {tests} associations at a false discovery rate of 5 %. Variables that the encoder "
            "learnt from are shown without a test."
        ),
        pictures=pictures,
        tables=tables,
    )


def _note() -> str:
    return f"The {SHOWN} smallest p values; effects are for one standard deviation of the axis."
