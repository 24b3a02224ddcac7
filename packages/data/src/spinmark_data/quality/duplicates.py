"""The same image twice: exactly, nearly, or mirrored.

Every pair is compared, 64 bits at a time: most pairs differ too much in the first 64 bits already,
so that 50,000 scans take seconds and no index is needed.
"""

import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.quality.fingerprint import Words, mirrored, words

_LOG = logging.getLogger(__name__)

COLUMNS = ("scan_id_a", "scan_id_b", "kind", "bits", "relation", "verdict")
_ROWS = 256
# More pairs than this are of images that all look alike: phantoms, or nothing at all.
MOST = 200_000
_KEYS = ["scan_id", "subject_id", "laterality", "visit"]


def near_pairs(
    a: Words, b: Words, limit: int, *, most: int = MOST
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs `i < j` of `a[i]` and `b[j]` that differ in at most `limit` bits.

    Args:
        a: `(n, 8)`.
        b: `(n, 8)`, another view of the same scans.
        limit: Bits.
        most: Pairs after which the search ends, with a warning in the log.

    Returns:
        i, j and their bits, in the order of i and j.
    """
    found: list[tuple[NDArray[np.int64], ...]] = []
    count = 0
    for start in range(0, len(a), _ROWS):
        rows, rest = a[start : start + _ROWS], b[start:]
        # High frequencies first: low ones are shared by all images of one body part.
        distance = np.bitwise_count(rows[:, None, -1] ^ rest[None, :, -1])
        i, j = np.nonzero(distance <= limit)
        keep = j > i
        i, j = i[keep], j[keep]
        bits = np.bitwise_count(rows[i] ^ rest[j]).sum(axis=1, dtype=np.int64)
        near = bits <= limit
        found.append((i[near] + start, j[near] + start, bits[near]))
        count += int(near.sum())
        if count > most:
            _LOG.warning("More than %d pairs of images look alike; the rest is left out.", most)
            break
    empty = np.empty(0, dtype=np.int64)
    if not found:
        return empty, empty, empty
    i, j, bits = (np.concatenate(part)[:most] for part in zip(*found, strict=True))
    return i, j, bits


def find_duplicates(scans: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Pairs of scans that show one image.

    Args:
        scans: A row a scan with `scan_id`, `subject_id`, `laterality`, `visit`, `voxels_sha256`,
            `fingerprint` (empty where there is none) and `right_left` (which of z, y and x runs along
            right-left: 0, 1 or 2).
        limit: Bits of 512 in which copies may differ.

    Returns:
        The columns `COLUMNS`, errors first. `kind` is `exact` (every voxel), `near` or `mirrored` (near,
        once mirrored along right-left); `relation` is what differs: `subject`, `side`, `visit`, or `none`
        (rescans at one visit, or two sequences); `verdict` is `information` for `none`, else `error`.
    """
    rows = scans[scans["fingerprint"].fillna("") != ""].reset_index(drop=True)
    if len(rows) < 2:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in COLUMNS})
    found = words(rows["fingerprint"].tolist())
    straight = _table(rows, near_pairs(found, found, limit), "near")
    other = mirrored(found, rows["right_left"].to_numpy(np.int64))
    turned = _table(rows, near_pairs(found, other, limit), "mirrored")
    pairs = pd.concat([straight, turned], ignore_index=True)
    # A symmetric image is near both ways; the straight finding says more.
    pairs = pairs.drop_duplicates(["scan_id_a", "scan_id_b"])
    order = pairs.sort_values(
        ["verdict", "bits", "scan_id_a", "scan_id_b"], kind="stable", ignore_index=True
    )
    return order[list(COLUMNS)]


def _table(rows: pd.DataFrame, found: tuple[NDArray[np.int64], ...], kind: str) -> pd.DataFrame:
    i, j, bits = found
    a, b = rows.iloc[i].reset_index(drop=True), rows.iloc[j].reset_index(drop=True)
    same = {key: (a[key] == b[key]).to_numpy() for key in (*_KEYS, "voxels_sha256")}
    relation = np.select(
        [~same["subject_id"], ~same["laterality"], ~same["visit"]],
        ["subject", "side", "visit"],
        "none",
    )
    equal = same["voxels_sha256"] & (kind == "near")
    return pd.DataFrame(
        {
            "scan_id_a": a["scan_id"],
            "scan_id_b": b["scan_id"],
            "kind": np.where(equal, "exact", kind),
            "bits": bits,
            "relation": relation,
            "verdict": np.where(relation == "none", "information", "error"),
        }
    )
