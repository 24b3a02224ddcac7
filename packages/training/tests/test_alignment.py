"""Spaces with a known truth: turned, shifted and scaled copies of one, with noise."""

import logging

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from spinmark_training.alignment import Alignment, align, procrustes, relative_residual
from spinmark_training.errors import InputError

Floats = npt.NDArray[np.float64]
SUBJECTS, SCANS, FEATURES, FOLDS = 60, 4, 12, 5
GROUPS = np.repeat(np.arange(SUBJECTS), SCANS)


def truth(rng: np.random.Generator) -> Floats:
    """Scans `(n, E)`: near each other within a subject, of unequal spread along the axes."""
    people = rng.normal(size=(SUBJECTS, FEATURES)).repeat(SCANS, 0)
    scans = rng.normal(size=(SUBJECTS * SCANS, FEATURES))
    found: Floats = (people + 0.5 * scans) * np.linspace(2, 0.5, FEATURES)
    return found


def spaces(rng: np.random.Generator, noise: float) -> dict[int, Floats]:
    """A copy of the truth a fold: `scale * (truth + noise) @ turn + shift`."""
    z = truth(rng)
    found = {}
    for fold in range(FOLDS):
        turn = ortho_group.rvs(FEATURES, random_state=rng)
        seen = z + noise * rng.normal(size=z.shape)
        found[fold] = rng.uniform(0.5, 2) * seen @ turn + rng.normal(size=FEATURES)
    return found


def moved(fitted: Alignment, anchors: dict[int, Floats]) -> Floats:
    return np.stack([fitted.maps[k](x) for k, x in sorted(anchors.items())])


def test_copies_without_noise_fall_into_one() -> None:
    anchors = spaces(np.random.default_rng(0), 0.0)
    fitted = align(anchors, GROUPS)
    common = moved(fitted, anchors)
    np.testing.assert_allclose(common, np.broadcast_to(common[0], common.shape), atol=1e-9)
    for left in fitted.residuals.values():
        assert left.held_out < 1e-6
        assert left.fitted < 1e-6
        assert left.before > 0.7


@pytest.mark.parametrize("noise", [0.1, 0.3, 0.6])
def test_the_residual_is_that_of_the_noise(noise: float) -> None:
    anchors = spaces(np.random.default_rng(1), noise)
    fitted = align(anchors, GROUPS)
    # The truth has variance v; a space v + s2, the mean of the K-1 others v + s2 / (K - 1).
    v = 1.25 * (np.linspace(2, 0.5, FEATURES) ** 2).mean()
    s2 = noise**2
    r = v / np.sqrt((v + s2) * (v + s2 / (FOLDS - 1)))
    expected = np.sqrt(1 - r**2)
    for left in fitted.residuals.values():
        assert left.held_out == pytest.approx(expected, rel=0.12)
        assert left.fitted < left.held_out < left.before
        assert not left.unrelated


def test_maps_reach_scans_that_were_no_anchors() -> None:
    rng = np.random.default_rng(2)
    anchors = spaces(rng, 0.2)
    half = GROUPS < SUBJECTS // 2
    fitted = align({k: x[half] for k, x in anchors.items()}, GROUPS[half])
    rest = moved(fitted, {k: x[~half] for k, x in anchors.items()})
    for k in range(FOLDS):
        others = np.delete(rest, k, axis=0).mean(axis=0)
        assert relative_residual(rest[k], others) < 1.2 * fitted.residuals[k].held_out


