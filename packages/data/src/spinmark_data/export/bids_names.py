"""How BIDS names what a cohort holds: labels, suffixes, makers of scanners."""

import re
from collections.abc import Iterable, Mapping

from spinmark_data.errors import InputError
from spinmark_data.ingest.dicom.known_words import VENDORS

ECHO_SUFFIXES = ("MESE", "MEGRE")
VOLUME_SUFFIXES = ("T1w", "T2w", "PDw", "T2starw", "FLAIR", "inplaneT1", "inplaneT2", "angio")

# The suffix of sequences by a word of their names, first match first. BIDS has none for a double-echo
# steady state nor for intermediate weighting; T2w and PDw are the nearest in contrast.
_BY_WORD = (
    ("MESE", "MESE"),
    ("MEGRE", "MEGRE"),
    ("T2_MAP", "MESE"),
    ("DESS", "T2w"),
    ("FLAIR", "FLAIR"),
    ("T2STAR", "T2starw"),
    ("FLASH", "T1w"),
    ("T1W", "T1w"),
    ("T1", "T1w"),
    ("T2W", "T2w"),
    ("T2", "T2w"),
    ("PDW", "PDw"),
    ("PD", "PDw"),
    ("IW", "PDw"),
)
# What a train of echoes is called where a sequence has one volume only.
_SINGLE = {"MESE": "T2w", "MEGRE": "T2starw"}
_MAKERS = (
    "SIEMENS HEALTHINEERS",
    "SIEMENS",
    "GE MEDICAL SYSTEMS",
    "GE HEALTHCARE",
    "PHILIPS MEDICAL SYSTEMS",
    "PHILIPS HEALTHCARE",
    "PHILIPS",
    "CANON MEDICAL SYSTEMS",
    "CANON_MEC",
    "CANON",
    "TOSHIBA_MEC",
    "TOSHIBA",
    "HITACHI",
    "FUJIFILM",
    "UNITED IMAGING HEALTHCARE",
    "UIH",
    "ESAOTE",
    "BRUKER",
    # As the ingest shortens them: after the longer names that begin with them.
    *sorted(VENDORS),
)


def clean(text: str) -> str:
    """A text with its letters and digits only.

    >>> clean("SAG_3D_DESS")
    'SAG3DDESS'
    """
    return re.sub(r"[^A-Za-z0-9]", "", text)


def labels(what: str, identifiers: Iterable[str], wanted: Iterable[str]) -> dict[str, str]:
    """A BIDS label for each identifier whose label is its alone.

    Args:
        what: What they identify, for errors.
        identifiers: All there are.
        wanted: Those that must have a label.

    Returns:
        Labels by identifier; identifiers that are not wanted and share a label are left out.

    Raises:
        InputError: A wanted identifier has no letter or digit, or shares its label with another.
    """
    needed = set(wanted)
    owners: dict[str, list[str]] = {}
    for identifier in sorted(set(identifiers)):
        owners.setdefault(clean(identifier).casefold(), []).append(identifier)
    for label, sharing in owners.items():
        if needed & set(sharing) and not label:
            raise InputError(
                f"{what} {sharing[0]!r} has no letter or digit; a BIDS label is made of those."
            )
        if needed & set(sharing) and len(sharing) > 1:
            raise InputError(
                f"{what}s {sharing[0]!r} and {sharing[1]!r} would share the BIDS label "
                f"{clean(sharing[0])!r}; their letters and digits must differ."
            )
    return {same[0]: clean(same[0]) for label, same in owners.items() if label and len(same) == 1}


def suffix_of(sequence: str, *, echoes: bool, given: Mapping[str, str] | None = None) -> str:
    """The BIDS suffix of a sequence.

    Args:
        sequence: Its name.
        echoes: Whether its scans have an axis of echoes.
        given: Suffixes by sequence that come before what the name tells.

    Raises:
        InputError: Neither the name nor `given` tells it, or it does not go with the echoes.

    >>> suffix_of("SAG_T2_MAP", echoes=True), suffix_of("COR_IW_TSE", echoes=False)
    ('MESE', 'PDw')
    """
    accepted = ECHO_SUFFIXES if echoes else VOLUME_SUFFIXES
    suffix = (given or {}).get(sequence)
    if suffix is None:
        words = f"_{sequence.upper()}_"
        suffix = next((value for word, value in _BY_WORD if f"_{word}_" in words), None)
        if suffix is not None and not echoes:
            suffix = _SINGLE.get(suffix, suffix)
    if suffix is None or suffix not in accepted:
        told = "its name tells no BIDS suffix" if suffix is None else f"the suffix {suffix!r}"
        raise InputError(
            f"Sequence '{sequence}', {'with' if echoes else 'without'} echoes: {told}; give one of "
            f"{list(accepted)} (suffixes)."
        )
    return suffix


def scanner_fields(scanner: str) -> dict[str, str]:
    """Maker, model and pseudonym from a cohort's scanner; nothing where the maker is not known.

    >>> scanner_fields("SIEMENS Trio 0a1b2c")
    {'Manufacturer': 'SIEMENS', 'ManufacturersModelName': 'Trio', 'DeviceSerialNumber': '0a1b2c'}
    >>> scanner_fields("third floor")
    {}
    """
    text = scanner.strip()
    for maker in _MAKERS:
        if not re.match(rf"{re.escape(maker)}(?![A-Za-z0-9])", text, re.IGNORECASE):
            continue
        rest = text[len(maker) :].strip()
        # Six hexadecimal digits at the end stand for the serial number; see the ingest. BIDS takes
        # a pseudonym in its place.
        serial = re.search(r"(?:^|\s)([0-9a-f]{6})$", rest)
        model = rest[: serial.start()].strip() if serial else rest
        fields = {"Manufacturer": text[: len(maker)], "ManufacturersModelName": model}
        fields["DeviceSerialNumber"] = serial.group(1) if serial else ""
        return {name: value for name, value in fields.items() if value}
    return {}
