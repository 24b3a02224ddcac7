"""Embeddings to paths: the visits of a joint in the order of time, in a few principal components.

Scans of one joint on one day (rescans, repeated series) are averaged, and their scatter about the
average is kept: it tells the noise of a scan without any assumption on movement.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from spinmark_biomarkers.embeddings import check_embeddings, features_of_part, scan_frame
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.cluster import Projection, fit_projection
from spinmark_biomarkers.phenotypes.rows import refuse_outcomes, refuse_twins

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
DAYS_PER_YEAR = 365.25
ONE_DAY = "scans on one day only"


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Paths of joints, visits padded to the longest path.

    Args:
        joints: A row a joint in the order of `joint_id`: `joint_id`, `subject_id`, `laterality`,
            `set`, `visits`, `known_at` (day of the last visit used).
        points: Mean of a day's scans, shape (joint, visit, component); 0 where there is none.
        years: Years since enrolment, shape (joint, visit); the last one again where there is none.
        scans: Scans behind each point, shape (joint, visit); 0 where there is none.
        scatter: Cross products of scans about their mean of the day, shape (component, component).
        labels: Name of each visit, shape (joint, visit), objects; "" where there is none.
        projection: From features to components.
        left_out: `joint_id`, `reason`.
    """

    joints: pd.DataFrame
    points: Floats
    years: Floats
    scans: Ints
    scatter: Floats
    labels: npt.NDArray[np.object_]
    projection: Projection
    left_out: pd.DataFrame

    @property
    def present(self) -> Bools:
        """Which visits there are, shape (joint, visit)."""
        return np.asarray(self.scans > 0)

    @property
    def replicates(self) -> int:
        """Degrees of freedom of `scatter`: scans beyond the first of a joint's day."""
        return int((self.scans - 1)[self.present].sum())

    @property
    def fitted(self) -> Bools:
        """Joints of training and validation subjects, shape (joint,)."""
        return np.asarray(self.joints["set"].isin(["train", "val"]), dtype=bool)

    @property
    def subjects(self) -> Ints:
        """Subject codes from 0 in the order of their names, shape (joint,)."""
        names = self.joints["subject_id"].to_numpy().astype(str)
        return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _check_days(scans: pd.DataFrame) -> None:
    """Refuse days that are absent, or that contradict the order of the visits."""
    bad = ~np.isfinite(scans["days"].to_numpy(dtype=np.float64))
    if bad.any():
        first = scans["scan_id"].to_numpy()[bad][0]
        raise InputError(
            f"days: not a number at {int(bad.sum())} scans, such as {first}; accepted are days since enrolment"
        )
    medians = scans.groupby("visit")["days"].median()
    place = {visit: i for i, visit in enumerate(sorted(medians.index, key=lambda v: medians[v]))}
    # Scans of one visit may lie on several days; what counts is that a later visit begins later.
    first_days = scans.groupby(["joint_id", "visit"])["days"].min().reset_index()
    first_days["place"] = first_days["visit"].map(place)
    first_days = first_days.sort_values(["joint_id", "place"])
    back = (first_days["days"].diff() < 0) & (
        first_days["joint_id"] == first_days["joint_id"].shift()
    )
    if back.any():
        at = int(np.flatnonzero(back.to_numpy())[0])
        late, early = first_days.iloc[at], first_days.iloc[at - 1]
        raise InputError(
            f"days: {late['joint_id']} has visit {late['visit']} on day {late['days']:g}, "
            f"before {early['visit']} on "
            f"day {early['days']:g} ({int(back.sum())} such); accepted are visits in the order of time"
        )


def _check_once(scans: pd.DataFrame) -> None:
    """Refuse a scan that stands twice."""
    keys = ["subject_id", "laterality", "visit", "rank"]
    twice = scans.duplicated(keys).to_numpy()
    if twice.any():
        one = scans[keys].to_numpy()[twice][0]
        raise InputError(
            f"embeddings: {':'.join(map(str, one))} (subject, side, visit, rank) stands {int(twice.sum()) + 1} "
            "times or more; accepted is one scan each, of one sequence"
        )


