"""Who reads the clinic's table as well as can be: regressions and a classifier learnt from many people.

What a table tells of a latent bends where phenotypes meet, so a straight regression is not the best reader.
Here a first reading gives the latents roughly and the chance of each phenotype, and a second regression
takes both. On tables of the phantom it does better than boosted trees that learn from three times
as many people (a test holds it to that).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from spinmark_data.phantom.population import Floats

_KNOTS = (0.25, 0.5, 0.75)
_PENALTY = 10.0
_STEPS = 150


class _Splines:
    """Straight lines and linear splines of each input, scaled."""

    def __init__(self, x: Floats):
        self._mean, self._deviation = x.mean(axis=0), x.std(axis=0)
        self._knots = np.quantile(self._scaled(x), _KNOTS, axis=0)

    def _scaled(self, x: Floats) -> Floats:
        return np.asarray((x - self._mean) / np.where(self._deviation > 0, self._deviation, 1.0))

    def __call__(self, x: Floats) -> Floats:
        scaled = self._scaled(x)
        bent = [np.maximum(scaled - knot, 0.0) for knot in self._knots]
        return np.concatenate([np.ones((len(x), 1)), scaled, *bent], axis=1)


class Regression:
    """Ridge regression on splines.

    Args:
        x: Inputs `(n, inputs)`.
        y: Targets `(n, targets)`.
    """

    def __init__(self, x: Floats, y: Floats):
        self._splines = _Splines(x)
        basis = self._splines(x)
        gram = basis.T @ basis + _PENALTY * np.eye(basis.shape[1])
        self._offset = y.mean(axis=0)
        self._weights = np.linalg.solve(gram, basis.T @ (y - self._offset))

    def predict(self, x: Floats) -> Floats:
        """Predict every target, `(n, targets)`."""
        return np.asarray(self._splines(x) @ self._weights + self._offset)


class Classifier:
    """Multinomial logistic regression on splines, with a ridge penalty.

    Args:
        x: Inputs `(n, inputs)`.
        labels: Classes `(n,)`, small non-negative integers.
    """

    def __init__(self, x: Floats, labels: NDArray[np.int64]):
        # Takes a second, and only a ceiling needs it.
        from scipy.optimize import minimize

        self.classes, index = np.unique(labels, return_inverse=True)
        self._splines = _Splines(x)
        basis, own = self._splines(x), np.eye(len(self.classes))[index]
        shape = (basis.shape[1], len(self.classes))
        penalty = np.full((shape[0], 1), _PENALTY)
        penalty[0] = 0.0

        def loss(flat: Floats) -> tuple[float, Floats]:
            weights = flat.reshape(shape)
            scores = basis @ weights
            value = -(own * log_softmax(scores, axis=1)).sum() + (penalty * weights**2).sum() / 2
            slope = basis.T @ (softmax(scores, axis=1) - own) + penalty * weights
            return float(value), slope.ravel()

        options = {"maxiter": _STEPS}
        start = np.zeros(shape[0] * shape[1])
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
        self._weights = found.x.reshape(shape)

    def chances(self, x: Floats) -> Floats:
        """Chance of each class, `(n, classes)`."""
        return np.asarray(softmax(self._splines(x) @ self._weights, axis=1))

    def predict(self, x: Floats) -> NDArray[np.int64]:
        """The likeliest class, `(n,)`."""
        return np.asarray(self.classes[self.chances(x).argmax(axis=1)])


class PhenotypeReader:
    """Reads the phenotype off a table: of the knee by itself, then with what is read of the other.

    Args:
        table: What the clinic notes, `(n, items)`; right and left knees in turn.
        latents: The latents `(n, 4)`.
        phenotype: The phenotypes `(n,)`.
    """

    def __init__(self, table: Floats, latents: Floats, phenotype: NDArray[np.int64]):
        self._rough = Regression(table, latents)
        self._alone = Classifier(table, phenotype)
        self._pair = Classifier(self._features(table), phenotype)

    def _features(self, table: Floats) -> Floats:
        rough, own = self._rough.predict(table), self.chances(table)
        other = other_knee(own)
        parts = [np.log(own), np.log(other), rough, other_knee(rough)]
        return np.concatenate([*parts, _crossed(own, other), _crossed(own, rough)], axis=1)

    def chances(self, table: Floats) -> Floats:
        """Chance of each phenotype by the first reading, `(n, classes)`."""
        return self._alone.chances(table)

    def predict(self, table: Floats) -> NDArray[np.int64]:
        """The likeliest phenotype, `(n,)`."""
        return self._pair.predict(self._features(table))


class TableReader:
    """Reads latents and risk off a table.

    Args:
        table: What the clinic notes, `(n, items)`.
        latents: The latents `(n, 4)`.
        risk: The log hazard ratio `(n,)`.
        phenotype: The phenotypes `(n,)`; all 0 where there are none.
    """

    def __init__(self, table: Floats, latents: Floats, risk: Floats, phenotype: NDArray[np.int64]):
        self._first = Regression(table, latents)
        self.kinds = PhenotypeReader(table, latents, phenotype) if phenotype.any() else None
        self._second = Regression(self._features(table), np.c_[latents, risk])

    def _features(self, table: Floats) -> Floats:
        rough = self._first.predict(table)
        features = [table, products(rough)]
        if self.kinds is not None:
            chances = self.kinds.chances(table)
            features += [chances, _crossed(rough, chances)]
        return np.concatenate(features, axis=1)

    def read(self, table: Floats) -> tuple[Floats, Floats]:
        """The latents `(n, 4)` and the risk `(n,)` that a table tells."""
        found = self._second.predict(self._features(table))
        return found[:, :-1], found[:, -1]


def other_knee(knees: Floats) -> Floats:
    """What holds of the person's other knee, `(knees, k)`; right and left knees in turn."""
    return np.asarray(knees.reshape(-1, 2, knees.shape[1])[:, ::-1].reshape(knees.shape))


def _crossed(first: Floats, second: Floats) -> Floats:
    return (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)


def products(values: Floats) -> Floats:
    """Inputs `(n, k)` with their squares and products in pairs, `(n, k + k (k + 1) / 2)`."""
    i, j = np.triu_indices(values.shape[1])
    return np.concatenate([values, values[:, i] * values[:, j]], axis=1)
