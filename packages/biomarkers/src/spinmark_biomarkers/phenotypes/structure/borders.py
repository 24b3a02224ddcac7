"""Valleys on the borders between clusters: is it thinner there than on either side?

For each pair of neighbouring clusters, four fifths of the subjects draw the line between the two
centres, bend it along the rows, so that a bent continuum is followed and not cut across, and say where along
it both sides are fullest and where it is thinnest between. The other fifth is counted in three
windows of equal width: at the two peaks and at the saddle. Whatever the shape of a density with one hump,
its average over a window has one hump too (Ibragimov 1956), so the middle window does not expect fewer rows
than the poorer of the outer two. More rows in both of these than in the middle one speak for a
valley. Rows that were counted never chose the windows, and people, not rows, are the unit.

Hartigan's dip asks the same of the whole projection. It is far weaker where a small group lies beside a
large one, since it measures what is missing in the valley as a share of all rows.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import norm

from spinmark_biomarkers.phenotypes.structure.inputs import check_count, check_enough, check_rows
from spinmark_biomarkers.phenotypes.structure.lloyd import kmeans_many, nearest

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Pair = tuple[int, int]

FROM, TO, CELLS = -0.5, 1.5, 400
BANDWIDTH = 0.12
"""Of the density along a line, in units of the distance between two centres."""
WINDOW = 0.4
"""Half the width of a window, as a share of the distance from the saddle to the nearer peak."""
INNER = (0.05, 0.95)
STRETCHES, KNOTS = 12, 81


@dataclass(frozen=True, kw_only=True)
class Border:
    """The border of a cluster on which a valley is least visible.

    Args:
        phenotype: The cluster; 0 is the largest.
        neighbour: The other side.
        z: Standardised difference of rows, the poorer side's window less the saddle's.
        p: Its one-sided chance where there is no valley.
        depth: Rows in the saddle's window over those in the poorer side's; below 1 is a valley.
    """

    phenotype: int
    neighbour: int
    z: float
    p: float
    depth: float

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Borders:
    """Valleys on the borders of k clusters.

    Args:
        k: Clusters.
        weakest: Of each cluster, its weakest border.
        z: Of all weakest borders together.
        p: Its one-sided chance where there is no valley.
        folds: Parts of the subjects.
        repeats: How often subjects were parted anew.
    """

    k: int
    weakest: tuple[Border, ...]
    z: float
    p: float
    folds: int
    repeats: int

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for JSON."""
        return asdict(self)


def neighbours(centres: Floats) -> list[Pair]:
    """Pairs of centres between which no third one lies: none is nearer to their middle."""
    pairs = []
    for i in range(len(centres)):
        for j in range(i + 1, len(centres)):
            away = ((centres - (centres[i] + centres[j]) / 2) ** 2).sum(axis=1)
            if min(away[i], away[j]) <= away.min() * (1 + 1e-9):
                pairs.append((i, j))
    return pairs


def bent_line(rows: Floats, start: Floats, end: Floats) -> Callable[[Floats], Floats]:
    """Fit a parabola from one centre to another and return what gives the place of rows along it.

    The parabola is fitted to the projection on the straight line first, then once more to the nearest
    points on that parabola: a step of a principal curve (Hastie and Stuetzle 1989), which follows an
    arc of most of a circle.

    Args:
        rows: Rows of the two clusters, shape (n, component).
        start: Centre that gets 0.
        end: Centre that gets 1.

    Returns:
        A function from rows to the length along the curve of the nearest point on it.
    """
    line = end - start
    length = float(np.sqrt(line @ line))
    middle = (start + end) / 2
    places: Callable[[Floats], Floats] = lambda x: np.asarray((x - middle) @ line / length**2)  # noqa: E731
    scaled = (rows - middle) / length
    for _ in range(2):
        places = _along_parabola(scaled, places(rows), middle, length)
    zero, one = places(np.stack([start, end]))
    span = max(float(one - zero), 1e-9)
    return lambda x: np.asarray((places(x) - zero) / span)


