"""A flat map of the embeddings by their first two principal components."""

from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from spinmark_biomarkers.embeddings import check_embeddings
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.cluster import fit_projection
from spinmark_biomarkers.phenotypes.discover import Phenotypes

# Okabe and Ito's palette, told apart with any colour vision.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKS = "osD^vP*X"


def embedding_map(
    embeddings: xr.Dataset,
    phenotypes: Phenotypes,
    *,
    by: Literal["phenotype", "site", "scanner"] = "phenotype",
) -> Figure:
    """Draw every scan at its first two principal components, fitted on the clusterer's scans.

    Args:
        embeddings: As given to `discover`.
        phenotypes: What it returned.
        by: What colours the points.

    Raises:
        InputError: Where `by` is unknown or the two do not hold the same scans.
    """
    ds = check_embeddings(embeddings)
    if by not in ("phenotype", "site", "scanner"):
        raise InputError(f"by: '{by}'; accepted are phenotype, site and scanner")
    if not np.array_equal(ds["scan_id"].values, phenotypes.dataset["scan_id"].values):
        raise InputError("embedding map: embeddings and phenotypes differ in their scans")
    x = np.asarray(ds["embedding"].values, dtype=np.float64)
    fitted = x[phenotypes.dataset["fitted"].values]
    projection = fit_projection(fitted, components=2)
    z = projection(x)
    if z.shape[1] < 2:
        z = np.column_stack([z, np.zeros(len(z))])
    share = projection(fitted).var(axis=0) / fitted.var(axis=0).sum()
    values = phenotypes.dataset["label"].values if by == "phenotype" else ds[by].values.astype(str)
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(np.unique(values)):
        chosen = values == name
        axes.scatter(
            z[chosen, 0],
            z[chosen, 1],
            s=10,
            alpha=0.7,
            linewidths=0,
            color=COLOURS[i % len(COLOURS)],
            marker=MARKS[i % len(MARKS)],
            label=f"{name} (n={int(chosen.sum())})",
        )
    shares = [f" ({part:.0%} of variance)" for part in share] + [""]
    axes.set_xlabel("component 1" + shares[0])
    axes.set_ylabel("component 2" + shares[1])
    axes.legend(title=by, fontsize="small", ncols=2)
    axes.set_title(
        f"Embeddings by {by}: principal components, all scans\n"
        "two of many dimensions: groups may overlap here and not there",
        fontsize="medium",
    )
    return figure
