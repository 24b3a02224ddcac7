"""Models over folds: each subject scored by models that did without them, and embeddings that allow it."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from spinmark_biomarkers.embeddings import (
    check_embeddings,
    from_frame,
    never_seen,
    subject_folds,
)
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.config import PrognoseConfig, SamplerConfig
from spinmark_biomarkers.survival.crossfit import prognose_folds
from spinmark_biomarkers.survival.prognosis import METRICS, prognose
from spinmark_biomarkers.survival.store import read_prognosis, write_prognosis

YEAR = 365.25
CONFIG = PrognoseConfig(
    sampler=SamplerConfig(tune=60, draws=60), bootstrap=6, cif_draws=20, frailty=False, intervals=3
)


def embeddings() -> xr.Dataset:
    frame = pd.DataFrame(
        {
            "subject_id": np.repeat([f"s{i}" for i in range(6)], 2),
            "laterality": ["R", "L"] * 6,
            "f0": np.arange(12.0),
            "f1": np.arange(12.0) % 5,
        }
    )
    ds = from_frame(frame, fitted_subjects=["s0", "s1", "s2"])
    return ds.assign_coords(fold=("scan", np.repeat([0, 1, 2, 0, 1, 2], 2)))


def test_cross_fitted_embeddings_are_of_subjects_never_seen() -> None:
    plain = embeddings()
    assert list(never_seen(plain)) == [False] * 6 + [True] * 6
    with pytest.raises(InputError, match=r"6 scans are of subjects[^\n]*--fold all"):
        subject_folds(plain)
    marked = check_embeddings(plain.assign_attrs(crossfit=3))
    assert never_seen(marked).all()
    assert subject_folds(marked).to_dict() == {
        "s0": 0, "s1": 1, "s2": 2, "s3": 0, "s4": 1, "s5": 2
    }  # fmt: skip


def test_a_wrong_mark_is_named() -> None:
    marked = embeddings().assign_attrs(crossfit=3)
    with pytest.raises(InputError, match=r"without 'fold'"):
        check_embeddings(marked.drop_vars("fold"))
    torn = marked.assign_coords(fold=("scan", np.arange(12) % 3))
    with pytest.raises(InputError, match="subjects s0, s1, s2, s3, s4 and 1 more are in several"):
        check_embeddings(torn)
    with pytest.raises(InputError, match="3 folds, but crossfit is 2"):
        check_embeddings(marked.assign_attrs(crossfit=2))


@pytest.fixture(scope="module")
def study() -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(5)
    s = 120
    subject = [f"s{i:03d}" for i in range(s)]
    joint = [f"{name}:R" for name in subject]
    z = rng.normal(size=s)
    event = rng.exponential(1 / (0.08 * np.exp(0.9 * z)))
    time = np.minimum(event, 10.0)
    cause = np.where(event <= 10.0, "event", "censored")
    upper = np.where(cause == "event", time * YEAR, np.inf)
    outcomes = pd.DataFrame(
        {
            "joint_id": joint, "subject_id": subject, "endpoint": "replacement", "entry": 0.0,
            "lower": time * YEAR, "upper": upper, "cause": cause, "weight": 1.0,
        }
    )  # fmt: skip
    folds = pd.Series(rng.permutation(np.arange(s) % 2), index=subject)
    return outcomes, pd.DataFrame({"z": z}, index=joint), folds


def harrell(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    """Count pairs of which the earlier had the event."""
    earlier = (time[:, None] < time[None]) & event[:, None]
    more = risk[:, None] > risk[None]
    return float((earlier & more).sum() / earlier.sum())


@pytest.mark.slow
def test_each_joint_is_predicted_by_models_that_did_without_it(study, tmp_path) -> None:
    outcomes, x, folds = study
    told = []
    p = prognose_folds(
        outcomes, {"clinical": x}, folds, CONFIG, progress=lambda *now: told.append(now)
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert list(p.cif["joint"].values) == sorted(x.index) == list(p.risk.index)
    assert set(p.cif["set"].values) == {"test"}
    # One fold by hand: exactly what a fit without it predicts.
    sets = pd.Series(np.where(folds == 1, "test", "train"), index=folds.index)
    alone = prognose(outcomes, {"clinical": x}, sets, CONFIG)
    own = [f"{name}:R" for name in sorted(folds.index[folds == 1])]
    np.testing.assert_array_equal(p.risk.loc[own], alone.risk.loc[own])
    np.testing.assert_array_equal(p.mean.sel(joint=own), alone.mean.sel(joint=own))
    np.testing.assert_array_equal(p.cif["cif"].sel(joint=own), alone.cif["cif"].sel(joint=own))
    # And the other fold is predicted by another fit.
    rest = [f"{name}:R" for name in folds.index[folds == 0]]
    assert not np.allclose(p.risk.loc[rest], alone.risk.loc[rest])
    # Every subject is scored.
    assert tuple(p.metrics.columns) == METRICS
    c = p.metrics[p.metrics["metric"] == "c_index"].iloc[0]
    assert c["n_events"] == (outcomes["cause"] == "event").sum()
    ordered = outcomes.set_index("joint_id").loc[p.risk.index]
    by_hand = harrell(
        ordered["lower"].to_numpy(),
        (ordered["cause"] == "event").to_numpy(),
        p.risk["clinical"].to_numpy(),
    )
    assert c["value"] == pytest.approx(by_hand, abs=1e-9)
    # A prediction from covariates beats the same risk for all, which is of the other fold too.
    brier = p.metrics[p.metrics["metric"] == "integrated_brier"].set_index("model")["value"]
    assert brier["clinical"] < brier["population"]
    write_prognosis(tmp_path, p)
    back = read_prognosis(tmp_path)
    assert back.cif.attrs["crossfit"] == 2
    assert set(back.diagnostics) == {"clinical_fold_0", "clinical_fold_1"} == set(back.posteriors)


@pytest.mark.slow
def test_each_fold_has_the_designs_that_were_made_without_it(study) -> None:
    outcomes, x, folds = study
    # An encoder of another fold has other axes: the sign of its covariate is turned.
    of_fold = {0: {"clinical": x}, 1: {"clinical": -2 * x}}
    p = prognose_folds(outcomes, of_fold, folds, CONFIG)
    for fold, designs in of_fold.items():
        sets = pd.Series(np.where(folds == fold, "test", "train"), index=folds.index)
        alone = prognose(outcomes, designs, sets, CONFIG)
        own = [f"{name}:R" for name in sorted(folds.index[folds == fold])]
        np.testing.assert_array_equal(p.risk.loc[own], alone.risk.loc[own])
        np.testing.assert_array_equal(p.mean.sel(joint=own), alone.mean.sel(joint=own))


def test_bad_folds_are_named(study) -> None:
    outcomes, x, folds = study
    with pytest.raises(InputError, match="folds: subject s000 twice"):
        prognose_folds(outcomes, {"clinical": x}, pd.concat([folds, folds.iloc[:1]]), CONFIG)
    with pytest.raises(InputError, match="folds: 1; accepted are 2 and more"):
        prognose_folds(outcomes, {"clinical": x}, folds * 0, CONFIG)
    with pytest.raises(InputError, match="designs: none for fold 0; accepted is one set"):
        prognose_folds(outcomes, {1: {"clinical": x}}, folds, CONFIG)
