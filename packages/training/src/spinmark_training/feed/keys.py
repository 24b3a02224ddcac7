"""Random numbers that belong to a key, for many keys at once and whatever was drawn before.

A key is hashed word by word with the mixing function of Steele, Lea, Flood, "Fast splittable
pseudorandom number generators", 2014; the numbers of a key are counted from its hash. So a view's
numbers do not depend on the batch, the process or the worker that makes it.
"""

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def _mixed(h: Hashes) -> Hashes:
    h = (h ^ (h >> np.uint64(30))) * _MIX1
    h = (h ^ (h >> np.uint64(27))) * _MIX2
    return h ^ (h >> np.uint64(31))


def hashes(key: tuple[int, ...], *columns: npt.ArrayLike) -> Hashes:
    """Return one hash a row of a key's numbers.

    Args:
        key: Non-negative integers that all rows have in common, such as seed and epoch.
        columns: Non-negative integers `(n,)` that tell the rows apart, such as joint and view.

    Returns:
        `(n,)`.
    """
    start = np.random.SeedSequence(key).generate_state(1, np.uint64)
    words = np.broadcast_arrays(*(np.asarray(c, np.uint64) for c in columns))
    found: Hashes = np.full(words[0].shape, start[0], np.uint64)
    for word in words:
        found = _mixed(found + (word + np.uint64(1)) * _STEP)
    return found


def uniforms(found: Hashes, count: int) -> npt.NDArray[np.float64]:
    """Return uniform numbers in [0, 1), `(n, count)`.

    Args:
        found: Hashes `(n,)`.
        count: Numbers a row.
    """
    index = np.arange(1, count + 1, dtype=np.uint64)
    bits = _mixed(found[:, None] + index * _STEP) >> np.uint64(11)
    numbers: npt.NDArray[np.float64] = bits.astype(np.float64) * 2.0**-53
    return numbers
