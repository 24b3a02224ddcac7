"""Regional profiles: where the cartilage of a phenotype is thin, and which structures are large.

Each measure of label maps is compared between phenotypes, knees of equal sex and size side by
side: a thin cartilage of a small knee is no disease. Values are in standard deviations within
    phenotypes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.description.adjustment import Confounders
from spinmark_biomarkers.phenotypes.description.discovery_rate import benjamini_hochberg
from spinmark_biomarkers.phenotypes.description.effects import FEWEST_SUBJECTS, LEVEL
from spinmark_biomarkers.phenotypes.description.regression import (
    jackknife,
    linear,
    spread,
    starts_of,
)
from spinmark_biomarkers.phenotypes.description.variables import Variable, read_variables

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# The area of both tibial plateaus: the size of a knee that hardly depends on the field of view.
SIZE = ("TAB_MT", "TAB_LT")


def size_of(measures: pd.DataFrame) -> pd.Series | None:
    """Return the size of each knee, the subchondral area of both tibial plateaus in mm2.

    Args:
        measures: Measures of label maps, a row a scan.

    Returns:
        None where they lack it.
    """
    if not set(SIZE) <= set(measures.columns):
        return None
    return measures[list(SIZE)].sum(axis=1, skipna=False).rename("tibial plateau area")


def regional_profiles(
    labels: npt.ArrayLike,
    measures: pd.DataFrame,
    dictionary: pd.DataFrame,
    subjects: npt.ArrayLike,
    *,
    adjust: pd.DataFrame | None = None,
    reference: int | None = None,
    kinds: Sequence[str] = ("THC", "VOL"),
) -> pd.DataFrame:
    """Compare regional measures between phenotypes.

    Args:
        labels: Phenotype of each scan, shape (n,).
        measures: A row a scan, a column a measure named `KIND_REGION`; its index (scan_id) fixes
            the order of rows.
        dictionary: As for `enrichment.describe_groups`.
        subjects: Subject of each scan, shape (n,).
        adjust: What knees are made equal in, such as sex and size, a row a scan.
        reference: The phenotype that others are compared with; none for the mean over all joints.
        kinds: Which measures: `THC` (thickness), `VOL` (volume) and so on.

    Returns:
        A row a measure and phenotype: `variable`, `label`, `kind`, `region`, `phenotype`, `z`,
        `low`, `high`, `p`, `q`, `n` (scans of the phenotype), `note`.

    Raises:
        InputError: Lengths differ, no such phenotype or no such measure.
    """
    people = np.asarray(subjects, dtype=object).astype(str)
    codes = np.asarray(labels)
    if not codes.size == len(measures) == people.size:
        raise InputError(
            f"labels, measures and subjects: {codes.size}, {len(measures)} and {people.size} rows; accepted "
            "is one number of rows"
        )
    found = np.unique(codes)
    if reference is not None and reference not in found:
        raise InputError(f"reference: {reference}; accepted are {found.tolist()}")
    wanted = [c for c in measures.columns if str(c).partition("_")[0] in kinds]
    if not wanted:
        raise InputError(
            f"measures: none of {list(kinds)}; accepted are columns such as THC_MT, see 'spinmark measure'"
        )
    order = np.lexsort((measures.index.astype(str).to_numpy(), people))
    subject = np.unique(people[order], return_inverse=True)[1].astype(np.int64)
    given = Confounders.of(adjust, subject, order)
    group = np.searchsorted(found, codes[order]).astype(np.int64)
    rows: list[dict[str, object]] = []
    with threadpool_limits(limits=1):
        for one in read_variables(measures[wanted].iloc[order], dictionary):
            rows += _rows(one, group, found, given, reference)
    frame = pd.DataFrame(rows)
    frame["q"] = benjamini_hochberg(frame["p"].to_numpy(np.float64))
    return frame


def _rows(
    measure: Variable,
    group: Ints,
    found: npt.NDArray[np.generic],
    given: Confounders,
    reference: int | None,
) -> list[dict[str, object]]:
    kind, _, region = measure.name.partition("_")
    rows = np.flatnonzero(np.isfinite(measure.values) & given.known(given.names))
    counts = np.bincount(group[rows], minlength=found.size)
    there = np.flatnonzero(counts)
    values: dict[int, dict[str, float]] = {}
    note = "" if there.size > 1 else "no two phenotypes have it"
    if there.size > 1 and np.ptp(measure.values[rows]) == 0:
        note = "constant"
    if not note:
        values = _contrasts(measure.values[rows], group[rows], there, given, rows, found, reference)
    blank = dict.fromkeys(("z", "low", "high", "p"), float("nan"))
    result: list[dict[str, object]] = []
    for place, phenotype in enumerate(found.tolist()):
        own = values.get(place, blank)
        same = reference is not None and phenotype == reference
        few = not note and not same and np.isnan(own["z"])
        result.append(
            {
                "variable": measure.name,
                "label": measure.label,
                "kind": kind,
                "region": region,
                "phenotype": int(phenotype),
                **own,
                "q": float("nan"),
                "n": int(counts[place]),
                "note": f"fewer than {FEWEST_SUBJECTS} subjects"
                if few
                else "reference"
                if same
                else note,
            }
        )
    return result


def _contrasts(
    y: Floats,
    group: Ints,
    there: Ints,
    given: Confounders,
    rows: Ints,
    found: npt.NDArray[np.generic],
    reference: int | None,
) -> dict[int, dict[str, float]]:
    """Each phenotype's mean less the reference's, adjusted, over the deviation within phenotypes."""
    codes = np.unique(given.subjects[rows], return_inverse=True)[1].astype(np.int64)
    starts = starts_of(codes)
    marks = np.asarray(group[:, None] == there, dtype=np.float64)
    # The constant is in the marks.
    design = np.column_stack([marks, given.design(given.names, rows)[:, 1:]])
    fit = linear(design, y - y.mean(), starts)
    sd, sd_without = spread(y, np.searchsorted(there, group).astype(np.int64), starts)
    shares = marks.mean(axis=0)
    at = None if reference is None else np.flatnonzero(found[there] == reference)
    people = [np.unique(codes[group == place]).size for place in there.tolist()]
    # As many free subjects as the smaller side has.
    least = sum(people) if at is None or at.size == 0 else people[at[0]]
    if least < FEWEST_SUBJECTS or sd <= 0 or (at is not None and at.size == 0):
        return {}
    values: dict[int, dict[str, float]] = {}
    for column, place in enumerate(there.tolist()):
        subjects = people[column]
        if subjects < FEWEST_SUBJECTS or (at is not None and column == at[0]):
            continue
        contrast = np.zeros(design.shape[1])
        contrast[column] = 1.0
        contrast[: len(there)] -= shares if at is None else np.eye(len(there))[at[0]]
        own, without = float(fit.beta @ contrast), fit.left_out @ contrast
        z, error = own / sd, jackknife(own / sd, without / np.where(sd_without > 0, sd_without, sd))
        df = max(min(subjects, least) - 1, 1)
        reach = float(stats.t.ppf((1 + LEVEL) / 2, df)) * error
        slope = jackknife(own, without)
        p = 2 * float(stats.t.sf(abs(own) / slope, df)) if slope > 0 else float("nan")
        values[place] = {"z": z, "low": z - reach, "high": z + reach, "p": p}
    return values
