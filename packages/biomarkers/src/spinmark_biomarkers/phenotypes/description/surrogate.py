"""How well the phenotype of a joint could be guessed without its scan, and from what.

A small classifier is fitted to the tables of training subjects; which one, a grouped
cross-validation among them decides. It is scored on subjects that neither it nor the encoder saw.
What a group of variables is worth is what the score loses when whole subjects exchange their
values of all of them at once (permutation importance, Breiman 2001): variables that say the same
are permuted together, so that none of them hides behind the others. A surrogate describes; it
tests nothing.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval
from spinmark_biomarkers.evaluation.subject_scores import counts_of_resamples
from spinmark_biomarkers.phenotypes.description.exchange import exchange
from spinmark_biomarkers.phenotypes.description.variables import Variable, read_variables

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]
FOLDS = 5
FEWEST_SUBJECTS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Surrogate:
    """A guess at phenotypes from tables.

    Args:
        model: Which classifier the cross-validation chose.
        validation: Its balanced accuracy there, and that of the others, by name.
        score: Balanced accuracy on scored subjects.
        chance: What a guess without any variable gets.
        recall: Share of each phenotype's scored joints that are guessed right.
        importance: `group`, `variables` (how many), `loss` of balanced accuracy, `low`, `high`.
        n_fitted: Fitted scans.
        converged: Whether every fit of the chosen classifier ended by itself.
    """

    model: str
    validation: dict[str, float]
    score: Interval
    chance: float
    recall: dict[int, float]
    importance: pd.DataFrame
    n_fitted: int
    converged: bool

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "model": self.model,
            "validation": self.validation,
            "balanced_accuracy": self.score.to_dict(),
            "chance": self.chance,
            "recall": {str(key): value for key, value in self.recall.items()},
            "importance": self.importance.to_dict("records"),
            "n_fitted": self.n_fitted,
            "converged": self.converged,
        }


def matrix(variables: list[Variable]) -> tuple[Floats, list[str]]:
    """Return numbers as they are and an indicator a category, and which variable each column is of.

    Args:
        variables: As `variables.read_variables` yields them.

    Returns:
        Shape (n, column), NaN where missing; a name a column.
    """
    columns, names = [], []
    for one in variables:
        known = np.isfinite(one.values)
        if one.kind == "nominal":
            for code in np.unique(one.values[known]):
                columns.append(np.where(known, one.values == code, np.nan))
                names.append(one.name)
        else:
            columns.append(one.values)
            names.append(one.name)
    return np.column_stack(columns) if columns else np.empty((0, 0)), names


def _candidates(seed: int) -> dict[str, Any]:
    def linear(strength: float) -> Any:
        return make_pipeline(
            SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
            StandardScaler(),
            LogisticRegression(C=strength, max_iter=3000, class_weight="balanced"),
        )

    boosted = HistGradientBoostingClassifier(
        max_iter=60,
        max_leaf_nodes=8,
        learning_rate=0.1,
        l2_regularization=1.0,
        early_stopping=False,
        class_weight="balanced",
        random_state=seed,
    )
    return {
        "logistic regression, strongly shrunk": linear(0.003),
        "logistic regression": linear(0.1),
        "boosted trees": boosted,
    }


def _fit(model: Any, x: Floats, y: Ints) -> bool:
    """Fit, and tell whether the iteration ended by itself."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(x, y)
    return not any(issubclass(one.category, ConvergenceWarning) for one in caught)


def balanced_accuracy(truth: Ints, right: Floats, subjects: Ints, weights: Floats) -> Floats:
    """Return the mean share of right answers over the classes, for counts of subjects.

    Args:
        truth: Class of each row, shape (n,).
        right: Whether its answer is right, or how often, for several answers, shape (n, answers).
        subjects: Codes from 0, shape (n,).
        weights: How often each subject counts, shape (draws, subject).

    Returns:
        Shape (draws, answers); classes that a draw lacks do not count.
    """
    shares = []
    for one in np.unique(truth):
        rows = truth == one
        hits = np.zeros((weights.shape[1], right.shape[1]))
        np.add.at(hits, subjects[rows], right[rows])
        count = weights @ np.bincount(subjects[rows], minlength=weights.shape[1])
        share = (weights @ hits) / np.maximum(count, 1)[:, None]
        shares.append(np.where(count[:, None] > 0, share, np.nan))
    return np.asarray(np.nanmean(np.stack(shares), axis=0))


