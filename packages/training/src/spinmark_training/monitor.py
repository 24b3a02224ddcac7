"""What is measured along the way: probes of the embedding on validation subjects, no one else."""

import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from spinmark_models.config import IntensityRule
from spinmark_models.encoders import ImageEncoder
from spinmark_models.health import rankme
from spinmark_training.config import MonitorConfig
from spinmark_training.embed import embed_rows
from spinmark_training.sources import CohortLike, ScanSource, SplitLike, scan_sets

logger = logging.getLogger(__name__)

_FEWEST = 8  # with fewer known values on either side a probe says nothing

Vector = npt.NDArray[np.float64]


def ridge_r2(x_fit: Vector, y_fit: Vector, x_test: Vector, y_test: Vector) -> float:
    """Return the R2 of a ridge regression on standardised features.

    The penalty is as large as the mean eigenvalue of the features' scatter matrix, without a search: a probe
    that follows a run needs to be cheap and steady, not best.

    Args:
        x_fit: Features to fit on `(n, p)`.
        y_fit: Target to fit on `(n,)`.
        x_test: Features to score on `(m, p)`.
        y_test: Target to score on `(m,)`.

    Returns:
        1 - residual / total sum of squares on the test rows, around the mean of the rows fitted on.
    """
    mean, sd = x_fit.mean(0), x_fit.std(0)
    sd = np.where(sd > 0, sd, 1.0)
    a, b = (x_fit - mean) / sd, (x_test - mean) / sd
    centre = y_fit.mean()
    # In the dual: there are often fewer rows than features.
    kernel = a @ a.T
    penalty = np.trace(kernel) / max(1, min(a.shape))
    weights = np.linalg.solve(kernel + max(penalty, 1e-9) * np.eye(len(a)), y_fit - centre)
    residual = y_test - centre - b @ (a.T @ weights)
    total = ((y_test - centre) ** 2).sum()
    return float(1 - (residual**2).sum() / total) if total > 0 else float("nan")


def knn_accuracy(
    x_fit: Vector, y_fit: Vector, x_test: Vector, y_test: Vector, k: int = 5
) -> tuple[float, float]:
    """Return the accuracy of a vote of the `k` nearest neighbours by cosine, and that of a guess.

    Args:
        x_fit: Features of the neighbours `(n, p)`.
        y_fit: Their classes `(n,)`.
        x_test: Features to score on `(m, p)`.
        y_test: Their classes `(m,)`.
        k: Neighbours; a tie goes to the smallest class.

    Returns:
        Accuracy, and the share of the class that is commonest among the neighbours.
    """
    classes, codes = np.unique(y_fit, return_inverse=True)
    centre = x_fit.mean(0)
    a, b = x_fit - centre, x_test - centre
    a = a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12)
    b = b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-12)
    nearest = np.argsort(-(b @ a.T), axis=1, kind="stable")[:, :k]
    votes = np.zeros((len(b), len(classes)))
    for column in codes[nearest].T:
        votes[np.arange(len(b)), column] += 1
    guess = classes[np.bincount(codes).argmax()]
    accuracy = float((classes[votes.argmax(1)] == y_test).mean())
    return accuracy, float((y_test == guess).mean())


def scan_variable(cohort: CohortLike, scans: pd.DataFrame, name: str) -> Vector | None:
    """Look up a table variable for every scan.

    Args:
        cohort: The cohort.
        scans: `subject_id`, `laterality`, `visit`, one row a scan.
        name: The variable.

    Returns:
        One number a scan, NaN where unknown; none if no table has the variable as numbers.
    """
    keys = {
        "joints": ["subject_id", "laterality", "visit"],
        "visits": ["subject_id", "visit"],
        "subjects": ["subject_id"],
    }
    for table, key in keys.items():
        frame = cohort.table(table)
        if name not in frame.columns:
            continue
        found = scans[key].merge(frame[[*key, name]], on=key, how="left", validate="many_to_one")
        values = found[name]
        if pd.api.types.is_numeric_dtype(values):
            return values.to_numpy(np.float64)
        codes, _ = pd.factorize(values, sort=True)
        return np.where(codes < 0, np.nan, codes.astype(np.float64))
    return None


class Monitor:
    """Measures an encoder: effective rank, ridge probes and a leakage probe.

    Probes are fitted on training subjects and scored on validation subjects; with too few
    validation scans nothing but the rank is measured, on training subjects.

    Args:
        cohort: The cohort.
        split: The split.
        sequence: The sequence.
        intensity: The intensity rule.
        config: What to measure.
    """

    def __init__(
        self,
        cohort: CohortLike,
        split: SplitLike,
        sequence: str,
        intensity: IntensityRule,
        config: MonitorConfig,
    ) -> None:
        self._intensity = intensity
        self._config = config
        self._source = ScanSource(cohort, sequence, split, ("train", "val"))
        scans = self._source.scans
        sets = scan_sets(scans, split)["set"].to_numpy()
        # The first visit of each joint: probes across people, not across visits.
        first = (
            scans[scans["rank"] == 0]
            .sort_values(["joint_id", "days", "visit"], kind="stable")
            .drop_duplicates("joint_id")
            .sort_index()
            .index.to_numpy()
        )
        self._rows = {
            name: first[sets[first] == name][: config.max_scans] for name in ("train", "val")
        }
        self._targets: dict[str, Vector] = {}
        wanted = [*config.variables, *([config.leakage] if config.leakage else [])]
        for name in wanted:
            values = scan_variable(cohort, scans, name)
            if values is None:
                logger.info("monitor: no table has %s; it is not probed", name)
            else:
                self._targets[name] = values

    def measure(self, encoder: ImageEncoder) -> Mapping[str, float]:
        """Measure an encoder as it stands; its weights and mode are as before.

        Returns:
            `rankme`, `r2_NAME` of each variable, `knn_NAME` and `knn_NAME_chance` of the leakage variable.
        """
        device = next(encoder.parameters()).device
        vectors = {
            name: embed_rows(encoder, self._source, rows, self._intensity, device=device)
            for name, rows in self._rows.items()
            if len(rows)
        }
        enough = [name for name in ("val", "train") if len(self._rows[name]) >= _FEWEST]
        seen = vectors[enough[0]] if enough else None
        figures: dict[str, float] = {}
        if seen is not None:
            finite = bool(np.isfinite(seen).all())
            figures["rankme"] = rankme(torch.from_numpy(seen)) if finite else float("nan")
        if set(vectors) != {"train", "val"} or not all(
            np.isfinite(part).all() for part in vectors.values()
        ):
            return figures
        x_fit, x_val = (vectors[name].astype(np.float64) for name in ("train", "val"))
        for name, values in self._targets.items():
            y_fit, y_val = values[self._rows["train"]], values[self._rows["val"]]
            fit, val = np.isfinite(y_fit), np.isfinite(y_val)
            if min(fit.sum(), val.sum()) < _FEWEST:
                continue
            known = (x_fit[fit], y_fit[fit], x_val[val], y_val[val])
            if name == self._config.leakage:
                figures[f"knn_{name}"], figures[f"knn_{name}_chance"] = knn_accuracy(*known)
            else:
                figures[f"r2_{name}"] = ridge_r2(*known)
        return figures
