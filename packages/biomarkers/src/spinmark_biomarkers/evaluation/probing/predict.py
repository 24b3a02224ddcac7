"""What linear and neighbour probes of one embedding say of the scored scans."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.cox import cox_predictions
from spinmark_biomarkers.evaluation.neighbours import neighbour_predictions
from spinmark_biomarkers.evaluation.probing.plan import Budget, Cell, Plan
from spinmark_biomarkers.evaluation.probing.targets import Target
from spinmark_biomarkers.evaluation.spectral import (
    logistic_predictions,
    ridge_predictions,
    subject_folds,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Strings = npt.NDArray[np.str_]
PROBES = ("linear", "knn")
# Predictions by target, budget and probe, each (draw, scored row).
Predictions = dict[tuple[str, Budget, str], Floats]


def standardised(embedding: npt.ArrayLike, fit: Ints) -> Floats:
    """Centre and scale features by the training scans, without any label.

    Args:
        embedding: Shape (scan, feature).
        fit: Rows of training scans.

    Returns:
        Shape (scan, feature), float64; features that do not vary on the training scans are left out.

    Raises:
        InputError: A value is not finite, or no feature varies.
    """
    x = np.asarray(embedding, dtype=np.float64)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise InputError(f"embedding: shape {x.shape}; accepted is (scan, feature), all finite")
    mean, scale = x[fit].mean(axis=0), x[fit].std(axis=0)
    varies = scale > 1e-8 * np.maximum(1e-30, np.abs(mean) + scale)
    if not varies.any():
        raise InputError(f"embedding: none of {x.shape[1]} features varies on the training scans")
    return np.asarray((x[:, varies] - mean[varies]) / scale[varies])


def predict(
    x: Floats, subject: Strings, targets: Sequence[Target], rows: Ints, new: Ints, probe: str
) -> list[Floats]:
    """Fit a probe of several targets on the same rows and predict others.

    Args:
        x: All scans, standardised, shape (scan, feature).
        subject: Subject of each scan, shape (scan,).
        targets: Targets, all known at `rows`; no events.
        rows: Labelled rows.
        new: Rows to predict.
        probe: `linear` (ridge; logistic of classes) or `knn`.

    Returns:
        For each target what it says of each new row, shape (m,).
    """
    parts = [target.columns(rows) for target in targets]
    starts = np.cumsum([0] + [y.shape[1] for y, _ in parts])
    y = np.concatenate([y for y, _ in parts], axis=1)
    classes = np.concatenate([np.full(y.shape[1], codes.size > 0) for y, codes in parts])
    share = y.mean(axis=0)
    said = np.tile(share, (len(new), 1))
    varies = np.ptp(y, axis=0) > 0
    if probe not in PROBES:
        raise InputError(f"probe: '{probe}'; accepted are {', '.join(PROBES)}")
    given = x[rows], subject[rows], x[new]
    for chosen, linear in ((varies & ~classes, _numbers), (varies & classes, _classes)):
        if chosen.any():
            fit = linear if probe == "linear" else _neighbours
            said[:, chosen] = fit(y[:, chosen], *given)
    return [
        target.decide(said[:, a:b], share[a:b], codes)
        for target, (_, codes), a, b in zip(targets, parts, starts[:-1], starts[1:], strict=True)
    ]


def _numbers(y: Floats, x: Floats, subject: Strings, x_new: Floats) -> Floats:
    return ridge_predictions(x, y, subject, x_new)[0]


def _classes(y: Floats, x: Floats, subject: Strings, x_new: Floats) -> Floats:
    return logistic_predictions(x, y, subject, x_new)[0]


def _neighbours(y: Floats, x: Floats, subject: Strings, x_new: Floats) -> Floats:
    return neighbour_predictions(x, y, subject, x_new)[0]


def predict_event(x: Floats, subject: Strings, target: Target, rows: Ints, new: Ints) -> Floats:
    """Fit a ridge Cox regression on labelled rows and predict log hazard ratios of others, (m,)."""
    assert target.event is not None
    folds = subject_folds(subject[rows])
    return cox_predictions(x[rows], target.values[rows], target.event[rows], folds, x[new])[0]


def predict_cells(
    x: Floats, plan: Plan, *, probes: Sequence[str] = PROBES, events: bool = True
) -> Predictions:
    """Fit every cell of a plan on one embedding.

    Targets that are known for the same joints share one decomposition. Events have a linear probe only.

    Args:
        x: Standardised features, shape (scan, feature).
        plan: The plan.
        probes: Probes.
        events: Whether to fit events too.

    Returns:
        Predictions for each cell's scored rows.
    """
    subject = plan.scans["subject_id"].to_numpy().astype(str)
    cells = [cell for cell in plan.cells if not cell.reason]
    found: Predictions = {}
    shared: dict[tuple[int, bytes], list[Cell]] = defaultdict(list)
    with threadpool_limits(limits=1):
        for cell in cells:
            if cell.target.event is None:
                for draw, rows in enumerate(cell.subsets):
                    shared[draw, rows.tobytes()].append(cell)
            elif events and "linear" in probes:
                found[cell.target.name, cell.budget, "linear"] = np.stack(
                    [
                        predict_event(x, subject, cell.target, rows, cell.scored)
                        for rows in cell.subsets
                    ]
                )
        place = np.full(len(plan.scans), -1, dtype=np.int64)
        place[plan.test] = np.arange(plan.test.size)
        for (draw, key), group in shared.items():
            rows = np.frombuffer(key, dtype=np.int64)
            for probe in probes:
                targets = [cell.target for cell in group]
                said = predict(x, subject, targets, rows, plan.test, probe)
                for cell, values in zip(group, said, strict=True):
                    whole = found.setdefault(
                        (cell.target.name, cell.budget, probe),
                        np.empty((len(cell.subsets), cell.scored.size)),
                    )
                    whole[draw] = values[place[cell.scored]]
    return found