def make_paths(embeddings: xr.Dataset, *, components: int = 8, part: str | None = None) -> Paths:
    """Order, average and project the scans of every joint.

    Args:
        embeddings: The embeddings artefact, see docs/schemas.md.
        components: Principal components, at most; fitted on the scans of training and validation
            subjects.
        part: As `embeddings.features_of_part`.

    Raises:
        InputError: Embeddings that fail their schema, knew an outcome or hold a person twice; days that
            are absent or out of order; no joint with two visits.
    """
    whole = check_embeddings(embeddings)
    refuse_twins(whole)
    ds = features_of_part(whole, part)
    refuse_outcomes(ds, "trajectories")
    # In the order of scan_id: the order of the rows must not show in any figure.
    ds = ds.isel(scan=np.argsort(ds["scan_id"].values.astype(str), kind="stable"))
    scans = scan_frame(ds)
    x = np.asarray(ds["embedding"].values, dtype=np.float64)
    _check_days(scans)
    _check_once(scans)
    fitted = scans["set"].isin(["train", "val"]).to_numpy()
    if not fitted.any():
        raise InputError("embeddings: no scan of the sets train and val; accepted is at least one")
    projection = fit_projection(x[fitted], components=components)
    return _assemble(scans, projection(x), projection)


def _assemble(scans: pd.DataFrame, z: Floats, projection: Projection) -> Paths:
    joint_ids, joint = np.unique(scans["joint_id"].to_numpy().astype(str), return_inverse=True)
    days = scans["days"].to_numpy(dtype=np.float64)
    order = np.lexsort(
        (scans["rank"].to_numpy(), scans["visit"].to_numpy().astype(str), days, joint)
    )
    new = np.r_[True, (np.diff(joint[order]) != 0) | (np.diff(days[order]) != 0)]
    point = np.empty(len(order), dtype=np.int64)
    point[order] = np.cumsum(new) - 1
    n_points = int(new.sum())
    counts = np.bincount(point, minlength=n_points)
    sums = np.zeros((n_points, z.shape[1]))
    np.add.at(sums, point, z)
    means = sums / counts[:, None]
    owner, day = joint[order][new], days[order][new]
    names = scans["visit"].to_numpy().astype(str)[order][new]
    visits = np.bincount(owner, minlength=len(joint_ids))
    kept = visits >= 2
    if not kept.any():
        raise InputError(
            f"embeddings: none of {len(joint_ids)} joints has scans on two days; accepted are "
            "joints with at least "
            "two visits"
        )
    used = kept[owner]
    row = (np.cumsum(kept) - 1)[owner[used]]
    column = (np.arange(n_points) - np.r_[0, np.cumsum(visits)][owner])[used]
    shape = (int(kept.sum()), int(visits.max()))
    about = (z - means[point])[kept[joint]]
    points = np.zeros((*shape, z.shape[1]))
    points[row, column] = means[used]
    years, n_scans = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    years[row, column], n_scans[row, column] = day[used] / DAYS_PER_YEAR, counts[used]
    last = np.take_along_axis(years, visits[kept][:, None] - 1, axis=1)
    years = np.where(n_scans > 0, years, last)
    labels = np.full(shape, "", dtype=object)
    labels[row, column] = names[used]
    first = scans.drop_duplicates("joint_id").set_index("joint_id").loc[joint_ids[kept]]
    joints = pd.DataFrame(
        {
            "joint_id": joint_ids[kept].astype(object),
            **{name: first[name].to_numpy() for name in ("subject_id", "laterality", "set")},
            "visits": visits[kept],
            "known_at": np.maximum.reduceat(day, np.r_[0, np.cumsum(visits)[:-1]])[kept],
        }
    )
    left_out = pd.DataFrame({"joint_id": joint_ids[~kept].astype(object), "reason": ONE_DAY})
    return Paths(
        joints=joints,
        points=points,
        years=years,
        scans=n_scans,
        scatter=about.T @ about,
        labels=labels,
        projection=projection,
        left_out=left_out,
    )
