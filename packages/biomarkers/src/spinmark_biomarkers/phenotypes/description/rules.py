"""A rule of thumb for each phenotype: the branches of a shallow tree, in words.

A tree a phenotype (Breiman et al. 1984), the phenotype against all others, is fitted on some
subjects, with missing cells at the median; each branch says how many joints of other subjects
follow it, and how many of those are of its phenotype.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.description.variables import Variable, read_variables

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One branch of a phenotype's tree.

    Args:
        phenotype: What it says.
        words: Its conditions, joined by "and".
        n: Scored joints that follow it.
        share: Which part of them is of the phenotype; NaN where there are none.
        base: Which part of all scored joints is.
        found: Which part of the phenotype's scored joints follows it; NaN where there are none.
    """

    phenotype: int
    words: str
    n: int
    share: float
    base: float
    found: float

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON, which has no NaN."""
        numbers = {"share": self.share, "found": self.found}
        return asdict(self) | {k: None if np.isnan(v) else v for k, v in numbers.items()}

    def __str__(self) -> str:
        if self.n == 0:
            return f"{self.words}: phenotype {self.phenotype} (no scored joint follows it)"
        reach = "" if np.isnan(self.found) else f"; it finds {100 * self.found:.0f} % of them"
        return (
            f"{self.words}: phenotype {self.phenotype}, {100 * self.share:.0f} % of {self.n} joints "
            f"({100 * self.base:.0f} % of all){reach}"
        )


def fit_rules(
    labels: npt.ArrayLike,
    variables: pd.DataFrame,
    dictionary: pd.DataFrame,
    subjects: npt.ArrayLike,
    *,
    fitted: npt.ArrayLike,
    scored: npt.ArrayLike,
    depth: int = 3,
    most: int = 2,
    seed: int = 0,
) -> list[Rule]:
    """Return the branches that speak for each phenotype, those that find most of it first.

    Args:
        labels: Phenotype of each scan, shape (n,).
        variables: A row a scan, a column a variable; its index (scan_id) fixes the order of rows.
        dictionary: As for `enrichment.describe_groups`. Nominal variables of more than two values
            are left out: a threshold on codes means nothing.
        subjects: Subject of each scan, shape (n,).
        fitted: Scans to fit on, shape (n,).
        scored: Scans to count, of other subjects, shape (n,).
        depth: Conditions of a rule, at most.
        most: Rules of a phenotype, at most.
        seed: Decides between equally good conditions.

    Raises:
        InputError: `depth` or `most` is below 1, or no variable is known of fitted scans.
    """
    for name, number in (("depth", depth), ("most", most)):
        if number < 1:
            raise InputError(f"{name}: {number}; accepted is a whole number of at least 1")
    people = np.asarray(subjects, dtype=object).astype(str)
    order = np.lexsort((variables.index.astype(str).to_numpy(), people))
    y = np.asarray(labels)[order].astype(np.int64)
    fit, score = (np.asarray(mask, dtype=bool)[order] for mask in (fitted, scored))
    given = [
        one
        for one in read_variables(variables.iloc[order], dictionary)
        if one.kind != "nominal" and np.isfinite(one.values[fit]).any()
    ]
    if not given:
        raise InputError("rules: no variable is known of fitted scans; accepted is at least one")
    x = np.column_stack([_filled(one, fit) for one in given])
    rules: list[Rule] = []
    with threadpool_limits(limits=1):
        for phenotype in np.unique(y[fit]).tolist():
            own = (y == phenotype).astype(np.int64)
            rules += _rules_of(phenotype, own, x, given, fit, score, depth, seed)[:most]
    return rules


def _rules_of(
    phenotype: int,
    own: Ints,
    x: Floats,
    given: list[Variable],
    fit: npt.NDArray[np.bool_],
    score: npt.NDArray[np.bool_],
    depth: int,
    seed: int,
) -> list[Rule]:
    least = max(5, round(0.01 * int(fit.sum())))
    tree = DecisionTreeClassifier(
        max_depth=depth,
        min_samples_leaf=least,
        # Rounding leaves a pure leaf impure by a last bit, and splits it.
        min_impurity_decrease=1e-6,
        class_weight="balanced",
        random_state=seed,
    ).fit(x[fit], own[fit])
    where = tree.apply(x)
    base = float(own[score].mean()) if score.any() else float("nan")
    rules = []
    for leaf, words in _branches(tree.tree_, given, x):
        if tree.classes_.size < 2 or tree.tree_.value[leaf][0, 1] <= tree.tree_.value[leaf][0, 0]:
            continue
        inside = own[score & (where == leaf)]
        reach = int(own[fit & (where == leaf)].sum())
        rule = Rule(
            phenotype=int(phenotype),
            words=words,
            n=inside.size,
            share=float(inside.mean()) if inside.size else float("nan"),
            base=base,
            found=float(inside.sum() / own[score].sum()) if own[score].any() else float("nan"),
        )
        rules.append((reach, rule))
    rules.sort(key=lambda pair: (-pair[0], pair[1].words))
    return [rule for _, rule in rules]


def _filled(variable: Variable, fit: npt.NDArray[np.bool_]) -> Floats:
    known = np.isfinite(variable.values)
    return np.where(known, variable.values, np.median(variable.values[known & fit]))


def _branches(tree: Any, given: list[Variable], x: Floats) -> list[tuple[int, str]]:
    """Each leaf and its conditions, the bounds on one variable said once."""
    found: list[tuple[int, str]] = []

    def walk(node: int, bounds: dict[int, tuple[float, float]]) -> None:
        if tree.children_left[node] < 0:
            words = [_words(given[c], low, high, x[:, c]) for c, (low, high) in bounds.items()]
            found.append((node, " and ".join(words) if words else "any joint"))
            return
        column, cut = int(tree.feature[node]), float(tree.threshold[node])
        low, high = bounds.get(column, (-np.inf, np.inf))
        walk(int(tree.children_left[node]), {**bounds, column: (low, min(high, cut))})
        walk(int(tree.children_right[node]), {**bounds, column: (max(low, cut), high)})

    walk(0, {})
    return found


def _words(variable: Variable, low: float, high: float, values: Floats) -> str:
    """Say that a variable lies above `low` and up to `high`."""
    name = variable.label.partition(" (")[0]
    if variable.kind == "binary":
        level = variable.level or "1"
        return f"{name} is {level}" if low > 0 else f"{name} is not {level}"
    whole = bool((np.unique(values) % 1 == 0).all())
    if whole:
        least, most = np.floor(low) + 1, np.floor(high)
        if least == most:
            return f"{name} = {least:.0f}"
        said = [f">= {least:.0f}"] if np.isfinite(low) else []
        said += [f"<= {most:.0f}"] if np.isfinite(high) else []
    else:
        said = [f"> {low:.3g}"] if np.isfinite(low) else []
        said += [f"<= {high:.3g}"] if np.isfinite(high) else []
    return f"{name} {' and '.join(said)}"
