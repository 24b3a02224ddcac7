"""Why cells of a table are missing, as far as the cohort's table `missing` says."""

import numpy as np
import pandas as pd

_KEY = ["subject_id", "laterality", "visit", "variable"]


def reasons_of(
    missing: pd.DataFrame, scans: pd.DataFrame, dictionary: pd.DataFrame, values: pd.DataFrame
) -> pd.DataFrame:
    """Look up why cells are missing.

    A variable of a person has its reason under no laterality, and a static one under the visit at which
    it was asked.

    Args:
        missing: The cohort's table: `subject_id`, `laterality`, `visit`, `variable`, `reason`.
        scans: `subject_id`, `laterality`, `visit`, one row a row of `values`.
        dictionary: `variable` and `table` of the columns.
        values: The cells, NaN where missing.

    Returns:
        Text of the shape of `values`; `""` where a cell has a value or no reason is known.
    """
    out = pd.DataFrame("", index=values.index, columns=values.columns, dtype=object)
    if missing.empty:
        return out
    rows = missing.drop_duplicates(_KEY)
    rows = rows[rows["variable"].isin(list(values.columns))]
    tables = dict(zip(dictionary["variable"], dictionary["table"], strict=True))
    for name, own in rows.groupby("variable", sort=False):
        key = {"subjects": ["subject_id"], "visits": ["subject_id", "visit"]}.get(
            tables[name], ["subject_id", "laterality", "visit"]
        )
        if tables[name] in ("subjects", "visits"):
            own = own[own["laterality"] == ""]
        own = own.drop_duplicates(key)[[*key, "reason"]]
        why = scans[key].merge(own, on=key, how="left", validate="many_to_one")["reason"]
        known = why.notna().to_numpy() & values[name].isna().to_numpy()
        out[name] = np.where(known, why.to_numpy(dtype=object), "")
    return out
