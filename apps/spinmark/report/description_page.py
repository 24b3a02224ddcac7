"""The description of phenotypes as sections of a page that a clinician reads."""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from spinmark.describing import Described, told
from spinmark.report.page import Picture, Section, Table
from spinmark_biomarkers.errors import InputError as Unusable
from spinmark_biomarkers.figures.description import (
    enrichment_forest,
    enrichment_map,
    importance_bars,
    member_panel,
    panel_bars,
    profile_map,
)
from spinmark_biomarkers.phenotypes.description.config import DescribeConfig
from spinmark_biomarkers.phenotypes.description.scale import foremost, on_one_scale

# Where along z, from the lateral to the medial side, the medial compartment is cut in its middle.
MEDIAL = 0.7
_OVERALL = 20
_ON = {
    "test": "test subjects, whom neither the encoder nor the clusterer saw",
    "unseen": "subjects whom the encoder never saw; the clusterer saw some of them",
    "all": "all subjects, those that encoder and clusterer were fitted on among them",
}


def description_sections(
    described: Described, config: DescribeConfig, *, pictures: bool
) -> list[Section]:
    """Return the page, without an identifier.

    Args:
        described: What is said of the phenotypes.
        config: The settings.
        pictures: Whether slices of members are shown.
    """
    slices = _slices(described) if pictures else {}
    labels = sorted(set(described.enrichment["phenotype"]))
    return [
        _lead(described, config),
        _overview(described),
        *(_phenotype(described, label, config, slices) for label in labels),
        _panel(described),
        _surrogate(described),
        *_profiles(described, config),
        _reading(described),
    ]


def _lead(described: Described, config: DescribeConfig) -> Section:
    m = described.material
    facts = m.phenotypes.summary()
    shown = m.scans[m.shown]
    reasons = facts.get("reasons", [])
    return Section(
        key="what",
        title="What this page shows",
        lead=(
            f"{told(described)}. Described are {len(shown):,} joints of {shown['subject_id'].nunique():,} "
            f"subjects: {_ON[config.on]}. The verdict on whether there are groups at all: "
            f"{facts.get('verdict', 'unknown')}."
        ),
        notes=[
            *map(str, reasons),
            *described.notes,
            "Intervals take people, not joints, as the unit. q is the false discovery rate over all tests of "
            "this page's tables of differences.",
        ],
    )


def _overview(described: Described) -> Section:
    rows = described.overall.sort_values(["p", "effect"], ascending=[True, False], kind="stable")
    pictures = []
    # Where nothing was tested, the table says so.
    with contextlib.suppress(Unusable):
        pictures.append(
            Picture(
                figure=enrichment_map(described.enrichment),
                title="Differences of each phenotype from all other joints",
                method="Standardised differences; odds ratios are brought to the same scale.",
                caveat="The variables that differ the most, out of many; the tables hold all of them.",
            )
        )
    columns = ["label", "kind", "n", "effect_name", "effect", "low", "high", "q"]
    return Section(
        key="overview",
        title="All phenotypes at a glance",
        lead="A phenotype is described by what its members have more or less of than all other joints.",
        pictures=pictures,
        tables=[
            Table.of(
                "What differs the most over all phenotypes",
                rows[columns]
                .head(_OVERALL)
                .rename(columns={"label": "variable", "effect_name": "measure"}),
                "Share of the variance that phenotypes explain, or Cramer's V; 95 % intervals by subject.",
            )
        ],
    )


