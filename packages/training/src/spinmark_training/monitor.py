"""What is measured along the way: probes of the embedding on validation subjects, no one else."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spinmark_models.config import IntensityRule
from spinmark_models.encoders import ImageEncoder
from spinmark_models.health import alignment, lidar, rankme, spread, uniformity
from spinmark_training.config import MonitorConfig
from spinmark_training.embed import embed_rows
from spinmark_training.errors import InputError
from spinmark_training.probes.linear import Vector, linear_accuracy, ridge_r2
from spinmark_training.probes.neighbours import knn_accuracy, knn_r2
from spinmark_training.probes.targets import Target, find_target, scan_variable
from spinmark_training.sources import CohortLike, ScanSource, SplitLike, scan_sets

__all__ = ["DrawViews", "Monitor", "knn_accuracy", "ridge_r2", "scan_variable"]

logger = logging.getLogger(__name__)

_FEWEST = 8  # with fewer known values on either side a probe says nothing

Rows = npt.NDArray[np.int64]
# (source, rows, part) -> one random view a row, (n, 1, D, H, W); each part has random numbers of its own,
# the same in every measurement.
DrawViews = Callable[[ScanSource, Rows, int], Tensor]


class Monitor:
    """Measures an encoder: effective ranks, spread, probes and a leakage probe.

    Probes are fitted on training subjects and scored on validation subjects; with too few
    validation scans nothing but rank and spread is measured, on training subjects.

    Args:
        cohort: The cohort.
        split: The split.
        sequence: The sequence.
        intensity: The intensity rule.
        config: What to measure.
        draw: Draws random views; without it LiDAR, alignment and uniformity are not measured. Draw
            from a seed of its own, so that measuring changes nothing and measurements compare.

    Raises:
        InputError: LiDAR is asked for with fewer than 2 views.
    """

    def __init__(
        self,
        cohort: CohortLike,
        split: SplitLike,
        sequence: str,
        intensity: IntensityRule,
        config: MonitorConfig,
        *,
        draw: DrawViews | None = None,
    ) -> None:
        if config.lidar_scans and config.lidar_views < 2:
            raise InputError(f"monitor.lidar_views: {config.lidar_views}; accepted are 2 and more")
        self._intensity = intensity
        self._config = config
        self._draw = draw
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
        self._rows: dict[str, Rows] = {
            name: first[sets[first] == name][: config.max_scans] for name in ("train", "val")
        }
        self._targets: list[Target] = []
        wanted = [*config.variables, *([config.leakage] if config.leakage else [])]
        for name in dict.fromkeys(wanted):
            target = find_target(cohort, scans, name)
            if target is None:
                logger.info("monitor: no table has %s; it is not probed", name)
            else:
                self._targets.append(target)

    def measure(self, encoder: ImageEncoder) -> Mapping[str, float]:
        """Measure an encoder as it stands; its weights and mode are as before.

        Returns:
            Columns of `metrics.csv`. Of the plain scans: `rankme` (effective rank) and `embedding_sd_val` (1
            when rows point in all directions, 0 when all point the same way). Of random views of
            validation joints, if views can be drawn: `lidar`, `alignment_val` (mean squared distance of two
            views on the unit sphere) and `uniformity_val`. Of each numeric variable: `r2_NAME` (ridge)
            and `knn_r2_NAME`. Of each variable of classes, the leakage variable always among them:
            `knn_NAME` (accuracy) with `knn_NAME_chance` (that of the commonest class), `linear_NAME`
            (balanced accuracy) with `linear_NAME_chance` (that of a guess), and `auc_NAME` where
            there are two classes.
        """
        device = next(encoder.parameters()).device
        vectors = {
            name: embed_rows(encoder, self._source, rows, self._intensity, device=device)
            for name, rows in self._rows.items()
            if len(rows)
        }
        figures = self._shape(vectors) | self._views(encoder, device)
        if set(vectors) != {"train", "val"} or not all(
            np.isfinite(part).all() for part in vectors.values()
        ):
            return figures
        x_fit, x_val = (vectors[name].astype(np.float64) for name in ("train", "val"))
        for target in self._targets:
            figures |= self._probe(target, x_fit, x_val)
        return figures

    def _shape(self, vectors: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, float]:
        enough = [name for name in ("val", "train") if len(self._rows[name]) >= _FEWEST]
        if not enough:
            return {}
        seen = torch.from_numpy(vectors[enough[0]])
        if not bool(torch.isfinite(seen).all()):
            return {"rankme": float("nan"), "embedding_sd_val": float("nan")}
        return {"rankme": rankme(seen), "embedding_sd_val": float(spread(seen))}

    def _views(self, encoder: ImageEncoder, device: torch.device) -> dict[str, float]:
        count, each = self._config.lidar_scans, self._config.lidar_views
        rows = self._rows["val"][:count]
        if self._draw is None or len(rows) < _FEWEST:
            return {}
        parts = []
        training = encoder.training
        encoder.eval()
        try:
            with torch.inference_mode():
                # A few joints at a time: all views of a large volume would not fit beside the training.
                for part, some in enumerate(np.array_split(rows, -(-len(rows) * each // 32))):
                    views = self._draw(self._source, np.repeat(some, each), part).to(device)
                    parts.append(encoder(views).embedding.double().cpu())
        finally:
            encoder.train(training)
        x = torch.cat(parts).reshape(len(rows), each, -1)
        if not bool(torch.isfinite(x).all()):
            return {"lidar": float("nan")}
        return {
            "lidar": lidar(x),
            "alignment_val": float(alignment(x[:, 0], x[:, 1])),
            "uniformity_val": float(uniformity(x[:, 0])),
        }

    def _probe(self, target: Target, x_fit: Vector, x_val: Vector) -> dict[str, float]:
        y_fit, y_val = target.values[self._rows["train"]], target.values[self._rows["val"]]
        fit, val = np.isfinite(y_fit), np.isfinite(y_val)
        if min(fit.sum(), val.sum()) < _FEWEST:
            return {}
        name = target.name
        known = (x_fit[fit], y_fit[fit], x_val[val], y_val[val])
        if not target.classes and name != self._config.leakage:
            return {f"r2_{name}": ridge_r2(*known), f"knn_r2_{name}": knn_r2(*known)}
        found: dict[str, Any] = {}
        found[f"knn_{name}"], found[f"knn_{name}_chance"] = knn_accuracy(*known)
        if len(np.unique(known[1])) > 1:
            linear, guess, area = linear_accuracy(*known)
            found |= {f"linear_{name}": linear, f"linear_{name}_chance": guess}
            found |= {} if area is None else {f"auc_{name}": area}
        return found
