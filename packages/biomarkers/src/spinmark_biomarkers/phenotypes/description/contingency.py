"""Association with categories where rows come in subjects.

Pearson's chi-squared counts every knee as a person of its own. Its mean and spread under
independence are taken from sums by subject instead, and its distribution is matched to these (Rao
and Scott 1984, second order). The same statistic serves a number against categories: then it is n
times the correlation ratio.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Association:
    """How far two blocks of columns go together.

    Args:
        chi2: Pearson's chi-squared, or n times the correlation ratio.
        df: Its degrees of freedom, were rows independent.
        design_effect: By how much the clustering in subjects inflates it under independence.
        p: P value with the clustering taken into account.
        low: Lower bound of chi2 / n less what chance adds.
        high: Upper bound of the same.
    """

    chi2: float
    df: int
    design_effect: float
    p: float
    low: float
    high: float


def indicators(codes: Ints) -> Floats:
    """Return an indicator of each category but the first that occurs, shape (n, categories - 1)."""
    return np.asarray(codes[:, None] == np.unique(codes)[None, 1:], dtype=np.float64)


def residual(columns: Floats, design: Floats) -> Floats:
    """Return what is left of columns once a design with its constant has explained what it can.

    Args:
        columns: Shape (n, a).
        design: Shape (n, b).
    """
    return np.asarray(columns - design @ np.linalg.lstsq(design, columns, rcond=None)[0])


def association(first: Floats, second: Floats, starts: Ints, *, level: float = 0.95) -> Association:
    """Test whether two blocks of columns go together.

    Args:
        first: Columns that are centred, or residuals of a design, shape (n, a).
        second: The same, shape (n, b).
        starts: Where each subject's rows begin.
        level: Coverage of the bounds.
    """
    n, subjects = len(first), len(starts)
    own = np.add.reduceat((first[:, :, None] * second[:, None, :]).reshape(n, -1), starts, axis=0)
    total = own.sum(axis=0)
    inverse = np.kron(_inverse(first.T @ first / n), _inverse(second.T @ second / n)) / n
    chi2 = max(float(total @ inverse @ total), 0.0)
    df = round(float(np.trace(inverse @ np.linalg.pinv(inverse, hermitian=True))))
    # Around what is expected under association, so that a strong one does not pass for clustering.
    centred = own - own.mean(axis=0)
    roots = np.linalg.eigvals(
        inverse @ (centred.T @ centred) * subjects / max(subjects - 1, 1)
    ).real
    mean, square = float(roots.sum()), float((roots**2).sum())
    if df == 0 or mean <= 0:
        return Association(chi2=chi2, df=df, design_effect=1.0, p=1.0, low=0.0, high=0.0)
    matched = mean**2 / square
    p = float(stats.f.sf(chi2 / mean, matched, matched * max(subjects - 1, 1)))
    effect = mean / df
    low, high = _noncentrality(chi2 / effect, df, level)
    return Association(
        chi2=chi2, df=df, design_effect=effect, p=p, low=low * effect / n, high=high * effect / n
    )


def _inverse(matrix: Floats) -> Floats:
    return np.asarray(np.linalg.pinv(matrix, rcond=1e-10, hermitian=True))


def _noncentrality(chi2: float, df: int, level: float) -> tuple[float, float]:
    """Bounds of the noncentrality of a chi-squared that was seen; 0 where none explains it."""
    tail = (1 - level) / 2

    def bound(probability: float) -> float:
        def gap(centre: float) -> float:
            return float(stats.ncx2.cdf(chi2, df, centre)) - probability

        if stats.chi2.cdf(chi2, df) <= probability:
            return 0.0
        top = chi2 + 10 * np.sqrt(chi2 + df) + 20
        return float(optimize.brentq(gap, 0.0, top))

    return bound(1 - tail), bound(tail)


def corrected(chi2: float, n: int, rows: int, columns: int, *, design_effect: float = 1.0) -> float:
    """Return Cramer's V of a chi-squared, corrected for bias (Bergsma 2013).

    Args:
        chi2: Pearson's chi-squared, or n times a correlation ratio.
        n: Rows.
        rows: Categories of the one; 2 for a number, where V is the root of the correlation ratio.
        columns: Categories of the other.
        design_effect: By how much clustering inflates what chance adds.
    """
    if n < 2 or min(rows, columns) < 2:
        return 0.0
    phi = max(0.0, chi2 / n - design_effect * (rows - 1) * (columns - 1) / (n - 1))
    smaller = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return float(min(1.0, np.sqrt(phi / smaller))) if smaller > 0 else 0.0
