"""Which scans define what is found, and on which of them it is fitted.

Clusters and directions share these rules: primary scans of the first visit (or of all visits), fitted
on training and validation subjects, in an order that does not depend on the order of the rows.
"""

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from spinmark_biomarkers.errors import InputError

FITTED_SETS = ("train", "val")


@dataclass(frozen=True, kw_only=True)
class ChosenRows:
    """Rows of an embedding, by what they are used for.

    Args:
        used: Scans that define a joint's phenotype or score, shape (n,).
        fitted: Those of them that are fitted on, shape (n,).
        rows: The fitted rows in the order of scan_id, shape (fitted,).
        people: The subject of each of them, shape (fitted,).
        codes: The same as whole numbers from 0, shape (fitted,).
    """

    used: npt.NDArray[np.bool_]
    fitted: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.intp]
    people: npt.NDArray[np.str_]
    codes: npt.NDArray[np.int64]

    @property
    def n_people(self) -> int:
        """The number of fitted subjects."""
        return int(self.codes.max()) + 1 if self.codes.size else 0


def defining_scans(scans: pd.DataFrame, visits: str) -> npt.NDArray[np.bool_]:
    """Mark the scans that define a joint: primary, and of the visits asked for.

    Args:
        scans: `rank`, `visit` and `days`, a row a scan.
        visits: `baseline` for the cohort's first visit, `all` for every visit.

    Returns:
        A value a scan.

    Raises:
        InputError: No scan is primary (of rank 0).
    """
    primary = (scans["rank"] == 0).to_numpy()
    if not primary.any():
        raise InputError("embeddings: no scan of rank 0; accepted is at least one")
    if visits == "all":
        return np.asarray(primary)
    days = scans[primary].groupby("visit")["days"].median()
    baseline = str(min(days.index, key=lambda visit: (days[visit], visit)))
    return np.asarray(primary & (scans["visit"] == baseline).to_numpy())


def choose_rows(scans: pd.DataFrame, visits: str) -> ChosenRows:
    """Choose the scans that define joints, and those of training and validation subjects to fit on.

    Args:
        scans: As `embeddings.scan_frame` gives them.
        visits: `baseline` or `all`.

    Raises:
        InputError: As `defining_scans`.
    """
    used = defining_scans(scans, visits)
    fitted = used & scans["set"].isin(FITTED_SETS).to_numpy()
    # In the order of scan_id from here on: the order of the rows must not show in any figure.
    rows = np.flatnonzero(fitted)[np.argsort(scans["scan_id"].to_numpy().astype(str)[fitted])]
    people = scans["subject_id"].to_numpy().astype(str)[rows]
    codes = np.unique(people, return_inverse=True)[1].astype(np.int64)
    return ChosenRows(used=used, fitted=fitted, rows=rows, people=people, codes=codes)


def known_at(scans: pd.DataFrame, used: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Return for each joint the day on which what was found of it was known.

    Args:
        scans: `joint_id` and `days`, a row a scan.
        used: The scans that define a joint, shape (n,).

    Returns:
        `joint_id` and `known_at`, the day of the last scan that defined it.
    """
    days = scans[used].groupby("joint_id")["days"].max()
    return days.rename("known_at").astype(float).reset_index()


def refuse_outcomes(ds: xr.Dataset, what: str = "phenotypes") -> None:
    """Refuse embeddings whose encoder was taught what becomes of people.

    Args:
        ds: The embeddings.
        what: What would be found in them, for the message.

    Raises:
        InputError: The attribute `uses` names an outcome.
    """
    seen = [name for name in json.loads(ds.attrs.get("uses", "[]")) if name.startswith("outcome:")]
    if seen:
        raise InputError(
            f"embeddings: their encoder learnt from {seen[0]}, and {what} that know an outcome foretell "
            "it by construction; accepted are encoders that learnt from none"
        )


def refuse_twins(ds: xr.Dataset) -> None:
    """Refuse a person who stands under two subject_ids: scans of both with one and the same embedding.

    Such a person counts twice, and may be fitted on under one name and held out under the other. Numbers
    of two scans agree to the last bit in no other way, unless an encoder maps all scans to one point,
    which the projection refuses.

    Args:
        ds: Embeddings that passed `embeddings.check_embeddings`, with all of their features.

    Raises:
        InputError: Two subjects have an embedding in common, and not all rows are equal.
    """
    # Adding 0 makes one zero of the two.
    x = np.ascontiguousarray(ds["embedding"].values) + np.zeros((), ds["embedding"].dtype)
    if (x == x[0]).all():
        return
    vector = x.view(np.dtype((np.void, x.itemsize * x.shape[1]))).ravel()
    frame = pd.DataFrame(
        {
            "vector": np.unique(vector, return_inverse=True)[1],
            "subject": ds["subject_id"].values.astype(str),
            "scan": ds["scan_id"].values.astype(str),
        }
    ).sort_values(["subject", "scan"])
    shared = frame[frame.groupby("vector")["subject"].transform("nunique") > 1]
    if shared.empty:
        return
    one = shared.iloc[0]
    same = shared[shared["vector"] == one["vector"]]
    other = same[same["subject"] != one["subject"]].iloc[0]
    raise InputError(
        f"embeddings: subjects {one['subject']} and {other['subject']} have the very same embedding "
        f"(scans {one['scan']} and {other['scan']}; {shared['subject'].nunique()} subjects share one); "
        "accepted is one subject_id a person: leave out the copy, or give both the same subject_id"
    )
