"""The phenotypes artefact on disk; reading it checks that no label was changed."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from spinmark_biomarkers.embeddings import plain_strings
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.discover import Phenotypes
from spinmark_biomarkers.phenotypes.freeze import frozen_hash

VERSION = 1


def write_phenotypes(folder: Path, phenotypes: Phenotypes) -> None:
    """Write `phenotypes.zarr`, `phenotypes.json` and `known_at.parquet` into a folder.

    Args:
        folder: Made where absent. Whole-or-absent is the caller's care.
        phenotypes: What `discover` returned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ds = phenotypes.dataset
    # Fixed-width strings have no Zarr v3 specification; objects are written as variable length.
    ds = plain_strings(ds)
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
    """Read phenotypes and verify the hash that froze them.

    Args:
        folder: As written by `write_phenotypes`.

    Raises:
        InputError: Where a part is absent, the version is another, or a label was changed.
    """
    for name in ("phenotypes.zarr", "phenotypes.json", "known_at.parquet"):
        if not (folder / name).exists():
            raise InputError(f"{folder}: no {name}; accepted is what 'spinmark discover' wrote")
    ds = xr.open_zarr(folder / "phenotypes.zarr", consolidated=False, chunks=None).load()
    ds = plain_strings(
        ds.set_coords([n for n in ds.data_vars if n not in ("label", "probability", "fitted")])
    )
    found = (ds.attrs.get("schema"), ds.attrs.get("version"))
    if found != ("spinmark/phenotypes", VERSION):
        raise InputError(
            f"{folder}: schema {found[0]} version {found[1]}; accepted is spinmark/phenotypes "
            f"version {VERSION}"
        )
    frozen = frozen_hash(ds["scan_id"].values, np.asarray(ds["label"].values))
    if frozen != ds.attrs.get("frozen_hash"):
        raise InputError(
            f"{folder}: labels hash to {frozen[:12]}, frozen as "
            f"{str(ds.attrs.get('frozen_hash'))[:12]}; accepted are labels as discovered"
        )
    facts = json.loads((folder / "phenotypes.json").read_text(encoding="utf-8"))
    return Phenotypes(
        dataset=ds, known_at=pd.read_parquet(folder / "known_at.parquet"), facts=facts
    )
