"""The names of sequences: from a description, which of the OAI's are no knee volumes, what they weigh."""

import re
from collections.abc import Mapping

_SIDE = re.compile(r"(?:^|[\s_^-])(LEFT|RIGHT)\s*$", re.IGNORECASE)
# Of the OAI's series: localizers, reformats of DESS, and thighs (with the release's misspelling).
_ASIDE = re.compile(r"(?:^|_)(MPR|MP_LOCATOR|LOCATOR|LOCALIZER|THIGH|PRESCRIP?TION)(?:_|$)")
RADIOGRAPH = "RADIOGRAPH"

EXPECTED_MB: Mapping[str, float] = {
    "SAG_3D_DESS": 47.3,
    "SAG_IW_TSE": 14.9,
    "COR_IW_TSE": 11.5,
    "COR_T1_3D_FLASH": 42.0,
    "SAG_T2_MAP": 55.8,
}
"""Megabytes of a series by sequence, for series that are not on the disk.

DESS is 160 slices of 384 x 384 voxels of 16 bits with its headers; the others are guesses from the
study's protocol, good for the size of a disk and no more.
"""
OTHER_MB = 20.0


def sequence_name(description: str, modality: str = "") -> str:
    """A sequence's name from a series description, its side taken off.

    >>> sequence_name("SAG_3D_DESS_LEFT ")
    'SAG_3D_DESS'
    """
    name = _SIDE.sub("", description.strip())
    name = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").upper()
    return name or modality or "IMAGE"


def set_aside(sequence: str) -> bool:
    """Whether an OAI sequence is taken only when it is asked for by name.

    >>> set_aside("COR_MPR"), set_aside("PRESCRITION_THIGH"), set_aside("SAG_3D_DESS")
    (True, True, False)
    """
    return bool(_ASIDE.search(sequence))