def _along_parabola(
    scaled: Floats, place: Floats, middle: Floats, length: float
) -> Callable[[Floats], Floats]:
    """Fit rows by a parabola in their places and return what gives the nearest point's length."""
    # Less the outermost rows, which alone would decide how it bends.
    low, high = np.quantile(place, [0.005, 0.995])
    half = max(float(high - low) / 2, 1e-12)
    # Each stretch counts alike, or the curve would follow the fuller side alone.
    stretch = np.clip((STRETCHES * (place - low) / (2 * half)).astype(np.int64), 0, STRETCHES - 1)
    weight = 1 / np.sqrt(np.maximum(np.bincount(stretch, minlength=STRETCHES), 5)[stretch])
    t = (np.clip(place, low, high) - low) / half - 1
    design = np.stack([np.ones_like(t), t, t**2], axis=1) * weight[:, None]
    curve = np.linalg.lstsq(design, scaled * weight[:, None], rcond=None)[0]
    grid = np.linspace(-1, 1, KNOTS)
    knots = np.stack([np.ones_like(grid), grid, grid**2], axis=1) @ curve
    steps = np.sqrt((np.diff(knots, axis=0) ** 2).sum(axis=1))
    lengths = np.r_[0.0, np.cumsum(steps)]

    def places(x: Floats) -> Floats:
        q = (x - middle) / length
        near = ((knots**2).sum(axis=1) - 2 * q @ knots.T).argmin(axis=1)
        near = np.clip(near, 1, KNOTS - 2)
        before, chord = knots[near - 1], knots[near + 1] - knots[near - 1]
        share = ((q - before) * chord).sum(axis=1) / np.maximum((chord**2).sum(axis=1), 1e-24)
        # Beyond its ends the curve goes on straight.
        share = np.where(near > 1, np.maximum(share, 0.0), share)
        share = np.where(near < KNOTS - 2, np.minimum(share, 1.0), share)
        return np.asarray(lengths[near - 1] + share * (lengths[near + 1] - lengths[near - 1]))

    return places


def three_windows(along: Floats) -> tuple[float, float, float, float] | None:
    """Where the two peaks and the saddle between them are, and half the width of the windows.

    Args:
        along: Places along the line, 0 and 1 the two centres, shape (n,).

    Returns:
        Peak, saddle, peak and half-width; none where the density has no valley between the centres.
    """
    inside = along[(along >= FROM) & (along < TO)]
    counts = np.bincount(((inside - FROM) / (TO - FROM) * CELLS).astype(np.int64), minlength=CELLS)
    cell = (TO - FROM) / CELLS
    density = gaussian_filter1d(
        counts[:CELLS].astype(np.float64), BANDWIDTH / cell, mode="constant"
    )
    grid = FROM + (np.arange(CELLS) + 0.5) * cell
    left = np.maximum.accumulate(density)
    right = np.maximum.accumulate(density[::-1])[::-1]
    poorer = np.minimum(left, right)
    inner = (grid > INNER[0]) & (grid < INNER[1]) & (poorer > 0)
    ratio = np.where(inner, density / np.where(poorer > 0, poorer, 1.0), 1.0)
    at = int(ratio.argmin())
    if ratio[at] >= 1:
        return None
    first = int(density[:at].argmax())
    last = at + int(density[at:].argmax())
    half = WINDOW * min(grid[at] - grid[first], grid[last] - grid[at])
    return float(grid[first]), float(grid[at]), float(grid[last]), float(half)


@dataclass(frozen=True, kw_only=True)
class _Tally:
    """What was counted on held-out subjects, a mean over the repeats.

    Args:
        pairs: Neighbouring clusters.
        rows: Of each subject in the windows at the first peak, the saddle and the second peak, shape
            (pair, subject, 3).
    """

    pairs: list[Pair]
    rows: Floats


