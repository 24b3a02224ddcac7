"""Simulated people with two joints each, for the tests of validation."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.survival.data import SurvivalData

Floats = npt.NDArray[np.float64]


def cohort(
    people: int,
    beta: list[float],
    *,
    noise: int = 0,
    seed: int = 0,
    rate: float = 0.03,
    frailty: float = 0.5,
) -> tuple[SurvivalData, pd.DataFrame]:
    """Outcomes and raw covariates `x0`, `x1`, ... (log hazard ratios `beta`, then `noise` without effect)."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(people), 2)
    n = len(subject)
    x = rng.normal(size=(n, len(beta) + noise))
    shared = rng.gamma(1 / frailty, frailty, people)[subject]
    hazard = rate * shared * np.exp(x[:, : len(beta)] @ np.array(beta, dtype=float))
    event = rng.exponential(1 / hazard)
    death = rng.exponential(1 / 0.015, people)[subject]
    end = np.minimum(rng.uniform(2, 11, people)[subject], death)
    time = np.minimum(event, end)
    cause = np.where(event <= end, 1, np.where(death <= end, 2, 0))
    ids = np.array([f"{1000000 + s}:{'RL'[k % 2]}" for k, s in enumerate(subject)], dtype=object)
    data = SurvivalData(
        ids=ids,
        subject_ids=np.array([str(1000000 + s) for s in subject], dtype=object),
        covariates=np.empty((n, 0)),
        names=(),
        lower=time,
        upper=np.where(cause == 0, np.inf, time),
        cause=cause.astype(np.int64),
        weight=np.ones(n),
    )
    return data, pd.DataFrame(x, index=ids, columns=[f"x{k}" for k in range(x.shape[1])])


def twice(data: SurvivalData) -> SurvivalData:
    """The follow-up of the first joint as two (start, stop] rows."""
    rows = data.with_rows(np.append(0, np.arange(len(data.ids))))
    ids, subjects, cause = rows.ids.copy(), rows.subject_ids.copy(), rows.cause.copy()
    ids[1], subjects[1], cause[0] = ids[0], subjects[0], 0
    start, lower, upper = rows.start.copy(), rows.lower.copy(), rows.upper.copy()
    lower[0] = start[1] = rows.lower[0] / 2
    upper[0] = np.inf
    return replace(
        rows, ids=ids, subject_ids=subjects, cause=cause, start=start, lower=lower, upper=upper
    )


def brute_force_c(time: Floats, event: npt.NDArray[np.bool_], risk: Floats) -> tuple[float, int]:
    """Harrell's C by looking at every pair, and the number of pairs that compare."""
    won, pairs = 0.0, 0
    for i in np.flatnonzero(event):
        for j in range(len(time)):
            later = time[j] > time[i] or (time[j] == time[i] and not event[j])
            if j != i and later:
                pairs += 1
                won += (risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])
    return (won / pairs if pairs else float("nan")), pairs
