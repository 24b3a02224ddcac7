"""Trajectories as sections of a page."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from spinmark.report.page import Picture, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spinmark_biomarkers.phenotypes.trajectories.find import Trajectories


def trajectories_sections(found: "Trajectories", figures: "dict[str, Figure]") -> list[Section]:
    """The page: what was found, groups, speed.

    Args:
        found: The trajectories.
        figures: `paths`, `groups` and `speeds`.
    """
    facts = found.summary()
    return [
        _lead(facts, figures["paths"]),
        _groups(facts, figures["groups"]),
        _speed(facts, figures["speeds"]),
    ]


def _lead(facts: dict[str, Any], figure: "Figure") -> Section:
    left = ", ".join(f"{count} ({reason})" for reason, count in facts["left_out"].items())
    notes = list(facts["reasons"])
    if not facts["noise_seen"]:
        notes.append(
            "two visits a joint and no rescans: noise and movement are told apart by assumptions; "
            "read the difference quotient beside the speed"
        )
    return Section(
        key="what",
        title="Do joints move, and how?",
        lead=(
            f"{facts['joints']} joints of {facts['subjects']} people were seen on two days or "
            f"more; left out: {left or 'none'}. Verdict: {facts['verdict']}."
        ),
        notes=notes,
        pictures=[
            Picture(
                figure=figure,
                title="Paths",
                method="Denoised by a state-space model of noise and movement, cut at corners by "
                "minimum description length.",
                caveat="Two components of several are drawn. A path is known on the day of its "
                "last visit, not before.",
            )
        ],
    )


def _groups(facts: dict[str, Any], figure: "Figure") -> Section:
    columns = ["group", "n", "joints", "jaccard", "stability", "speed", "years"]
    groups = pd.DataFrame(facts["groups"], columns=[*columns, "start", "stop"])[columns]
    sequences = pd.DataFrame(facts["sequences"], columns=["sequence", "joints"])
    return Section(
        key="groups",
        title="Groups of transitions",
        lead=(
            "Stretches of paths that are alike in place, direction and speed. Groups are always "
            "found; whether they are there is the verdict's to say."
        ),
        pictures=[
            Picture(
                figure=figure,
                title="Mean transition and stability of each group",
                method="Means over training and validation joints; whole people are drawn again "
                "for the stability.",
                caveat="Stable is not the same as distinct.",
            )
        ],
        tables=[
            Table.of("Groups", groups),
            Table.of("Commonest sequences of groups along a path", sequences),
        ],
    )


def _speed(facts: dict[str, Any], figure: "Figure") -> Section:
    speed = facts["speed"]
    mean = speed["population"]
    tables = []
    if facts["speed_by_phenotype"]:
        rows = pd.DataFrame(facts["speed_by_phenotype"])
        tables.append(
            Table.of(
                "Mean speed by the phenotype of the first visit",
                rows,
                "Change from the first to the last visit over the time between, 95 % by subject. Where the "
                "first visit made the phenotype, its noise makes later ones seem to return to the middle.",
            )
        )
    return Section(
        key="speed",
        title="Speed",
        lead=(
            f"Along the direction '{facts['direction']['name']}' joints move by "
            f"{mean['value']:.3g} a year on average ({mean['low']:.3g} to {mean['high']:.3g}). "
            f"True speeds of joints spread by {speed['speed_sd']:.3g}, and the noise of a scan is "
            f"{speed['noise_sd']:.3g} (standard deviations). The noise is known from "
            f"{speed['noise_known_from']}."
        ),
        pictures=[
            Picture(
                figure=figure,
                title="Speeds",
                method="A linear mixed model with random intercepts and slopes of people and "
                "joints (REML).",
                caveat="Speeds are drawn towards the mean by what noise makes of them. Visits "
                "missing for reasons that no earlier visit shows bias them.",
            )
        ],
        tables=tables,
    )
