"""The side of a joint, from the best evidence there is; what disagrees is told, never settled."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIDE = re.compile(r"(?:^|[\s_^-])(LEFT|RIGHT)\s*$", re.IGNORECASE)
# Near the isocentre a knee may have been moved there, so its place tells nothing.
_FAR_MM = 30.0


@dataclass(frozen=True)
class Evidence:
    """What one source says of the side.

    Args:
        source: What says so, in words.
        side: `R` or `L`.
        strong: Whether someone wrote it down; a position in space is weak.
    """

    source: str
    side: str
    strong: bool = True


@dataclass(frozen=True)
class Side:
    """The side that evidence gives.

    Args:
        side: `R`, `L`, or empty where nothing tells.
        conflict: How strong sources disagree; then the scan cannot be used.
        note: What disagrees without weight, or was overruled by the user's own table.
    """

    side: str
    conflict: str = ""
    note: str = ""


def side_of(description: str) -> str:
    """`R`, `L` or nothing, from the end of a series description.

    >>> side_of("OAI^MR^ENROLLMENT^RIGHT "), side_of("SAG_3D_DESS")
    ('R', '')
    """
    match = _SIDE.search(description.strip())
    return match.group(1)[0].upper() if match else ""


def from_headers(
    header: Mapping[str, Any] | Any, affine: NDArray[np.float64], shape: Sequence[int]
) -> list[Evidence]:
    """What a DICOM header and the place of its volume say.

    Args:
        header: Of one image; anything with `get`.
        affine: `(4, 4)`, of the volume as acquired, to LPS mm.
        shape: Of the volume.
    """
    written = side_of(str(header.get("SeriesDescription", "") or ""))
    found = [Evidence("series description", written)] if written else []
    tags = ("Laterality", "ImageLaterality")
    told = ((tag, str(header.get(tag, "") or "").strip().upper()) for tag in tags)
    found += [Evidence(f"tag {tag}", side) for tag, side in told if side in ("R", "L")]
    if "KNEE" in str(header.get("BodyPartExamined", "") or "").upper():
        middle = (np.array(shape[-3:]) - 1) / 2
        across = float((affine @ np.array([*middle, 1.0]))[0])
        if abs(across) >= _FAR_MM:
            found.append(Evidence("place in the scanner", "L" if across > 0 else "R", strong=False))
    return found


def decide(evidence: Sequence[Evidence], given: str = "") -> Side:
    """The side that the evidence gives.

    Args:
        evidence: What each source says.
        given: What the user's own table says; it comes before everything.

    Returns:
        The side; a conflict where two strong sources disagree and the user has not said which.
    """

    def told(which: Sequence[Evidence]) -> str:
        return ", ".join(f"{item.source} says {item.side}" for item in which)

    strong = [item for item in evidence if item.strong]
    if given:
        against = [item for item in evidence if item.side != given]
        note = f"the table map says {given}, but {told(against)}" if against else ""
        return Side(given, note=note)
    if len({item.side for item in strong}) > 1:
        return Side("", conflict=f"the sides disagree: {told(strong)}")
    weak = [item for item in evidence if not item.strong]
    if strong:
        against = [item for item in weak if item.side != strong[0].side]
        note = f"{told(strong[:1])}, but the {told(against)}" if against else ""
        return Side(strong[0].side, note=note)
    if len({item.side for item in weak}) == 1:
        return Side(weak[0].side, note=f"the side {weak[0].side} is known from its place alone")
    return Side("")
