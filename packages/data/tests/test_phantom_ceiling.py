"""Ceilings and plans against independent figures."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.phantom.ceiling import adjusted_rand, ceilings, concordance
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.plan import plan_phantom
from spinmark_data.phantom.write import write_phantom


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_concordance_equals_counting_pairs(seed):
    rng = np.random.default_rng(seed)
    n = 25
    risk, days = rng.integers(0, 6, n).astype(float), rng.integers(1, 9, n).astype(float)
    event = rng.random(n) < 0.5
    right = pairs = 0.0
    for i in range(n):
        for j in range(n):
            first = days[i] < days[j] or (days[i] == days[j] and not event[j])
            if i != j and event[i] and first:
                pairs += 1
                right += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    found = concordance(risk, days, event)
    assert found == pytest.approx(right / pairs) if pairs else np.isnan(found)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_adjusted_rand_equals_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 4, 40), rng.integers(0, 3, 40)
    assert adjusted_rand(a, b) == pytest.approx(metrics.adjusted_rand_score(a, b))


@pytest.fixture(scope="module")
def usual():
    return ceilings(PhantomConfig(event_share=0.22), people=1200)


def test_both_is_no_worse_than_either_and_the_oracle_is_best(usual):
    for figures in (usual["c_index"], usual["ari"]):
        assert figures["both"] >= max(figures["image"], figures["table"])
    c = usual["c_index"]
    assert 0.6 < c["table"] <= c["both"] <= c["hazard"] + 0.01 < c["oracle"]
    assert all(0.5 < value < 0.95 for value in usual["r2"].values())
    assert 0.7 < usual["ari"]["image"] < 0.95


def test_no_disease_leaves_the_image_nothing():
    found = ceilings(PhantomConfig(structure="none", event_share=0.22), people=600)
    assert found["c_index"]["image"] == 0.5
    assert set(found["ari"].values()) == {None}
    assert set(found["r2"].values()) == {None}


def test_an_independent_table_leaves_nothing_to_distil(usual):
    found = ceilings(PhantomConfig(table_coupling=0.0, event_share=0.22), people=1200)
    assert all(value < 0.1 for value in found["r2"].values())
    assert found["ari"]["table"] < 0.05
    # What is left is age, and the pain that acts on the hazard itself.
    assert 0.5 < found["c_index"]["table"] < found["c_index"]["image"]


@pytest.mark.slow
def test_a_plan_counts_what_is_then_made(tmp_path):
    config = PhantomConfig(
        subjects=6,
        seed=3,
        grid_shape=(8, 32, 32),
        spacing_mm=(10.0, 2.25, 2.25),
        workers=1,
    )
    plan = plan_phantom(config)
    summary = write_phantom(config, tmp_path)
    assert plan.scans == summary.scans
    scans = [
        path
        for root in (tmp_path / "release", tmp_path / "truth" / "labels")
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in (".txt", ".csv")
    ]
    assert plan.bytes == pytest.approx(sum(path.stat().st_size for path in scans), rel=0.1)
    assert plan.cpu_hours > 0
    larger = plan_phantom(replace(config, subjects=600))
    assert larger.subjects == 600
    assert larger.scans == pytest.approx(100 * plan.scans, rel=0.15)
