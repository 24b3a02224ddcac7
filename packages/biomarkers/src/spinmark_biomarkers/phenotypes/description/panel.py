"""Whether phenotypes are a site, a scanner or a side in disguise, or the quality of a scan."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.phenotypes.description.exchange import exchange, shuffle_within
from spinmark_biomarkers.phenotypes.description.overall import across_phenotypes

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
        shuffle = shuffle_within if variable in WITHIN else exchange
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


def batch_panel(
    labels: npt.ArrayLike,
    scans: pd.DataFrame,
    measures: pd.DataFrame | None = None,
    *,
    permutations: int = 500,
    seed: int,
) -> pd.DataFrame:
    """Ask of everything that a scan was made with whether the phenotypes are made of it.

    Args:
        labels: Phenotype of each scan, shape (n,).
        scans: As for `artefact_panel`, and `visit`, `days` and `scan_id` where there are.
        measures: Numbers of each scan in the order of the scans, such as metrics of quality and
            spacings.
        permutations: Permutations behind the p values of site, scanner and side.
        seed: Seed of them.

    Returns:
        A row a variable: `variable`, `effect_name` (`Cramer's V`, or for a number the `correlation
        ratio`, the root of eta squared), `effect`, `p`, `flag` (as of `artefact_panel`) and `n`.
        Numbers and the visit are tested by the sums of subjects.
    """
    frame = pd.DataFrame(artefact_panel(labels, scans, permutations=permutations, seed=seed))
    frame = frame.rename(columns={"cramers_v": "effect"}).assign(effect_name="Cramer's V")
    columns: dict[str, tuple[str, npt.NDArray[np.object_]]] = {}
    if "visit" in scans.columns:
        columns["visit"] = ("nominal", scans["visit"].astype(str).to_numpy(dtype=object))
    if "days" in scans.columns:
        columns["days"] = ("continuous", scans["days"].to_numpy(dtype=object))
    if measures is not None:
        for name in measures.columns:
            columns[str(name)] = ("continuous", measures[name].to_numpy(dtype=object))
    if columns:
        table = pd.DataFrame({name: values for name, (_, values) in columns.items()})
        if "scan_id" in scans.columns:
            table.index = pd.Index(scans["scan_id"].to_numpy())
        dictionary = pd.DataFrame(
            {
                "variable": list(columns),
                "kind": [kind for kind, _ in columns.values()],
                "role": "administrative",
            }
        )
        more = across_phenotypes(labels, table, dictionary, scans["subject_id"].to_numpy())
        number = (more["effect_name"] == "eta squared").to_numpy()
        more["effect"] = more["effect"].astype(float) ** np.where(number, 0.5, 1.0)
        more["effect_name"] = np.where(number, "correlation ratio", "Cramer's V")
        more["flag"] = [_flag(row.effect, row.p, row.note) for row in more.itertuples()]
        frame = pd.concat([frame, more], ignore_index=True)
    return frame[["variable", "effect_name", "effect", "p", "flag", "n"]]


def _flag(effect: object, p: object, note: object) -> str:
    strength, chance = float(str(effect)), float(str(p))
    if not np.isfinite(chance):
        return {"constant": "one value"}.get(str(note), str(note))
    if chance > 0.05:
        return "not associated"
    return "artefact suspected" if strength >= 0.3 else "associated"
