"""Linear and logistic models of rows that come in subjects, fitted without each subject in turn.

Two knees and many visits of a person are not independent. The jackknife over subjects respects
that, and with few subjects it is safer than the sandwich formula, which it comes close to with
many (MacKinnon, Nielsen and Webb 2023). A linear model is refitted exactly without each subject, a
logistic one by one step of Newton's. Logistic models carry Firth's penalty (1993), so that
estimates are finite where a variable separates the groups (Heinze and Schemper 2002).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_STEPS = 100
_TOLERANCE = 1e-8
_LONGEST = 5.0
# A pivot this much smaller than its column is a column that one subject held alone.
_PIVOT = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """Coefficients, with and without each subject.

    Args:
        beta: Shape (column,).
        left_out: The coefficients without each subject, shape (subject, column).
        covariance: What the model itself says, were rows independent, shape (column, column).
        converged: Whether the iteration ended; always for linear models.
    """

    beta: Floats
    left_out: Floats
    covariance: Floats
    converged: bool = True


def starts_of(subjects: Ints) -> Ints:
    """Return where each subject's rows begin.

    Args:
        subjects: A code a row, those of one subject beside each other, shape (n,).

    Raises:
        InputError: A subject's rows do not lie beside each other.
    """
    starts = np.flatnonzero(np.diff(subjects, prepend=subjects[:1] - 1))
    if np.unique(subjects).size != starts.size:
        raise InputError(
            "subjects: rows of one lie apart; accepted are rows in the order of subjects"
        )
    return starts.astype(np.int64)


def _sums(values: Floats, starts: Ints) -> Floats:
    """Sum rows by subject: (n, ...) to (subject, ...)."""
    return np.asarray(np.add.reduceat(values, starts, axis=0), dtype=np.float64)


def _solve(matrices: Floats, right: Floats) -> Floats:
    """Solve a stack of symmetric systems; where one is singular, the shortest solution.

    Args:
        matrices: Shape (m, p, p).
        right: Shape (m, p).
    """
    size = np.sqrt(np.maximum(np.einsum("mpp->mp", matrices), 1e-300))
    scaled = matrices / size[:, :, None] / size[:, None, :]
    smallest = np.linalg.eigvalsh(scaled)[:, 0]
    good = smallest > _PIVOT
    answer = np.empty_like(right)
    if good.any():
        answer[good] = np.linalg.solve(scaled[good], (right / size)[good][:, :, None])[:, :, 0]
    if not good.all():
        inverse = np.linalg.pinv(scaled[~good], rcond=_PIVOT, hermitian=True)
        answer[~good] = (inverse @ (right / size)[~good][:, :, None])[:, :, 0]
    return np.asarray(answer / size, dtype=np.float64)


def linear(x: Floats, y: Floats, starts: Ints) -> Fit:
    """Fit least squares, and again without each subject.

    Args:
        x: Design with its constant, shape (n, column).
        y: Response, shape (n,).
        starts: As `starts_of` returns them.
    """
    gram, moment = x.T @ x, x.T @ y
    own_gram = _sums(x[:, :, None] * x[:, None, :], starts)
    own_moment = _sums(x * y[:, None], starts)
    beta = _solve(gram[None], moment[None])[0]
    left_out = _solve(gram - own_gram, moment - own_moment)
    residual = y - x @ beta
    free = max(len(y) - x.shape[1], 1)
    inverse = np.linalg.pinv(gram, rcond=_PIVOT, hermitian=True)
    return Fit(
        beta=beta,
        left_out=left_out,
        covariance=np.asarray(inverse * (residual @ residual) / free, dtype=np.float64),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _State:
    """A logistic model at some coefficients: its likelihood, and what a step of Newton's takes."""

    likelihood: float
    score: Floats
    weight: Floats
    inverse: Floats


def _state(x: Floats, y: Floats, beta: Floats, penalty: bool) -> _State:
    line = np.clip(x @ beta, -40, 40)
    chance = 1 / (1 + np.exp(-line))
    weight = np.maximum(chance * (1 - chance), 1e-12)
    information = (x * weight[:, None]).T @ x
    inverse = np.asarray(np.linalg.pinv(information, rcond=1e-14, hermitian=True))
    likelihood = float((y * line - np.logaddexp(0.0, line)).sum())
    leverage = np.zeros(len(y))
    if penalty:
        leverage = weight * np.einsum("np,pq,nq->n", x, inverse, x)
        likelihood += 0.5 * float(np.linalg.slogdet(information)[1])
    score = x * (y - chance + leverage * (0.5 - chance))[:, None]
    return _State(likelihood=likelihood, score=score, weight=weight, inverse=inverse)


def logistic(x: Floats, y: Floats, starts: Ints, *, penalty: bool = True) -> Fit:
    """Fit logistic regression, and by one step without each subject.

    Args:
        x: Design with its constant, shape (n, column).
        y: 0 or 1, shape (n,).
        starts: As `starts_of` returns them.
        penalty: Whether Firth's penalty is used; without it a separating column has no finite
            estimate.
    """
    beta = np.zeros(x.shape[1])
    state = _state(x, y, beta, penalty)
    converged = False
    for _ in range(_STEPS):
        step = state.inverse @ state.score.sum(axis=0)
        # A long step of Newton's may land where the curve is flat.
        step *= min(1.0, _LONGEST / max(float(np.abs(step).max()), 1e-300))
        if float(np.abs(step).max()) < _TOLERANCE:
            converged = True
            break
        ahead = _state(x, y, beta + step, penalty)
        slack = 1e-10 * max(abs(state.likelihood), 1.0)
        while (
            ahead.likelihood < state.likelihood - slack and float(np.abs(step).max()) > _TOLERANCE
        ):
            step = step / 2
            ahead = _state(x, y, beta + step, penalty)
        beta, state = beta + step, ahead
    information = (x * state.weight[:, None])[:, :, None] * x[:, None, :]
    rest = information.sum(axis=0) - _sums(information, starts)
    left_out = beta - _solve(rest, _sums(state.score, starts))
    return Fit(beta=beta, left_out=left_out, covariance=state.inverse, converged=converged)


def jackknife(value: float, left_out: Floats) -> float:
    """Return the standard error of a statistic from its values without each subject.

    Args:
        value: The statistic on all rows.
        left_out: The statistic without each subject, shape (subject,).
    """
    subjects = left_out.size
    return float(np.sqrt((subjects - 1) / subjects * ((left_out - value) ** 2).sum()))


def spread(values: Floats, groups: Ints, starts: Ints) -> tuple[float, Floats]:
    """Return the standard deviation within groups, and the same without each subject.

    Args:
        values: Shape (n,).
        groups: A group a row from 0, shape (n,); all 0 for the deviation of all.
        starts: As `starts_of` returns them.
    """
    k = int(groups.max()) + 1
    marks = (groups[:, None] == np.arange(k)).astype(np.float64)
    centred = values - values.mean()
    parts = np.stack([marks, marks * centred[:, None], marks * centred[:, None] ** 2], axis=2)
    own = _sums(parts, starts)
    total = own.sum(axis=0)
    moments = np.concatenate([total[None], total - own])
    n, first, second = np.moveaxis(moments, 2, 0)
    within = (second - first**2 / np.where(n > 0.5, n, 1.0)).sum(axis=1)
    there = (n > 0.5).sum(axis=1)
    sd = np.sqrt(np.maximum(within, 0.0) / np.maximum(n.sum(axis=1) - there, 1.0))
    return float(sd[0]), np.asarray(sd[1:])
