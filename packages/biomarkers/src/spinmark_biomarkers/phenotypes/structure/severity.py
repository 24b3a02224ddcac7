"""Is it more than severity? Groups that only say how bad a joint is are grades, and grades exist.

The labels are compared with the grade, then severity is taken out of the space and the whole question
is asked again. What is taken out of each component is its mean at each grade, and then the axis along
which those means differ the most: a grade is coarse, and within a grade joints still differ in severity.
The grade is a variable of structure and given by the caller. An outcome is not severity.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval, Rows, subject_bootstrap
from spinmark_biomarkers.evaluation.clusters import rand_index

if TYPE_CHECKING:
    from spinmark_biomarkers.phenotypes.structure.verdict import Judgement

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_GRADES = 10
"""More distinct values than this are cut at their deciles."""
NOTHING_LEFT = 0.05
"""Share of the variance below which nothing is left to cluster."""


@dataclass(frozen=True, kw_only=True)
class SeverityAnswer:
    """Whether the groups are more than severity.

    Args:
        answer: "more", "in part", "no more" or "nothing to ask".
        sentence: The same in a sentence.
        agreement: Adjusted Rand index of labels and grades.
        explained: Share of the severity's variance that the labels explain (eta squared).
        of_space: Share of the space's variance that the grades explain.
        left: Share of the space's variance that is left once severity is out.
        grades: Number of grades.
        before: Verdict on the space.
        after: Judgement of what is left; none where nothing is.
    """

    answer: str
    sentence: str
    agreement: Interval
    explained: Interval
    of_space: float
    left: float
    grades: int
    before: str
    after: "Judgement | None"

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for JSON."""
        return {
            "answer": self.answer,
            "sentence": self.sentence,
            "agreement": self.agreement.to_dict(),
            "explained": self.explained.to_dict(),
            "of_space": self.of_space,
            "left": self.left,
            "grades": self.grades,
            "before": self.before,
            "after": None if self.after is None else self.after.to_dict(),
        }


def check_severity(severity: npt.ArrayLike, rows: int) -> Floats:
    """Return severities as numbers.

    Raises:
        InputError: Of another length than the rows, not numbers, not finite, or all equal.
    """
    values = np.asarray(severity)
    if values.shape != (rows,):
        raise InputError(
            f"severity: shape {values.shape} with {rows} rows; accepted is one value a row"
        )
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"severity: {error}; accepted are numbers") from error
    bad = ~np.isfinite(numbers)
    if bad.any():
        raise InputError(
            f"severity: not finite in {int(bad.sum())} rows, the first {int(bad.argmax())}; "
            "accepted are finite numbers (leave out rows without a grade)"
        )
    if (numbers == numbers[0]).all():
        raise InputError(f"severity: {numbers[0]:g} in every row; accepted are differing values")
    return numbers


