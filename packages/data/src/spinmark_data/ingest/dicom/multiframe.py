"""Enhanced multi-frame objects: what the functional groups say of each frame.

Shared groups hold for every frame unless its own say otherwise. Source: DICOM PS3.3 C.7.6.16.
"""

from typing import Any

import pydicom

from spinmark_data.ingest.dicom.headers import (
    PER_FRAME,
    SHARED,
    Header,
    decode,
    raw_elements,
    values,
)
from spinmark_data.ingest.limits import Limits, Refused

# Plane position and orientation, pixel measures, value transformation, MR echo, cardiac and temporal
# position, frame types of MR and CT: sequences of one item each.
_MACROS = (
    0x00209113,
    0x00209116,
    0x00289110,
    0x00289145,
    0x00189114,
    0x00189118,
    0x00209111,
    0x00189226,
    0x00189329,
)
_FRAME_TYPE = 0x00089007


def _group(item: pydicom.Dataset) -> dict[str, Any]:
    """What the macros of one functional group item say, by the names of a classic image."""
    found: dict[str, Any] = {}
    for tag in _MACROS:
        if tag not in item or not (inner := item[tag].value):
            continue
        macro = inner[0]
        found |= values(raw_elements(macro), {})
        if _FRAME_TYPE in macro:
            raw = macro.get_item(_FRAME_TYPE)
            found["ImageType"] = decode("ImageType", (b"CS", raw.value or b"", True))
    if "EffectiveEchoTime" in found:
        found["EchoTime"] = found["EffectiveEchoTime"]
    if "NominalCardiacTriggerDelayTime" in found:
        found["TriggerTime"] = found["NominalCardiacTriggerDelayTime"]
    return found


def functional_groups(
    dataset: pydicom.Dataset, header: Header, limits: Limits
) -> list[dict[str, Any]] | None:
    """One mapping a frame; None for an object without functional groups.

    Raises:
        Refused: There are too many frames, or not as many groups as frames.
    """
    if PER_FRAME not in dataset and SHARED not in dataset:
        return None
    count = header.get("NumberOfFrames", 1)
    if not 1 <= count <= limits.frames:
        raise Refused(f"{count} frames in one object; 1 to {limits.frames} are read")
    shared = dataset[SHARED].value if SHARED in dataset else []
    own = dataset[PER_FRAME].value if PER_FRAME in dataset else []
    if len(own) != count:
        raise Refused(f"{count} frames, but functional groups of {len(own)}")
    common = _group(shared[0]) if shared else {}
    return [{**common, **_group(item)} for item in own]


def expand(header: Header) -> list[Header]:
    """One header a frame; a classic image is its own.

    Raises:
        Refused: A multi-frame object says nothing of its frames.
    """
    if header.frames is not None:
        return [
            Header({**header, **frame}, syntax=header.syntax, offset=header.offset)
            for frame in header.frames
        ]
    if (count := header.get("NumberOfFrames", 1)) != 1:
        raise Refused(
            f"a multi-frame object of {count} frames without functional groups: "
            "nothing tells where its frames lie"
        )
    return [header]