def _phenotype(
    described: Described, label: int, config: DescribeConfig, slices: Mapping[str, Any]
) -> Section:
    m = described.material
    shown = m.scans.loc[m.shown, "label"]
    n = int((shown == label).sum())
    rows = described.enrichment[described.enrichment["phenotype"] == label]
    first = foremost(on_one_scale(rows), config.shown)["variable"]
    best = rows.set_index("variable").loc[list(first)].reset_index()
    adjusted_for = [str(name) for name in m.adjust.columns]
    found = best[best["q"] <= 0.05]
    notes = [in_words(row) for row in found.to_dict("records")]
    notes = notes or [
        "No variable differs from that of other joints at a false discovery rate of 5 %."
    ]
    notes += [f"Rule of thumb: {rule}." for rule in described.rules if rule.phenotype == label]
    pictures = []
    if len(best):
        pictures.append(
            Picture(
                figure=enrichment_forest(
                    described.enrichment, label, most=config.shown, adjusted_for=adjusted_for
                ),
                title=f"What phenotype {label} has more or less of",
                method="95 % intervals by leaving out one subject at a time.",
                caveat="Adjustment for a grade removes what the grade is made of, and can turn a sign.",
            )
        )
    own = described.members[described.members["phenotype"] == label]
    if slices and len(own):
        pictures.append(
            Picture(
                figure=member_panel(slices, own),
                title="Its most typical members, random ones, and those at its border",
                method="One slice of each, medial compartment, one joint a person, of fitted subjects.",
                caveat="Prototypes flatter a phenotype; random members show how wide it is.",
                raster=True,
            )
        )
    return Section(
        key=f"phenotype-{label}",
        title=f"Phenotype {label}",
        lead=f"{n:,} of {len(shown):,} joints ({100 * n / len(shown):.0f} %). {_stability(m, label)}",
        notes=notes,
        pictures=pictures,
    )


def _stability(m: Any, label: int) -> str:
    rows = m.phenotypes.summary().get("phenotypes", [])
    own: Mapping[str, Any] = next((row for row in rows if row.get("phenotype") == label), {})
    said = []
    if own.get("stability") is not None:
        said.append(f"Stability under resampled subjects: {own['stability']}")
        if own.get("jaccard") is not None:
            said[-1] += f" (Jaccard {own['jaccard']:.2f})"
    if own.get("entropy") is not None:
        said.append(f"entropy of its assignments {own['entropy']:.2f}")
    return f"{', '.join(said)}." if said else ""


def in_words(row: Mapping[Any, Any]) -> str:
    """Return a difference in words, with its interval."""
    odds = row["effect_name"] == "odds ratio"
    name = f"{row['label']} ({row['level']})" if row["level"] else str(row["label"])
    if odds:
        seen = f"{100 * row['members']:.0f} % of members, {100 * row['others']:.0f} % of others"
        size = f"odds ratio {_interval(row, '')}"
    else:
        seen = f"mean {row['members']:.3g} in members, {row['others']:.3g} in others"
        size = f"{'higher' if row['effect'] > 0 else 'lower'} by {_interval(row, '', absolute=True)} SD"
    text = f"{name}: {size}; {seen}; q {_q(row['q'])}"
    if math.isfinite(row["adjusted_effect"]):
        unit = "" if odds else " SD"
        text += f"; adjusted {_interval(row, 'adjusted_')}{unit}"
    return f"{text}{'; ' + row['note'] if row['note'] else ''}."


