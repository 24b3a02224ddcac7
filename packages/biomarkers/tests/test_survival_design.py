"""Designs of the survival models: gaps, blocks that are reduced, and what they are learnt from."""

import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.design import Reduction, prepare_design

EMBEDDING = Reduction(block="embedding", prefix="embedding_", components=4, whole=True)
MEASURES = Reduction(block="morphometry", prefix="morphometry_", components=4)


def block(prefix, values):
    index = [f"s{i:02d}:R" for i in range(len(values))]
    return pd.DataFrame(values, index=index).add_prefix(prefix)


def by_hand(x, fit, k):
    """Components by the covariance's eigenvectors, each of unit variance over the fitting rows."""
    z = (x - x[fit].mean(0)) / x[fit].std(0)
    _, vectors = np.linalg.eigh(np.cov(z[fit].T))
    scores = z @ vectors[:, ::-1][:, :k]
    return (scores - scores[fit].mean(0)) / scores[fit].std(0)


def up_to_sign(found, expected):
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-8)


@pytest.mark.parametrize("reduction", [EMBEDDING, MEASURES])
def test_a_block_becomes_the_components_of_the_fitting_rows(reduction):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 9)) @ rng.normal(size=(9, 9))
    fit = np.arange(40) < 30
    design = prepare_design(block(reduction.prefix, x), fit, reductions=[EMBEDDING, MEASURES])
    names = [f"{reduction.prefix}pc{i}" for i in range(1, 5)]
    assert list(design.frame) == names
    assert design.blocks == dict.fromkeys(names, reduction.block)
    up_to_sign(design.frame.to_numpy(), by_hand(x, fit, 4))


def test_gaps_take_the_median_of_fitting_rows_and_their_share_is_a_column():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 6)) + 5
    fit = np.arange(30) < 20
    gaps = rng.random(x.shape) < 0.2
    gaps[fit, 5] = True
    with_gaps = np.where(gaps, np.nan, x)
    filled = with_gaps[:, :5].copy()
    for j in range(5):
        seen = [v for v, here in zip(with_gaps[:, j], fit, strict=True) if here and v == v]
        filled[np.isnan(filled[:, j]), j] = statistics.median(seen)
    raw = block("morphometry_", with_gaps).assign(AGE=np.arange(30.0))
    design = prepare_design(raw, fit, reductions=[EMBEDDING, MEASURES])
    names = [f"morphometry_pc{i}" for i in range(1, 5)]
    assert list(design.frame) == ["AGE", *names, "morphometry_missing"]
    assert design.blocks["morphometry_missing"] == "morphometry"
    assert design.blocks["AGE"] == "clinical"
    up_to_sign(design.frame[names].to_numpy(), by_hand(filled, fit, 4))
    share = gaps[:, :5].mean(1)
    expected = (share - share[fit].mean()) / share[fit].std()
    np.testing.assert_allclose(design.frame["morphometry_missing"], expected, atol=1e-12)


def test_columns_that_say_the_same_give_no_components_of_rounding():
    rng = np.random.default_rng(2)
    x = np.repeat(rng.normal(size=(40, 2)), 20, axis=1) * rng.uniform(1, 1e4, 40)
    design = prepare_design(block("morphometry_", x), np.arange(40) < 30, reductions=[MEASURES])
    assert list(design.frame) == ["morphometry_pc1", "morphometry_pc2"]
    assert np.abs(design.frame.to_numpy()).max() < 6


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 1e3))
def test_what_is_held_out_moves_nothing_of_what_is_fitted(seed, scale):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30, 7))
    x[rng.random(x.shape) < 0.1] = np.nan
    fit = np.arange(30) < 22
    other = x.copy()
    other[~fit] = scale * rng.normal(size=(8, 7))
    other[-1] = np.nan
    raw, changed = (block("morphometry_", v).assign(AGE=v[:, 0]) for v in (x, other))
    before, after = (prepare_design(v, fit, reductions=[MEASURES]) for v in (raw, changed))
    pd.testing.assert_frame_equal(before.frame[fit], after.frame[fit], check_exact=True)
    assert np.isfinite(after.frame.to_numpy()).all()


def test_blocks_that_say_nothing_are_refused():
    fit = np.arange(6) < 4
    x = np.random.default_rng(3).normal(size=(6, 3))
    hole = x.copy()
    hole[1, 2] = np.nan
    with pytest.raises(InputError, match="accepted is a whole embedding"):
        prepare_design(block("embedding_", hole), fit, reductions=[EMBEDDING])
    empty = np.where(fit[:, None], np.nan, x)
    with pytest.raises(InputError, match="the morphometry is missing in every fitting joint"):
        prepare_design(block("morphometry_", empty), fit, reductions=[MEASURES])
    with pytest.raises(InputError, match="nothing of the morphometry varies"):
        prepare_design(block("morphometry_", np.ones((6, 3))), fit, reductions=[MEASURES])
    with pytest.raises(InputError, match="morphometry_components: 0; accepted is at least 1"):
        Reduction(block="morphometry", prefix="morphometry_", components=0)
