"""The hash that fixes labels before any outcome is read."""

import hashlib

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError


def frozen_hash(scan_ids: npt.ArrayLike, labels: npt.ArrayLike) -> str:
    """Return the sha256 over sorted (scan_id, label) pairs.

    Args:
        scan_ids: Shape (n,).
        labels: Whole numbers, shape (n,).

    Returns:
        64 hexadecimal digits; the order of the rows is of no consequence.

    Raises:
        InputError: Where the lengths differ.

    Examples:
        >>> frozen_hash(["b", "a"], [0, 1]) == frozen_hash(["a", "b"], [1, 0])
        True
    """
    ids = np.asarray(scan_ids).astype(object).astype(str)
    codes = np.asarray(labels)
    if ids.shape != codes.shape:
        raise InputError(f"labels: {codes.shape} for {ids.shape} scans; accepted is one a scan")
    digest = hashlib.sha256()
    for scan_id, label in sorted(zip(ids.tolist(), codes.tolist(), strict=True)):
        digest.update(f"{scan_id}\t{int(label)}\n".encode())
    return digest.hexdigest()
