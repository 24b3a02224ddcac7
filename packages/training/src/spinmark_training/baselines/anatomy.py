"""Radiomics: shapes and intensities of the structures of label maps, as an embedding."""

import logging
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import xarray as xr

from spinmark_data.cohort.reader import Cohort
from spinmark_data.features import MORPHOMETRY, morphometric_features
from spinmark_data.labels.store import LabelSet, read_sets
from spinmark_models.config import IntensityRule
from spinmark_training.baselines.common import chosen_sequence, identity_hash
from spinmark_training.baselines.filling import filled_with_medians
from spinmark_training.baselines.first_order import FIRST_ORDER, first_order
from spinmark_training.baselines.structures import structure_features, structure_names
from spinmark_training.embed import embeddings_dataset
from spinmark_training.errors import InputError
from spinmark_training.sources import ScanSource, SplitLike, scan_sets
from spinmark_training.views import plain_views

logger = logging.getLogger(__name__)

Matrix = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]


def radiomics(
    cohort: Cohort,
    split: SplitLike,
    *,
    sequence: str | None = None,
    labels: str = "labels",
    progress: Progress | None = None,
) -> xr.Dataset:
    """Embed every scan by volume and intensities of its structures, and by what `spinmark measure` found.

    Intensities pass the same rule as those that an encoder sees. Without label maps of the sequence they
    are those of the whole volume.

    Args:
        cohort: The cohort.
        split: The split; gaps are filled by the medians of its training scans.
        sequence: The image sequence; none takes the only one of the cohort, or the default one.
        labels: The set of label maps.
        progress: Called with scans done and scans in all.

    Returns:
        A dataset by the schema of embeddings, whose `feature_name(feature)` says what each is; the attribute
        `radiomics` says whether structures were measured, or the whole volume.

    Raises:
        InputError: No such sequence, or training scans do not differ.
    """
    sequence = chosen_sequence(cohort, sequence)
    source = ScanSource(cohort, sequence, None)
    maps = _label_maps(cohort, sequence, labels)
    if maps is None:
        logger.warning(
            "radiomics: no label maps of %s; intensities are those of the whole volume", sequence
        )
    values, names = _intensities(source, maps, progress)
    shapes, shape_names = _shapes(cohort, source)
    train = (scan_sets(source.scans, split)["set"] == "train").to_numpy()
    matrix, said = filled_with_medians(
        np.concatenate([values, shapes], axis=1), [*names, *shape_names], train
    )
    if not matrix.shape[1]:
        raise InputError(
            f"radiomics: the training scans of {sequence} do not differ; accepted are scans that do"
        )
    marks = [maps.hash if maps else "", asdict(IntensityRule())]
    found = embeddings_dataset(
        matrix.astype(np.float32),
        cohort,
        split,
        sequence,
        objective="radiomics",
        encoder_hash=identity_hash(["radiomics", sequence, said, *marks, cohort.hash, split.hash]),
    )
    found.attrs["radiomics"] = "structures" if maps else "whole volume"
    return found.assign_coords(feature_name=("feature", np.array(said, dtype=object)))


def _label_maps(cohort: Cohort, sequence: str, name: str) -> LabelSet | None:
    """The label maps of a sequence; none if there are none."""
    if name not in read_sets(cohort.folder):
        return None
    found = LabelSet.open(cohort, name)
    return found if sequence in found.sequences else None


def _intensities(
    source: ScanSource, maps: LabelSet | None, progress: Progress | None
) -> tuple[Matrix, list[str]]:
    """Features of every scan, `(scan, feature)`, NaN where it has no label map; and their names."""
    count = len(source.rows)
    names = [f"whole:{name}" for name in FIRST_ORDER]
    if maps is not None:
        names = structure_names([each for _, each in sorted(maps.codes.items())])
    values = np.full((count, len(names)), np.nan)
    for done, row in enumerate(_measured(source, maps)):
        unit = _unit(source, row)
        if maps is None:
            values[row] = first_order(unit.ravel())
        else:
            labels = maps.read(source.sequence, str(source.scans["scan_id"][row]))
            voxel = float(np.prod(source.spacing_mm))
            values[row] = structure_features(unit, labels, sorted(maps.codes), voxel)
        if progress is not None:
            progress(done + 1, count)
    return values, names


def _measured(source: ScanSource, maps: LabelSet | None) -> list[int]:
    rows = source.rows if maps is None else maps.indices(source.sequence)
    return [int(row) for row in rows]


def _unit(source: ScanSource, row: int) -> Matrix:
    """A scan's intensities in [0, 1], by the rule."""
    rule = IntensityRule()
    view = plain_views(source, np.array([row]), rule)[0, 0].double().numpy()
    return np.clip(view * rule.sd + rule.mean, 0, 1)


def _shapes(cohort: Cohort, source: ScanSource) -> tuple[Matrix, list[str]]:
    """What `spinmark measure` found of each scan's joint; no column where it was not run."""
    if cohort.table(MORPHOMETRY).empty:
        return np.empty((len(source.scans), 0)), []
    values = morphometric_features(cohort, source.scans).values
    return values.to_numpy(np.float64), [str(name) for name in values.columns]