def _tally(
    z: Floats, subjects: Ints, k: int, folds: int, repeats: int, starts: int, seed: int
) -> _Tally:
    people = int(subjects.max()) + 1
    labels, single, _ = kmeans_many(z, (k,), starts=2 * starts, seed=seed)[0]
    by_size = np.argsort(-np.bincount(labels, minlength=k), kind="stable")
    centres = single[by_size].astype(np.float64)
    pairs = neighbours(centres)
    rows = np.zeros((len(pairs), people, 3))
    for repeat in range(repeats):
        fold = np.empty(people, dtype=np.int64)
        fold[np.random.default_rng([seed, repeat, 6]).permutation(people)] = (
            np.arange(people) % folds
        )
        for part in range(folds):
            learns = fold[subjects] != part
            _, other, _ = kmeans_many(z[learns], (k,), starts=starts, seed=[seed, repeat, part])[0]
            other = other.astype(np.float64)
            other = other[linear_sum_assignment(cdist(centres, other))[1]]
            where = nearest(z, other)
            for place, (i, j) in enumerate(pairs):
                either = (where == i) | (where == j)
                fit, held = np.flatnonzero(either & learns), np.flatnonzero(either & ~learns)
                if fit.size < 10 or held.size == 0 or not (other[i] != other[j]).any():
                    continue
                along = bent_line(z[fit], other[i], other[j])
                windows = three_windows(along(z[fit]))
                if windows is None:
                    continue
                seen = along(z[held])
                inside = np.abs(seen[:, None] - np.array(windows[:3])) < windows[3]
                np.add.at(rows[place], subjects[held], inside)
    return _Tally(pairs=pairs, rows=rows / repeats)


def _emptier(tally: _Tally) -> tuple[Floats, Floats]:
    """Rows that the side has more than the saddle: estimate and each subject's part of it.

    Returns:
        Shapes (pair, 2) and (pair, subject, 2), standardised; 0 where nothing was counted.
    """
    gained = tally.rows[:, :, [0, 2]] - tally.rows[:, :, [1]]
    scale = np.sqrt((gained**2).sum(axis=1))
    parts = gained / np.where(scale > 0, scale, 1.0)[:, None]
    return parts.sum(axis=1), parts


def border_test(
    z: npt.ArrayLike,
    subjects: npt.ArrayLike,
    k: int,
    *,
    folds: int = 5,
    repeats: int = 4,
    starts: int = 3,
    seed: int,
) -> Borders:
    """Test for valleys on the borders of k clusters (of k-means).

    Args:
        z: Rows, shape (n, component).
        subjects: The subject of each, shape (n,).
        k: Clusters.
        folds: Parts of the subjects; each is counted in windows that the others chose.
        repeats: How often subjects are parted anew; counts are averaged.
        starts: Starts of each fit.
        seed: Seed.

    Returns:
        The weakest border of each cluster, and one test of all of them together. Where neighbours have
        no valley to speak of, z is 0 and p a half.

    Raises:
        InputError: As `inputs.check_rows` and `inputs.check_enough`; or a setting is out of range.
    """
    check_count("folds", folds, 2)
    check_count("repeats", repeats, 1)
    space = check_rows(z, subjects)
    check_enough(space, (k,))
    tally = _tally(space.z, space.subjects, k, folds, repeats, starts, seed)
    emptier, gains = _emptier(tally)
    side = emptier.argmin(axis=1)
    score = emptier.min(axis=1)
    totals = tally.rows.sum(axis=1)
    weakest, chosen = [], set()
    for cluster in range(k):
        own = [place for place, pair in enumerate(tally.pairs) if cluster in pair]
        place = min(own, key=lambda at: (score[at], at))
        chosen.add(place)
        i, j = tally.pairs[place]
        outer = totals[place, 2 * side[place]]
        weakest.append(
            Border(
                phenotype=cluster,
                neighbour=j if i == cluster else i,
                z=float(score[place]),
                p=float(norm.sf(score[place])),
                depth=float(totals[place, 1] / outer) if outer > 0 else 1.0,
            )
        )
    # Borders share clusters and people: what each subject adds to all of them is summed first.
    places = sorted(chosen)
    together = _together(score[places], gains[places, :, side[places]])
    return Borders(
        k=k,
        weakest=tuple(weakest),
        z=together,
        p=float(norm.sf(together)),
        folds=folds,
        repeats=repeats,
    )


def _together(scores: Floats, parts: Floats) -> float:
    """Standardise the sum of scores, given each subject's part of each, shape (border, subject)."""
    spread = float(np.sqrt((parts.sum(axis=0) ** 2).sum()))
    return float(scores.sum()) / spread if spread > 0 else 0.0
