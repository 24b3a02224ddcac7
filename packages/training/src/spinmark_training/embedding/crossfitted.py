"""The spaces of several encoders become one, and what that cost is told."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_training.alignment import (
    Alignment,
    align,
    relative_residual,
    space_residual,
)
from spinmark_training.config import AlignConfig
from spinmark_training.embedding.plan import Plan, Rows
from spinmark_training.embedding.vectors import Vectors
from spinmark_training.errors import InputError

Floats = npt.NDArray[np.float64]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embedded:
    """What the encoders of a plan made of the scans of a sequence.

    Args:
        vectors: Of all scans in the order of the sequence.
        report: The alignment, as JSON holds it; None where there is one encoder.
    """

    vectors: Vectors
    report: dict[str, Any] | None


def _at(rows: Rows, found: Vectors, wanted: Rows) -> Floats:
    """Return the plain vectors of some rows."""
    return found.plain[np.searchsorted(rows, wanted)].astype(np.float64)


def _finite(plan: Plan, found: dict[int, Vectors], rows: Rows) -> Rows:
    """Leave out the rows that could not be embedded."""
    good = np.ones(len(rows), bool)
    for fold, member in plan.members.items():
        good &= ~found[fold].bad[np.searchsorted(member.rows, rows)]
    return rows[good]


def _stack(plan: Plan, found: dict[int, Vectors], fitted: Alignment, rows: Rows) -> Floats:
    """Return scans that every encoder embedded in the common space, `(K, n, E)`."""
    return np.stack(
        [
            fitted.maps[fold](_at(member.rows, found[fold], rows))
            for fold, member in plan.members.items()
        ]
    )


def _spread(vectors: Floats) -> float:
    return float(np.sqrt(((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1).mean()))


def _agreement(
    plan: Plan, found: dict[int, Vectors], fitted: Alignment, widths: dict[int, float]
) -> dict[int, dict[str, float]]:
    """Tell by fold how well its space agrees with the others on scans that were learnt from.

    `own`: on scans of the fold, which its encoder never saw and all others were trained on. `seen`: on
    scans of other folds, which it was trained on, as were all others but the fold's own, which is left
    out. The spreads are in units of the anchors'.
    """
    folds = list(plan.members)
    told: dict[int, dict[str, float]] = {}
    parts = {fold: _finite(plan, found, rows) for fold, rows in plan.check.items()}
    moved = {fold: _stack(plan, found, fitted, r) for fold, r in parts.items() if len(r) > 1}
    for i, fold in enumerate(folds):
        here = dict.fromkeys(("own", "seen", "spread_own", "spread_seen"), float("nan"))
        if fold in moved:
            here["own"] = space_residual(moved[fold], i)
            here["spread_own"] = _spread(moved[fold][i]) / widths[fold]
        others = [f for f in folds if f != fold and f in moved]
        if others:
            here["spread_seen"] = (
                _spread(np.concatenate([moved[f][i] for f in others])) / widths[fold]
            )
        if others and len(folds) > 2:
            mine = np.concatenate([moved[f][i] for f in others])
            rest = [np.delete(moved[f], [i, folds.index(f)], axis=0).mean(axis=0) for f in others]
            here["seen"] = relative_residual(mine, np.concatenate(rest))
        told[fold] = here
    return told


def fold_share(vectors: npt.NDArray[Any], folds: npt.NDArray[np.int64]) -> float:
    """Return the share of the variance that lies between folds.

    Args:
        vectors: `(n, E)`.
        folds: The fold of each, `(n,)`.
    """
    whole = vectors - vectors.mean(axis=0)
    between = sum(
        (folds == fold).sum() * (whole[folds == fold].mean(axis=0) ** 2).sum()
        for fold in np.unique(folds)
    )
    total = (whole**2).sum()
    return float(between / total) if total > 0 else 0.0


def one_space(plan: Plan, found: dict[int, Vectors], config: AlignConfig) -> Embedded:
    """Embed each scan by the encoder that never saw its subject, in one space.

    Args:
        plan: The plan of a cross-fitted run.
        found: What each fold's encoder made of the member's rows.
        config: The alignment.

    Raises:
        InputError: Too few anchors, or an encoder gives values that are not finite.
    """
    anchors = _finite(plan, found, plan.anchors)
    subjects = plan.scans["subject_id"].to_numpy().astype(str)
    spaces = {fold: _at(m.rows, found[fold], anchors) for fold, m in plan.members.items()}
    for fold, space in spaces.items():
        if not np.isfinite(space).all():
            raise InputError(
                f"{plan.members[fold].run}: its encoder gives values that are not finite; look at that "
                "run's doctor.json"
            )
    fitted = align(spaces, subjects[anchors], parts=config.parts, seed=config.seed)
    first = next(iter(found.values()))
    shape, views = first.plain.shape[1], first.views.shape[1]
    n = len(plan.scans)
    vectors = Vectors(
        np.full((n, shape), np.nan, np.float32),
        np.full((n, views, shape), np.nan, np.float32),
        np.ones(n, bool),
    )
    for fold, member in plan.members.items():
        place = np.searchsorted(member.rows, member.own)
        to = fitted.maps[fold]
        vectors.plain[member.own] = to(found[fold].plain[place])
        vectors.views[member.own] = to(found[fold].views[place])
        vectors.bad[member.own] = found[fold].bad[place]
    return Embedded(vectors, _report(plan, found, fitted, anchors, vectors))


def _report(
    plan: Plan, found: dict[int, Vectors], fitted: Alignment, anchors: Rows, vectors: Vectors
) -> dict[str, Any]:
    subjects = plan.scans["subject_id"].to_numpy().astype(str)
    aligned = _stack(plan, found, fitted, anchors)
    widths = {fold: _spread(aligned[i]) or 1.0 for i, fold in enumerate(plan.members)}
    agreement = _agreement(plan, found, fitted, widths)
    folds = np.empty(len(plan.scans), np.int64)
    for fold, member in plan.members.items():
        folds[member.own] = fold
    good = ~vectors.bad
    return {
        "anchors": len(anchors),
        "anchor_subjects": len(set(subjects[anchors])),
        "features": int(vectors.plain.shape[1]),
        "reference": fitted.reference,
        "fold_share": _rounded(fold_share(vectors.plain[good], folds[good])),
        "folds": {
            str(fold): {
                "encoder_hash": plan.members[fold].encoder_hash,
                "unrelated": left.unrelated,
                **{k: _rounded(v) for k, v in (asdict(left) | agreement[fold]).items()},
            }
            for fold, left in fitted.residuals.items()
        },
    }


def _rounded(value: float) -> float | None:
    """Return a figure as JSON holds it: six digits, none where there is no figure."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
