"""The quality check as sections of a page: counts, batches, copies, and the worst scans."""

from typing import Any

import pandas as pd

from spinmark.report.page import Picture, Section, Table
from spinmark_data.cohort.reader import Cohort
from spinmark_data.inspect.picture import WINDOW
from spinmark_data.quality.assess import Assessment
from spinmark_data.quality.batches import batch_figure
from spinmark_data.quality.config import QualityConfig
from spinmark_data.quality.outliers import LIMITS, RULES, explain
from spinmark_data.quality.pictures import mid_planes

# Rows of a scan's table: its worst metrics.
_METRICS = 8
_PAIRS = 20


def quality_sections(cohort: Cohort, found: Assessment, config: QualityConfig) -> list[Section]:
    """The page, without an identifier: scans stand under their place in the order of badness."""
    worst = found.scans.head(config.shown)
    return [
        _summary(found, config),
        _batches(found),
        _copies(found),
        *(_scan(cohort, found.scans, row) for _, row in worst.iterrows()),
    ]


def _summary(found: Assessment, config: QualityConfig) -> Section:
    scans = found.scans
    named = scans["flags"].str.split(";").explode()
    counts = named[named != ""].value_counts()
    words = {
        **{name: rule.label for name, rule in RULES.items()},
        **{name: label for name, (label, _) in LIMITS.items()},
    }
    rows = [
        (" ".join([words.get(flag.split(" ")[0], flag), *flag.split(" ")[1:]]), f"{n:,}")
        for flag, n in zip(counts.index.astype(str), counts, strict=True)
    ]
    methods = scans["noise_method"].replace("", "not measured").value_counts()
    return Section(
        key="summary",
        title="What was found",
        lead=(
            f"{len(scans):,} scans were measured; flagged: {int(scans['flagged'].sum()):,}. A "
            f"metric is flagged where it lies {config.limit:g} or more robust standard deviations on "
            "its bad side of the median of the same sequence and scanner (of the whole sequence for "
            f"fewer than {config.min_group} scans)."
        ),
        tables=[
            Table(title="Flags", columns=["flag", "scans"], rows=rows)
            if rows
            else Table(title="Flags", columns=["flag"], rows=[["none"]]),
            Table(
                title="How noise was measured",
                columns=["method", "scans"],
                rows=[[str(name), f"{n:,}"] for name, n in methods.items()],
                note="air: Rayleigh noise beside the body; laplacian: second differences within it, "
                "where air is zeroed, filtered or not there.",
            ),
        ],
    )


def _batches(found: Assessment) -> Section:
    figures = {
        str(name): batch_figure(found.batches, str(name))
        for name in found.batches["sequence"].unique()
    }
    return Section(
        key="batches",
        title="Sites and scanners",
        lead="Scanners differ, and that is no fault of a scan; but an encoder may learn the scanner instead of "
        "the patient."
        if any(figures.values())
        else "No two batches are large enough to be compared.",
        pictures=[
            Picture(
                figure=figure,
                title=name,
                method="Median of a batch less that of all other scans, in robust standard deviations "
                "within batches; in brackets the number of scans.",
                caveat="Sites see different people, so not every shift is the machine's.",
            )
            for name, figure in figures.items()
            if figure is not None
        ],
    )


def _copies(found: Assessment) -> Section:
    pairs = found.duplicates
    place = found.scans.set_index("scan_id")["place"]
    counts = pairs.groupby(["verdict", "relation", "kind"], as_index=False).size()
    named = pairs.head(_PAIRS).assign(
        first=lambda rows: rows["scan_id_a"].map(place),
        second=lambda rows: rows["scan_id_b"].map(place),
    )
    tables = [
        Table.of("Pairs", counts.rename(columns={"relation": "what differs", "size": "pairs"})),
        Table.of(
            "Which",
            named[["first", "second", "kind", "bits", "relation", "verdict"]],
            f"By place in quality.parquet; the first {_PAIRS}, all of them in duplicates.csv.",
        ),
    ]
    wrong = int((pairs["verdict"] == "error").sum())
    return Section(
        key="copies",
        title="Copies",
        lead=f"{wrong:,} pairs of scans under different subjects, sides or visits show one image."
        if wrong
        else "No image stands under two subjects, sides or visits.",
        tables=tables if len(pairs) else [],
    )


def _scan(cohort: Cohort, scans: pd.DataFrame, row: "pd.Series[Any]") -> Section:
    place, sequence = int(str(row["place"])), str(row["sequence"])
    where = ", ".join(
        filter(
            None,
            (str(row["visit"]), f"site {row['site']}" if row["site"] else "", str(row["scanner"])),
        )
    )
    pictures = []
    if not row["error"]:
        pictures.append(
            Picture(
                figure=mid_planes(cohort, sequence, int(str(row["index"]))),
                title=f"{sequence}, {where}",
                method=f"Middle planes; percentiles {WINDOW[0]:g} to {WINDOW[1]:g} of each are black "
                "and white.",
                caveat="Each plane has its own grey scale.",
                raster=True,
            )
        )
    said = explain(row)
    return Section(
        key=f"scan-{place}",
        title=f"No. {place}",
        lead=f"Score {float(str(row['score'])):.1f}; "
        + ("flagged for:" if said else "not flagged."),
        notes=said,
        pictures=pictures,
        tables=[] if row["error"] else [_metrics(scans, row)],
    )


def _metrics(scans: pd.DataFrame, row: "pd.Series[Any]") -> Table:
    like = scans[(scans["sequence"] == row["sequence"]) & (scans["scanner"] == row["scanner"])]
    lines = []
    for name, rule in RULES.items():
        value, z = float(str(row[name])), float(str(row[f"z_{name}"]))
        if value == value:
            bad = {"low": -z, "high": z, "both": abs(z)}[rule.bad]
            lines.append((bad if bad == bad else -1.0, name, value, float(like[name].median()), z))
    lines.sort(key=lambda line: (-line[0], line[1]))
    rows = [
        [RULES[name].label, f"{value:.3g}", f"{middle:.3g}", "" if z != z else f"{z:+.1f}"]
        for _, name, value, middle, z in lines[:_METRICS]
    ]
    return Table(
        title="Its worst metrics",
        columns=["metric", "this scan", "median of its scanner", "robust z"],
        rows=rows,
    )
