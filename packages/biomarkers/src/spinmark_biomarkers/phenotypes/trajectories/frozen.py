"""The hash that fixes trajectories before any outcome is read.

It covers each joint's sequence of groups, its speed to six digits, the day since when both have
been known, and the settings. A hash guards against slips and quiet edits; it is no signature.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

COLUMNS = ("joint_id", "sequence", "path_group", "known_at", "speed")


def freeze_paths(speeds: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """Return the sha256 over joints and settings, 64 hexadecimal digits.

    Args:
        speeds: A row a joint with `joint_id`, `sequence`, `path_group`, `known_at`, `speed`; the
            order of the rows is of no consequence.
        settings: What the trajectories hang on, plain values by name.
    """
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
    columns = (speeds[name].tolist() for name in COLUMNS)
    for joint, sequence, group, known, speed in sorted(zip(*columns, strict=True)):
        line = f"\n{joint}\t{sequence}\t{int(group)}\t{float(known)!r}\t{float(speed):.6g}"
        digest.update(line.encode())
    return digest.hexdigest()