@pytest.mark.parametrize("fold", [0, 3])
def test_a_collapsed_encoder_is_told(fold: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(3)
    anchors = spaces(rng, 0.1)
    good = align(anchors, GROUPS)
    # A single point and rounding.
    anchors[fold] = 3 + 1e-3 * rng.normal(size=anchors[fold].shape)
    with caplog.at_level(logging.WARNING):
        fitted = align(anchors, GROUPS)
    assert fitted.residuals[fold].held_out > 0.97
    assert fitted.residuals[fold].unrelated
    assert f"fold {fold}" in caplog.text
    assert fitted.reference != fold
    for other in set(range(FOLDS)) - {fold}:
        assert not fitted.residuals[other].unrelated
        # One of four that the mean is of is noise now.
        assert fitted.residuals[other].held_out < good.residuals[other].held_out + 0.45


def test_a_constant_encoder_has_the_residual_one() -> None:
    anchors = spaces(np.random.default_rng(4), 0.1)
    anchors[1] = np.full_like(anchors[1], 0.25)
    fitted = align(anchors, GROUPS)
    assert fitted.residuals[1].held_out == pytest.approx(1, abs=0.02)
    assert fitted.residuals[1].spread == 0
    assert all(np.isfinite(to.scale) for to in fitted.maps.values())


def test_the_spread_is_kept_where_least_squares_would_shrink_it() -> None:
    anchors = spaces(np.random.default_rng(5), 0.5)
    common = moved(align(anchors, GROUPS), anchors)
    spreads = np.sqrt((common**2).sum(axis=2).mean(axis=1))
    np.testing.assert_allclose(spreads, spreads[0], rtol=1e-9)
    np.testing.assert_allclose(common.mean(axis=1), 0, atol=1e-9)


def test_the_rotation_is_the_peers() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(2, 40, 7))
    np.testing.assert_allclose(procrustes(x, y), orthogonal_procrustes(x, y)[0], atol=1e-12)


def test_the_consensus_is_no_worse_than_turning_all_onto_one() -> None:
    anchors = spaces(np.random.default_rng(7), 0.6)
    fitted = align(anchors, GROUPS)
    common = moved(fitted, anchors)

    def loss(parts: Floats) -> float:
        return float(((parts - parts.mean(axis=0)) ** 2).sum())

    width = np.sqrt((common**2).sum() / FOLDS)
    for first in range(FOLDS):
        flat = [x - x.mean(axis=0) for _, x in sorted(anchors.items())]
        flat = [x * width / np.linalg.norm(x) for x in flat]
        onto = np.stack([x @ orthogonal_procrustes(x, flat[first])[0] for x in flat])
        assert loss(common) <= loss(onto) * (1 + 1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_turning_shifting_and_scaling_a_space_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    anchors = spaces(rng, 0.3)
    before = align(anchors, GROUPS)
    turn = ortho_group.rvs(FEATURES, random_state=rng)
    changed = {**anchors, 2: 7 * anchors[2] @ turn + 1}
    after = align(changed, GROUPS)
    for fold in range(FOLDS):
        left, now = before.residuals[fold], after.residuals[fold]
        assert now.held_out == pytest.approx(left.held_out, rel=1e-3)
        maps = before.maps[fold].rotation
        np.testing.assert_allclose(maps @ maps.T, np.eye(FEATURES), atol=1e-9)
    reference = before.maps[before.reference].rotation
    np.testing.assert_allclose(reference, np.eye(FEATURES), atol=1e-9)


def test_a_residual_is_told_on_other_subjects() -> None:
    # As many features as scans: within the fit any rotation works, on other subjects it does not.
    rng = np.random.default_rng(8)
    noise = {k: rng.normal(size=(24, 20)) for k in range(3)}
    left = align(noise, np.repeat(np.arange(12), 2)).residuals[0]
    assert left.fitted < 0.75
    assert left.held_out > 0.95


def test_few_anchors_are_told(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(9)
    with caplog.at_level(logging.WARNING):
        align({k: rng.normal(size=(6, 8)) for k in range(2)}, np.arange(6))
    assert "6 anchors for 8 features" in caplog.text


@pytest.mark.parametrize(
    ("anchors", "groups", "told"),
    [
        ({0: np.zeros((4, 2))}, np.arange(4), "1 folds"),
        ({0: np.zeros((4, 2)), 1: np.zeros((5, 2))}, np.arange(4), "same anchors"),
        ({0: np.zeros((4, 2)), 1: np.zeros((4, 2))}, np.zeros(4), "1 subjects"),
        ({0: np.zeros((4, 2)), 1: np.full((4, 2), np.nan)}, np.arange(4), "not finite"),
    ],
)
def test_bad_anchors_are_named(
    anchors: dict[int, Floats], groups: npt.NDArray[np.float64], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        align(anchors, groups)
