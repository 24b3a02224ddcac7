"""Whether phenotypes are a site, a scanner or a side in disguise."""

import numpy as np
import numpy.typing as npt
import pandas as pd

Ints = npt.NDArray[np.int64]
# A side differs within a person, all others between persons.
WITHIN = ("laterality",)


def cramers_v(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Cramer's V with the bias correction of Bergsma (2013).

    Args:
        first: Categories, shape (n,).
        second: Categories, shape (n,).

    Returns:
        Between 0 (independent) and 1; 0 where either has a single category.
    """
    a, b = (np.unique(np.asarray(v), return_inverse=True)[1] for v in (first, second))
    r, c, n = int(a.max()) + 1, int(b.max()) + 1, a.size
    if min(r, c) < 2 or n < 2:
        return 0.0
    table = np.zeros((r, c))
    np.add.at(table, (a, b), 1)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / n
    phi = float(((table - expected) ** 2 / expected).sum()) / n
    phi = max(0.0, phi - (r - 1) * (c - 1) / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    smaller = min(rows, columns) - 1
    return float(min(1.0, np.sqrt(phi / smaller))) if smaller > 0 else 0.0


def _between(subjects: Ints, values: Ints, rng: np.random.Generator) -> Ints:
    """Hand each subject's block of values to another subject with as many rows."""
    order = np.argsort(subjects, kind="stable")
    counts = np.bincount(subjects)
    starts = np.cumsum(counts) - counts
    result = values.copy()
    for size in np.unique(counts[counts > 0]):
        members = np.flatnonzero(counts == size)
        rows = order[starts[members][:, None] + np.arange(size)]
        result[rows] = values[rows[rng.permutation(len(members))]]
    return result


def _within(subjects: Ints, values: Ints, rng: np.random.Generator) -> Ints:
    """Shuffle the values among each subject's own rows."""
    result = values.copy()
    source = np.lexsort((rng.random(values.size), subjects))
    result[np.argsort(subjects, kind="stable")] = values[source]
    return result


def artefact_panel(
    labels: npt.ArrayLike, scans: pd.DataFrame, *, permutations: int = 500, seed: int
) -> list[dict[str, object]]:
    """Association of the phenotypes with site, scanner and side.

    Args:
        labels: Phenotype of each scan, shape (n,).
        scans: `subject_id`, `site`, `scanner`, `laterality`, a row a scan.
        permutations: Permutations behind each p value: whole subjects exchange site and scanner,
            each subject's own scans exchange the side.
        seed: Seed.

    Returns:
        For each of the three `variable`, `categories`, `cramers_v`, `p`, `flag` and `n`; the flag
        is "artefact suspected" for V of at least .3, "associated" for a smaller V with p of at most
        .05, "not associated" otherwise and "one category" where nothing can be asked.
    """
    phenotype = np.asarray(labels)
    subjects = np.unique(scans["subject_id"].astype(str), return_inverse=True)[1].astype(np.int64)
    panel: list[dict[str, object]] = []
    for index, variable in enumerate(("site", "scanner", "laterality")):
        names, codes = np.unique(scans[variable].astype(str), return_inverse=True)
        codes = codes.astype(np.int64)
        observed = cramers_v(phenotype, codes)
        shuffle = _within if variable in WITHIN else _between
        if names.size < 2:
            p, flag = 1.0, "one category"
        else:
            rng = np.random.default_rng([seed, index])
            drawn = [
                cramers_v(phenotype, shuffle(subjects, codes, rng)) for _ in range(permutations)
            ]
            p = (1 + sum(d >= observed for d in drawn)) / (permutations + 1)
            associated = "associated" if p <= 0.05 else "not associated"
            flag = "artefact suspected" if observed >= 0.3 and p <= 0.05 else associated
        panel.append(
            {
                "variable": variable,
                "categories": int(names.size),
                "cramers_v": observed,
                "p": float(p),
                "flag": flag,
                "n": int(phenotype.size),
            }
        )
    return panel
