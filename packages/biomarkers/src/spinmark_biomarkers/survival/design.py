"""Covariates made ready for a model, with everything learned from the fitting subjects alone."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats

logger = logging.getLogger(__name__)


# Components below this share of a block's variance are rounding, not structure.
_ROUNDING = 1e-12
# How the columns of a block begin; all others are clinical.
BLOCK_PREFIXES = {"phenotype": "phenotype", "structure_": "structure", "XRKL": "structure"}


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """A block of many columns that becomes a few principal components.

    Args:
        block: Its name; its components share a prior scale.
        prefix: Columns of a design that start so belong to it.
        components: Principal components kept, at most.
        whole: Whether missing values are refused, as they are of an embedding.
    """

    block: str
    prefix: str
    components: int
    whole: bool = False

    def __post_init__(self) -> None:
        """Check the number of components.

        Raises:
            InputError: It is below 1.
        """
        if self.components < 1:
            raise InputError(f"{self.block}_components: {self.components}; accepted is at least 1")


@dataclass(frozen=True, kw_only=True)
class Design:
    """A ready design of finite, about standardised columns.

    Args:
        frame: One row a joint.
        blocks: Column -> `clinical`, `structure`, `phenotype`, `embedding` or `morphometry`; a block shares
            a prior scale.
    """

    frame: pd.DataFrame
    blocks: dict[str, str]


def _standardised(x: Floats, fit: np.ndarray) -> tuple[Floats, np.ndarray]:
    mean, sd = x[fit].mean(axis=0), x[fit].std(axis=0)
    keep = sd > 1e-12
    return (x[:, keep] - mean[keep]) / sd[keep], keep


def prepare_design(
    raw: pd.DataFrame, fit_rows: np.ndarray, *, reductions: Sequence[Reduction] = ()
) -> Design:
    """Impute, standardise and reduce.

    A missing value takes the median of the fitting rows and an indicator column `NAME_missing`. Blocks
    that are reduced become principal components, each scaled to unit variance; where such a block may
    have gaps, they take the median too, and one column `PREFIXmissing` has the share of a row's gaps.

    Args:
        raw: One row a joint, numeric columns, NaN where missing.
        fit_rows: Which rows are of fitting subjects, shape (n,); all is learnt from them alone.
        reductions: Blocks that are reduced.

    Returns:
        The design.

    Raises:
        InputError: For a column that is not numeric, a whole block with missing values, or a block of
            which nothing is known or nothing varies in the fitting rows.
    """
    other = [c for c in raw.columns if not pd.api.types.is_numeric_dtype(raw[c])]
    if other:
        raise InputError(
            f"design: column {other[0]!r} is {raw[other[0]].dtype}; accepted are numbers"
        )
    columns: dict[str, Floats] = {}
    blocks: dict[str, str] = {}
    parts = {r: [c for c in raw.columns if str(c).startswith(r.prefix)] for r in reductions}
    reduced = {c for part in parts.values() for c in part}
    for name in (str(c) for c in raw.columns if c not in reduced):
        for column, values in _single(raw[name], fit_rows).items():
            columns[column] = values
            blocks[column] = block_of(name)
    for reduction, part in parts.items():
        if part:
            found = _components(raw[part], fit_rows, reduction)
            columns |= found
            blocks |= dict.fromkeys(found, reduction.block)
    return Design(frame=pd.DataFrame(columns, index=raw.index.astype(str)), blocks=blocks)


def block_of(name: str) -> str:
    """The block of a column that is not reduced, by how its name begins."""
    found = [block for prefix, block in BLOCK_PREFIXES.items() if name.startswith(prefix)]
    return found[0] if found else "clinical"


def _single(column: pd.Series, fit_rows: np.ndarray) -> dict[str, Floats]:
    """A variable without gaps, and where they were; what does not vary is left out."""
    x = column.to_numpy(dtype=float)
    missing = ~np.isfinite(x)
    if missing[fit_rows].all():
        logger.warning("design: %s is missing in every fitting joint; left out", column.name)
        return {}
    parts = {str(column.name): np.where(missing, np.median(x[fit_rows & ~missing]), x)}
    if missing[fit_rows].any():
        parts[f"{column.name}_missing"] = missing.astype(float)
    found = {}
    for name, values in parts.items():
        z, keep = _standardised(values[:, None], fit_rows)
        if keep[0]:
            found[name] = z[:, 0]
    return found


def _components(
    part: pd.DataFrame, fit_rows: np.ndarray, reduction: Reduction
) -> dict[str, Floats]:
    x = part.to_numpy(dtype=float)
    missing = ~np.isfinite(x)
    found: dict[str, Floats] = {}
    if missing.any():
        if reduction.whole:
            raise InputError(
                f"design: {part.columns[0]} has missing values; accepted is a whole {reduction.block}"
            )
        x, share = _filled(x, missing, fit_rows, reduction.block)
        z, keep = _standardised(share[:, None], fit_rows)
        if keep[0]:
            found[f"{reduction.prefix}missing"] = z[:, 0]
    x, _ = _standardised(x, fit_rows)
    k = min(reduction.components, np.shape(x)[1], int(fit_rows.sum()) - 1)
    if k < 1:
        raise InputError(f"design: nothing of the {reduction.block} varies over the fitting joints")
    pca = PCA(n_components=k, svd_solver="full").fit(x[fit_rows])
    real = pca.explained_variance_ratio_ > _ROUNDING
    scores, _ = _standardised(pca.transform(x)[:, real], fit_rows)
    return {f"{reduction.prefix}pc{i + 1}": column for i, column in enumerate(scores.T)} | found


def _filled(
    x: Floats, missing: np.ndarray, fit_rows: np.ndarray, block: str
) -> tuple[Floats, Floats]:
    """Columns known in fitting rows, gaps filled with their median there; and each row's share of gaps."""
    known = ~missing[fit_rows].all(axis=0)
    if not known.any():
        raise InputError(f"design: the {block} is missing in every fitting joint")
    x, missing = x[:, known], missing[:, known]
    median = np.nanmedian(np.where(missing, np.nan, x)[fit_rows], axis=0)
    return np.where(missing, median, x), missing.mean(axis=1)
