"""The prognosis artefact on disk."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from spinmark_biomarkers.embeddings import plain_strings
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.prognosis import Prognosis

VERSION = 2
FILES = (
    "posterior.zarr",
    "cumulative_incidence.zarr",
    "metrics.parquet",
    "risk.parquet",
    "diagnostics.json",
    "comparison.json",
)
# Tables that few events may leave empty.
TABLES = ("increments", "subgroups", "differences", "elpd", "checks")


def write_prognosis(folder: Path, p: Prognosis) -> None:
    """Write the artefact's files (docs/schemas.md) into an existing folder.

    Args:
        folder: Whole-or-absent is the caller's care.
        p: What `prognose` returned.
    """
    tree = xr.DataTree.from_dict(p.posteriors)
    incidence = plain_strings(p.cif.assign(mean=p.mean))
    with warnings.catch_warnings():
        # Variable-length strings are stable in practice; zarr still warns of the missing spec.
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")
        tree.to_zarr(folder / "posterior.zarr", zarr_format=3, consolidated=False)
        incidence.to_zarr(folder / "cumulative_incidence.zarr", zarr_format=3, consolidated=False)
    p.metrics.to_parquet(folder / "metrics.parquet", index=False)
    p.risk.to_parquet(folder / "risk.parquet")
    for name in TABLES:
        table: pd.DataFrame = getattr(p, name)
        if len(table.columns):
            table.to_parquet(folder / f"{name}.parquet", index=False)
    for name, facts in (
        ("diagnostics.json", p.diagnostics),
        ("comparison.json", {**p.compared, "told": list(p.told)}),
    ):
        text = json.dumps(facts, indent=2, sort_keys=True)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def read_prognosis(folder: Path) -> Prognosis:
    """Read what `write_prognosis` wrote.

    Args:
        folder: The artefact.

    Raises:
        InputError: A part is absent or of another schema version.
    """
    for name in FILES:
        if not (folder / name).exists():
            raise InputError(f"{folder}: no {name}; accepted is what 'spinmark prognose' wrote")
    store = folder / "cumulative_incidence.zarr"
    with xr.open_zarr(store, consolidated=False, chunks=None) as opened:
        incidence = plain_strings(opened.load())
    found = (incidence.attrs.get("schema"), incidence.attrs.get("version"))
    if found != ("spinmark/prognosis", VERSION):
        raise InputError(
            f"{folder}: schema {found[0]} version {found[1]}; accepted is spinmark/prognosis "
            f"{VERSION}"
        )
    with xr.open_datatree(
        folder / "posterior.zarr", engine="zarr", consolidated=False, chunks=None
    ) as tree:
        posteriors = {
            str(name): plain_strings(node.to_dataset().load()) for name, node in tree.items()
        }
    tables = {
        name: pd.read_parquet(path)
        for name in TABLES
        if (path := folder / f"{name}.parquet").is_file()
    }
    compared = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    told = tuple(compared.pop("told"))
    return Prognosis(
        cif=incidence.drop_vars("mean"),
        metrics=pd.read_parquet(folder / "metrics.parquet"),
        posteriors=posteriors,
        diagnostics=json.loads((folder / "diagnostics.json").read_text(encoding="utf-8")),
        risk=pd.read_parquet(folder / "risk.parquet"),
        mean=incidence["mean"].astype(np.float64),
        compared=compared,
        told=told,
        **tables,
    )
