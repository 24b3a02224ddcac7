"""Scans chosen by a condition over what is known of them, their joints, visits and subjects."""

from collections.abc import Sequence

import pandas as pd

from spinmark_data.definition.expression import parse
from spinmark_data.definition.variables import CohortRows, ScanTables, Variables

_PAIR = ("sequence", "subject_id", "laterality", "joint_id", "visit")
PAIR_COLUMNS = (
    *_PAIR, "scan_id", "retest_scan_id", "rank", "retest_rank", "index", "retest_index",
)  # fmt: skip


def query(
    cohort: ScanTables,
    condition: str,
    *,
    columns: Sequence[str] = (),
    scan_columns: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The scans that meet a condition.

    A variable is looked up among the scan's own columns, then among those of its joint at its
    visit, of its visit, and of its subject. A scan whose cell is missing meets no comparison;
    `missing(X)` asks for such scans.

    Args:
        cohort: An open cohort.
        condition: Such as `sequence == 'SAG_3D_DESS' and visit in ['V00', 'V06'] and rank == 0 and
            BMI > 30 and XRKL < 2`; `spinmark_data.definition.expression` lists the forms.
        columns: Further variables to return.
        scan_columns: More columns of scans, such as image quality: `scan_id` and any others.

    Returns:
        Scans in the order of the store, sequence by sequence: the columns of `Cohort.scans`,
        `sequence`, `index` (the position that `Cohort.read` takes) and every variable that was named.

    Raises:
        InputError: A condition that cannot be read, an unknown variable, or a value that never
            occurs; the message names the nearest known one.
    """
    expression = parse(condition)
    variables = Variables(cohort, scan_columns)
    rows = CohortRows(variables, variables.scans, of_scan=True)
    truth = expression.evaluate(rows)
    found = variables.scans.copy()
    for variable in expression.variables:
        label = variable.name if variable.visit is None else f"{variable.name}@{variable.visit}"
        if label not in found.columns:
            found[label] = rows.column(variable.name, variable.visit).to_numpy()
    for name in columns:
        if name not in found.columns:
            found[name] = rows.column(name, None).to_numpy()
    return found[truth.fillna(False).to_numpy(dtype=bool)].reset_index(drop=True)


def retest_pairs(cohort: ScanTables) -> pd.DataFrame:
    """Every pair of scans of one joint at one visit with one sequence, for test-retest.

    Rank 0 is the primary scan; each pair stands once, the lower rank first.

    Args:
        cohort: An open cohort.

    Returns:
        `sequence`, `subject_id`, `laterality`, `joint_id`, `visit`, `scan_id`, `retest_scan_id`,
        `rank`, `retest_rank`, and `index`, `retest_index`, the positions that `Cohort.read` takes.
        A row a pair, in the order of the first scan, then by rank of the second.
    """
    scans = Variables(cohort).scans
    names = [*_PAIR, "scan_id", "rank", "index"]
    repeated = scans.loc[scans.duplicated(list(_PAIR), keep=False), names]
    pairs = repeated.merge(repeated, on=list(_PAIR), suffixes=("", "_second"))
    pairs = pairs[pairs["rank"] < pairs["rank_second"]]
    pairs = pairs.rename(
        columns={
            "scan_id_second": "retest_scan_id",
            "rank_second": "retest_rank",
            "index_second": "retest_index",
        }
    )
    pairs = pairs.sort_values(["sequence", "index", "retest_rank"], kind="stable")
    return pairs.reset_index(drop=True).loc[:, list(PAIR_COLUMNS)]
