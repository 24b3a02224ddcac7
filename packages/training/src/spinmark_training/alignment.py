"""One common space for the encoders of a cross-fitted run.

Encoders that were trained apart agree, at best, up to a rotation of their spaces. Scans that all of them
embed, the anchors, tell that rotation. Each space is centred on the mean of its anchors, scaled so that
their root mean square distance from it is the same in all spaces, and rotated (reflections included) onto
the mean of the other spaces, over and over until nothing moves: generalised Procrustes analysis
(Gower 1975, Psychometrika 40:33-51) with the orthogonal solution of Schoenemann (1966, Psychometrika
31:1-10). The scale is not the least-squares one, which shrinks a space the more noise it holds.

How far the spaces agree is told by the relative residual of anchors that had no part in the fit: with the
inner product of a space and the mean of the others, `sqrt(1 - r**2)`. It is 0 for spaces that are the
same, and near 1 for those that have nothing in common, such as that of an encoder that collapsed.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_training.errors import InputError

Floats = npt.NDArray[np.float64]

# A residual of 0.95 leaves less than a tenth of the variance in common.
UNRELATED = 0.95
# A space this much narrower than the others holds a single point and rounding.
_FLAT = 1e-5
_ROUNDS = 20
_STILL = 1e-6
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpaceMap:
    """From an encoder's space to the common one: `((x - centre) * scale) @ rotation`.

    Args:
        centre: The mean of the anchors, `(E,)`.
        scale: A positive factor.
        rotation: An orthogonal matrix, `(E, E)`.
    """

    centre: Floats
    scale: float
    rotation: Floats

    def __call__(self, vectors: npt.NDArray[Any]) -> Floats:
        """Map vectors `(..., E)`."""
        moved: Floats = ((vectors - self.centre) * self.scale) @ self.rotation
        return moved


@dataclass(frozen=True)
class FoldResidual:
    """How far one space agrees with the mean of the others.

    Args:
        held_out: Relative residual on anchors that had no part in the fit.
        fitted: The same on the anchors of the fit.
        before: The same without any rotation.
        spread: Root mean square distance of the anchors from their mean, as the encoder gave them.
    """

    held_out: float
    fitted: float
    before: float
    spread: float

    @property
    def unrelated(self) -> bool:
        """Whether the space has next to nothing in common with the others."""
        return self.held_out > UNRELATED


@dataclass(frozen=True)
class Alignment:
    """What `align` returns.

    Args:
        maps: The map of each fold's space.
        residuals: What is left, by fold.
        reference: The fold whose axes the common space has.
    """

    maps: dict[int, SpaceMap]
    residuals: dict[int, FoldResidual]
    reference: int


def relative_residual(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    """Return `sqrt(1 - r**2)`, `r` the cosine of two matrices `(n, E)` as vectors, 1 if it is negative.

    It is the part of `y`, relative to its length, that no positive multiple of `x` explains.
    """
    lengths = float(np.sqrt((x * x).sum() * (y * y).sum()))
    r = max(0.0, float((x * y).sum()) / lengths) if lengths > 0 else 0.0
    return float(np.sqrt(max(0.0, 1 - r * r)))


def procrustes(x: Floats, y: Floats) -> Floats:
    """Return the orthogonal matrix `(E, E)` for which `x @ rotation` is nearest to `y`, both `(n, E)`."""
    u, _, vt = np.linalg.svd(x.T @ y)
    rotation: Floats = u @ vt
    return rotation


def _standardise(anchors: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the centres `(K, E)` and scales `(K,)` of spaces `(K, n, E)`, and their spreads `(K,)`."""
    centres = anchors.mean(axis=1)
    spreads = np.sqrt(((anchors - centres[:, None]) ** 2).sum(axis=2).mean(axis=1))
    common = float(np.median(spreads))
    flat = spreads <= _FLAT * common
    return centres, np.where(flat, 1.0, common / np.where(flat, 1.0, spreads)), spreads


def _reference(spaces: Floats) -> int:
    """Return the space that is nearest to the others after rotation of each onto it."""
    k = len(spaces)
    # The nuclear norm is the inner product that the best rotation reaches.
    near = np.zeros((k, k))
    for i in range(k):
        for j in range(i):
            near[i, j] = near[j, i] = np.linalg.norm(spaces[i].T @ spaces[j], "nuc")
    return int(near.sum(axis=1).argmax())


def _rotations(spaces: Floats) -> tuple[Floats, int]:
    """Rotate each of the spaces `(K, n, E)` onto the mean of the others; also name the reference."""
    first = _reference(spaces)
    turns = np.stack([procrustes(x, spaces[first]) for x in spaces])
    moved = spaces @ turns
    for _ in range(_ROUNDS):
        shift = 0.0
        for k, x in enumerate(spaces):
            turns[k] = procrustes(x, moved.sum(axis=0) - moved[k])
            new = x @ turns[k]
            shift = max(shift, float(np.abs(new - moved[k]).max()))
            moved[k] = new
        if shift <= _STILL * float(np.abs(moved).max()):
            break
    # The mean turns with the spaces: give it back the axes of the reference.
    return turns @ turns[first].T, first


