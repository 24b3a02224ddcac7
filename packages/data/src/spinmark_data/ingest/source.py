"""A series as it is found, before its voxels are read, and all that a release holds."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from spinmark_data.ingest.laterality import Evidence

Issue = tuple[str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A series as found, before its voxels are read.

    Args:
        name: How the cohort's issues name it: its path within the release, without the day of the
            study.
        files: Its files, within the release.
        kind: `dicom`, `archive` (one file that holds DICOM files) or `nifti` (a file an echo).
        layout: `oai`, `bids` or `plain`: by whose conventions it was found.
        subject_id: Whose it is; empty if the headers have to tell.
        laterality: `R`, `L`, or empty; what the user's own table says, which comes before all.
        evidence: What else is known of the side, before headers are read.
        visit: Such as `V00`.
        date: Study date `YYYYMMDD`, if the folders tell.
        days: Days since enrolment, if a table tells.
        sequence: Name of the sequence; empty if the headers have to tell.
        scanner: Maker and model, if a sidecar tells.
        order: What sorts rescans of one day: the last is the primary one.
        echo_time_ms: Of each file, where there are several.
        repairs: What was put right when it was found.
        place: Among the series of the release by their names; the order of rescans that nothing else
            tells apart, and no part of what identifies a series.
    """

    name: str
    files: tuple[str, ...]
    kind: str = "dicom"
    layout: str = "plain"
    subject_id: str = ""
    laterality: str = ""
    evidence: tuple[Evidence, ...] = ()
    visit: str = "V00"
    date: str = ""
    days: float | None = None
    sequence: str = ""
    scanner: str = ""
    order: str = ""
    echo_time_ms: tuple[float, ...] = ()
    repairs: tuple[str, ...] = ()
    place: int = field(default=0, repr=False)


@dataclass(frozen=True, kw_only=True)
class Absent:
    """A series of a manifest whose files are not there.

    Args:
        subject_id: Whose it is.
        visit: Such as `V00`.
        sequence: Its sequence.
        link: Where the NDA keeps it, if the manifest tells.
    """

    subject_id: str
    visit: str
    sequence: str
    link: str = ""


@dataclass(kw_only=True)
class Found:
    """What a release holds.

    Args:
        sources: The series to take, sorted by name.
        issues: `(source, kind, reason, action)` rows about what is none.
        oai: Whether the folders follow the OAI's layout.
        bids: Folders of BIDS datasets within the release.
        left_out: Series that nobody asked for, counted by reason.
        absent: Series of the manifests whose files are not there.
        tables: Files that look like tables, within the release.
        paths: Path of each series within the release by the name that the cohort gives it, for
            whoever has the release.
    """

    sources: list[Source] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    oai: bool = False
    bids: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    absent: list[Absent] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)


def pseudonym(patient_id: str) -> str:
    """A stable name for a person, the same wherever it is made.

    It hides the patient id from a glance and no more: it is a hash without a secret, so anyone who can
    guess an id, or try all of them, can check whose name it is. `pseudonyms` makes codes with a site's
    key, which nobody can try out without it.

    Args:
        patient_id: As the header has it.

    Returns:
        A `p` and 12 hexadecimal digits.
    """
    return "p" + hashlib.sha256(f"spinmark:{patient_id}".encode()).hexdigest()[:12]
