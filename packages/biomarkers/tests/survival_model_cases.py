"""Small made-up data that the tests of survival models share."""

import numpy as np

from spinmark_biomarkers.survival.data import SurvivalData


def pairs(
    subjects, p=3, *, seed=0, beta=(0.6, -0.4), theta=0.8, rate=0.06, interval=False, late=False
):
    """Two joints a person with a gamma frailty and a constant hazard, followed for ten years."""
    rng = np.random.default_rng(seed)
    n = 2 * subjects
    effect = np.zeros(p)
    effect[: len(beta)] = beta
    frailty = np.repeat(rng.gamma(1 / theta, theta, subjects), 2) if theta else np.ones(n)
    x = rng.normal(size=(n, p))
    event = rng.exponential(1 / (rate * frailty * np.exp(x @ effect)))
    time = np.minimum(event, 10.0)
    cause = (event <= time).astype(np.int64)
    lower, upper = time.copy(), np.where(cause == 1, time, np.inf)
    if interval:
        within = cause == 1
        lower[within], upper[within] = np.floor(time[within]), np.floor(time[within]) + 1
    start = np.where(np.arange(n) % 3 == 0, 0.5 * time, 0.0) if late else np.zeros(n)
    if interval:
        start = np.minimum(start, lower)
    return SurvivalData(
        ids=np.array([f"{i // 2:04d}:{'RL'[i % 2]}" for i in range(n)], dtype=object),
        subject_ids=np.array([f"{i // 2:04d}" for i in range(n)], dtype=object),
        covariates=x, names=tuple(f"x{k}" for k in range(p)), lower=lower, upper=upper,
        cause=cause, weight=np.ones(n), start=start,
    )  # fmt: skip
