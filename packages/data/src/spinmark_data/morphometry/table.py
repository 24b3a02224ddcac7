"""The table `morphometry` of a cohort, one row a joint at a visit, and its dictionary."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.scan_map import map_scans
from spinmark_data.errors import InputError
from spinmark_data.labels.store import LabelSet
from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.frame import knee_frame
from spinmark_data.morphometry.joint import Joint
from spinmark_data.morphometry.knee import BONES, MENISCI, find_covers, measure_knee
from spinmark_data.morphometry.shape import shape_field

KEYS = ("subject_id", "laterality", "visit")
_SIDES = {"M": "medial", "L": "lateral"}
_TIBIAL = {"C": "central", "A": "anterior", "P": "posterior", "I": "internal", "E": "external"}
_FEMORAL = {"A": "trochlea", "C": "central condyle", "P": "posterior condyle"}
REGIONS: Mapping[str, str] = {
    "F": "femur",
    "P": "patella",
    **{f"{s}T": f"{side} tibia" for s, side in _SIDES.items()},
    **{
        f"{s}T_{p}": f"{side} tibia, {part}"
        for s, side in _SIDES.items()
        for p, part in _TIBIAL.items()
    },
    **{
        f"{s}F_{p}": f"femur, {side} {part}"
        for s, side in _SIDES.items()
        for p, part in _FEMORAL.items()
    },
    **{f"P_{s}": f"patella, {side} facet" for s, side in _SIDES.items()},
}
_REGIONAL = {
    "TAB": ("total area of subchondral bone", "mm2", "bone area"),
    "THC": ("mean cartilage thickness over the subchondral bone", "mm", "cartilage thickness"),
    "THC05": ("5th percentile of cartilage thickness", "mm", "cartilage thickness"),
    "DAB": ("share of the subchondral bone that is denuded", "1", "denuded bone"),
}


@dataclass(frozen=True, kw_only=True)
class Morphometry:
    """What was measured.

    Args:
        table: `subject_id`, `laterality`, `visit`, then a column a variable; NaN where a label map
            does not hold the structure. Unique in its key.
        dictionary: The variables' rows of the cohort's dictionary.
        issues: `source`, `kind`, `reason`, `action` of scans that could not be measured.
        scans: `scan_id` and `days` of each row of the table.
        fields: By bone that was asked for, `(row, n)` float32 of `shape_field`; NaN where the label
            map does not hold the bone and both tibial cartilages.
        notes: What was decided, in words.
    """

    table: pd.DataFrame
    dictionary: pd.DataFrame
    issues: pd.DataFrame
    scans: pd.DataFrame
    fields: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def variables(codes: Mapping[int, str]) -> pd.DataFrame:
    """The dictionary's rows of all variables that label maps of these codes can give.

    Columns are those of `ingest.tableset.COLUMNS["dictionary"]`; the role is `morphometric`.
    """
    rows = [
        (f"VOL_{name.upper()}", f"Volume of {name.replace('_', ' ')}", "mm3", "volume")
        for _, name in sorted(codes.items())
    ]
    for measure, (label, unit, group) in _REGIONAL.items():
        for region, where in REGIONS.items():
            rows.append((f"{measure}_{region}", f"{where.capitalize()}: {label}", unit, group))
    for bone in BONES:
        label = f"{bone.capitalize()}: surface area within the field of view"
        rows.append((f"SAB_{bone.upper()}", label, "mm2", "bone area"))
    for meniscus in MENISCI:
        side = meniscus.split("_")[0]
        label = f"{side.capitalize()} meniscus: extrusion over the edge of the plateau"
        rows.append((f"MEX_{side.upper()}", label, "mm", "meniscus"))
    frame = pd.DataFrame(rows, columns=["variable", "label", "unit", "group"], dtype=object)
    frame = frame.assign(kind="continuous", role="morphometric", codes="{}", table="morphometry")
    frame["source"] = "label maps"
    order = ["variable", "label", "unit", "kind", "role", "group", "codes", "table", "source"]
    return frame[order].astype(object)


class _LabelScans:
    """The label maps of a sequence in the place of its volumes, for `map_scans`.

    It goes with every task, so it takes along what one task needs and not the rows of all scans.

    Args:
        labels: The label maps.
        sequence: Their sequence.
        rows: One row a label map.
    """

    def __init__(self, labels: LabelSet, sequence: str, rows: pd.DataFrame) -> None:
        self._labels = labels.without_rows()
        self._shape = tuple(labels.manifest["sequences"][sequence]["shape"])
        self._places = labels.places(sequence)
        self._rows: pd.DataFrame | None = rows

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None}

    def scans(self, sequence: str) -> pd.DataFrame | None:
        """One row a label map; None in a worker."""
        return self._rows

    def read(self, sequence: str, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Codes of some label maps, `(n, z, y, x)`."""
        places = [int(self._places[int(index)]) for index in indices]
        return np.stack([self._labels.crop(sequence, p, (0, 0, 0), self._shape) for p in places])