def _interval(row: Mapping[Any, Any], prefix: str, *, absolute: bool = False) -> str:
    value, low, high = (float(row[prefix + name]) for name in ("effect", "low", "high"))
    if absolute and value < 0:
        value, low, high = -value, -high, -low
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _q(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _panel(described: Described) -> Section:
    suspects = described.panel.loc[described.panel["flag"] == "artefact suspected", "variable"]
    return Section(
        key="artefacts",
        title="Is a phenotype an artefact?",
        lead=(
            f"Suspected: {', '.join(suspects)}. Ask how the members differ once that is equal."
            if len(suspects)
            else "Nothing that scans were made with goes with the phenotypes strongly enough to be suspected."
        ),
        pictures=[
            Picture(
                figure=panel_bars(described.panel),
                title="Site, scanner, side, visit, spacing and quality",
                method="Cramer's V or the correlation ratio; p by exchanging whole people, or by sums of "
                "people.",
                caveat="Sites may recruit different people, so that an association is a question, not a proof.",
            )
        ],
        tables=[Table.of("The same in numbers", described.panel)],
    )


def _surrogate(described: Described) -> Section:
    found = described.surrogate
    if isinstance(found, str):
        return Section(
            key="surrogate", title="Could it be guessed?", lead=f"Not asked: {found}.", notes=[]
        )
    score = found.score.to_dict()
    recall = ", ".join(f"{key}: {100 * value:.0f} %" for key, value in found.recall.items())
    return Section(
        key="surrogate",
        title="Could it be guessed without the scan?",
        lead=(
            f"From the tables alone, a small classifier ({found.model}) guesses the phenotype of "
            "held-out joints "
            f"with a balanced accuracy of {score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f}); "
            f"chance is {found.chance:.2f}. What it cannot guess is new, or noise. Guessed right: {recall}."
        ),
        notes=[] if found.converged else ["A fit did not end by itself: read it with care."],
        pictures=[
            Picture(
                figure=importance_bars(found.importance, score, found.chance),
                title="What the guess rests on",
                method="Loss of balanced accuracy when people exchange their values of a whole group.",
                caveat="Groups that say the same as another one seem to be worth little.",
            )
        ],
        tables=[
            Table(
                title="Rules of thumb",
                columns=["phenotype", "rule", "joints", "of the phenotype", "finds"],
                rows=[
                    [
                        str(rule.phenotype),
                        rule.words,
                        str(rule.n),
                        "" if rule.n == 0 else f"{100 * rule.share:.0f} %",
                        "" if math.isnan(rule.found) else f"{100 * rule.found:.0f} %",
                    ]
                    for rule in described.rules
                ],
                note="Branches of a shallow tree, fitted on training subjects, counted on held-out joints; "
                "missing cells stand at the median.",
            )
        ]
        if described.rules
        else [],
    )


def _profiles(described: Described, config: DescribeConfig) -> list[Section]:
    if described.profiles is None or not np.isfinite(described.profiles["z"]).any():
        return []
    against = (
        "the mean over all joints" if config.reference is None else f"phenotype {config.reference}"
    )
    return [
        Section(
            key="profiles",
            title="Regional thickness and volumes",
            lead=f"Adjusted means less those of {against}, in standard deviations within phenotypes.",
            pictures=[
                Picture(
                    figure=profile_map(described.profiles),
                    title="Cartilage thickness and volumes by region",
                    method="Linear models with sex and the area of the tibial plateaus, where they are known; "
                    "bold where q is 0.05 or less.",
                    caveat="Volumes depend on the field of view, too.",
                )
            ],
        )
    ]


def _reading(described: Described) -> Section:
    rows = described.enrichment.drop_duplicates("variable")
    share = rows["n_missing"] / (rows["n"] + rows["n_missing"])
    order = share.sort_values(ascending=False, kind="stable").index[:10]
    table = pd.DataFrame(
        {
            "variable": rows.loc[order, "label"],
            "known": rows.loc[order, "n"],
            "missing": rows.loc[order, "n_missing"],
        }
    )
    return Section(
        key="reading",
        title="How to read it",
        lead="A difference says that members of a phenotype are unlike other joints. It says nothing of "
        "causes.",
        notes=[
            "Each variable is compared among the joints in which it is known. Cells are seldom "
            "missing by chance: "
            "whoever is in pain may skip a visit, and readings may exist for a selected part of the "
            "cohort alone.",
            "Variables of one group say similar things: ten of them are not ten findings.",
            "Names should come from readers who have not seen this page's outcome, since it has none; and "
            "phenotypes must not be changed to make differences larger.",
        ],
        tables=[Table.of("Most often missing", table)],
    )


def _slices(described: Described) -> dict[str, Any]:
    m = described.material
    sequence = str(m.embeddings.attrs.get("sequence", ""))
    if sequence not in m.cohort.sequences or described.members.empty:
        return {}
    wanted = described.members["scan_id"].to_numpy(dtype=object)
    index = pd.Index(m.cohort.scans(sequence)["scan_id"].astype(object))
    at = index.get_indexer(wanted)
    if (at < 0).any():
        return {}
    found = {}
    # One volume at a time: what is kept is a slice.
    for scan, row in zip(wanted, at.tolist(), strict=True):
        volume = m.cohort.read(sequence, np.array([row]))[0]
        volume = volume[0] if volume.ndim == 4 else volume
        found[scan] = np.asarray(volume[round(MEDIAL * (volume.shape[0] - 1))])
    return found
