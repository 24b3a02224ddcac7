"""One scan and its row: what makes them alike, and the checks of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from spinmark_models.tables import EncodedTable
from spinmark_training.attribution.cells import cell_path
from spinmark_training.attribution.occlusion import boxes, occlusion, rank_correlation, sums
from spinmark_training.attribution.path import Integrated, Score, integrated_gradients
from spinmark_training.attribution.sanity import Agreement, Map, agreement, mean_agreement
from spinmark_training.attribution.similarity import Similarity
from spinmark_training.config import AttributionConfig

Vector = npt.NDArray[np.float64]
GROUPINGS = ("role", "group")
"""What variables are summed by."""


@dataclass(frozen=True)
class Explanation:
    """What makes a scan and its row alike.

    Attributes:
        cells: A row a variable: `variable`, `label`, `role`, `group`, `attribution`, `occlusion`,
            `randomised`. No value of a cell.
        groups: A row a group: `by`, `name`, `attribution`, `occlusion` (all its cells hidden at once),
            `randomised`.
        voxels: The attribution of each voxel `(D, H, W)`.
        volume: The scan as the encoder sees it `(D, H, W)`.
        checks: Similarities, completeness errors, steps and rank correlations by name.
        cascade: By block of the encoder, how alike the voxel maps are once weights are drawn anew down
            to it.
    """

    cells: pd.DataFrame
    groups: pd.DataFrame
    voxels: npt.NDArray[np.float32]
    volume: npt.NDArray[np.float32]
    checks: Mapping[str, float]
    cascade: Mapping[str, Agreement]


@dataclass(frozen=True)
class Pair:
    """A scan and its table row.

    Attributes:
        volume: The scan `(1, D, H, W)`, as the encoder sees it.
        baseline: Where its path begins, in the same shape.
        row: The row, alone in its table.
    """

    volume: Tensor
    baseline: Tensor
    row: EncodedTable


class Explainer:
    """Explains pairs of scans and rows by one run.

    Args:
        similarity: What the run makes of them.
        variables: Its variables: `variable`, `label`, `role`, `group`.
        config: How.
        random: The same with random weights, one a draw.
        cascaded: The same with weights drawn anew down to a block of the encoder, by its name.
    """

    def __init__(
        self,
        similarity: Similarity,
        variables: pd.DataFrame,
        config: AttributionConfig,
        random: Sequence[Similarity] = (),
        cascaded: Sequence[tuple[str, Similarity]] = (),
    ) -> None:
        self._similarity, self._variables, self._config = similarity, variables, config
        self._random, self._cascaded = random, cascaded

    def __call__(self, pair: Pair) -> Explanation:
        """Explain a pair."""
        cells, groups, checks = self._cells(pair)
        voxels, more, cascade = self._voxels(pair)
        return Explanation(
            cells=cells,
            groups=groups,
            voxels=voxels.attribution[0].float().cpu().numpy(),
            volume=pair.volume[0].float().cpu().numpy(),
            checks={**checks, **more},
            cascade=cascade,
        )

    def _integrate(self, score: Score, input_: Tensor, baseline: Tensor) -> Integrated:
        return integrated_gradients(
            score,
            input_,
            baseline,
            tolerance=self._config.tolerance,
            most_steps=self._config.most_steps,
            batch_size=self._config.batch_size,
        )

    def _row(self, similarity: Similarity, pair: Pair) -> tuple[Integrated, Vector]:
        """Walk the path of a row; return it, and the attribution of each cell."""
        path = cell_path(similarity.clinical, pair.row, self._config.table_baseline)
        score = similarity.to_volume(pair.volume, path.visits)
        found = self._integrate(score, path.tokens, path.baseline)
        return found, path.by_column(found.attribution)

    def _cells(self, pair: Pair) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, float]]:
        path = cell_path(self._similarity.clinical, pair.row, self._config.table_baseline)
        score = self._similarity.to_volume(pair.volume, path.visits)
        whole, cells = self._row(self._similarity, pair)

        def hide(parts: npt.NDArray[np.int64]) -> Vector:
            numbers = torch.from_numpy(parts)[:, None].to(path.tokens.device)
            return occlusion(score, path.tokens, path.baseline, numbers, batch_size=64)

        random_ = [self._row(one, pair)[1] for one in self._random]
        frame = self._variables.assign(
            attribution=cells,
            occlusion=hide(np.arange(len(cells))),
            randomised=random_[0] if random_ else np.nan,
        )
        groups = []
        for by in GROUPINGS:
            numbers, names = pd.factorize(frame[by], sort=True)
            parts = numbers.astype(np.int64)
            columns = {"attribution": cells, "randomised": frame["randomised"].to_numpy()}
            added = {name: sums(values, parts) for name, values in columns.items()}
            groups.append(
                pd.DataFrame({"by": by, "name": names, **added, "occlusion": hide(parts)})
            )
        differ = path.differ
        alike = mean_agreement(agreement(Map(cells), Map(one), differ) for one in random_)
        hidden = frame["occlusion"].to_numpy()
        checks = {
            "similarity": whole.score,
            **_path_checks("table", whole),
            "table_occlusion_correlation": rank_correlation(cells[differ], hidden[differ]),
            **alike.named("table_randomised"),
        }
        del checks["table_randomised_gradient"]
        order = ["by", "name", "attribution", "occlusion", "randomised"]
        return frame, pd.concat(groups, ignore_index=True)[order], checks

    def _scan(self, similarity: Similarity, pair: Pair) -> Integrated:
        """Walk the path of a scan."""
        return self._integrate(similarity.to_row(pair.row), pair.volume, pair.baseline)

    def _voxels(self, pair: Pair) -> tuple[Integrated, dict[str, float], dict[str, Agreement]]:
        whole = self._scan(self._similarity, pair)
        differ = (pair.volume != pair.baseline).cpu().numpy()
        trained = _map(whole)

        def compare(other: Similarity) -> Agreement:
            return agreement(trained, _map(self._scan(other, pair)), differ)

        z, y, x = pair.volume.shape[1:]
        parts = boxes((z, y, x), self._config.box)
        hidden = occlusion(
            self._similarity.to_row(pair.row),
            pair.volume,
            pair.baseline,
            torch.from_numpy(parts).to(pair.volume.device),
            batch_size=self._config.batch_size,
        )
        here = sums(differ, parts) > 0
        in_boxes = sums(trained.attribution, parts)
        checks = {
            **_path_checks("voxel", whole),
            "voxel_occlusion_correlation": rank_correlation(in_boxes[here], hidden[here]),
            **mean_agreement(compare(one) for one in self._random).named("voxel_randomised"),
        }
        return whole, checks, {name: compare(one) for name, one in self._cascaded}


def _map(found: Integrated) -> Map:
    attribution, gradient = (v.double().cpu().numpy() for v in (found.attribution, found.gradient))
    return Map(attribution, gradient)


def _path_checks(prefix: str, found: Integrated) -> dict[str, float]:
    return {
        f"{prefix}_baseline_similarity": found.baseline_score,
        f"{prefix}_completeness_error": found.error,
        f"{prefix}_error_bound": found.bound,
        f"{prefix}_steps": found.steps,
        f"{prefix}_complete": float(found.complete),
    }
