"""Scores against a truth in which there is little or nothing to find."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from spinmark import scoring

SUBJECTS, LATENTS = 30, ["bone", "cartilage"]


def held(latents: np.ndarray) -> scoring.Held:
    n = 2 * SUBJECTS
    scans = pd.DataFrame(
        {
            "scan_id": [f"s{i}" for i in range(n)],
            "subject_id": np.repeat([f"p{i}" for i in range(SUBJECTS)], 2),
            "laterality": ["R", "L"] * SUBJECTS,
            "visit": "V00",
            "rank": 0,
            "days": 0.0,
            "set": np.repeat(["train", "test"], SUBJECTS),
            **dict(zip(LATENTS, latents.T, strict=True)),
        }
    )
    return scoring.Held(
        scans, LATENTS, (scans["set"] == "train").to_numpy(), (scans["set"] == "test").to_numpy()
    )


@pytest.mark.parametrize("varied", [0, 1, 2])
def test_a_latent_that_nobody_differs_in_has_no_r2(varied: int) -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((2 * SUBJECTS, 2))
    truth[:, :varied] = rng.normal(size=(2 * SUBJECTS, varied))
    rows = held(truth)
    right = np.zeros((SUBJECTS, 2))
    found = scoring.probe_scores(
        {"a": right, "b": right + 0.1}, rows, comparisons=[("a", "b")], draws=20, seed=0
    )
    for k, latent in enumerate(LATENTS):
        assert found["probe_r2"]["a"][latent]["value"] == (1.0 if k < varied else None)
    mean = found["probe_r2_mean"]["b"]["value"]
    spread = truth[rows.test, :varied].var(axis=0)
    assert mean == (pytest.approx(float((1 - 0.01 / spread).mean())) if varied else None)
    difference = found["probe_r2_mean_difference"]["a - b"]["value"]
    assert difference == (pytest.approx(1 - mean) if varied else None)


def test_a_truth_without_phenotypes_tells_how_many_were_invented() -> None:
    rows = held(np.zeros((2 * SUBJECTS, 2)))
    labels = xr.Dataset(
        {"label": ("scan", np.arange(2 * SUBJECTS) % 3)},
        coords={"scan_id": ("scan", rows.scans["scan_id"].to_numpy(dtype=object))},
    )
    truth = rows.scans[["subject_id", "laterality"]].assign(phenotype=0)
    found = scoring.phenotype_scores(labels, truth, rows, draws=5, seed=0)
    assert found == {"k": 3, "true_k": 1}
