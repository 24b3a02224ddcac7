"""One way of writing a formula for NumPy and for PyTensor.

A likelihood is written once, in terms of these few operations. In NumPy every quantity may have a leading
axis of posterior draws, `(D, n)`; in PyTensor it is the plain `(n,)`.
"""

import functools
import importlib
import inspect
import math
from typing import Any

import numpy as np
from scipy import sparse, special

# log of a time of zero: any power of it underflows to an exact zero, and so does its derivative.
LOG_ZERO = -1e10
# A log hazard ratio past this is taken as this: exp stays finite, and so do all gradients.
STEEPEST = 300.0
_SMALLEST = 1e-300


class NumpyArithmetic:
    """The operations in NumPy, over a leading axis of draws."""

    exp, log, log1p, expm1 = np.exp, np.log, np.log1p, np.expm1
    minimum, maximum = np.minimum, np.maximum
    where = staticmethod(np.where)
    erfc, erfcx = special.erfc, special.erfcx

    @staticmethod
    def dot(matrix: Any, v: Any) -> Any:
        """`(n, k)` times `(D, k)`: `(D, n)`."""
        return v @ matrix.T

    @staticmethod
    def product(matrix: Any, transposed: Any, v: Any) -> Any:
        """As `dot`; the transpose is not needed."""
        del transposed
        return v @ matrix.T

    @staticmethod
    def take(v: Any, index: Any) -> Any:
        """Columns of `(D, n)`."""
        return v[..., index]

    @staticmethod
    def column(v: Any) -> Any:
        """`(D,)` as `(D, 1)`, to meet rows."""
        return np.asarray(v)[..., None]

    arange = staticmethod(np.arange)

    @staticmethod
    def softplus(v: Any) -> Any:
        """log(1 + exp(v))."""
        return np.logaddexp(0.0, v)

    @staticmethod
    def total(v: Any, index: Any, like: Any) -> Any:
        """Sums of `(D, n)` by the group of each column: `(D, len(like))`."""
        n, v = len(index), np.asarray(v)
        if math.prod(v.shape[:-1]) == 1:
            # One draw: much the faster way.
            return np.bincount(index, v.ravel(), len(like)).reshape(*v.shape[:-1], len(like))
        where = sparse.csr_matrix((np.ones(n), (index, np.arange(n))), shape=(len(like), n))
        flat = v.reshape(math.prod(v.shape[:-1]), n)
        return (where @ flat.T).T.reshape(*v.shape[:-1], len(like))

    @staticmethod
    def less(v: Any, index: Any, part: Any) -> Any:
        """`(D, n)` with `part` taken from the columns `index`, each of which occurs once."""
        v = np.array(v)
        v[..., index] -= part
        return v


class TensorArithmetic:
    """The same operations in PyTensor, on vectors."""

    def __init__(self) -> None:
        # PyTensor is untyped and slow to import.
        pt: Any = importlib.import_module("pytensor.tensor")
        self.pt = pt
        self.exp, self.log, self.log1p, self.expm1 = pt.exp, pt.log, pt.log1p, pt.expm1
        self.where, self.minimum, self.maximum = pt.where, pt.minimum, pt.maximum
        self.erfc, self.erfcx = pt.erfc, pt.erfcx
        self.arange, self.softplus = pt.arange, pt.softplus

    @staticmethod
    def dot(matrix: Any, v: Any) -> Any:
        """`(n, k)` times `(k,)`: `(n,)`."""
        return matrix @ v

    @staticmethod
    def product(matrix: Any, transposed: Any, v: Any) -> Any:
        """As `dot`, with a fast gradient for v and none for the matrix."""
        return _product()(matrix, transposed, v)

    @staticmethod
    def take(v: Any, index: Any) -> Any:
        """Elements of `(n,)`."""
        return v[index]

    @staticmethod
    def column(v: Any) -> Any:
        """A scalar as it is."""
        return v

    def total(self, v: Any, index: Any, like: Any) -> Any:
        """Sums of `(n,)` by the group of each element: the shape of `like`."""
        return self.pt.inc_subtensor(self.pt.zeros_like(like)[index], v)

    def less(self, v: Any, index: Any, part: Any) -> Any:
        """`(n,)` with `part` taken from the elements `index`."""
        return self.pt.inc_subtensor(v[index], -part)


@functools.cache
def _product() -> Any:
    """Return the operation (A, A transposed, v) -> A v whose gradient reads the transpose that it is given.

    PyTensor 2 copies the whole matrix for A' g at every gradient, at ten times the cost of the product itself.
    """
    builders: Any = importlib.import_module("pytensor.compile.builders")
    pt: Any = importlib.import_module("pytensor.tensor")
    a, a_t, v = pt.dmatrix(), pt.dmatrix(), pt.dvector()
    new = "pullback" in inspect.signature(builders.OpFromGraph.__init__).parameters
    named = {"pullback" if new else "lop_overrides": _product_gradient}
    return builders.OpFromGraph(
        [a, a_t, v], [a @ v], inline=True, on_unused_input="ignore", **named
    )


def _product_gradient(inputs: list[Any], _: list[Any], gradients: list[Any]) -> list[Any]:
    pt: Any = importlib.import_module("pytensor.tensor")
    gradient: Any = importlib.import_module("pytensor.gradient")
    a, a_t, _v = inputs
    return [pt.zeros_like(a), gradient.DisconnectedType()(), a_t @ gradients[0]]


def relative_hazard(m: Any, eta: Any) -> Any:
    """exp(eta), finite for any finite eta."""
    return m.exp(m.minimum(m.maximum(eta, -STEEPEST), STEEPEST))


def safe_log(m: Any, v: Any) -> Any:
    """log(v) of a chance that may have underflowed to zero."""
    return m.log(m.maximum(v, _SMALLEST))
