"""The directions artefact on disk; reading it checks that no axis and no score was changed."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from spinmark_biomarkers.embeddings import check_embeddings, features_of_part, plain_strings
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.directions.base import Floats
from spinmark_biomarkers.phenotypes.directions.find import Directions
from spinmark_biomarkers.phenotypes.directions.frozen import frozen_axes_hash
from spinmark_biomarkers.phenotypes.directions.simplex import exact_weights

VERSION = 1
ARRAYS = {
    *(
        "score",
        "fitted",
        "used",
        "components",
        "mean",
        "readout",
        "weight",
        "archetype_vector",
        "projection",
    ),
}


def write_directions(folder: Path, directions: Directions) -> None:
    """Write `directions.zarr`, `directions.json` and `known_at.parquet` into a folder.

    Args:
        folder: Made where absent. Whole-or-absent is the caller's care.
        directions: What `find_directions` returned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Fixed-width strings have no Zarr v3 specification; objects are written as variable length.
    ds = plain_strings(directions.dataset)
    for variable in ds.variables.values():
        variable.encoding.clear()
    with warnings.catch_warnings():
        # Variable-length strings are stable in practice; zarr 3.0 still warns of the missing spec.
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")
        ds.to_zarr(folder / "directions.zarr", mode="w", zarr_format=3, consolidated=False)
    text = json.dumps(directions.facts, indent=2, sort_keys=True, allow_nan=False)
    (folder / "directions.json").write_text(text + "\n", encoding="utf-8")
    directions.known_at.to_parquet(folder / "known_at.parquet", index=False)


def read_directions(folder: Path) -> Directions:
    """Read axes and verify the hash that froze them.

    Args:
        folder: As written by `write_directions`.

    Raises:
        InputError: Where a part is absent, the version is another, or an axis or a score was changed.
    """
    for name in ("directions.zarr", "directions.json", "known_at.parquet"):
        if not (folder / name).exists():
            raise InputError(f"{folder}: no {name}; accepted is what 'spinmark directions' wrote")
    ds = xr.open_zarr(folder / "directions.zarr", consolidated=False, chunks=None).load()
    ds = plain_strings(ds.set_coords([n for n in ds.data_vars if n not in ARRAYS]))
    found = (ds.attrs.get("schema"), ds.attrs.get("version"))
    if found != ("spinmark/directions", VERSION):
        raise InputError(
            f"{folder}: schema {found[0]} version {found[1]}; accepted is spinmark/directions version {VERSION}"
        )
    frozen = frozen_axes_hash(ds)
    if frozen != ds.attrs.get("frozen_hash"):
        raise InputError(
            f"{folder}: axes and scores hash to {frozen[:12]}, frozen as "
            f"{str(ds.attrs.get('frozen_hash'))[:12]}; accepted are axes as found"
        )
    facts = json.loads((folder / "directions.json").read_text(encoding="utf-8"))
    return Directions(
        dataset=ds, known_at=pd.read_parquet(folder / "known_at.parquet"), facts=facts
    )


def apply_directions(directions: Directions, embeddings: xr.Dataset) -> xr.DataArray:
    """Score the scans of another cohort with frozen axes.

    Args:
        directions: As read or found.
        embeddings: Embeddings by the same encoder; they are read as the axes' part of it.

    Returns:
        `score(scan, axis)` with the scans' coordinates.

    Raises:
        InputError: Another number of features, or another encoder where both name theirs.
    """
    ds = directions.dataset
    given = features_of_part(check_embeddings(embeddings), ds.attrs["part"] or None)
    own, other = ds.attrs.get("encoder_hash"), given.attrs.get("encoder_hash")
    if own and other and own != other:
        raise InputError(
            f"embeddings: of encoder {str(other)[:12]}, the axes of {str(own)[:12]}; accepted is the same"
        )
    x = np.asarray(given["embedding"].values, dtype=np.float64)
    if x.shape[1] != ds.sizes["feature"]:
        raise InputError(
            f"embeddings: {x.shape[1]} features; accepted are the {ds.sizes['feature']} of the axes"
        )
    scores = _scores(ds, x)
    coords = {name: given[name] for name in given.coords if given[name].dims == ("scan",)}
    return xr.DataArray(scores, dims=("scan", "axis"), coords=coords, name="score")


def _scores(ds: xr.Dataset, x: Floats) -> Floats:
    if "archetype_vector" in ds:
        axes = np.asarray(ds["projection"].values)
        return exact_weights(x @ axes.T, np.asarray(ds["archetype_vector"].values) @ axes.T)
    return np.asarray((x - ds["mean"].values) @ ds["readout"].values.T, dtype=np.float64)