def grades_of(severity: Floats) -> Ints:
    """Return grades from 0: the distinct values, or tenths of the rows where there are many."""
    values, codes = np.unique(severity, return_inverse=True)
    if values.size <= MOST_GRADES:
        return codes.astype(np.int64)
    edges = np.unique(np.quantile(severity, np.linspace(0, 1, MOST_GRADES + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, severity), return_inverse=True)[1].astype(np.int64)


def without_severity(z: npt.ArrayLike, severity: npt.ArrayLike) -> Floats:
    """Take severity out of a space.

    Args:
        z: Rows, shape (n, component).
        severity: A value a row, shape (n,).

    Returns:
        Shape (n, component): the rows less the mean of their grade, and without the axis along which the
        grades' means differ the most.

    Raises:
        InputError: As `check_severity`.
    """
    rows = np.asarray(z, dtype=np.float64)
    grades = grades_of(check_severity(severity, len(rows)))
    means = _means(rows, grades)
    between = (means - rows.mean(axis=0))[grades]
    _, axes = np.linalg.eigh(between.T @ between)
    axis = axes[:, -1]
    left = rows - means[grades]
    return np.asarray(left - np.outer(left @ axis, axis))


def _means(rows: Floats, grades: Ints) -> Floats:
    counts = np.bincount(grades).astype(np.float64)
    return np.stack([np.bincount(grades, column) / counts for column in rows.T], axis=1)


def _eta_squared(values: Floats, labels: Ints) -> float:
    whole = float(((values - values.mean()) ** 2).sum())
    if whole == 0:
        return float("nan")
    groups = np.unique(labels, return_inverse=True)[1]
    means = np.bincount(groups, values) / np.bincount(groups)
    return float(((means[groups] - values.mean()) ** 2).sum()) / whole


def _answer(before: str, after: str, left: float) -> tuple[str, str]:
    if before == "clusters" and after == "clusters":
        return "more", "The groups are more than severity: clusters are left once it is taken out."
    if before == "clusters" and after == "continuum":
        return "in part", (
            "The groups are in part severity: structure is left once it is taken out "
            f"({left:.0%} of the variance), but no valleys on the borders of groups."
        )
    if before == "clusters":
        return "no more", (
            "The groups may be no more than severity: once it is taken out, what is left is "
            + ("next to nothing." if left < NOTHING_LEFT else "like a single Gaussian.")
        )
    if after == "clusters":
        return "more", (
            "Severity hid groups: the space has no clusters, and what is left once severity is taken "
            "out has."
        )
    if before == "none":
        return "nothing to ask", "There is no structure, so nothing that could be severity."
    if after == "none":
        return "no more", (
            "The continuum may be no more than severity: what is left once it is taken out is "
            + ("next to nothing." if left < NOTHING_LEFT else "like a single Gaussian.")
        )
    return "more", (
        "The continuum is more than severity: structure without groups is left once it is taken out "
        f"({left:.0%} of the variance)."
    )


def more_than_severity(
    z: npt.ArrayLike,
    labels: npt.ArrayLike,
    severity: npt.ArrayLike,
    subjects: npt.ArrayLike,
    *,
    before: str,
    judge: Callable[[Floats], "Judgement"],
    draws: int = 200,
    seed: int,
) -> SeverityAnswer:
    """Ask whether groups are more than severity.

    Args:
        z: Rows, shape (n, component).
        labels: The group of each, shape (n,).
        severity: The grade of each (Kellgren and Lawrence's, say), shape (n,); rows without one are
            left out by the caller.
        subjects: The subject of each, shape (n,).
        before: The verdict on `z`.
        judge: Judges what is left, as z was judged; it is given rows of shape (n, component).
        draws: Bootstrap samples of the subjects behind the intervals.
        seed: Seed.

    Raises:
        InputError: As `check_severity`; or labels of another length, or an unknown verdict.
    """
    rows = np.asarray(z, dtype=np.float64)
    values = check_severity(severity, len(rows))
    groups = np.asarray(labels)
    if groups.shape != (len(rows),):
        raise InputError(
            f"labels: shape {groups.shape} with {len(rows)} rows; accepted is one a row"
        )
    if before not in ("clusters", "continuum", "none"):
        raise InputError(f"before: '{before}'; accepted are clusters, continuum and none")
    groups = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    grades = grades_of(values)

    def rand(chosen: Rows) -> float:
        weights = np.bincount(chosen, minlength=len(rows)).astype(np.float64)
        return rand_index(groups, grades, weights)

    agreement = subject_bootstrap(rand, subjects, draws=draws, seed=seed)
    explained = subject_bootstrap(
        lambda chosen: _eta_squared(values[chosen], groups[chosen]),
        subjects,
        draws=draws,
        seed=seed,
    )
    whole = float(((rows - rows.mean(axis=0)) ** 2).sum())
    residual = without_severity(rows, values)
    within = rows - _means(rows, grades)[grades]
    left = float((residual**2).sum()) / whole if whole > 0 else 0.0
    after = judge(residual) if left >= NOTHING_LEFT else None
    answer, sentence = _answer(before, "none" if after is None else after.verdict, left)
    return SeverityAnswer(
        answer=answer,
        sentence=sentence,
        agreement=agreement,
        explained=explained,
        of_space=1 - float((within**2).sum()) / whole if whole > 0 else 0.0,
        left=left,
        grades=int(grades.max()) + 1,
        before=before,
        after=after,
    )
