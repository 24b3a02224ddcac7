import json
from dataclasses import asdict

import numpy as np
import pytest
import xarray as xr

from spinmark_biomarkers.survival import _compat
from spinmark_biomarkers.survival.diagnostics import bfmi, diagnose

CHAINS = ("chain", "draw")


def draws(shift=0.0, size=500, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(2, size, 3))
    values[1, :, 1] += shift
    return xr.Dataset(
        {"beta": ((*CHAINS, "covariate"), values), "level": (CHAINS, rng.normal(size=(2, size)))},
        coords={"covariate": np.array(["AGE", "BMI", "XRKL"], dtype=object)},
    )


def steps(diverging=0, deep=0, size=500, energy=None):
    flags = np.zeros((2, 2, size), dtype=bool)
    flags[0, 0, :diverging] = True
    flags[1, 0, :deep] = True
    if energy is None:
        energy = np.random.default_rng(0).normal(size=(2, size))
    return xr.Dataset(
        {
            "diverging": (CHAINS, flags[0]),
            "at_max_depth": (CHAINS, flags[1]),
            "energy": (CHAINS, energy),
        }
    )


def test_independent_draws_are_good_and_need_nothing():
    found = diagnose(draws(), steps=steps())
    assert found.word == "good"
    assert found.advice == ""
    assert found.tail_ess > 400
    assert json.loads(json.dumps(asdict(found)))["rhat"] == found.rhat


def test_the_parameter_that_disagrees_is_named_with_what_to_do():
    found = diagnose(draws(shift=3.0), steps=steps())
    assert found.word == "bad"
    assert found.worst == "beta[BMI]"
    assert "tighter prior" in found.advice


@pytest.mark.parametrize(
    ("given", "word", "advice"),
    [
        (steps(diverging=1), "doubtful", "target_accept"),
        (steps(diverging=200), "bad", "fewer covariates"),
        (steps(deep=50), "doubtful", "max_depth"),
        (
            steps(energy=np.cumsum(np.random.default_rng(1).normal(size=(2, 500)), axis=1)),
            "doubtful",
            "double tune",
        ),
    ],
)
def test_what_the_sampler_says_counts(given, word, advice):
    found = diagnose(draws(), steps=given)
    assert found.word == word
    assert advice in found.advice


def test_few_effective_draws_ask_for_more():
    found = diagnose(draws(size=150), steps=steps(size=150))
    assert found.word == "doubtful"
    assert "raise draws" in found.advice
    assert found.worst


def test_a_chain_that_never_moved_is_bad():
    stuck = draws()
    stuck["level"] = (CHAINS, np.full((2, 500), 1.5))
    found = diagnose(stuck)
    assert found.word == "bad"
    assert found.worst == "level"
    moved = draws()
    values = moved["beta"].to_numpy().copy()
    values[0, :, 2] = 0.3
    moved["beta"] = (moved["beta"].dims, values)
    assert diagnose(moved).word == "bad"


def test_bfmi_equals_its_definition():
    energy = np.random.default_rng(0).normal(size=(3, 200)).cumsum(axis=1)
    each = [np.square(np.diff(e)).mean() / e.var() for e in energy]
    assert bfmi(energy) == pytest.approx(min(each), rel=1e-12)
    assert bfmi(np.ones((2, 50))) == np.inf


def test_steps_have_one_name_whatever_the_sampler_calls_them():
    flag = np.zeros((2, 10), dtype=bool)
    flag[0, 3] = True
    base = {"diverging": (CHAINS, flag), "energy": (CHAINS, np.ones((2, 10)))}
    deep = np.where(flag, 10, 4)
    for name, values in (
        ("maxdepth_reached", flag),
        ("reached_max_treedepth", flag),
        ("tree_depth", deep),
    ):
        found = _compat.steps(xr.Dataset({**base, name: (CHAINS, values)}), 10)
        np.testing.assert_array_equal(found["at_max_depth"], flag)
    assert not _compat.steps(xr.Dataset(base), 10)["at_max_depth"].any()