@dataclass(frozen=True)
class _Measure:
    """Measure one label map; picklable, so that it runs in other processes."""

    codes: Mapping[int, str]
    config: MorphometryConfig = field(default_factory=MorphometryConfig)
    bones: tuple[str, ...] = ()

    def __call__(self, labels: NDArray[Any], row: "pd.Series[Any]") -> dict[str, Any]:
        joint = Joint.of(
            labels,
            np.asarray(row["affine"], np.float64),
            self.codes,
            laterality=str(row["laterality"]),
            mirrored=bool(row["mirrored"]),
        )
        covers = find_covers(joint, self.config)
        found: dict[str, Any] = dict(measure_knee(joint, self.config, covers))
        if {"MT", "LT"} <= covers.keys():
            frame = knee_frame(covers)
            for bone in self.bones:
                if f"VOL_{bone.upper()}" in found:
                    found[_field(bone)] = shape_field(joint, bone, self.config, frame)
        return found


def _field(bone: str) -> str:
    return f"field of {bone}"


def measure_cohort(
    cohort: Cohort,
    sequence: str,
    config: MorphometryConfig | None = None,
    *,
    bones: Sequence[str] = (),
    client: Any = None,
    scheduler: Literal["threads", "processes", "synchronous"] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Morphometry:
    """Measure the primary scan of each joint and visit that has a label map.

    Args:
        cohort: The cohort.
        sequence: The sequence whose label maps are measured.
        config: Settings.
        bones: The bones whose shape fields are asked for, too.
        client: A `distributed.Client`, whose workers do the work.
        scheduler: Without one, a scheduler of dask; by default `processes` where the settings ask
            for more than one worker.
        progress: Called with scans done and scans asked for.

    Returns:
        Table, dictionary and issues. A scan that cannot be measured is an issue, and no row.

    Raises:
        InputError: The cohort has no such label maps.
    """
    import dask

    config = config or MorphometryConfig()
    labels = LabelSet.open(cohort, config.labels)
    chosen = labels.indices(sequence)
    scans, affine, _ = cohort.coordinates(sequence)
    rows = scans.iloc[chosen].reset_index(drop=True)
    primary = np.flatnonzero(rows["rank"].to_numpy() == 0)
    if not len(primary):
        raise InputError(f"No primary scan of '{sequence}' has a label map in '{config.labels}'.")
    rows["affine"] = list(affine[chosen])
    if client is None and scheduler is None:
        scheduler = "processes" if config.workers > 1 and len(primary) > 1 else "synchronous"
    with dask.config.set(num_workers=max(1, config.workers)):
        found = map_scans(
            cast("Cohort", _LabelScans(labels, sequence, rows)),
            sequence,
            _Measure(labels.codes, config, tuple(bones)),
            client=client,
            scheduler=scheduler,
            indices=primary,
            values="stored",
            errors="collect",
            progress=progress,
        )
    rows = rows.iloc[primary].reset_index(drop=True)
    return _gathered(found, rows, variables(labels.codes), bones)


def _gathered(
    found: pd.DataFrame, rows: pd.DataFrame, dictionary: pd.DataFrame, bones: Sequence[str]
) -> Morphometry:
    failed = found["error"] != ""
    known = [name for name in dictionary["variable"] if name in found.columns]
    table = pd.concat([rows[list(KEYS)], found[known].astype(np.float64)], axis=1)[~failed]
    issues = pd.DataFrame(
        {
            "source": found.loc[failed, "scan_id"],
            "kind": "refused",
            "reason": found.loc[failed, "error"].str.replace(r"^InputError: ", "", regex=True),
            "action": "correct the label map or its codes, and add it as another set",
        }
    )
    kept = dictionary[dictionary["variable"].isin(known)]
    table = table.sort_values(list(KEYS))
    return Morphometry(
        table=table.reset_index(drop=True),
        dictionary=kept.reset_index(drop=True),
        issues=issues.reset_index(drop=True).astype(object),
        scans=rows.loc[table.index, ["scan_id", "days"]].reset_index(drop=True),
        fields={bone: _stacked(found, table.index, _field(bone)) for bone in bones},
    )


def _stacked(found: pd.DataFrame, index: "pd.Index[Any]", column: str) -> NDArray[np.float32]:
    """The fields of some rows as one array; a row without one is NaN."""
    cells = found[column].loc[index].tolist() if column in found.columns else []
    size = max((cell.size for cell in cells if isinstance(cell, np.ndarray)), default=0)
    out = np.full((len(index), size), np.nan, np.float32)
    for row, cell in enumerate(cells):
        if isinstance(cell, np.ndarray):
            out[row] = cell
    return out
