"""Attributions as sections of a page that a clinician reads."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from spinmark.report.page import Picture, Section, Table
from spinmark_training.attribution.store import Pictured, Written

BASELINES = {
    "missing": "a row with every cell missing",
    "median": "a row of medians and commonest categories",
    "mean": "the mean of training scans",
    "blurred": "the scan itself, blurred",
    "zero": "a volume without signal",
}
_GROUPS = 12
# What a clinician may ask of a figure, in the order of the table.
CHECKS = {
    "similarity": "similarity of the scan and its row",
    "table_baseline_similarity": "the same, with the row at its starting point",
    "voxel_baseline_similarity": "the same, with the scan at its starting point",
    "table_completeness_error": "what the attributions of cells lack to add up",
    "voxel_completeness_error": "what the attributions of voxels lack to add up",
    "table_steps": "points on the path of the row",
    "voxel_steps": "points on the path of the scan",
    "table_occlusion_correlation": "cells: agreement with hiding them",
    "voxel_occlusion_correlation": "voxels: agreement with hiding boxes",
    "table_randomised_absolute": "cells: agreement with random weights, absolute values",
    "table_randomised_signed": "cells: agreement with random weights, with signs",
    "voxel_randomised_absolute": "voxels: agreement with random weights, absolute values",
    "voxel_randomised_signed": "voxels: agreement with random weights, with signs",
    "voxel_randomised_gradient": "voxels: agreement with random weights, mean gradients",
}


def attribution_sections(written: Written) -> list[Section]:
    """The page, without an identifier: scans stand under their place in `summary.json`."""
    summary = written.summary
    parts = [_lead(summary), _checks(summary), _groups(written.groups)]
    if len(written.structures):
        parts.append(_structures(summary))
    scans = [_scan(place, one) for place, one in enumerate(written.pictured, start=1)]
    return [*parts, *scans]


def _number(value: object) -> str:
    if not isinstance(value, int | float) or math.isnan(value):
        return "not measured"
    return f"{value:.0f}" if float(value).is_integer() and abs(value) >= 1 else f"{value:.3f}"


def _lead(summary: Mapping[str, Any]) -> Section:
    own, others = (_number(summary[key]) for key in ("own_row", "other_rows"))
    return Section(
        key="what",
        title="What this page shows",
        lead=(
            "The encoder was taught to put a scan near the table row of the same joint and visit. "
            "Similarity is the cosine between the two, from -1 to 1. It is divided among the cells of the "
            f"row, starting from {BASELINES[summary['table_baseline']]}, and among the voxels of the scan, "
            f"starting from {BASELINES[summary['voxel_baseline']]}, by integrated gradients. On average "
            f"similarity is {own} with a scan's own row and {others} with the rows of other people."
        ),
        notes=summary["warnings"]
        or ["None of the checks below gives a reason to doubt these maps."],
    )


def _checks(summary: Mapping[str, Any]) -> Section:
    mean = summary["mean"]
    rows = [(what, _number(mean[key])) for key, what in CHECKS.items() if key in mean]
    return Section(
        key="checks",
        title="How far to trust it",
        lead=(
            "Agreement is a rank correlation: 1 for the same order, 0 for no relation. It should be high "
            "with hiding, which asks the same question in another way, and low with random weights, which "
            "have learnt nothing."
        ),
        tables=[
            Table(
                title=f"Means over {len(summary['scans'])} scans",
                columns=["check", "value"],
                rows=rows,
                note="Two maps of one scan share the difference between scan and starting point, so their "
                "absolute values agree somewhat whatever the weights are; mean gradients lack it.",
            )
        ],
    )


def _groups(groups: pd.DataFrame) -> Section:
    mean = groups.groupby(["by", "name"], as_index=False)[
        ["attribution", "occlusion", "randomised"]
    ]
    tables = []
    for by, rows in mean.mean().groupby("by"):
        order = (
            rows["attribution"].abs().sort_values(ascending=False, kind="stable").index[:_GROUPS]
        )
        shown = rows.loc[order].drop(columns="by")
        note = "Occlusion: the fall of similarity when all of them are hidden at once."
        tables.append(Table.of(f"By {by}, mean over the scans", shown, note))
    return Section(
        key="groups",
        title="What of the table",
        lead="Above 0: what stood in these cells made scan and row more alike; below 0: less.",
        tables=tables,
    )


def _structures(summary: Mapping[str, Any]) -> Section:
    shares = summary["structures"]
    order = sorted(shares, key=lambda name: -shares[name]["ratio"])
    columns = ["attribution_share", "volume_share", "ratio"]
    rows = [(name, *(_number(shares[name][key]) for key in columns)) for name in order]
    return Section(
        key="structures",
        title="Where in the joint",
        lead=(
            "The share of absolute voxel attribution that lies in each labelled structure, and the share of "
            "the volume that it takes. A ratio of 1 is what a map without any preference would give."
        ),
        tables=[Table(title="Structures", columns=["structure", *columns], rows=rows)],
    )


def _scan(place: int, one: Pictured) -> Section:
    checks = one.checks
    return Section(
        key=f"scan-{place}",
        title=f"Scan {place}",
        lead=(
            f"Similarity {_number(checks['similarity'])}. Agreement with hiding: cells "
            f"{_number(checks['table_occlusion_correlation'])}, boxes of voxels "
            f"{_number(checks['voxel_occlusion_correlation'])}."
        ),
        pictures=[
            Picture(
                figure=one.voxels,
                title="Voxels",
                method="Integrated gradients in the slices that hold most of them, as the encoder sees "
                "the scan: left joints are mirrored. Smoothed by 2 mm for the eye; the files are not.",
                caveat="It tells what the encoder used, and not what causes pain.",
                raster=True,
            ),
            Picture(
                figure=one.cells,
                title="Table row",
                method="Bars: integrated gradients. Dots: the fall of similarity when the cell, or the "
                "role, is hidden. Crosses: the bars of random weights.",
                caveat="Variables that say the same share what they add.",
            ),
        ],
    )
