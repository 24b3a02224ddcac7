"""Corners against brute force; the distance of transitions and what it promises."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.trajectories.distance import fit_measure
from spinmark_biomarkers.phenotypes.trajectories.partition import (
    description_bits,
    location_bits,
    partition,
)
from spinmark_biomarkers.phenotypes.trajectories.transitions import Transitions


def paths(joints, visits, components, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    points = scale * np.cumsum(rng.normal(size=(joints, visits, components)), axis=1)
    years = np.cumsum(rng.uniform(0.3, 2.0, (joints, visits)), axis=1)
    variance = rng.uniform(0.1, 0.4, (joints, visits, components))
    return points, years, variance


def bits_by_hand(points, years, variance, corners, bits):
    """L(H) + L(D|H), written from the definition."""
    at = [i for i, corner in enumerate(corners) if corner]
    total = (len(at) - 2) * (bits + np.log2(len(years) - 1))
    for i in range(len(years)):
        if i in at:
            continue
        a, b = max(c for c in at if c < i), min(c for c in at if c > i)
        share = (years[i] - years[a]) / (years[b] - years[a])
        for k in range(points.shape[1]):
            rest = points[i, k] - (points[a, k] + share * (points[b, k] - points[a, k]))
            spread = variance[i, k] + share**2 * variance[b, k] + (1 - share) ** 2 * variance[a, k]
            total += rest**2 / spread / 2 / np.log(2)
    return total


@settings(deadline=None, max_examples=15)
@given(
    visits=st.integers(2, 7),
    components=st.integers(1, 4),
    seed=st.integers(0, 10_000),
    bits=st.floats(0.0, 15.0),
)
def test_the_corners_are_those_of_brute_force_over_all_subsets(visits, components, seed, bits):
    points, years, variance = paths(4, visits, components, seed)
    counts = np.random.default_rng(seed).integers(2, visits + 1, 4)
    found = partition(points, years, variance, counts, bits=bits)
    for joint, n in enumerate(counts):
        given = points[joint, :n], years[joint, :n], variance[joint, :n]
        every = [(True, *inner, True) for inner in product([False, True], repeat=int(n) - 2)]
        costs = [bits_by_hand(*given, corners, bits) for corners in every]
        mine = found[joint, :n]
        assert bits_by_hand(*given, mine, bits) == pytest.approx(min(costs))
        assert description_bits(*given, mine, bits=bits) == pytest.approx(min(costs))
        assert not found[joint, n:].any()


def straight(visits=7, components=3, seed=0):
    years = np.cumsum(np.random.default_rng(seed).uniform(0.3, 2.0, (1, visits)), axis=1)
    return years[:, :, None] * np.arange(1.0, components + 1), years


def test_a_straight_path_is_one_transition():
    points, years = straight()
    found = partition(points, years, np.full(points.shape, 1e-6), [7], bits=0.0)
    assert found[0].tolist() == [True, *[False] * 5, True]


def test_a_planted_corner_is_found_and_noise_seldom_makes_one():
    rng = np.random.default_rng(1)
    years = np.tile(np.arange(7.0), (400, 1))
    points = np.zeros((400, 7, 3))
    points[:, :, 0] = years
    points[:200, :, 0], points[:200, :, 1] = (
        np.minimum(years[:200], 3),
        np.maximum(years[:200] - 3, 0),
    )
    noise = np.full(3, 0.04)
    seen = points + 0.2 * rng.normal(size=points.shape)
    bits = location_bits(seen.reshape(-1, 3), noise)
    found = partition(seen, years, np.broadcast_to(noise, seen.shape), [7] * 400, bits=bits)
    assert (found[:200, 3] & (found[:200].sum(axis=1) == 3)).mean() > 0.9
    assert (found[200:].sum(axis=1) > 2).mean() < 0.12


def test_a_change_of_pace_is_a_corner():
    years = np.arange(5.0)[None]
    points = np.array([[[0.0], [1.0], [2.0], [8.0], [14.0]]])
    found = partition(points, years, np.full(points.shape, 0.01), [5], bits=4.0)
    assert found[0].tolist() == [True, False, True, False, True]


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), unit=st.floats(1e-2, 1e3), scale=st.floats(1e-2, 1e2))
def test_rotation_shift_and_units_of_space_and_time_change_nothing(seed, unit, scale):
    points, years, _ = paths(6, 6, 3, seed)
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    noise = np.full(3, 0.2)
    moved = scale * (points @ turn) + rng.normal(size=3)
    results = []
    for place, times, spread in ((points, years, noise), (moved, unit * years, scale**2 * noise)):
        bits = location_bits(place.reshape(-1, 3), spread)
        variance = np.broadcast_to(spread, place.shape)
        results.append(partition(place, times, variance, [6] * 6, bits=bits))
    assert np.array_equal(*results)


def test_bits_of_a_place_are_a_gaussian_rate():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(200_000, 2)) * [3.0, 1.0]
    # log2(3 / 1) bits for the first component, none for the second, and 1 / (2 ln 2) left over in each.
    assert location_bits(points, np.ones(2)) == pytest.approx(np.log2(3) + 1 / np.log(2), abs=0.02)


def test_paths_that_do_not_rise_are_refused():
    points, years, variance = paths(2, 4, 2, 0)
    with pytest.raises(InputError, match="years: do not rise"):
        partition(points, years[:, ::-1], variance, [4, 4], bits=1.0)
    with pytest.raises(InputError, match="accepted are 2 to 4 a joint"):
        partition(points, years, variance, [4, 1], bits=1.0)


def transitions(n=8, components=3, seed=0):
    rng = np.random.default_rng(seed)
    return Transitions(
        joint=np.arange(n),
        subject=np.arange(n) // 2,
        first=np.zeros(n, np.int64),
        last=np.ones(n, np.int64),
        start=rng.normal(size=(n, components)),
        stop=rng.normal(size=(n, components)),
        years=rng.uniform(0.5, 3.0, n),
        variance=rng.uniform(0.01, 0.1, n),
    )


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_the_distance_is_a_pseudometric(seed):
    some = transitions(seed=seed)
    d = fit_measure(some).distance(some, some)
    assert np.allclose(d, d.T)
    assert np.allclose(np.diag(d), 0)
    # Triangle inequality through every third transition.
    assert (d[:, None, :] <= d[:, :, None] + d[None, :, :] + 1e-9).all()


def test_the_distance_by_hand():
    some = transitions(seed=3)
    measure = fit_measure(some, weights=(0.5, 2.0, 3.0))
    a, b = 1, 4
    middle = [(some.start[i] + some.stop[i]) / 2 for i in (a, b)]
    moved = [some.stop[i] - some.start[i] for i in (a, b)]
    length = [np.sqrt((m**2).sum()) for m in moved]
    unit = [m / np.sqrt(s**2 + some.variance.mean()) for m, s in zip(moved, length, strict=True)]
    pace = np.log1p(
        np.sqrt(((some.stop - some.start) ** 2).sum(axis=1)) / some.years / measure.speed
    )
    spread = (some.start + some.stop) / 2
    place = ((spread - spread.mean(axis=0)) ** 2).sum(axis=1).mean()
    expected = np.sqrt(
        0.5 * ((middle[0] - middle[1]) ** 2).sum() / place
        + 2.0 * ((unit[0] - unit[1]) ** 2).sum()
        + 3.0 * (pace[a] - pace[b]) ** 2 / pace.var()
    )
    assert measure.distance(some, some)[a, b] == pytest.approx(expected)


def test_opposite_directions_are_two_apart_and_movements_within_their_error_are_not():
    here = transitions(n=2)
    fields = vars(here) | {
        "start": np.array([[-1.0, 0, 0], [1.0, 0, 0]]),
        "stop": np.array([[1.0, 0, 0], [-1.0, 0, 0]]),
        "years": np.ones(2),
    }
    sure = Transitions(**fields | {"variance": np.full(2, 1e-12)})
    unsure = Transitions(**fields | {"variance": np.full(2, 400.0)})
    weights = (0.0, 1.0, 0.0)
    assert fit_measure(sure, weights).distance(sure, sure)[0, 1] == pytest.approx(2.0)
    assert fit_measure(unsure, weights).distance(unsure, unsure)[0, 1] == pytest.approx(
        0.2, rel=0.01
    )


def test_what_is_no_part_of_the_distance():
    # Same middle, direction and speed, one twice as long: a pseudometric cannot tell them.
    here = transitions(n=2)
    fields = vars(here) | {
        "start": np.array([[-1.0, 0, 0], [-2.0, 0, 0]]),
        "stop": np.array([[1.0, 0, 0], [2.0, 0, 0]]),
        "years": np.array([1.0, 2.0]),
        "variance": np.full(2, 1e-12),
    }
    both = Transitions(**fields)
    assert fit_measure(both).distance(both, both)[0, 1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("weights", [(0.0, 0.0, 0.0), (1.0, -1.0, 0.0)])
def test_weights_out_of_range_are_refused(weights):
    with pytest.raises(InputError, match="weights"):
        fit_measure(transitions(), weights)
