"""The false discovery rate over many tests (Benjamini and Hochberg 1995)."""

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]


def benjamini_hochberg(p: npt.ArrayLike) -> Floats:
    """Return for each p value the smallest false discovery rate at which it would count.

    Args:
        p: P values, any shape (n,); NaN stands for a test that was not made, and counts for
            nothing.

    Returns:
        Shape (n,), NaN where p is.

    Examples:
        >>> benjamini_hochberg([0.01, 0.04, 0.03, float("nan")]).round(3).tolist()
        [0.03, 0.04, 0.04, nan]
    """
    values = np.asarray(p, dtype=np.float64)
    q = np.full(values.shape, np.nan)
    made = np.flatnonzero(np.isfinite(values))
    order = made[np.argsort(values[made], kind="stable")]
    scaled = values[order] * made.size / np.arange(1, made.size + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def with_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of tests with the false discovery rates `q` and `adjusted_q`.

    Several tables of tests that are read together are one family: join them and call this.

    Args:
        frame: With the columns `p` and `adjusted_p`; the rates are over all rows of each.
    """
    return frame.assign(
        q=benjamini_hochberg(frame["p"].to_numpy(np.float64)),
        adjusted_q=benjamini_hochberg(frame["adjusted_p"].to_numpy(np.float64)),
    )
