"""Covariates made ready for a model, with everything learned from the fitting subjects alone."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Design:
    """A ready design of finite, about standardised columns.

    Args:
        frame: One row a joint.
        blocks: Column -> `clinical`, `phenotype` or `embedding`; a block shares a prior scale.
    """

    frame: pd.DataFrame
    blocks: dict[str, str]


def _standardised(x: Floats, fit: np.ndarray) -> tuple[Floats, np.ndarray]:
    mean, sd = x[fit].mean(axis=0), x[fit].std(axis=0)
    keep = sd > 1e-12
    return (x[:, keep] - mean[keep]) / sd[keep], keep


def prepare_design(
    raw: pd.DataFrame, fit_rows: np.ndarray, *, prefix: str, components: int
) -> Design:
    """Impute, standardise and reduce.

    A missing value takes the median of the fitting rows and an indicator column `NAME_missing`. An
    embedding block becomes principal components, each scaled to unit variance.

    Args:
        raw: One row a joint, numeric columns, NaN where missing.
        fit_rows: Which rows are of fitting subjects, shape (n,).
        prefix: Columns that start so are the embedding.
        components: Principal components kept, at most.

    Returns:
        The design.

    Raises:
        InputError: For a column that is not numeric, or an embedding with missing values.
    """
    other = [c for c in raw.columns if not pd.api.types.is_numeric_dtype(raw[c])]
    if other:
        raise InputError(
            f"design: column {other[0]!r} is {raw[other[0]].dtype}; accepted are numbers"
        )
    columns: dict[str, Floats] = {}
    blocks: dict[str, str] = {}
    embedding = [c for c in raw.columns if str(c).startswith(prefix)]
    for name in (str(c) for c in raw.columns if c not in embedding):
        x = raw[name].to_numpy(dtype=float)
        missing = ~np.isfinite(x)
        if missing[fit_rows].all():
            logger.warning("design: %s is missing in every fitting joint; left out", name)
            continue
        filled = np.where(missing, np.median(x[fit_rows & ~missing]), x)
        parts = {name: filled}
        if missing[fit_rows].any():
            parts[f"{name}_missing"] = missing.astype(float)
        for part, values in parts.items():
            z, keep = _standardised(values[:, None], fit_rows)
            if keep[0]:
                columns[part] = z[:, 0]
                blocks[part] = "phenotype" if name.startswith("phenotype") else "clinical"
    if embedding:
        e = raw[embedding].to_numpy(dtype=float)
        if not np.isfinite(e).all():
            raise InputError(
                f"design: {embedding[0]} has missing values; accepted is a whole embedding"
            )
        e, _ = _standardised(e, fit_rows)
        k = min(components, np.shape(e)[1], int(fit_rows.sum()) - 1)
        pca = PCA(n_components=k, svd_solver="full").fit(e[fit_rows])
        scores, keep = _standardised(pca.transform(e), fit_rows)
        for i in range(int(keep.sum())):
            columns[f"{prefix}pc{i + 1}"] = scores[:, i]
            blocks[f"{prefix}pc{i + 1}"] = "embedding"
    return Design(frame=pd.DataFrame(columns, index=raw.index.astype(str)), blocks=blocks)