def fit_surrogate(
    labels: npt.ArrayLike,
    variables: pd.DataFrame,
    dictionary: pd.DataFrame,
    subjects: npt.ArrayLike,
    *,
    fitted: npt.ArrayLike,
    scored: npt.ArrayLike,
    repeats: int = 20,
    draws: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> Surrogate:
    """Fit a surrogate on some subjects and score it on others.

    Args:
        labels: Phenotype of each scan, shape (n,).
        variables: A row a scan, a column a variable; its index (scan_id) fixes the order of rows.
        dictionary: As for `enrichment.describe_groups`; its column `group` says what is permuted
            together.
        subjects: Subject of each scan, shape (n,).
        fitted: Scans to fit on, shape (n,).
        scored: Scans to score on, of other subjects, shape (n,).
        repeats: Permutations of each group.
        draws: Bootstrap samples of subjects behind the intervals.
        seed: Seed of all of it.
        progress: Called with (done, total).

    Raises:
        InputError: Fitted and scored scans share a subject, either has too few subjects or one
            phenotype, or no variable varies.
    """
    people = np.asarray(subjects, dtype=object).astype(str)
    order = np.lexsort((variables.index.astype(str).to_numpy(), people))
    people, y = people[order], np.asarray(labels)[order].astype(np.int64)
    fit, score = (np.asarray(mask, dtype=bool)[order] for mask in (fitted, scored))
    _check(people, y, fit, score)
    given = list(read_variables(variables.iloc[order], dictionary))
    x, names = matrix(given)
    varied = [
        bool(np.unique(x[fit, c][np.isfinite(x[fit, c])]).size > 1) for c in range(x.shape[1])
    ]
    if not any(varied):
        raise InputError("variables: none varies among fitted scans; accepted is at least one")
    x, names = x[:, varied], [name for name, kept in zip(names, varied, strict=True) if kept]
    with threadpool_limits(limits=1):
        model, name, validation, converged = _choose(x[fit], y[fit], people[fit], seed)
        return _score(
            model,
            name,
            validation,
            converged,
            (x[score], y[score], people[score]),
            _groups(given, names),
            int(fit.sum()),
            repeats,
            draws,
            seed,
            progress,
        )


def _check(people: npt.NDArray[np.str_], y: Ints, fit: Bools, score: Bools) -> None:
    shared = set(people[fit]) & set(people[score])
    if shared:
        raise InputError(
            f"surrogate: {len(shared)} subjects are fitted on and scored, such as {min(shared)}; accepted are "
            "different ones"
        )
    for what, mask in (("fitted", fit), ("scored", score)):
        n, k = len(set(people[mask])), np.unique(y[mask]).size
        if n < FEWEST_SUBJECTS or k < 2:
            raise InputError(
                f"surrogate: {n} {what} subjects of {k} phenotypes; accepted are at least "
                f"{FEWEST_SUBJECTS} of 2"
            )


def _groups(given: list[Variable], names: list[str]) -> dict[str, tuple[Ints, int]]:
    """Columns and number of variables of each group; the role stands in where there is no group."""
    of = {one.name: one.group or one.role for one in given}
    groups: dict[str, tuple[Ints, int]] = {}
    for group in sorted({of[name] for name in names}):
        columns = np.array([c for c, name in enumerate(names) if of[name] == group], dtype=np.int64)
        groups[group] = (columns, len({names[c] for c in columns}))
    return groups


def _choose(
    x: Floats, y: Ints, people: npt.NDArray[np.str_], seed: int
) -> tuple[Any, str, dict[str, float], bool]:
    codes = np.unique(people, return_inverse=True)[1].astype(np.int64)
    validation: dict[str, float] = {}
    ended: dict[str, bool] = {}
    splits = list(GroupKFold(min(FOLDS, int(codes.max()) + 1)).split(x, y, codes))
    for name, model in _candidates(seed).items():
        right = np.zeros((len(y), 1))
        done = []
        for train, held in splits:
            done.append(_fit(model, x[train], y[train]))
            right[held, 0] = model.predict(x[held]) == y[held]
        one = np.ones((1, int(codes.max()) + 1))
        validation[name] = float(balanced_accuracy(y, right, codes, one)[0, 0])
        ended[name] = all(done)
    best = max(validation, key=lambda name: validation[name])
    model = _candidates(seed)[best]
    return model, best, validation, _fit(model, x, y) and ended[best]


def _score(
    model: Any,
    name: str,
    validation: dict[str, float],
    converged: bool,
    held: tuple[Floats, Ints, npt.NDArray[np.str_]],
    groups: dict[str, tuple[Ints, int]],
    n_fitted: int,
    repeats: int,
    draws: int,
    seed: int,
    progress: Progress | None,
) -> Surrogate:
    x, y, people = held
    codes = np.unique(people, return_inverse=True)[1].astype(np.int64)
    right = [(model.predict(x) == y).astype(np.float64)]
    for index, (columns, _) in enumerate(groups.values()):
        rng = np.random.default_rng([seed, index])
        kept = np.zeros(len(y))
        for _ in range(repeats):
            swapped = x.copy()
            rows = exchange(codes, np.arange(len(y)), rng)
            swapped[:, columns] = x[rows][:, columns]
            kept += model.predict(swapped) == y
        right.append(kept / repeats)
        if progress is not None:
            progress(index + 1, len(groups))
    answers = np.column_stack(right)
    subjects = int(codes.max()) + 1
    whole = balanced_accuracy(y, answers, codes, np.ones((1, subjects)))[0]
    drawn = balanced_accuracy(
        y, answers, codes, counts_of_resamples(subjects, draws=draws, seed=seed)
    )
    low, high = np.quantile(drawn[:, 0], [0.025, 0.975])
    lost = drawn[:, :1] - drawn[:, 1:]
    ends = np.quantile(lost, [0.025, 0.975], axis=0)
    importance = pd.DataFrame(
        {
            "group": list(groups),
            "variables": [count for _, count in groups.values()],
            "loss": whole[0] - whole[1:],
            "low": ends[0],
            "high": ends[1],
        }
    )
    importance = importance.sort_values(["loss", "group"], ascending=[False, True], kind="stable")
    classes = np.unique(y)
    return Surrogate(
        model=name,
        validation=validation,
        score=Interval(value=float(whole[0]), low=float(low), high=float(high), n=len(y)),
        chance=1 / classes.size,
        recall={int(c): float(right[0][y == c].mean()) for c in classes},
        importance=importance.reset_index(drop=True),
        n_fitted=n_fitted,
        converged=converged,
    )
