"""What explains pain beyond the grade: an embedding, phenotypes, the other knee.

`explain_residual` is a ridge regression of the residual of `discordance.residual_pain`, scored on people it
was not fitted on. `within_person` asks the same of the difference between a person's two knees, where
whatever makes a person report much or little pain cancels (Neogi et al., BMJ 2009).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval, Rows, subject_bootstrap
from spinmark_biomarkers.survival.data import Floats
from spinmark_biomarkers.survival.discordance import subject_folds, values_of

ALPHAS = tuple(float(a) for a in np.logspace(-2, 5, 15))


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """How well something tells a residual of people it was not fitted on.

    Args:
        r2: Share of the variance explained, with its interval over subjects; below 0 is worse than the mean.
        predicted: Prediction for each row from folds without its subject, shape (n,).
        alphas: Penalty chosen in each fold.
    """

    r2: Interval
    predicted: Floats
    alphas: tuple[float, ...]


def _ridge_path(
    x: Floats, y: Floats, new: Floats, alphas: Sequence[float], intercept: bool
) -> Floats:
    """Predictions for new rows at each penalty, (alpha, m); columns on the scale of the fitting rows."""
    mean = x.mean(axis=0) if intercept else np.zeros(x.shape[1])
    level = float(y.mean()) if intercept else 0.0
    sd = np.sqrt(np.mean((x - mean) ** 2, axis=0))
    sd = np.where(sd > 0, sd, 1.0)
    u, s, vt = np.linalg.svd((x - mean) / sd, full_matrices=False)
    shrunk = s / (s**2 + np.asarray(alphas)[:, None])
    return np.asarray(level + (shrunk * (u.T @ (y - level))) @ (vt @ ((new - mean) / sd).T))


def _chosen(
    x: Floats,
    y: Floats,
    ids: npt.ArrayLike,
    alphas: Sequence[float],
    folds: int,
    seed: int,
    intercept: bool,
) -> float:
    """The penalty with the least squared error over folds of these subjects."""
    of, loss = subject_folds(ids, folds, seed), np.zeros(len(alphas))
    for k in range(folds):
        mine = of == k
        path = _ridge_path(x[~mine], y[~mine], x[mine], alphas, intercept)
        loss += np.sum((y[mine] - path) ** 2, axis=1)
    return float(alphas[int(np.argmin(loss))])


def _slopes(by: Floats, of: Floats) -> Floats:
    """Slopes through the origin of columns (n, q) on `by`; 0 where it does not vary."""
    below = float(by @ by)
    return np.asarray(by @ of / below) if below > 0 else np.zeros(of.shape[1])


def _r2(
    y: Floats, predicted: Floats, level: Floats, ids: npt.ArrayLike, draws: int, seed: int
) -> Interval:
    error, total = (y - predicted) ** 2, (y - level) ** 2

    def share(rows: Rows) -> float:
        below = float(total[rows].sum())
        return 1 - float(error[rows].sum()) / below if below > 0 else float("nan")

    return subject_bootstrap(share, ids, draws=draws, seed=seed)


def explain_residual(
    residual: npt.ArrayLike,
    features: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    *,
    alphas: Sequence[float] = ALPHAS,
    folds: int = 5,
    draws: int = 200,
    seed: int = 0,
) -> Explained:
    """Ridge regression of a residual on an embedding or on phenotypes, scored on people not fitted.

    Phenotypes go in as indicator columns. The features must not come from anything fitted on these
    subjects' pain.

    Args:
        residual: Of `residual_pain`, cross-fitted or of test rows, shape (n,).
        features: Shape (n, p).
        subject_ids: Subject of each row, shape (n,).
        alphas: Penalties, chosen within the fitting subjects.
        folds: Folds of subjects, outer and inner.
        draws: Bootstrap draws of subjects.
        seed: Seed of folds and draws.

    Returns:
        The share explained, about the mean of the fitting subjects.

    Raises:
        InputError: For a value that is not finite or too few subjects.
    """
    index = pd.RangeIndex(len(np.asarray(residual)))
    y, x = values_of("residual", residual, index), values_of("features", features, index)
    x = x.reshape(len(y), -1)
    ids, of = np.asarray(subject_ids).astype(str), subject_folds(subject_ids, folds, seed)
    predicted, level, chosen = np.empty(len(y)), np.empty(len(y)), []
    for k in range(folds):
        kept = of != k
        alpha = _chosen(x[kept], y[kept], ids[kept], alphas, folds, seed + 1, True)
        predicted[~kept] = _ridge_path(x[kept], y[kept], x[~kept], [alpha], True)[0]
        level[~kept] = y[kept].mean()
        chosen.append(alpha)
    return Explained(
        r2=_r2(y, predicted, level, ids, draws, seed), predicted=predicted, alphas=tuple(chosen)
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class WithinPerson:
    """What differs between a person's knees along with their pain.

    Args:
        people: People with two knees.
        kl_slope: Difference of pain for one grade of difference, with its interval over people.
        kl: Share of the squared difference of pain that grade explains in people not fitted.
        features: The same for grade and features together.
        gain: What features add to grade, both in the same draws.
    """

    people: int
    kl_slope: Interval
    kl: Interval
    features: Interval
    gain: Interval


def within_person(
    pain: npt.ArrayLike,
    kl: npt.ArrayLike,
    features: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    joint_ids: npt.ArrayLike,
    *,
    alphas: Sequence[float] = ALPHAS,
    folds: int = 5,
    draws: int = 200,
    seed: int = 0,
) -> WithinPerson:
    """Regress the difference of pain between knees on the differences of grade and of features.

    No intercept: which knee comes first must not matter. Shares are of the squared difference about 0.

    Args:
        pain: Shape (n,).
        kl: Shape (n,).
        features: Shape (n, p).
        subject_ids: Subject of each row, shape (n,).
        joint_ids: Joint of each row, shape (n,); people with one joint are left out.
        alphas: Penalties of the features, chosen within the fitting people.
        folds: Folds of people.
        draws: Bootstrap draws of people.
        seed: Seed.

    Returns:
        The shares.

    Raises:
        InputError: For a missing value, more than two rows of a person, or too few people with two knees.
    """
    joints = np.asarray(joint_ids).astype(str)
    index = pd.Index(joints)
    y, grade = values_of("pain", pain, index), values_of("kl", kl, index)
    x = values_of("features", features, index).reshape(len(y), -1)
    subjects, code = np.unique(np.asarray(subject_ids).astype(str), return_inverse=True)
    sizes = np.bincount(code)
    if (sizes > 2).any():
        raise InputError(
            f"within person: more than two rows of {subjects[sizes > 2][0]}; accepted is one "
            "a joint"
        )
    order = np.lexsort((joints, code))
    two = order[sizes[code[order]] == 2].reshape(-1, 2)
    who = subjects[code[two[:, 0]]] if len(two) else subjects[:0]

    def difference(values: Floats) -> Floats:
        return np.asarray(values[two[:, 0]] - values[two[:, 1]])

    dy, dk, dx = difference(y), difference(grade), difference(x)
    of = subject_folds(who, folds, seed)
    by_kl, by_both = np.empty(len(dy)), np.empty(len(dy))
    for k in range(folds):
        kept = of != k
        # The grade is not shrunk: features tell what it leaves, in the same folds.
        slopes = _slopes(dk[kept], np.column_stack([dy[kept], dx[kept]]))
        left, rest = dy - dk * slopes[0], dx - dk[:, None] * slopes[1:]
        alpha = _chosen(rest[kept], left[kept], who[kept], alphas, folds, seed + 1, False)
        by_kl[~kept] = dk[~kept] * slopes[0]
        by_both[~kept] = (
            by_kl[~kept] + _ridge_path(rest[kept], left[kept], rest[~kept], [alpha], False)[0]
        )
    none = np.zeros(len(dy))

    def slope(rows: Rows) -> float:
        return float(_slopes(dk[rows], dy[rows, None])[0]) if dk[rows].any() else float("nan")

    def gained(rows: Rows) -> float:
        below = float(dy[rows] @ dy[rows])
        more = np.sum((dy - by_kl)[rows] ** 2) - np.sum((dy - by_both)[rows] ** 2)
        return float(more) / below if below > 0 else float("nan")

    return WithinPerson(
        people=len(dy),
        kl_slope=subject_bootstrap(slope, who, draws=draws, seed=seed),
        kl=_r2(dy, by_kl, none, who, draws, seed),
        features=_r2(dy, by_both, none, who, draws, seed),
        gain=subject_bootstrap(gained, who, draws=draws, seed=seed),
    )
