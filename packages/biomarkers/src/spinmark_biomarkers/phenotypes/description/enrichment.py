"""What a phenotype's members have more of than others, or what goes with an axis.

Each variable is compared between the members of a phenotype and all other joints: a standardised
difference for numbers and grades, an odds ratio for two classes, Cramer's V for more. Along an
axis it is the standardised slope (without adjustment, Pearson's correlation), the odds ratio for
one standard deviation of the axis, and the root of the correlation ratio. Intervals and p values
take people, not joints, as the unit: the jackknife over subjects with Student's law, its degrees
of freedom from the effective number of subjects (Carter, Schnepel and Steigerwald 2017).

A variable that the encoder learnt from is shown at most: a test of what went in is no test
(`used`, without p values).
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.description.adjustment import Confounders
from spinmark_biomarkers.phenotypes.description.discovery_rate import with_rates
from spinmark_biomarkers.phenotypes.description.effects import MISSING, Predictor, effect_of
from spinmark_biomarkers.phenotypes.description.variables import Variable, read_variables

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def describe_groups(
    labels: npt.ArrayLike,
    variables: pd.DataFrame,
    dictionary: pd.DataFrame,
    subjects: npt.ArrayLike,
    *,
    adjust: pd.DataFrame | None = None,
    draws: int = 1999,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the members of each phenotype with all other joints.

    Args:
        labels: Phenotype of each scan, whole numbers, shape (n,).
        variables: A row a scan, a column a variable, NaN where missing; its index (scan_id) fixes
            the order of rows.
        dictionary: `variable`, `kind`, `role`, and where there are `label`, `group`, `codes` and
            `used` (whether the encoder, the teacher or the clusterer learnt from it).
        subjects: Subject of each scan, shape (n,).
        adjust: Confounders, a row a scan; none for no adjustment.
        draws: Permutations of whole subjects behind the p value of a sparse table.
        seed: Seed of the permutations.

    Returns:
        A row a phenotype and variable: `phenotype`, `variable`, `label`, `role`, `kind`, `group`,
        `level` (what an odds ratio is the odds of), `n`, `n_missing`, `n_subjects`, `n_members`
        (scans), `members` and `others` (mean or share), `effect_name`, `effect`, `low`, `high`,
        `p`, `q`, `adjusted_n`, `adjusted_effect`, `adjusted_low`, `adjusted_high`, `adjusted_p`,
        `adjusted_q`, `used`, `note`. Standardised differences are in standard deviations within
        the two groups; the adjusted one by the same deviation.

    Raises:
        InputError: Lengths differ, there are fewer than two phenotypes, or a variable cannot
            describe one (`variables.check_dictionary`).
    """
    codes = np.asarray(labels)
    found = np.unique(codes)
    if found.size < 2:
        raise InputError(f"labels: {found.size} phenotypes; accepted are at least 2, to compare")
    parts = []
    for label in found.tolist():
        frame = _describe(
            (codes == label).astype(np.float64),
            True,
            variables,
            dictionary,
            subjects,
            adjust,
            draws,
            seed,
        )
        frame.insert(0, "phenotype", int(label))
        parts.append(frame)
    return with_rates(pd.concat(parts, ignore_index=True))


def describe_axis(
    score: npt.ArrayLike,
    variables: pd.DataFrame,
    dictionary: pd.DataFrame,
    subjects: npt.ArrayLike,
    *,
    adjust: pd.DataFrame | None = None,
    draws: int = 1999,
    seed: int = 0,
) -> pd.DataFrame:
    """Describe a continuous axis by what goes with it.

    Args:
        score: Score of each scan along the axis, finite, shape (n,); a Series lends the axis its
            name.
        variables: As for `describe_groups`.
        dictionary: As for `describe_groups`.
        subjects: As for `describe_groups`.
        adjust: As for `describe_groups`.
        draws: As for `describe_groups`.
        seed: As for `describe_groups`.

    Returns:
        As `describe_groups`, with `axis` in the place of `phenotype`, and without `n_members`,
        `members` and `others`. False discovery rates are over this axis; join the tables of
        several and call `discovery_rate.with_rates`.

    Raises:
        InputError: As `describe_groups`, or a score that is constant or not finite.
    """
    values = np.asarray(score, dtype=np.float64)
    if not np.isfinite(values).all() or values.size == 0 or np.ptp(values) == 0:
        raise InputError("score: constant or not finite; accepted are finite numbers that differ")
    values = (values - values.mean()) / values.std()
    frame = _describe(values, False, variables, dictionary, subjects, adjust, draws, seed)
    name = getattr(score, "name", None)
    frame.insert(0, "axis", "axis" if name is None else str(name))
    return with_rates(frame.drop(columns=["n_members", "members", "others"]))


