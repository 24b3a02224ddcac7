"""What codes mean, and one meaning for the codes of many files."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from spinmark_data.errors import InputError
from spinmark_data.ingest.limits import Refused
from spinmark_data.labels.label_map import LabelMap

KNEE: Mapping[int, str] = {
    1: "femoral_cartilage",
    2: "medial_tibial_cartilage",
    3: "lateral_tibial_cartilage",
    4: "patellar_cartilage",
    5: "femur",
    6: "tibia",
    7: "patella",
    8: "fibula",
    9: "lateral_meniscus",
    10: "medial_meniscus",
}
"""The codes of the public segmentations on the OAI's DESS grid."""

PHANTOM: Mapping[int, str] = {
    **KNEE,
    11: "fat_pad",
    12: "muscle",
    13: "fat",
    14: "fluid",
    15: "marrow_lesion",
    16: "osteophyte",
    17: "synovitis",
    18: "tendon",
}
"""The codes of `spinmark phantom`."""

PRESETS: Mapping[str, Mapping[int, str]] = {"knee": KNEE, "phantom": PHANTOM}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def read_codes(codes: str) -> dict[int, str]:
    """The meaning of codes: a preset's name, or a YAML file of lines `code: name`.

    Raises:
        InputError: It is neither, or a line is not `code: name` with a code from 1 to 65535 and a
            name of lower-case letters, digits and `_`, each once.
    """
    if codes in PRESETS:
        return dict(PRESETS[codes])
    path = Path(codes)
    if not path.is_file():
        raise InputError(
            f"codes '{codes}' is neither a file nor a preset; presets are {list(PRESETS)}."
        )
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"{path} is no YAML; lines such as '1: femoral_cartilage' are.") from None
    if not isinstance(found, dict) or not found:
        raise InputError(f"{path} holds no lines such as '1: femoral_cartilage'.")
    for code, name in found.items():
        if type(code) is not int or not 1 <= code <= 65535:
            raise InputError(f"{path}: code {code!r}; whole numbers from 1 to 65535 are accepted.")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError(
                f"{path}: name {name!r}; lower-case letters, digits and _ make a name."
            )
    if len(set(found.values())) < len(found):
        raise InputError(f"{path}: two codes have one name; give each its own.")
    return dict(found)


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", name.lower()))


def harmonise(label_map: LabelMap, codes: Mapping[int, str]) -> tuple[LabelMap, list[str]]:
    """Give each structure the code that it has in `codes`, by the name that the file gives it.

    A name is known by its words, whatever their order and case. A code that the file does not name
    is taken as it is.

    Returns:
        The label map, whose names are those of `codes` alone, and what was done about it.

    Raises:
        Refused: A code has no meaning in `codes`, or the file names it otherwise than `codes`.
    """
    present = [int(code) for code in np.unique(label_map.labels) if code]
    known = {_words(name): code for code, name in codes.items()}
    table = np.zeros(max([*present, 0]) + 1, np.uint16)
    for code in present:
        name = label_map.names.get(code)
        if name is None:
            if code not in codes:
                raise Refused(f"code {code} has no name; add it to the YAML of codes")
            table[code] = code
        elif _words(name) in known:
            table[code] = known[_words(name)]
        else:
            # The name is free text of whoever drew it, so it is not repeated here.
            raise Refused(f"the file's name of code {code} is not among the names of codes")
    told = []
    if any(table[code] != code for code in present):
        told.append("codes were changed to those of the cohort, by the names that the file gives")
    labels = table[label_map.labels] if told else label_map.labels
    if int(labels.max(initial=0)) <= 255:
        labels = labels.astype(np.uint8)
    names = {int(code): codes[int(code)] for code in np.unique(labels) if code}
    return LabelMap(
        labels=labels, affine=label_map.affine, names=names, series_uid=label_map.series_uid
    ), told
