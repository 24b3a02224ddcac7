"""Paths whose truth is known, for the tests of trajectories."""

import numpy as np
import pandas as pd

from spinmark_biomarkers.embeddings import from_frame


def cohort(people=60, visits=5, features=6, moving="flow", noise=0.2, rescans=0.0, seed=0):
    """Embeddings of two knees a person with visits about a year apart, some of them missed.

    `moving` is "flow" (all along the first axis), "groups" (one of three axes) or "none".
    """
    rng = np.random.default_rng(seed)
    knees = 2 * people
    person = np.repeat(np.arange(people), 2)
    start = 0.7 * (rng.normal(size=(people, features))[person] + rng.normal(size=(knees, features)))
    velocity = np.zeros((knees, features))
    if moving == "flow":
        velocity[:, 0] = 0.2 + 0.1 * rng.normal(size=knees) + 0.1 * start[:, 1]
    elif moving == "groups":
        velocity[np.arange(knees), rng.integers(0, 3, people)[person]] = 0.5
        velocity += 0.03 * rng.normal(size=velocity.shape)
    years = np.arange(visits) + rng.uniform(0, 0.2, (knees, visits)) * (np.arange(visits) > 0)
    place = start[:, None] + velocity[:, None] * years[:, :, None]
    rows = []
    for knee in range(knees):
        for visit in range(visits):
            if visit and rng.random() < 0.15:
                continue
            for rank in range(1 + int(rng.random() < rescans)):
                seen = place[knee, visit] + noise * rng.normal(size=features)
                rows.append(
                    {
                        "subject_id": f"S{person[knee]:03d}",
                        "laterality": "RL"[knee % 2],
                        "visit": f"V{visit:02d}",
                        "rank": rank,
                        "days": years[knee, visit] * 365.25,
                        **{f"f{i}": value for i, value in enumerate(seen)},
                    }
                )
    names = [f"f{i}" for i in range(features)]
    fitted = [f"S{s:03d}" for s in range(int(0.8 * people))]
    ds = from_frame(pd.DataFrame(rows), fitted_subjects=fitted, features=names)
    return ds, velocity


def ragged(joints=12, visits=6, seed=0):
    """Irregular times and numbers of scans, padded: years, scans."""
    rng = np.random.default_rng(seed)
    years = np.cumsum(rng.uniform(0.2, 1.5, (joints, visits)), axis=1)
    counts = rng.integers(2, visits + 1, joints)
    scans = rng.integers(1, 3, (joints, visits)) * (np.arange(visits) < counts[:, None])
    last = np.take_along_axis(years, counts[:, None] - 1, axis=1)
    return np.where(scans > 0, years, last), scans.astype(np.int64)
