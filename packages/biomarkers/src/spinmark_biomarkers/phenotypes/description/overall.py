"""How much of a variable the phenotypes explain between them: eta squared, or Cramer's V."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.description.contingency import (
    association,
    corrected,
    indicators,
)
from spinmark_biomarkers.phenotypes.description.discovery_rate import benjamini_hochberg
from spinmark_biomarkers.phenotypes.description.regression import starts_of
from spinmark_biomarkers.phenotypes.description.variables import Variable, read_variables

Ints = npt.NDArray[np.int64]


def across_phenotypes(
    labels: npt.ArrayLike,
    variables: pd.DataFrame,
    dictionary: pd.DataFrame,
    subjects: npt.ArrayLike,
) -> pd.DataFrame:
    """Measure how far each variable differs over all phenotypes at once.

    Args:
        labels: Phenotype of each scan, shape (n,).
        variables: A row a scan, a column a variable; its index (scan_id) fixes the order of rows.
        dictionary: As for `enrichment.describe_groups`.
        subjects: Subject of each scan, shape (n,).

    Returns:
        A row a variable: `variable`, `label`, `role`, `kind`, `group`, `n`, `effect_name`
        (`eta squared` or `Cramer's V`, both corrected for what chance gives), `effect`, `low`,
        `high`, `p`, `q`, `used`, `note`.

    Raises:
        InputError: Lengths differ, or a variable cannot describe phenotypes.
    """
    people = np.asarray(subjects, dtype=object).astype(str)
    codes = np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.int64)
    if not codes.size == len(variables) == people.size:
        raise InputError(
            f"labels, variables and subjects: {codes.size}, {len(variables)} and {people.size} rows; "
            "accepted is one number of rows"
        )
    order = np.lexsort((variables.index.astype(str).to_numpy(), people))
    subject = np.unique(people[order], return_inverse=True)[1].astype(np.int64)
    rows = [
        _row(one, codes[order], subject)
        for one in read_variables(variables.iloc[order], dictionary)
    ]
    frame = pd.DataFrame(rows)
    frame["q"] = benjamini_hochberg(frame["p"].to_numpy(np.float64))
    return frame


def _row(variable: Variable, labels: Ints, subjects: Ints) -> dict[str, object]:
    rows = np.flatnonzero(np.isfinite(variable.values))
    number = variable.kind in ("continuous", "ordinal")
    found = dict.fromkeys(("effect", "low", "high", "p"), float("nan"))
    values, groups = variable.values[rows], labels[rows]
    note = variable.note
    if rows.size == 0:
        note = "no values"
    elif np.ptp(values) == 0:
        note = "constant"
    elif np.unique(groups).size < 2:
        note = "of one phenotype"
    else:
        found = _effect(values, groups, starts_of(subjects[rows]), number)
    if variable.used:
        found["p"] = float("nan")
    return {
        "variable": variable.name,
        "label": variable.label,
        "role": variable.role,
        "kind": variable.kind,
        "group": variable.group,
        "n": rows.size,
        "effect_name": "eta squared" if number else "Cramer's V",
        **found,
        "q": float("nan"),
        "used": variable.used,
        "note": note,
    }


def _effect(
    values: npt.NDArray[np.float64], groups: Ints, starts: Ints, number: bool
) -> dict[str, float]:
    columns = values[:, None] if number else indicators(values.astype(np.int64))
    marks = indicators(groups)
    found = association(marks - marks.mean(axis=0), columns - columns.mean(axis=0), starts)
    phenotypes, categories = marks.shape[1] + 1, 2 if number else columns.shape[1] + 1
    effect = corrected(
        found.chi2, len(values), phenotypes, categories, design_effect=found.design_effect
    )
    smaller = min(phenotypes, categories) - 1
    low, high = (min(1.0, bound / smaller) for bound in (found.low, found.high))
    if number:
        return {"effect": effect**2, "low": low, "high": high, "p": found.p}
    return {"effect": effect, "low": low**0.5, "high": high**0.5, "p": found.p}
