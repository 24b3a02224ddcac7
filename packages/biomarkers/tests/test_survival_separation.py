import warnings

import numpy as np
import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.likelihoods import LIKELIHOODS
from spinmark_biomarkers.survival.separation import (
    SeparationWarning,
    check_separation,
    find_separation,
)

from .survival_cases import rows


def with_x(data, *columns):
    x = np.column_stack(columns)
    return data.with_covariates(x, tuple(f"c{k}" for k in range(x.shape[1])))


@pytest.fixture
def data():
    return rows("right", n=60, seed=1)


def test_ordinary_covariates_are_let_pass(data):
    rng = np.random.default_rng(0)
    assert find_separation(data) is None
    few = data.with_rows(np.r_[np.flatnonzero(data.event)[:3], np.flatnonzero(~data.event)])
    # Three events and five covariates: all events can be level, but others lie on both sides of them.
    x = rng.normal(size=(len(few.ids), 2))
    assert find_separation(with_x(few, *x.T)) is None
    # A constant column and a copy are flat directions, not rising ones.
    assert find_separation(with_x(data, np.ones(60), data.covariates[:, 0])) is None
    twin = with_x(data, data.covariates[:, 0], 2 * data.covariates[:, 0])
    assert find_separation(twin) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_a_group_without_events_is_found_and_named(data, sign):
    group = np.where(data.event, 1.0, np.arange(60) % 2)
    made = with_x(data, data.covariates[:, 0], sign * group)
    found = find_separation(made)
    assert found.covariates == ("c1",)
    assert found.signs == (sign,)
    np.testing.assert_array_equal(found.rows, ~data.event & (group == 0))
    with pytest.raises(
        InputError, match=r"separation: every event has 'c1' at -?1.*j\d+.*more has one"
    ):
        check_separation(made, penalised=False)
    with pytest.warns(SeparationWarning, match="'c1'"):
        check_separation(made)
    # And the likelihood does rise for as long as one goes.
    family = LIKELIHOODS["cox"]
    arrays = family.arrays(made)
    values = [family.log_likelihood(arrays, np.array([0.0, sign * b])) for b in (1, 5, 20)]
    assert values[0] < values[1] < values[2]


def test_a_combination_is_found_where_no_covariate_is_enough(data):
    rng = np.random.default_rng(2)
    a = rng.normal(size=60)
    # Level for all events and lower for the others, in the sum of the two alone.
    b = np.where(data.event, 1.0, -np.abs(rng.normal(size=60))) - a
    made = with_x(data, a, b)
    found = find_separation(made)
    assert set(found.covariates) == {"c0", "c1"}
    np.testing.assert_array_equal(found.rows, ~data.event)
    moved = with_x(data, 3 * b - 1, 0.1 * a + 5)
    assert find_separation(moved) is not None
    order = rng.permutation(60)
    assert find_separation(made.with_rows(order)).message.count("\n") == 0
    # One event outside the level, and it is gone.
    b[np.flatnonzero(data.event)[0]] -= 0.5
    assert find_separation(with_x(data, a, b)) is None


def test_nothing_is_said_without_events_or_covariates(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_separation(data.with_covariates(np.empty((60, 0)), ()))
        check_separation(data.with_rows(~data.event))
        check_separation(data.with_rows(data.event))