def _describe(
    values: Floats,
    groups: bool,
    variables: pd.DataFrame,
    dictionary: pd.DataFrame,
    subjects: npt.ArrayLike,
    adjust: pd.DataFrame | None,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    people = np.asarray(subjects, dtype=object).astype(str)
    if not len(values) == len(variables) == people.size:
        raise InputError(
            f"labels, variables and subjects: {len(values)}, {len(variables)} and {people.size} rows; "
            "accepted is one number of rows"
        )
    if draws < 99:
        raise InputError(f"draws: {draws}; accepted is at least 99")
    # The order of subjects, and of the index within them: sums in another order differ in their
    # last bit.
    order = np.lexsort((variables.index.astype(str).to_numpy(), people))
    codes = np.unique(people[order], return_inverse=True)[1].astype(np.int64)
    predictor = Predictor(
        values=values[order],
        groups=groups,
        confounders=Confounders.of(adjust, codes, order),
        draws=draws,
        seed=seed,
    )
    with threadpool_limits(limits=1):
        rows = [_row(one, predictor) for one in read_variables(variables.iloc[order], dictionary)]
    return pd.DataFrame(rows)


def _row(variable: Variable, predictor: Predictor) -> dict[str, object]:
    known = np.isfinite(variable.values)
    rows = np.flatnonzero(known)
    subjects = predictor.confounders.subjects
    names = predictor.confounders.without(variable.name)
    crude, note = effect_of(variable, predictor, rows, ())
    adjusted, more, adjusted_n = dict(MISSING), "", 0
    if names and np.isfinite(crude["effect"]):
        complete = rows[predictor.confounders.known(names)[rows]]
        adjusted_n = complete.size
        adjusted, more = effect_of(variable, predictor, complete, names)
    if variable.used:
        crude, adjusted = crude | {"p": np.nan}, adjusted | {"p": np.nan}
    inside, outside = _levels(variable, predictor, rows)
    said = [variable.note, note, f"adjusted: {more}" if more and more != note else ""]
    return {
        "variable": variable.name,
        "label": variable.label,
        "role": variable.role,
        "kind": variable.kind,
        "group": variable.group,
        "level": variable.level,
        "n": rows.size,
        "n_missing": int((~known).sum()),
        "n_subjects": int(np.unique(subjects[rows]).size),
        "n_members": int(predictor.values[rows].sum()) if predictor.groups else 0,
        "members": inside,
        "others": outside,
        "effect_name": _NAMES[predictor.groups][variable.kind],
        **{name: crude[name] for name in ("effect", "low", "high", "p")},
        "q": np.nan,
        "adjusted_n": adjusted_n,
        **{f"adjusted_{name}": adjusted[name] for name in ("effect", "low", "high", "p")},
        "adjusted_q": np.nan,
        "used": variable.used,
        "note": "; ".join(filter(None, said)),
    }


_NAMES = {
    True: {
        "continuous": "standardised difference",
        "ordinal": "standardised difference",
        "binary": "odds ratio",
        "nominal": "Cramer's V",
    },
    False: {
        "continuous": "standardised slope",
        "ordinal": "standardised slope",
        "binary": "odds ratio per SD",
        "nominal": "correlation ratio (root)",
    },
}


def _levels(variable: Variable, predictor: Predictor, rows: Ints) -> tuple[float, float]:
    """Mean or share among members and others; NaN where nothing can be averaged."""
    if not predictor.groups or variable.kind == "nominal":
        return np.nan, np.nan
    inside = predictor.values[rows] == 1
    values = variable.values[rows]
    return (
        float(values[inside].mean()) if inside.any() else np.nan,
        float(values[~inside].mean()) if (~inside).any() else np.nan,
    )
