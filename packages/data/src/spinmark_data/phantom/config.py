"""The parameters of a phantom cohort; imports nothing heavy."""

import math
from dataclasses import dataclass, field, fields
from typing import Literal

from spinmark_data.cluster_config import ClusterConfig
from spinmark_data.errors import InputError
from spinmark_data.phantom.bounds import check_between

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

MOAKS_VISITS = ("V00", "V01", "V03", "V05", "V06")
"""Visits of which the OAI has a table of MOAKS."""

SEQUENCE_NAMES = ("SAG_3D_DESS", "COR_IW_TSE", "SAG_IW_TSE_FS", "SAG_T2_MAP")
"""Sequences that a knee can be scanned with; the first always is."""

MAX_SUBJECTS_OF_SEVERAL = 28_000

STRUCTURES = ("phenotypes", "continuum", "severity", "none")
"""What the latents of a cohort may look like."""

MAX_IN_PLANE_MM, MAX_SLICE_MM = 2.5, 10.0
"""Coarsest sampling accepted: healthy cartilage is about 2 to 3 mm thick."""

MIN_FIELD_MM, MAX_FIELD_MM = 40.0, 400.0
MAX_VOXELS = 200_000_000


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
        sequences: Series taken of each knee, SAG_3D_DESS first; also COR_IW_TSE, SAG_IW_TSE_FS and
            SAG_T2_MAP, whose fields of view are the DESS's.
        sequence_spacing_mm: Distance between voxel centres of a sequence along the (z, y, x) of its own
            array; by default slices as thick as the OAI's or the DESS's, and pixels as the DESS's.
        late_entry: Share of people who are first scanned at a later one of `visits`, drawn among them:
            whose knee was replaced, who died or who left before is never seen, and who is seen has
            survived until then (left truncation). Tables begin at V00 all the same.
        rescans: Share of knees and visits whose series are all taken twice, repositioned.
        motion_ghosting: Share of scans with ghosts of motion; 0.05 is realistic.
        wrap_around: Share of scans into which anatomy beyond the field of view folds; 0.03 is realistic.
        fat_failure: Share of scans in which the suppression of fat fails in a region; 0.05 is realistic.
        nuisance: Factor on positioning, coil bias, noise, artefacts and scanner differences; 1 is
            realistic.
        sites: Number of clinical sites, 1 to 5 (A to E).
        site_confounding: How far the sites recruit different phenotypes: 0 not at all, 1 strongly.
        scanner_changes: Chance that a visit is scanned on another machine than the site's own.
        scanner_upgrade: Replace site C's machine by another model after 18 months.
        structure: What the latents look like. `phenotypes`: five overlapping groups; `continuum`: the
            same means and spreads without any group; `severity`: one axis, on which all four latents
            rise together; `none`: no disease at all, so that whatever is found is invented.
        separation: Factor on how far a phenotype raises its own latent; 1 is today's.
        overlap: Chance that a diseased knee has a second phenotype, whose latent is raised too.
        symptom_coupling: Share of knees whose symptoms follow their own structure; the others answer
            as another person would, so symptoms keep their distribution and lose their meaning.
        table_coupling: The same for everything that the clinic's tables and the radiographs say of
            the disease; at 0 they are independent of the disease on the images. MOAKS reads the
            images whatever this is: `moaks_share` 0 leaves it out.
        scanner_outcome: Log hazard ratio of replacement between neighbouring sites (A lowest, E
            highest), whatever the disease: the machine then foretells the outcome for no good reason.
            Sites A and E have the same model, so with 5 sites a scan tells less of it than with 4.
        event_share: Expected share of knees replaced within ten years, death competing. At 0.065
            the study learns of 5.5 % as the OAI did; more enriches the events and the truth says so.
        hazard_shape: Shape of the Weibull hazard of replacement; above 1 it rises with time.
        frailty_variance: Variance of the gamma frailty that a person's two knees share.
        replaced_at_baseline: Chance that one of a person's knees is replaced before enrolment.
        unadjudicated: Share of replacements seen on X-ray only, so that no day is known.
        dropout_per_year: Hazard of leaving the study, per year.
        informative_censoring: Logarithm of the factor by which one standard deviation of the hazard of
            replacement (the worse knee's) speeds up leaving the study; 0 is uninformative.
        missed_visit: Chance of missing one visit while still in the study.
        missing_baseline: Share of missing cells at enrolment.
        missing_per_year: Growth of the share of missing cells, per year.
        informative_missing: Factor on how low mood and pain make cells go missing; 0 is completely at
            random, 1 today's (0.3 a standard deviation of mood, 0.2 of pain, in logarithms).
        layout: Form of the release's tables: `complete`, pipe-delimited as in the OAI's Complete
            Data, or `nda`, tab-delimited and long as in an NDA package.
        moaks_visits: Visits whose scans readers score by MOAKS; those without scans do nothing.
        moaks_share: Share of the knees that are scored, as the OAI's projects read a part of them.
        reader_error: Factor on the errors of MOAKS' readers; 1 is realistic, 0 reads the truth.
        regional_truth: Write the truth of the subregions for every joint and visit scanned, and not
            only for those that are scored; about 20 ms each.
        write_labels: Write the true label map of every scan under truth/labels.
        coarse_grid: Accept a grid on which cartilage cannot be seen, to test layouts quickly.
        workers: Dask workers that render scans, a person at a time; the result does not depend on it.
        cluster: Where they run.
    """

    name: str = "custom"
    subjects: int = 300
    seed: int = 0
    visits: tuple[str, ...] = ("V00", "V03")
    follow_up_visits: tuple[str, ...] = tuple(VISIT_MONTHS)
    v12_months: float = 120.0
    grid_shape: tuple[int, int, int] = (24, 64, 72)
    spacing_mm: tuple[float, float, float] = (3.6, 1.125, 1.125)
    sequences: tuple[str, ...] = ("SAG_3D_DESS",)
    sequence_spacing_mm: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    late_entry: float = 0.0
    rescans: float = 0.0
    motion_ghosting: float = 0.0
    wrap_around: float = 0.0
    fat_failure: float = 0.0
    nuisance: float = 1.0
    sites: int = 5
    site_confounding: float = 0.5
    scanner_changes: float = 0.05
    scanner_upgrade: bool = True
    structure: Literal["phenotypes", "continuum", "severity", "none"] = "phenotypes"
    separation: float = 1.0
    overlap: float = 0.0
    symptom_coupling: float = 1.0
    table_coupling: float = 1.0
    scanner_outcome: float = 0.0
    event_share: float = 0.065
    hazard_shape: float = 1.5
    frailty_variance: float = 0.5
    replaced_at_baseline: float = 0.02
    unadjudicated: float = 0.03
    dropout_per_year: float = 0.03
    informative_censoring: float = 0.0
    missed_visit: float = 0.03
    missing_baseline: float = 0.02
    missing_per_year: float = 0.01
    informative_missing: float = 1.0
    layout: Literal["complete", "nda"] = "complete"
    moaks_visits: tuple[str, ...] = ("V00", "V03")
    moaks_share: float = 0.25
    reader_error: float = 1.0
    regional_truth: bool = False
    write_labels: bool = True
    coarse_grid: bool = False
    workers: int = 2
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            InputError: A field is out of bounds; the message names it and what is accepted.
        """
        check_between("subjects", self.subjects, 1, 100_000)
        check_between("seed", self.seed, 0, 2**63 - 1)
        check_between("v12_months", self.v12_months, 109, 168)
        check_between("nuisance", self.nuisance, 0.0, 4.0)
        for rate in ("late_entry", "rescans", "motion_ghosting", "wrap_around", "fat_failure"):
            check_between(rate, getattr(self, rate), 0.0, 1.0)
        _check_sequences(self)
        check_between("sites", self.sites, 1, 5)
        check_between("site_confounding", self.site_confounding, 0.0, 1.0)
        check_between("scanner_changes", self.scanner_changes, 0.0, 1.0)
        check_between("separation", self.separation, 0.0, 2.0)
        check_between("overlap", self.overlap, 0.0, 1.0)
        check_between("symptom_coupling", self.symptom_coupling, 0.0, 1.0)
        check_between("table_coupling", self.table_coupling, 0.0, 1.0)
        check_between("scanner_outcome", self.scanner_outcome, 0.0, 2.0)
        check_between("event_share", self.event_share, 0.001, 0.6)
        check_between("hazard_shape", self.hazard_shape, 0.3, 5.0)
        check_between("frailty_variance", self.frailty_variance, 0.01, 4.0)
        check_between("replaced_at_baseline", self.replaced_at_baseline, 0.0, 0.5)
        check_between("unadjudicated", self.unadjudicated, 0.0, 1.0)
        check_between("dropout_per_year", self.dropout_per_year, 0.0, 1.0)
        check_between("informative_censoring", self.informative_censoring, 0.0, 2.0)
        check_between("missed_visit", self.missed_visit, 0.0, 0.5)
        check_between("missing_baseline", self.missing_baseline, 0.0, 0.5)
        check_between("missing_per_year", self.missing_per_year, 0.0, 0.05)
        check_between("informative_missing", self.informative_missing, 0.0, 4.0)
        check_between("moaks_share", self.moaks_share, 0.0, 1.0)
        check_between("reader_error", self.reader_error, 0.0, 4.0)
        check_between("workers", self.workers, 1, 256)
        _check_grid(self.grid_shape, self.spacing_mm, self.coarse_grid)
        _check_structure(self)
        if self.layout not in ("complete", "nda"):
            raise InputError(f"layout is {self.layout!r}; accepted are complete, nda.")
        _check_visits("visits", self.visits, IMAGING_VISITS)
        _check_visits("follow_up_visits", self.follow_up_visits, tuple(VISIT_MONTHS))
        for visit in self.moaks_visits:
            if visit not in MOAKS_VISITS:
                raise InputError(
                    f"moaks_visits holds {visit!r}; accepted are {', '.join(MOAKS_VISITS)}."
                )
        if self.late_entry > 0 and len(self.visits) < 2:
            raise InputError(
                f"late_entry is {self.late_entry} with visits {self.visits[0]}; it needs at least 2 visits."
            )
        absent = [visit for visit in self.visits if visit not in self.follow_up_visits]
        if absent:
            raise InputError(
                f"visits holds {absent[0]}, which is not among follow_up_visits "
                f"({', '.join(self.follow_up_visits)})."
            )

    def plain(self, **changes: object) -> "PhantomConfig":
        """Copy these parameters alone, without what a command added, and change some.

        Args:
            **changes: Fields and their values.
        """
        values = {field.name: getattr(self, field.name) for field in fields(PhantomConfig)}
        return PhantomConfig(**{**values, **changes})

    @property
    def enriched(self) -> bool:
        """Whether replacements are more frequent than in the OAI."""
        return self.event_share > 0.07

    def months(self, visit: str) -> float:
        """Nominal months since enrolment of a visit."""
        return float(self.v12_months if visit == "V12" else VISIT_MONTHS[visit])


def _check_grid(shape: tuple[int, ...], spacing_mm: tuple[float, ...], coarse_grid: bool) -> None:
    """Refuse a grid that no knee could be scanned on, or on which its cartilage would vanish."""
    for name, values, low, high in (
        ("grid_shape", shape, 8, 1024),
        ("spacing_mm", spacing_mm, 0.1, MAX_SLICE_MM),
    ):
        if len(values) != 3:
            raise InputError(f"{name} has {len(values)} values; three are needed, (z, y, x).")
        for value in values:
            check_between(name, value, low, high)
    if math.prod(shape) > MAX_VOXELS:
        raise InputError(
            f"grid_shape is {shape}, {math.prod(shape):,} voxels; at most {MAX_VOXELS:,} are accepted."
        )
    for axis, count, step in zip("zyx", shape, spacing_mm, strict=True):
        if not MIN_FIELD_MM <= count * step <= MAX_FIELD_MM:
            raise InputError(
                f"grid_shape times spacing_mm along {axis} is {count * step:g} mm; a knee needs "
                f"between {MIN_FIELD_MM:g} and {MAX_FIELD_MM:g} mm."
            )
    if not coarse_grid and max(spacing_mm[1:]) > MAX_IN_PLANE_MM:
        raise InputError(
            f"spacing_mm is {max(spacing_mm[1:]):g} mm in plane, too coarse for cartilage; at most "
            f"{MAX_IN_PLANE_MM:g} mm is accepted, or say --coarse_grid true."
        )


def _check_structure(config: PhantomConfig) -> None:
    """Refuse switches that contradict each other."""
    if config.structure not in STRUCTURES:
        raise InputError(
            f"structure is {config.structure!r}; accepted are {', '.join(STRUCTURES)}."
        )
    if config.structure != "phenotypes":
        for name, value, neutral in (
            ("overlap", config.overlap, 0.0),
            ("separation", config.separation, 1.0),
        ):
            if value != neutral:
                raise InputError(
                    f"{name} is {value} with structure {config.structure!r}, which has no phenotypes; "
                    f"there it must be {neutral:g}."
                )
    if config.scanner_outcome > 0 and config.sites < 2:
        raise InputError(
            f"scanner_outcome is {config.scanner_outcome} with sites {config.sites}; it needs "
            "at least 2 sites."
        )


def _check_sequences(config: PhantomConfig) -> None:
    for name in config.sequences:
        if name not in SEQUENCE_NAMES:
            raise InputError(f"sequences holds {name!r}; accepted are {', '.join(SEQUENCE_NAMES)}.")
    if config.sequences[:1] != SEQUENCE_NAMES[:1] or len(set(config.sequences)) < len(
        config.sequences
    ):
        raise InputError(
            f"sequences is {', '.join(config.sequences) or 'empty'}; it begins with "
            f"{SEQUENCE_NAMES[0]} and names each once."
        )
    for name, spacing in config.sequence_spacing_mm.items():
        if name not in SEQUENCE_NAMES[1:]:
            raise InputError(
                f"sequence_spacing_mm holds {name!r}; accepted are "
                f"{', '.join(SEQUENCE_NAMES[1:])} (the DESS has spacing_mm)."
            )
        if len(spacing) != 3:
            raise InputError(
                f"sequence_spacing_mm of {name} has {len(spacing)} values; three are needed."
            )
        for value in spacing:
            check_between(f"sequence_spacing_mm of {name}", value, 0.1, 12.0)
    several = len(config.sequences) > 1 or config.rescans > 0
    if several and config.subjects > MAX_SUBJECTS_OF_SEVERAL:
        raise InputError(
            f"subjects is {config.subjects}; with rescans or several sequences the eight digits of a "
            f"series suffice for {MAX_SUBJECTS_OF_SEVERAL}."
        )


def _check_visits(name: str, visits: tuple[str, ...], accepted: tuple[str, ...]) -> None:
    for visit in visits:
        if visit not in accepted:
            raise InputError(f"{name} holds {visit!r}; accepted are {', '.join(accepted)}.")
    if not visits or visits[0] != "V00" or list(visits) != sorted(set(visits)):
        raise InputError(
            f"{name} is {', '.join(visits) or 'empty'}; visits are in ascending order, "
            "without repeats, and begin with V00."
        )