def _fit(anchors: Floats) -> tuple[list[SpaceMap], int]:
    centres, scales, _ = _standardise(anchors)
    turns, first = _rotations((anchors - centres[:, None]) * scales[:, None, None])
    fitted = zip(centres, scales, turns, strict=True)
    return [SpaceMap(c, float(s), r) for c, s, r in fitted], first


def _others(spaces: Floats) -> Floats:
    """Return the mean of the other spaces, for each of `(K, n, E)`."""
    means: Floats = (spaces.sum(axis=0) - spaces) / (len(spaces) - 1)
    return means


def space_residual(moved: Floats, k: int) -> float:
    """Return the relative residual of space `k` of `(K, n, E)`, already aligned, to the others' mean."""
    return relative_residual(moved[k], _others(moved)[k])


def _parts(groups: npt.NDArray[Any], parts: int, seed: int) -> npt.NDArray[np.int64]:
    """Divide rows by group into at most `parts` parts of near the same number of groups."""
    names, codes = np.unique(groups.astype(str), return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(names)) % min(parts, len(names))
    return np.asarray(place[codes], np.int64)


def _move(maps: list[SpaceMap], spaces: Floats) -> Floats:
    return np.stack([to(x) for to, x in zip(maps, spaces, strict=True)])


def _held_out(anchors: Floats, groups: npt.NDArray[Any], parts: int, seed: int) -> Floats:
    """Return the anchors `(K, n, E)`, each aligned by maps that other subjects' anchors were fitted for."""
    part = _parts(groups, parts, seed)
    moved = np.empty_like(anchors)
    for number in np.unique(part):
        out = part == number
        moved[:, out] = _move(_fit(anchors[:, ~out])[0], anchors[:, out])
    return moved


def align(
    anchors: Mapping[int, npt.NDArray[Any]],
    groups: npt.NDArray[Any],
    *,
    parts: int = 5,
    seed: int = 0,
) -> Alignment:
    """Find the maps from the folds' spaces to a common one.

    Args:
        anchors: For each fold, `(n, E)`: the same scans in the same order, embedded by its encoder. They
            should be scans that no encoder was trained on: those it was trained on lie elsewhere.
        groups: The subject of each anchor, `(n,)`.
        parts: Parts of the subjects for the held-out residual.
        seed: Draws the parts.

    Returns:
        The maps and the residuals. In the common space the anchors have mean zero, and the spread that is
        the median of the folds'; its axes are those of the reference fold, the one nearest to the others.

    Raises:
        InputError: Fewer than two folds or subjects, other shapes, or values that are not finite.
    """
    folds = sorted(anchors)
    shapes = {anchors[k].shape for k in folds}
    if len(folds) < 2 or len(shapes) != 1 or len(groups) != next(iter(shapes))[0]:
        raise InputError(
            f"anchors: {len(folds)} folds of shapes {sorted(shapes)} and {len(groups)} subjects; accepted "
            "are two folds or more with the same anchors"
        )
    if parts < 2 or len(set(groups.astype(str))) < 2:
        raise InputError(
            f"anchors: scans of {len(set(groups.astype(str)))} subjects in {parts} parts; accepted are 2 "
            "and more of both: a residual is told on other subjects than those of the fit"
        )
    spaces = np.stack([np.asarray(anchors[k], np.float64) for k in folds])
    if not np.isfinite(spaces).all():
        raise InputError("anchors: values that are not finite; finite ones are accepted")
    if spaces.shape[1] < spaces.shape[2]:
        logger.warning(
            "alignment: %d anchors for %d features leave the rotation open in part; look at its residual",
            *spaces.shape[1:],
        )
    maps, first = _fit(spaces)
    centres, scales, spreads = _standardise(spaces)
    fitted = _move(maps, spaces)
    plain = (spaces - centres[:, None]) * scales[:, None, None]
    apart = _held_out(spaces, groups, parts, seed)
    residuals = {
        fold: FoldResidual(
            held_out=space_residual(apart, i),
            fitted=space_residual(fitted, i),
            before=space_residual(plain, i),
            spread=float(spreads[i]),
        )
        for i, fold in enumerate(folds)
    }
    for fold, left in residuals.items():
        if left.unrelated:
            logger.warning(
                "alignment: fold %d has a residual of %.2f: its space has next to nothing in common with "
                "the others; look at that run's doctor.json",
                *(fold, left.held_out),
            )
    return Alignment(dict(zip(folds, maps, strict=True)), residuals, folds[first])
