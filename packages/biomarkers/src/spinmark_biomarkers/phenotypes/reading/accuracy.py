"""Shares of right answers, with intervals for readers crossed with items.

All readers judge all items, so that answers are alike within a reader and within an item; neither may be
taken for independent. The variance of the mean is put together from the components of readers, items and
the rest, estimated without a model from half the squared differences of pairs that share the reader, the
item, or neither; where no answer is missing these are the mean squares of a two-way table. A bootstrap of
readers was not chosen, since a study has three or four of them, and with so few it is too narrow.

The interval is Wilson's for a proportion of as many independent answers as would have that variance, with
Student's quantile for the degrees of freedom (the effective sample size is that of Korn and Graubard 1998,
the degrees are Satterthwaite's). It stays within 0 and 1 and has a width where all answers are right.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Components:
    """Variances of an answer (0 or 1), which may be below 0 as estimates are.

    Args:
        reader: Between readers.
        item: Between items.
        rest: What neither explains.
    """

    reader: float
    item: float
    rest: float


@dataclass(frozen=True, kw_only=True)
class Crossed:
    """A share of right answers with two intervals.

    Args:
        value: The share of all answers given.
        answers: Answers given.
        readers: Readers who gave any.
        items: Items that were answered.
        others: Interval for other readers and other items of the kind; NaN bounds with one reader.
        these: Interval for these very readers and other items.
        components: NaN where readers or items are one.
    """

    value: float
    answers: int
    readers: int
    items: int
    others: Interval
    these: Interval
    components: Components


def exact_interval(right: int, answers: int, *, level: float = 0.95) -> Interval:
    """Clopper and Pearson's interval of one reader's share, whose items are independent.

    Args:
        right: Right answers.
        answers: Answers given; with none all is NaN.
        level: Coverage, at least.
    """
    if answers == 0:
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"), n=0)
    bounds = stats.binomtest(right, answers).proportion_ci(level, method="exact")
    return Interval(
        value=right / answers, low=float(bounds.low), high=float(bounds.high), n=answers
    )


def components(correct: npt.ArrayLike) -> Components:
    """Estimate the components of variance of crossed answers, without bias and without a model.

    Args:
        correct: Shape (reader, item): 1 right, 0 wrong, NaN not answered.

    Returns:
        NaN where no two answers share a reader, or an item, or neither.
    """
    y, given = _table(correct)
    n_r, n_i, n = given.sum(axis=1), given.sum(axis=0), given.sum()
    same_reader = (n_r * (y**2).sum(axis=1) - y.sum(axis=1) ** 2).sum()
    same_item = (n_i * (y**2).sum(axis=0) - y.sum(axis=0) ** 2).sum()
    neither = n * (y**2).sum() - y.sum() ** 2 - same_reader - same_item
    pairs = ((n_r * (n_r - 1)).sum(), (n_i * (n_i - 1)).sum())
    others = n * (n - 1) - sum(pairs)
    if min(*pairs, others) <= 0:
        return Components(reader=float("nan"), item=float("nan"), rest=float("nan"))
    within_reader, within_item = same_reader / pairs[0], same_item / pairs[1]
    whole = neither / others
    return Components(
        reader=float(whole - within_reader),
        item=float(whole - within_item),
        rest=float(within_reader + within_item - whole),
    )


def crossed_share(correct: npt.ArrayLike, *, level: float = 0.95) -> Crossed:
    """Share of right answers of readers crossed with items, with intervals.

    Args:
        correct: Shape (reader, item): 1 right, 0 wrong, NaN not answered.
        level: Coverage.

    Raises:
        InputError: The table has not two dimensions, or holds other values.
    """
    if not 0 < level < 1:
        raise InputError(f"level: {level}; accepted is a number between 0 and 1")
    y, given = _table(correct)
    n, n_r, n_i = float(given.sum()), given.sum(axis=1), given.sum(axis=0)
    readers, items = int((n_r > 0).sum()), int((n_i > 0).sum())
    nan = float("nan")
    nothing = Interval(value=nan, low=nan, high=nan, n=int(n))
    if n == 0:
        none = Components(reader=nan, item=nan, rest=nan)
        return Crossed(
            value=nan, answers=0, readers=0, items=0, others=nothing, these=nothing, components=none
        )
    p = float(y.sum() / n)
    found = components(correct)
    if readers == 1 or items == 1 or not np.isfinite(found.rest):
        # One reader: items are independent. One item: nothing is known of others.
        these = _wilson(p, float(items), max(items - 1, 0), level, int(n))
        others = Interval(value=p, low=nan, high=nan, n=int(n))
    else:
        rest = found.rest / n
        by_reader = found.reader * float((n_r**2).sum()) / n**2 + rest
        by_item = found.item * float((n_i**2).sum()) / n**2 + rest
        these = _wilson(p, _effective(p, by_item, n, items), items - 1, level, int(n))
        variance = by_reader + by_item - rest
        df = _satterthwaite((by_reader, by_item, rest), readers, items)
        others = _wilson(p, _effective(p, variance, n, items), df, level, int(n))
    return Crossed(
        value=p, answers=int(n), readers=readers, items=items, others=others, these=these,
        components=found,
    )  # fmt: skip


def _table(correct: npt.ArrayLike) -> tuple[Floats, Floats]:
    table = np.asarray(correct, dtype=np.float64)
    if table.ndim != 2:
        raise InputError(f"answers: shape {table.shape}; accepted is (reader, item)")
    given = ~np.isnan(table)
    strange = table[given & (table != 0) & (table != 1)]
    if strange.size:
        raise InputError(f"answers: {strange.flat[0]:g}; accepted are 0, 1 and NaN")
    return np.where(given, table, 0.0), given.astype(np.float64)


def _effective(p: float, variance: float, answers: float, items: int) -> float:
    """How many independent answers would have this variance: never more than were given."""
    if p in (0.0, 1.0):
        # No difference was seen: all readers may see alike, so that items alone count.
        return float(items)
    most = p * (1 - p) / answers
    return p * (1 - p) / max(variance, most)


def _satterthwaite(parts: tuple[float, float, float], readers: int, items: int) -> float:
    """Degrees of freedom of by_reader + by_item - rest, each of which is a mean square."""
    by_reader, by_item, rest = (max(part, 0.0) for part in parts)
    total = max(by_reader + by_item - rest, by_reader, by_item)
    if total <= 0:
        return float(min(readers, items) - 1)
    spread = (
        by_reader**2 / (readers - 1)
        + by_item**2 / (items - 1)
        + rest**2 / ((readers - 1) * (items - 1))
    )
    return float(np.clip(total**2 / spread, min(readers, items) - 1, readers * items - 1))


def _wilson(p: float, effective: float, df: float, level: float, answers: int) -> Interval:
    if df <= 0:
        return Interval(value=p, low=float("nan"), high=float("nan"), n=answers)
    t = float(stats.t.ppf((1 + level) / 2, df))
    scale = 1 + t**2 / effective
    centre = (p + t**2 / (2 * effective)) / scale
    half = t / scale * np.sqrt(p * (1 - p) / effective + t**2 / (4 * effective**2))
    return Interval(
        value=p,
        # The share lies within; at 0 and 1 it is a bound, which rounding must not pass.
        low=float(min(max(centre - half, 0.0), p)),
        high=float(max(min(centre + half, 1.0), p)),
        n=answers,
    )
