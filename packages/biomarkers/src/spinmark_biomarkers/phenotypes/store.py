"""The phenotypes artefact on disk; reading it checks that nothing was changed since it was frozen."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from spinmark_biomarkers.embeddings import plain_strings
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.discover import Phenotypes
from spinmark_biomarkers.phenotypes.freeze import check_frozen, facts_hash

VERSION = 2


def write_phenotypes(folder: Path, phenotypes: Phenotypes) -> None:
    """Write `phenotypes.zarr`, `phenotypes.json` and `known_at.parquet` into a folder.

    Args:
        folder: Made where absent. Whole-or-absent is the caller's care.
        phenotypes: What `discover` returned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ds = phenotypes.dataset
    # Fixed-width strings have no Zarr v3 specification; objects are written as variable length.
    ds = plain_strings(ds).assign_attrs(facts_hash=facts_hash(_as_read(phenotypes.facts)))
    for variable in ds.variables.values():
        variable.encoding.clear()
    with warnings.catch_warnings():
        # Variable-length strings are stable in practice; zarr 3.0 still warns of the missing spec.
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")
        ds.to_zarr(folder / "phenotypes.zarr", mode="w", zarr_format=3, consolidated=False)
    text = json.dumps(phenotypes.facts, indent=2, sort_keys=True, allow_nan=False)
    (folder / "phenotypes.json").write_text(text + "\n", encoding="utf-8")
    phenotypes.known_at.to_parquet(folder / "known_at.parquet", index=False)


def read_phenotypes(folder: Path) -> Phenotypes:
    """Read phenotypes and verify the hashes that froze them.

    Args:
        folder: As written by `write_phenotypes`.

    Raises:
        InputError: Where a part is absent, the version is another, or labels, probabilities, known_at,
            settings or facts were changed.
    """
    for name in ("phenotypes.zarr", "phenotypes.json", "known_at.parquet"):
        if not (folder / name).exists():
            raise InputError(f"{folder}: no {name}; accepted is what 'spinmark discover' wrote")
    ds = xr.open_zarr(folder / "phenotypes.zarr", consolidated=False, chunks=None).load()
    ds = plain_strings(
        ds.set_coords(
            [n for n in ds.data_vars if n not in ("label", "probability", "fitted", "noise")]
        )
    )
    found = (ds.attrs.get("schema"), ds.attrs.get("version"))
    if found == ("spinmark/phenotypes", 1):
        raise InputError(
            f"{folder}: phenotypes version 1, whose hash covers labels alone; accepted is version "
            f"{VERSION}: run "
            "'spinmark discover' again, which gives the same labels from the same embeddings, settings and seed"
        )
    if found != ("spinmark/phenotypes", VERSION):
        raise InputError(
            f"{folder}: schema {found[0]} version {found[1]}; accepted is spinmark/phenotypes "
            f"version {VERSION}"
        )
    known_at = pd.read_parquet(folder / "known_at.parquet")
    check_frozen(ds, known_at, folder)
    facts = _facts(folder)
    if facts_hash(facts) != ds.attrs.get("facts_hash"):
        raise InputError(
            f"{folder}: phenotypes.json is not what was written with the labels; accepted are phenotypes as "
            "discovered: run 'spinmark discover' again"
        )
    return Phenotypes(dataset=ds, known_at=known_at, facts=facts)


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / "phenotypes.json").read_text(encoding="utf-8"))
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise InputError(f"{folder}: phenotypes.json is not JSON; accepted is what discover wrote")
    return facts


def _as_read(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as they come back from JSON, in which all keys are text and tuples are lists."""
    return dict(json.loads(json.dumps(facts, allow_nan=False)))
