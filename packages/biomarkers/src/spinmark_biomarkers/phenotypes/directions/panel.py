"""Whether an axis is a site, a scanner or a side in disguise."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.phenotypes.directions.parallel import exchange_columns

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# The square of the Cramer's V from which a phenotype is suspected.
SUSPECT = 0.09
BLOCK = 50


def eta_squared(scores: Floats, codes: Ints) -> Floats:
    """Share of the variance of each score that lies between categories.

    Args:
        scores: Shape (n, axis).
        codes: Whole numbers from 0, shape (n,).

    Returns:
        Shape (axis,); 0 where a score does not vary.
    """
    centred = scores - scores.mean(axis=0)
    counts = np.bincount(codes).astype(np.float64)
    sums = np.stack([np.bincount(codes, column) for column in centred.T], axis=1)
    between = (sums**2 / np.maximum(counts, 1)[:, None]).sum(axis=0)
    total = (centred**2).sum(axis=0)
    return np.asarray(np.where(total > 0, between / np.where(total > 0, total, 1.0), 0.0))


def _shuffled(codes: Ints, subjects: Ints, rng: np.random.Generator, *, within: bool) -> Ints:
    """Return a block of permutations, shape (n, BLOCK)."""
    if not within:
        tiled = np.repeat(codes[:, None].astype(np.float64), BLOCK, axis=1)
        return exchange_columns(tiled, subjects, rng).astype(np.int64)
    result = np.empty((codes.size, BLOCK), dtype=np.int64)
    order = np.argsort(subjects, kind="stable")
    for column in range(BLOCK):
        result[order, column] = codes[np.lexsort((rng.random(codes.size), subjects))]
    return result


def axis_panel(
    scores: Floats, scans: pd.DataFrame, *, permutations: int = 500, seed: int
) -> list[dict[str, object]]:
    """Association of each axis with site, scanner and side.

    Args:
        scores: Shape (n, axis).
        scans: `subject_id`, `site`, `scanner`, `laterality`, a row a scan.
        permutations: Permutations behind each p value: whole subjects exchange site and scanner, each
            subject's own scans exchange the side.
        seed: Seed.

    Returns:
        For each axis and each of the three `axis`, `variable`, `categories`, `eta_squared`, `p`, `flag` and
        `n`. Flags as for phenotypes: "artefact suspected" for eta squared of at least .09 (a correlation of
        .3) with p of at most .05, "associated" for less with such a p, "not associated" otherwise and "one
        category" where nothing can be asked.
    """
    subjects = np.unique(scans["subject_id"].astype(str), return_inverse=True)[1].astype(np.int64)
    panel: list[dict[str, object]] = []
    for index, variable in enumerate(("site", "scanner", "laterality")):
        names, found = np.unique(scans[variable].astype(str), return_inverse=True)
        codes = found.astype(np.int64)
        observed = eta_squared(scores, codes)
        p = np.ones(len(observed))
        if names.size > 1:
            rng = np.random.default_rng([seed, index])
            reached = np.zeros(len(observed))
            for done in range(0, permutations, BLOCK):
                block = _shuffled(codes, subjects, rng, within=variable == "laterality")
                for column in block.T[: permutations - done]:
                    # A little slack: a permutation that changes nothing may differ in its last bit.
                    reached += eta_squared(scores, column) >= observed - 1e-12
            p = (1 + reached) / (permutations + 1)
        panel += [
            {
                "axis": axis,
                "variable": variable,
                "categories": int(names.size),
                "eta_squared": float(observed[axis]),
                "p": float(p[axis]),
                "flag": _flag(float(observed[axis]), float(p[axis]), names.size),
                "n": len(scores),
            }
            for axis in range(len(observed))
        ]
    return sorted(panel, key=lambda row: int(str(row["axis"])))


def _flag(eta: float, p: float, categories: int) -> str:
    if categories < 2:
        return "one category"
    if p > 0.05:
        return "not associated"
    return "artefact suspected" if eta >= SUSPECT else "associated"
