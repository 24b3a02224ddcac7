"""Sites: probes that never saw a site, scored on it, and how well the site itself is read."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.evaluation.probes import predict_sites
from spinmark_biomarkers.evaluation.probing.plan import MIN_LABELS, Cell, Plan
from spinmark_biomarkers.evaluation.probing.predict import predict
from spinmark_biomarkers.evaluation.probing.targets import Target

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Fewer scored scans of a site give no row of its own; they still count in the pooled one.
MIN_SCORED = 10


def leave_one_site_out(x: Floats, plan: Plan) -> dict[str, Floats]:
    """Predict the scored scans of each site by linear probes fitted on all other sites.

    All labelled joints of the other sites are fitted on. The embedding itself may have been learnt with
    the site; train an encoder without it where that matters.

    Args:
        x: Standardised features, shape (scan, feature).
        plan: The plan; its cells with all labels are taken, events excepted.

    Returns:
        For each target a prediction for each of its cell's scored rows; NaN for rows of a site without
        which too few labels, or no contrast, remain.
    """
    subject = plan.scans["subject_id"].to_numpy().astype(str)
    site = plan.scans["site"].to_numpy().astype(str)
    cells = [c for c in plan.cells if c.budget is None and not c.reason and c.target.event is None]
    found = {cell.target.name: np.full(cell.scored.size, np.nan) for cell in cells}
    with threadpool_limits(limits=1):
        for name in np.unique(site[plan.test]):
            shared: dict[bytes, list[Cell]] = defaultdict(list)
            for cell in cells:
                rows = cell.subsets[0][site[cell.subsets[0]] != name]
                if _enough(cell.target, rows, subject):
                    shared[rows.tobytes()].append(cell)
            new = plan.test[site[plan.test] == name]
            for key, group in shared.items():
                rows = np.frombuffer(key, dtype=np.int64)
                said = predict(x, subject, [c.target for c in group], rows, new, "linear")
                for cell, values in zip(group, said, strict=True):
                    here = site[cell.scored] == name
                    found[cell.target.name][here] = values[np.isin(new, cell.scored[here])]
    return found


def _enough(target: Target, rows: Ints, subject: npt.NDArray[np.str_]) -> bool:
    several = rows.size >= MIN_LABELS and np.unique(subject[rows]).size > 1
    return several and not target.constant(rows)


def site_rows(plan: Plan, cell: Cell) -> Mapping[str, Ints]:
    """Return the places among a cell's scored rows of each site that has enough of them."""
    site = plan.scans["site"].to_numpy().astype(str)[cell.scored]
    places = {str(name): np.flatnonzero(site == name) for name in np.unique(site)}
    return {
        name: at
        for name, at in places.items()
        if at.size >= MIN_SCORED and not cell.target.constant(cell.scored[at])
    }


def read_sites(x: Floats, plan: Plan) -> Floats | None:
    """Tell the site of each scored scan by a linear probe of all training scans.

    Returns:
        Codes of `site_target`, shape (scored scan,); None where the training scans have one site.
    """
    site = plan.scans["site"].to_numpy().astype(str)
    if np.unique(site[plan.train]).size < 2 or np.unique(site[plan.test]).size < 2:
        return None
    said = predict_sites(x[plan.train], site[plan.train], x[plan.test])
    return np.searchsorted(np.unique(site), said).astype(np.float64)


def site_target(plan: Plan) -> Target:
    """Return the site of each scan as a target."""
    codes = np.unique(plan.scans["site"].to_numpy().astype(str), return_inverse=True)[1]
    return Target(
        name="site", role="administrative", kind="nominal", values=codes.astype(np.float64)
    )
