"""The parameters of a phantom cohort; imports nothing heavy."""

import math
from dataclasses import dataclass
from typing import Literal

from spinmark_data.errors import InputError

VISIT_MONTHS = {
    "V00": 0,
    "V01": 12,
    "V03": 24,
    "V05": 36,
    "V06": 48,
    "V07": 60,
    "V08": 72,
    "V09": 84,
    "V10": 96,
    "V11": 108,
    "V12": 120,
}
"""Contact visits and their nominal months; the OAI's codes end at V11, the phantom adds V12."""

IMAGING_VISITS = ("V00", "V01", "V03", "V05", "V06", "V08", "V10")
"""Visits at which the OAI took MR images and X-rays."""


@dataclass(kw_only=True)
class PhantomConfig:
    """The parameters of a phantom cohort.

    Args:
        name: Name under which the truth records these parameters.
        subjects: Number of people; each has two knees.
        seed: Seed of everything random. The first N people of a larger cohort are the same people.
        visits: Visits at which the knees are scanned by MR, V00 among them.
        follow_up_visits: Visits at which people are in contact, V00 first; each has its table.
        v12_months: Nominal month of visit V12, which the OAI's documents do not settle.
        grid_shape: Voxels of a scan along (z, y, x): slices, rows, columns.
        spacing_mm: Distance between voxel centres along (z, y, x) in millimetres.
        nuisance: Factor on positioning, coil bias, noise and scanner differences; 1 is realistic.
        sites: Number of clinical sites, 1 to 5 (A to E).
        site_confounding: How far the sites recruit different phenotypes: 0 not at all, 1 strongly.
        scanner_changes: Chance that a visit is scanned on another machine than the site's own.
        event_share: Expected share of knees replaced within ten years, death competing. The OAI's
            is 0.055; a larger share enriches the events and the truth says so.
        hazard_shape: Shape of the Weibull hazard of replacement; above 1 it rises with time.
        frailty_variance: Variance of the gamma frailty that a person's two knees share.
        replaced_at_baseline: Chance that one of a person's knees is replaced before enrolment.
        unadjudicated: Share of replacements seen on X-ray only, so that no day is known.
        dropout_per_year: Hazard of leaving the study, per year.
        missed_visit: Chance of missing one visit while still in the study.
        missing_baseline: Share of missing cells at enrolment.
        missing_per_year: Growth of the share of missing cells, per year.
        layout: Form of the release's tables: `complete`, pipe-delimited as in the OAI's Complete
            Data, or `nda`, tab-delimited and long as in an NDA package.
        write_labels: Write the true label map of every scan under truth/labels.
        workers: Processes that render scans; the result does not depend on it.
    """

    name: str = "custom"
    subjects: int = 300
    seed: int = 0
    visits: tuple[str, ...] = ("V00", "V03")
    follow_up_visits: tuple[str, ...] = tuple(VISIT_MONTHS)
    v12_months: float = 120.0
    grid_shape: tuple[int, int, int] = (24, 64, 72)
    spacing_mm: tuple[float, float, float] = (3.6, 1.125, 1.125)
    nuisance: float = 1.0
    sites: int = 5
    site_confounding: float = 0.5
    scanner_changes: float = 0.05
    event_share: float = 0.055
    hazard_shape: float = 1.3
    frailty_variance: float = 0.5
    replaced_at_baseline: float = 0.02
    unadjudicated: float = 0.03
    dropout_per_year: float = 0.02
    missed_visit: float = 0.03
    missing_baseline: float = 0.02
    missing_per_year: float = 0.01
    layout: Literal["complete", "nda"] = "complete"
    write_labels: bool = True
    workers: int = 2

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            InputError: A field is out of bounds; the message names it and what is accepted.
        """
        _check_between("subjects", self.subjects, 1, 100_000)
        _check_between("seed", self.seed, 0, 2**63 - 1)
        _check_between("v12_months", self.v12_months, 109, 168)
        _check_between("nuisance", self.nuisance, 0.0, 4.0)
        _check_between("sites", self.sites, 1, 5)
        _check_between("site_confounding", self.site_confounding, 0.0, 1.0)
        _check_between("scanner_changes", self.scanner_changes, 0.0, 1.0)
        _check_between("event_share", self.event_share, 0.001, 0.6)
        _check_between("hazard_shape", self.hazard_shape, 0.3, 5.0)
        _check_between("frailty_variance", self.frailty_variance, 0.01, 4.0)
        _check_between("replaced_at_baseline", self.replaced_at_baseline, 0.0, 0.5)
        _check_between("unadjudicated", self.unadjudicated, 0.0, 1.0)
        _check_between("dropout_per_year", self.dropout_per_year, 0.0, 1.0)
        _check_between("missed_visit", self.missed_visit, 0.0, 0.5)
        _check_between("missing_baseline", self.missing_baseline, 0.0, 0.5)
        _check_between("missing_per_year", self.missing_per_year, 0.0, 0.05)
        _check_between("workers", self.workers, 1, 256)
        for name, values, low, high in (
            ("grid_shape", self.grid_shape, 8, 1024),
            ("spacing_mm", self.spacing_mm, 0.1, 10.0),
        ):
            if len(values) != 3:
                raise InputError(f"{name} has {len(values)} values; three are needed, (z, y, x).")
            for value in values:
                _check_between(name, value, low, high)
        if self.layout not in ("complete", "nda"):
            raise InputError(f"layout is {self.layout!r}; accepted are complete, nda.")
        _check_visits("visits", self.visits, IMAGING_VISITS)
        _check_visits("follow_up_visits", self.follow_up_visits, tuple(VISIT_MONTHS))
        absent = [visit for visit in self.visits if visit not in self.follow_up_visits]
        if absent:
            raise InputError(
                f"visits holds {absent[0]}, which is not among follow_up_visits "
                f"({', '.join(self.follow_up_visits)})."
            )

    @property
    def enriched(self) -> bool:
        """Whether replacements are more frequent than in the OAI."""
        return self.event_share > 0.06

    def months(self, visit: str) -> float:
        """Nominal months since enrolment of a visit."""
        return float(self.v12_months if visit == "V12" else VISIT_MONTHS[visit])


def _check_between(name: str, value: float, low: float, high: float) -> None:
    if not math.isfinite(value) or not low <= value <= high:
        raise InputError(f"{name} is {value}; it must lie between {low} and {high}.")


def _check_visits(name: str, visits: tuple[str, ...], accepted: tuple[str, ...]) -> None:
    for visit in visits:
        if visit not in accepted:
            raise InputError(f"{name} holds {visit!r}; accepted are {', '.join(accepted)}.")
    if not visits or visits[0] != "V00" or list(visits) != sorted(set(visits)):
        raise InputError(
            f"{name} is {', '.join(visits) or 'empty'}; visits are in ascending order, "
            "without repeats, and begin with V00."
        )
