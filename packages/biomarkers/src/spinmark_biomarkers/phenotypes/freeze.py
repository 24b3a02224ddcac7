"""The hash that fixes phenotypes before any outcome is read.

It covers, each with a hash of its own so that a message can name what was changed:

- `scans`: whose scan each row is, and of which day;
- `labels`: the label of each scan (`label_hash`, which alone was the frozen hash of schema version 1);
- `probability`: rounded to whole millionths, so that the last bits of a sum are of no consequence;
- `fitted`: which scans the clusterer saw, and which it calls noise, where it does;
- `known_at`: since when each joint's phenotype has been known;
- `settings`: the method, the number of phenotypes, the part, the visits and what else the labels hang on,
  and the hashes of encoder, cohort and split.

A hash guards against slips and quiet edits. It is no signature: who edits labels and computes all hashes
anew has made other labels, under another hash.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from spinmark_biomarkers.errors import InputError

MILLION = 1e6
IDENTIFIERS = ("subject_id", "joint_id", "visit", "days")
# Beside the settings: what readers take from the attributes themselves, and what the embeddings came from.
ATTRIBUTES = ("method", "k", "visits", "encoder_hash", "cohort_hash", "split_hash")
PARTS = {
    "scans": "the scans' identifiers or days",
    "labels": "labels",
    "probability": "probabilities",
    "fitted": "the marks of fitted scans or of noise",
    "known_at": "known_at",
    "settings": "the settings",
}


def label_hash(scan_ids: npt.ArrayLike, labels: npt.ArrayLike) -> str:
    """Return the sha256 over sorted (scan_id, label) pairs.

    Args:
        scan_ids: Shape (n,).
        labels: Whole numbers, shape (n,).

    Returns:
        64 hexadecimal digits; the order of the rows is of no consequence.

    Raises:
        InputError: Where the lengths differ.

    Examples:
        >>> label_hash(["b", "a"], [0, 1]) == label_hash(["a", "b"], [1, 0])
        True
    """
    ids = np.asarray(scan_ids).astype(object).astype(str)
    codes = np.asarray(labels)
    if ids.shape != codes.shape:
        raise InputError(f"labels: {codes.shape} for {ids.shape} scans; accepted is one a scan")
    pairs = sorted(zip(ids.tolist(), codes.tolist(), strict=True))
    return _lines(f"{scan_id}\t{int(label)}" for scan_id, label in pairs)


def freeze(ds: xr.Dataset, known_at: pd.DataFrame, settings: Mapping[str, Any]) -> xr.Dataset:
    """Fix phenotypes: write their settings and hashes into the attributes.

    Args:
        ds: `label(scan)`, `probability(scan, phenotype)`, `fitted(scan)` with the scans' coordinates.
        known_at: `joint_id` and `known_at`, the day on which a joint's phenotype was known.
        settings: What the labels hang on, plain values by name: the method, `k`, the part, the visits and more.

    Returns:
        The dataset with the attributes `settings` and `frozen` (JSON), `label_hash` and `frozen_hash`.
    """
    text = json.dumps(dict(settings), sort_keys=True, allow_nan=False)
    ds = ds.assign_attrs(settings=text)
    parts = _parts(ds, known_at)
    return ds.assign_attrs(
        frozen=json.dumps(parts, sort_keys=True),
        label_hash=parts["labels"],
        frozen_hash=_whole(parts),
    )


def check_frozen(ds: xr.Dataset, known_at: pd.DataFrame, where: object) -> None:
    """See to it that phenotypes are as they were frozen.

    Args:
        ds: As `freeze` returned it.
        known_at: As it was given to `freeze`.
        where: What a message names.

    Raises:
        InputError: They were never frozen, or something was changed since; the message names what.
    """
    try:
        kept: dict[str, str] = json.loads(ds.attrs["frozen"])
        frozen, labels = str(ds.attrs["frozen_hash"]), ds.attrs["label_hash"]
        json.loads(ds.attrs["settings"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{where}: labels were never frozen; accepted are phenotypes as 'spinmark discover' makes them"
        ) from None
    found = _parts(ds, known_at)
    for name, told in PARTS.items():
        if found[name] != kept.get(name):
            raise InputError(
                f"{where}: {told} hash to {found[name][:12]}, frozen as {str(kept.get(name))[:12]}; "
                "accepted are "
                "phenotypes as discovered: run 'spinmark discover' again"
            )
    if _whole(found) != frozen or labels != found["labels"]:
        raise InputError(
            f"{where}: frozen as {frozen[:12]}, but its parts hash to {_whole(found)[:12]}; accepted are "
            "phenotypes as discovered: run 'spinmark discover' again"
        )


def settings_of(ds: xr.Dataset) -> dict[str, Any]:
    """Return the settings that frozen phenotypes were made with."""
    return dict(json.loads(ds.attrs["settings"]))


def facts_hash(facts: Mapping[str, Any]) -> str:
    """Return the sha256 of facts as JSON, of which only the content counts, not how it is laid out."""
    return _lines([json.dumps(facts, sort_keys=True, allow_nan=False)])


def _parts(ds: xr.Dataset, known_at: pd.DataFrame) -> dict[str, str]:
    ids = ds["scan_id"].values.astype(str)
    order = np.argsort(ids, kind="stable")
    named = (ds[name].values[order].tolist() for name in IDENTIFIERS)
    scans = zip(ids[order].tolist(), *named, strict=True)
    probability = np.rint(np.asarray(ds["probability"].values, np.float64)[order] * MILLION)
    marks = [name for name in ("fitted", "noise") if name in ds]
    attributes = [f"{name}\t{ds.attrs[name]}" for name in ATTRIBUTES if name in ds.attrs]
    known = sorted(zip(known_at["joint_id"].astype(str), known_at["known_at"], strict=True))
    return {
        "scans": _lines("\t".join(map(str, one)) for one in scans),
        "labels": label_hash(ids, ds["label"].values),
        "probability": _digest(
            f"{probability.shape}\n".encode(), probability.astype("<i8").tobytes()
        ),
        "fitted": _digest(*(ds[name].values[order].astype("u1").tobytes() for name in marks)),
        "known_at": _lines(f"{joint}\t{float(days)!r}" for joint, days in known),
        "settings": _lines([ds.attrs["settings"], *attributes]),
    }


def _whole(parts: Mapping[str, str]) -> str:
    return _lines(f"{name}\t{parts[name]}" for name in sorted(PARTS))


def _lines(lines: Iterable[str]) -> str:
    return _digest("".join(f"{line}\n" for line in lines).encode())


def _digest(*pieces: bytes) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
