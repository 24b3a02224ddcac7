"""A cohort's summary as sections of a page: sizes, completeness, contact sheets, issues."""

from spinmark.report.cohort_tables import (
    completeness_table,
    filled,
    issue_table,
    lead,
    observed_table,
    outcome_table,
    sequence_table,
    site_table,
    size_table,
    static_table,
    tables_table,
)
from spinmark.report.page import Picture, Section
from spinmark_data.cohort.reader import Cohort
from spinmark_data.inspect.completeness import cell_completeness, scan_completeness
from spinmark_data.inspect.contact_sheet import contact_figure
from spinmark_data.inspect.picture import WINDOW
from spinmark_data.inspect.records import CohortSummary


def page_sections(cohort: Cohort, summary: CohortSummary, scans: int, seed: int) -> list[Section]:
    """The page: sizes, completeness, contact sheets and issues."""
    sheets = [_sheet(cohort, row.sequence, scans, seed) for row in summary.sequences if row.scans]
    return [
        Section(
            key="size",
            title="What is in it",
            lead=lead(summary),
            tables=filled(sequence_table(summary), size_table(summary), tables_table(summary)),
        ),
        Section(
            key="completeness",
            title="How complete it is",
            lead="People leave, and what is missing later need not resemble what is there.",
            pictures=[
                Picture(
                    figure=scan_completeness(summary),
                    title="Scans by sequence and visit",
                    method=f"Joints with a scan over all {summary.joints:,} joints of the cohort.",
                    caveat="A joint that was not due at a visit counts as absent there.",
                ),
                Picture(
                    figure=cell_completeness(summary),
                    title="Observed cells by role and visit",
                    method="Cells with a value over rows times variables asked at the visit.",
                    caveat="A person without a row at a visit is not counted as missing.",
                ),
            ],
            tables=filled(
                completeness_table(summary),
                site_table(summary),
                static_table(summary),
                observed_table(summary),
            ),
        ),
        Section(
            key="sheets",
            title="What it looks like",
            lead=f"A sample of at most {scans} scans a sequence, spread over visits and sites.",
            pictures=sheets,
        ),
        Section(
            key="outcomes",
            title="Outcomes and issues",
            lead="What became of the joints, and what the ingest repaired or refused.",
            tables=filled(outcome_table(summary), issue_table(summary)),
        ),
    ]


def _sheet(cohort: Cohort, sequence: str, scans: int, seed: int) -> Picture:
    return Picture(
        figure=contact_figure(cohort, sequence, scans=scans, seed=seed),
        title=sequence,
        method=f"Middle slices along z; percentiles {WINDOW[0]:g} to {WINDOW[1]:g} of each are black "
        f"and white; left joints are mirrored; seed {seed}.",
        caveat="Each slice has its own grey scale, so brightness cannot be compared between scans.",
        raster=True,
    )
