"""Data and slow, plain oracles that the tests of survival metrics share."""

import functools

import numpy as np
import pytest


def simulated(n=300, seed=0, *, delayed=False, ties=False, pairs=False):
    """Two exponential causes, uniform censoring, a true risk x; curves `truth(grid)` of the event."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    hazard, death = 0.06 * np.exp(0.9 * x), np.full(n, 0.03)
    event_at, death_at = rng.exponential(1 / hazard), rng.exponential(1 / death)
    if pairs:
        death_at[1::2] = death_at[::2]
    end = rng.uniform(3, 14, n)
    time = np.minimum(np.minimum(event_at, death_at), end)
    cause = np.where(time == event_at, 1, np.where(time == death_at, 2, 0))
    start = np.zeros(n)
    if delayed:
        start = np.where(rng.random(n) < 0.5, rng.uniform(0, 6, n), 0.0)
    if ties:
        time, start = np.ceil(time), np.floor(start)
    seen = start < time

    def truth(grid):
        both = (hazard + death)[seen, None]
        return hazard[seen, None] / both * (1 - np.exp(-both * np.asarray(grid)))

    return time[seen], cause[seen], start[seen], x[seen], truth


def in_view(time, cause, start, weight, at):
    """Chance of being uncensored and entered just before `at`: the two product limits, one by one."""
    stays = 1.0
    for t in np.unique(time[(cause == 0) & (time < at)]):
        here = (start < t) | (start == 0)
        censored = weight[(time == t) & (cause == 0)].sum()
        risk = weight[here & (time >= t)].sum() - weight[(time == t) & (cause > 0)].sum()
        stays *= 1 - censored / risk if risk > 0 else 1.0
    entered = 1.0
    for t in np.unique(start[(start >= at) & (start > 0)]):
        after = weight[(start <= t) & (time > t)].sum()
        entered *= 1 - weight[start == t].sum() / after if after > 0 else 1.0
    return stays * entered


def incidence(time, cause, start, weight, at, of=1):
    """Aalen-Johansen by its definition."""
    free, total = 1.0, 0.0
    for t in np.unique(time[(cause > 0) & (time <= at)]):
        risk = weight[(time >= t) & ((start < t) | (start == 0))].sum()
        if risk == 0:
            continue
        total += free * weight[(time == t) & (cause == of)].sum() / risk
        free *= 1 - weight[(time == t) & (cause > 0)].sum() / risk
    return total


@functools.cache
def peer_data(name):
    """Time in years, event, risk of a shipped data set; censored rows stand after events at ties."""
    if name == "rossi":
        frame = pytest.importorskip("lifelines.datasets").load_rossi()
        days, event = frame["week"].to_numpy(float) * 7, frame["arrest"].to_numpy(bool)
        risk = frame["prio"].to_numpy(float) - frame["age"].to_numpy(float) / 5
    else:
        datasets = pytest.importorskip("sksurv.datasets")
        x, y = getattr(datasets, f"load_{name}")()
        event, days = (np.asarray(y[f]) for f in y.dtype.names)
        columns = {
            "flchain": ("age",), "gbsg2": ("pnodes", "tsize"), "whas500": ("age", "los"),
            "veterans_lung_cancer": ("Karnofsky_score",),
        }[name]  # fmt: skip
        risk = sum(x[c].to_numpy(float) for c in columns)
        risk = -risk if name == "veterans_lung_cancer" else risk
    risk = (risk - risk.mean()) / risk.std()
    return (days + 1.0) / 365.25, event, risk


def apart(time, event):
    """The same rows with censorings an eighth of a day later, so that none ties with an event."""
    return np.where(event, time, time + 0.125 / 365.25)


def structured(time, event):
    return np.array(
        list(zip(event.tolist(), time.tolist(), strict=True)),
        dtype=[("event", bool), ("time", float)],
    )


PEERS = ("flchain", "gbsg2", "whas500", "veterans_lung_cancer", "rossi")
