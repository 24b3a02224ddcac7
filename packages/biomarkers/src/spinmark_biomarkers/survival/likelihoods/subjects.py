"""Which rows belong to a person, and what the person weighs."""

from typing import Any

import numpy as np

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Ints, SurvivalData
from spinmark_biomarkers.survival.likelihoods.frailty import MOST_INTERVALS


def subject_arrays(data: SurvivalData) -> dict[str, Any]:
    """The arrays that say who shares a frailty.

    Args:
        data: Rows to fit.

    Returns:
        `subject (n,)`, `weight (S,)`, `row_weight (n,)`, `subject_events (S,)`, `rising (K,)`, the
        weighted number of subjects with more than k events for k = 1, 2, ...; `interval_row (R,)`, the rows
        of interval-censored events, and `interval_weight (R,)`; `single (P1,)` the subjects that have one
        of these, `single_interval (P1,)` its place among the R; `pair`, `pair_first`, `pair_second`
        likewise; `many (Q,)`, `many_interval (Q, M)`, `many_present (Q, M)` for three and more.

    Raises:
        InputError: If a subject has more interval-censored events than are accepted.
    """
    subjects, code = data.subjects, data.subject_code
    n = len(subjects)
    weight = data.subject_weight
    exact = data.event & ~data.interval
    events = np.bincount(code, exact.astype(float), n).astype(np.float64)
    # Two at least, so that every data set has the same number of dimensions and a K of one or more.
    most = max(int(events.max(initial=0)), 2)
    rising = [float(weight @ (events > k)) for k in range(1, most)]
    rows = np.flatnonzero(data.interval)
    count = np.bincount(code[rows], minlength=n)
    if count.max(initial=0) > MOST_INTERVALS:
        worst = subjects[count > MOST_INTERVALS]
        more = f" and {len(worst) - 3} more" if len(worst) > 3 else ""
        raise InputError(
            f"outcomes: {count.max()} interval-censored joints of subject {', '.join(worst[:3])}{more}; "
            f"accepted are at most {MOST_INTERVALS} a subject with a shared frailty"
        )
    places: dict[int, list[int]] = {}
    # By joint, so that nothing depends on the order of rows.
    for place in np.lexsort((data.ids[rows].astype(str), code[rows])):
        places.setdefault(int(code[rows[place]]), []).append(int(place))
    one = [(s, at) for s, at in places.items() if len(at) == 1]
    two = [(s, at) for s, at in places.items() if len(at) == 2]
    more_ = [(s, at) for s, at in places.items() if len(at) > 2]
    largest = max((len(at) for _, at in more_), default=3)
    padded = [at + [at[0]] * (largest - len(at)) for _, at in more_]
    present = [[1.0] * len(at) + [0.0] * (largest - len(at)) for _, at in more_]

    def integers(values: list[Any], *shape: int) -> Ints:
        return np.asarray(values, dtype=np.int64).reshape(shape or (-1,))

    return {
        "subject": code,
        "weight": weight,
        "row_weight": weight[code],
        "subject_events": events,
        "rising": np.asarray(rising),
        "interval_row": rows.astype(np.int64),
        "interval_weight": weight[code[rows]],
        "single": integers([s for s, _ in one]),
        "single_interval": integers([at[0] for _, at in one]),
        "pair": integers([s for s, _ in two]),
        "pair_first": integers([at[0] for _, at in two]),
        "pair_second": integers([at[1] for _, at in two]),
        "many": integers([s for s, _ in more_]),
        "many_interval": integers(padded, -1, largest),
        "many_present": np.asarray(present, dtype=np.float64).reshape(-1, largest),
    }
