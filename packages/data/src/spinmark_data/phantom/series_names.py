"""What the OAI's folders and headers call a series."""

from spinmark_data.phantom.config import VISIT_MONTHS
from spinmark_data.phantom.sequences import DESS

RELEASES = {
    "V00": ("00m", ("0.C.2", "0.E.1")),
    "V01": ("12m", ("1.C.2", "1.E.1")),
    "V03": ("24m", ("3.C.2", "3.E.1")),
    "V05": ("36m", ("5.C.1", "5.E.1")),
    "V06": ("48m", ("6.C.1", "6.E.1")),
    "V08": ("72m", ("8.C.1", "8.E.1")),
    "V10": ("96m", ("10.C.1", "10.E.1")),
}
"""Folder of each visit and of its two releases, for the first and second half of the cohort."""

SPACED = ("V00", "V01", "V03")
"""Visits whose StudyDescription ends in a space for the right knee."""


def accession_number(series: str) -> str:
    """Barcode of a series as its header has it, twelve digits with a leading zero."""
    return f"0166{series}"


def timepoint(visit: str) -> str:
    """Name of a visit as the descriptions have it."""
    return "ENROLLMENT" if visit == "V00" else f"{VISIT_MONTHS[visit]} MONTH"


def study_description(visit: str, laterality: str) -> str:
    """Description of a study; early ones end in a space on the right side, as the OAI's do."""
    space = " " if laterality == "R" and visit in SPACED else ""
    return f"OAI^MR^{timepoint(visit)}^{'RIGHT' if laterality == 'R' else 'LEFT'}{space}"


def series_description(laterality: str, sequence: str = DESS) -> str:
    """Description of the series: the sequence and the side, for which there is no tag."""
    return f"{sequence}_{'RIGHT' if laterality == 'R' else 'LEFT'}"
