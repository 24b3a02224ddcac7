"""Metrics as functions of how often each subject counts, so that a bootstrap is arithmetic.

A bootstrap draw of subjects is a vector of counts. Each class here keeps, for every subject, the sums
that its metric is made of, and returns the metric for many such vectors at once. It equals the metric
of the rows repeated as often as drawn. Runs (seeds of an encoder) and draws (of labelled joints) are
the trailing axes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def per_subject(values: Floats, subject: Ints, subjects: int) -> Floats:
    """Sum rows (n, ...) by subject: (subject, ...)."""
    total = np.zeros((subjects, *values.shape[1:]))
    if len(values):
        order = np.argsort(subject, kind="stable")
        there, first = np.unique(subject[order], return_index=True)
        total[there] = np.add.reduceat(values[order], first, axis=0)
    return np.asarray(total, dtype=np.float64)


def _ratio(above: Floats, below: Floats) -> Floats:
    nothing = np.full(np.shape(above), np.nan)
    return np.asarray(np.divide(above, below, out=nothing, where=below > 0))


@dataclass(frozen=True)
class RSquared:
    """R2 about the mean of the rows drawn.

    Args:
        squares: Squared errors by subject, shape (subject, run, draw).
        moments: Number, sum and sum of squares of the target by subject, shape (subject, 3).
    """

    squares: Floats
    moments: Floats

    @classmethod
    def of(cls, truth: Floats, said: Floats, subject: Ints, subjects: int) -> "RSquared":
        """From truth (n,) and predictions (run, draw, n), subjects as codes (n,)."""
        # About the overall mean, since sums of squares of large numbers would cancel.
        y = truth - truth.mean()
        errors = np.moveaxis((said - truth) ** 2, -1, 0)
        moments = np.column_stack([np.ones_like(y), y, y**2])
        return cls(per_subject(errors, subject, subjects), per_subject(moments, subject, subjects))

    def __call__(self, weights: Floats) -> Floats:
        """R2 for counts (b, subject): (b, run, draw); NaN where the target does not vary."""
        n, s, q = (weights @ self.moments).T
        total = q - s**2 / np.where(n > 0, n, 1.0)
        total = np.where(total > 1e-12 * np.maximum(q, 1e-300), total, 0.0)
        error = np.tensordot(weights, self.squares, axes=1)
        below = np.broadcast_to(total[:, None, None], error.shape)
        return 1 - _ratio(error, below)


@dataclass(frozen=True)
class BalancedAccuracy:
    """Mean over the classes drawn of the share that was recognised.

    Args:
        found: Rows recognised, shape (subject, class, run, draw).
        there: Rows of each class, shape (subject, class).
    """

    found: Floats
    there: Floats

    @classmethod
    def of(cls, truth: Ints, said: Ints, subject: Ints, subjects: int) -> "BalancedAccuracy":
        """From class codes (n,) and the codes said (run, draw, n)."""
        is_class = (truth[:, None] == np.arange(int(truth.max()) + 1)).astype(np.float64)
        right = np.moveaxis((said == truth).astype(np.float64), -1, 0)
        found = per_subject(is_class[:, :, None, None] * right[:, None], subject, subjects)
        return cls(found, per_subject(is_class, subject, subjects))

    def __call__(self, weights: Floats) -> Floats:
        """Balanced accuracy for counts (b, subject): (b, run, draw)."""
        there = (weights @ self.there)[:, :, None, None]
        found = np.tensordot(weights, self.found, axes=1)
        share = _ratio(found, np.broadcast_to(there, found.shape))
        count = (there > 0).sum(axis=1)
        return np.asarray(np.nansum(share, axis=1) / np.maximum(count, 1))


@dataclass(frozen=True)
class PairOrder:
    """The share of comparable pairs of rows that are in the right order: AUC and Harrell's C.

    Args:
        counts: Which pairs are compared, shape (first, second): the first should score higher.
        first: Rows on that side.
        second: Rows on the other side.
        said: Scores, shape (run, draw, n).
        subject: Codes (n,).
        subjects: How many there are.
    """

    counts: Bools
    first: Ints
    second: Ints
    said: Floats
    subject: Ints
    subjects: int

    @classmethod
    def auc(cls, truth: Bools, said: Floats, subject: Ints, subjects: int) -> "PairOrder":
        """A positive should score above a negative; ties count half."""
        first, second = np.flatnonzero(truth), np.flatnonzero(~truth)
        pairs = np.ones((first.size, second.size), dtype=bool)
        return cls(pairs, first, second, said, subject, subjects)

    @classmethod
    def concordance(
        cls, time: Floats, event: Bools, said: Floats, subject: Ints, subjects: int
    ) -> "PairOrder":
        """Who has the event should score above whoever is followed for longer (Harrell 1982).

        A row censored at the very time of an event is taken to be followed for longer.
        """
        first, second = np.flatnonzero(event), np.arange(len(time))
        at = time[first][:, None]
        pairs = (time[None] > at) | ((time[None] == at) & ~event[None])
        return cls(pairs, first, second, said, subject, subjects)

    def _by_subject(self, pairs: Floats) -> Floats:
        """Sum pairs of rows to pairs of subjects."""
        half = per_subject(pairs, self.subject[self.first], self.subjects)
        return per_subject(half.T, self.subject[self.second], self.subjects).T

    def __call__(self, weights: Floats) -> Floats:
        """The share for counts (b, subject): (b, run, draw); NaN where no pair compares."""

        def total(pairs: Floats) -> Floats:
            return np.asarray(((weights @ self._by_subject(pairs)) * weights).sum(axis=1))

        if self.counts.all():
            sides = [
                np.bincount(self.subject[k], minlength=self.subjects)
                for k in (self.first, self.second)
            ]
            below = (weights @ sides[0]) * (weights @ sides[1])
        else:
            below = total(self.counts.astype(np.float64))
        runs, draws = self.said.shape[:2]
        found = np.empty((len(weights), runs, draws))
        for run in range(runs):
            for draw in range(draws):
                high = self.said[run, draw, self.first][:, None]
                low = self.said[run, draw, self.second][None]
                right = (high > low) + 0.5 * (high == low)
                found[:, run, draw] = total(right * self.counts)
        return _ratio(found, np.broadcast_to(below[:, None, None], found.shape))


def counts_of_resamples(subjects: int, *, draws: int, seed: int) -> Floats:
    """How often each subject is drawn in each bootstrap sample: (draws, subjects)."""
    counts = np.empty((draws, subjects))
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        counts[draw] = np.bincount(rng.integers(0, subjects, subjects), minlength=subjects)
    return counts
