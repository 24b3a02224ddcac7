"""From a cohort and a distilled run to a folder of attributions."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from spinmark_data.cohort.reader import Cohort
from spinmark_data.labels.store import LabelSet, read_sets
from spinmark_training.attribution.choose import choose_scans
from spinmark_training.attribution.explain import Explainer, Explanation, Pair
from spinmark_training.attribution.opened import OpenedRun, open_run
from spinmark_training.attribution.similarity import cascade, drawn_anew
from spinmark_training.attribution.structures import structure_shares
from spinmark_training.config import AttributionConfig
from spinmark_training.errors import InputError
from spinmark_training.views import plain_views

# A cohort's own name for its label maps, which may be absent.
_USUAL_LABELS = "labels"


@dataclass(frozen=True)
class ScanAttribution:
    """One scan, explained.

    Attributes:
        scan: Its row of the cohort's scans, and its `set`.
        explanation: What makes it like its table row.
        structures: The share of attribution in each labelled structure; none without a label map.
    """

    scan: pd.Series
    explanation: Explanation
    structures: pd.DataFrame | None

    @property
    def scan_id(self) -> str:
        """Its identifier."""
        return str(self.scan["scan_id"])


@dataclass(frozen=True)
class Attribution:
    """A run that explains scans of a cohort, one after another.

    Attributes:
        cohort: The cohort.
        opened: The run.
        config: How similarity is attributed.
        chosen: The scans, by row.
        pairs: How alike each chosen scan is to each chosen row, `(n, n)`: what there is to explain.
    """

    cohort: Cohort
    opened: OpenedRun
    config: AttributionConfig
    chosen: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.float64]

    def __iter__(self) -> Iterator[ScanAttribution]:
        """Explain the chosen scans, each when it is asked for."""
        explainer = self._explainer()
        labels = label_set(self.cohort, self.opened.source.sequence, self.config.labels)
        for row in self.chosen.tolist():
            explained = explainer(self._pair(row))
            scan = self.opened.source.scans.iloc[row]
            scan = pd.concat([scan, pd.Series({"set": self.opened.sets.iloc[row]})])
            shares = None
            if (
                labels is not None
                and (found := self._labels(labels, str(scan["scan_id"]))) is not None
            ):
                shares = structure_shares(explained.voxels, found, labels.codes)
            yield ScanAttribution(scan, explained, shares)

    def _explainer(self) -> Explainer:
        similarity, seed = self.opened.similarity, self.config.seed
        random_ = [drawn_anew(similarity, seed + i) for i in range(self.config.randomised)]
        cascaded = cascade(similarity, seed) if self.config.cascade else []
        return Explainer(similarity, self.opened.variables, self.config, random_, cascaded)

    def _pair(self, row: int) -> Pair:
        volume = _volumes(self.opened, np.array([row]))[0]
        return Pair(
            volume, self.opened.baseline(volume), self.opened.rows.rows(slice(row, row + 1))
        )

    def _labels(self, labels: LabelSet, scan_id: str) -> npt.NDArray[Any] | None:
        sequence = self.opened.source.sequence
        known = {str(row["scan_id"]) for row in labels.manifest["sequences"][sequence]["rows"]}
        if scan_id not in known:
            return None
        found = labels.read(sequence, scan_id)
        return found if found.shape == self.opened.source.shape else None


def label_set(cohort: Cohort, sequence: str, name: str) -> LabelSet | None:
    """Open the label maps of a sequence, where there are some.

    Raises:
        InputError: A set is asked for that the cohort does not have.
    """
    known = read_sets(cohort.folder)
    if name not in known:
        if name != _USUAL_LABELS:
            raise InputError(f"labels: the cohort has no label maps {name!r}; it has {known}")
        return None
    found = LabelSet.open(cohort, name)
    return found if sequence in found.sequences else None


def _volumes(opened: OpenedRun, rows: npt.NDArray[np.int64]) -> torch.Tensor:
    return plain_views(opened.source, rows, opened.intensity).to(opened.device)


def attribution(cohort: Cohort, run: Path, config: AttributionConfig) -> Attribution:
    """Prepare to explain scans of a cohort by a distilled run.

    Args:
        cohort: The cohort.
        run: The run, with a teacher.
        config: Which scans, and how.

    Returns:
        What explains the scans as it is iterated.

    Raises:
        InputError: The run or the cohort cannot be used, or a setting is out of its range.
    """
    opened = open_run(cohort, run, config)
    rows = opened.rows
    seen = rows.observed.reshape(len(rows.observed), -1).any(1).cpu().numpy()
    chosen = choose_scans(
        opened.source.scans,
        opened.sets,
        seen,
        config.scans,
        on=config.set,
        count=config.count,
        seed=config.seed,
    )
    return Attribution(cohort, opened, config, chosen, _pairs(opened, chosen, config.batch_size))


@torch.no_grad()
def _pairs(
    opened: OpenedRun, chosen: npt.NDArray[np.int64], batch_size: int
) -> npt.NDArray[np.float64]:
    index = torch.from_numpy(chosen).to(opened.device)
    rows = opened.similarity.rows(opened.rows.rows(index))
    scans = [
        opened.similarity.image(_volumes(opened, chosen[i : i + batch_size]))
        for i in range(0, len(chosen), batch_size)
    ]
    found: npt.NDArray[np.float64] = (torch.cat(scans) @ rows.T).double().cpu().numpy()
    return found
