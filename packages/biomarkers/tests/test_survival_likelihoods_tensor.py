"""The PyTensor expressions against their NumPy twins, and their gradients against finite differences."""

import warnings

import numpy as np
import pytest

from spinmark_biomarkers.survival import _compat
from spinmark_biomarkers.survival.likelihoods import LIKELIHOODS

from .survival_cases import BASELINES, BETA, BREAKS, FAMILIES, rows

WIDTH = 3


def compiled(name, data, theta, *, mode=None, **settings):
    """Value and gradient as a function of the stacked parameters, and the NumPy twin of it."""
    _compat.import_quietly()
    import pytensor
    import pytensor.tensor as pt
    from pytensor.compile.mode import Mode
    from pytensor.graph.rewriting.db import RewriteDatabaseQuery

    family = LIKELIHOODS[name]
    arrays = family.arrays(data, WIDTH, breaks=BREAKS, **settings)
    flags = {
        "interval_censored": bool(data.interval.any()),
        "delayed": data.delayed,
        "many": data.most_intervals > 2,
    }
    used = family.used(frailty=theta is not None, **flags)
    v = pt.dvector()
    at, base = WIDTH, {}
    for parameter in family.baseline:
        size = 3 if parameter == "log_hazard" else 1
        base[parameter] = v[at : at + size] if size > 1 else v[at]
        at += size
    spread = None if theta is None else v[at]
    with warnings.catch_warnings():
        # PyTensor 2 warns of itself under new versions of NumPy.
        warnings.simplefilter("ignore")
        value = family.tensor_log_likelihood(
            {k: pytensor.shared(arrays[k]) for k in used}, v[:WIDTH], base, spread, **flags
        )
        # As written, without the rewrites that make compilation slow.
        plain = Mode("py", RewriteDatabaseQuery(include=["inline_ofg_expansion"]))
        function = pytensor.function([v], [value, pytensor.grad(value, v)], mode=mode or plain)

    def twin(p):
        base, at = {}, WIDTH
        for parameter in family.baseline:
            size = 3 if parameter == "log_hazard" else 1
            base[parameter] = p[at : at + size] if size > 1 else p[at]
            at += size
        return family.log_likelihood(arrays, p[:WIDTH], base, None if theta is None else p[at])

    start = np.concatenate(
        [BETA, [0.2], *[np.atleast_1d(b) for b in BASELINES.get(name, {}).values()]]
        + ([[theta]] if theta is not None else [])
    )
    return function, twin, start


def assert_twins(function, twin, start):
    value, gradient = function(start)
    assert value == pytest.approx(twin(start), rel=1e-12, abs=1e-12)
    steps = 1e-5 * np.eye(len(start))
    differences = [(twin(start + h) - twin(start - h)) / 2e-5 for h in steps]
    np.testing.assert_allclose(gradient, differences, rtol=2e-6, atol=2e-6)
    # The padded coefficient meets only zeros.
    assert gradient[WIDTH - 1] == 0


@pytest.mark.parametrize("theta", [None, 0.7])
@pytest.mark.parametrize(("kind", "joints"), [("right", 2), ("interval", 2), ("left", 5)])
@pytest.mark.parametrize("name", FAMILIES)
def test_value_and_gradient_equal_the_twin(name, kind, joints, theta):
    data = rows(kind, n=20, joints=joints, delayed=kind != "right", seed=3)
    assert_twins(*compiled(name, data, theta))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, "cox"])
def test_compiled_by_numba_it_is_the_same(name):
    pytest.importorskip("numba")
    kind = "left" if name != "cox" else "right"
    # Three and more intervals a person share their code among the families.
    joints = 5 if name == "weibull" else 2
    data = rows(kind, n=20, joints=joints, delayed=True, seed=3)
    function, twin, start = compiled(name, data, 0.7 if name != "cox" else None, mode="NUMBA")
    assert_twins(function, twin, start)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("delayed", [False, True])
def test_cox_value_and_gradient_equal_the_twin(ties, delayed):
    data = rows("right", n=40, delayed=delayed, seed=4)
    whole = np.ceil(data.lower * 2) / 2
    data = type(data)(
        **{k: getattr(data, k) for k in ("ids", "subject_ids", "covariates", "names", "cause")},
        lower=whole, upper=np.where(data.cause > 0, whole, np.inf), start=data.start,
        weight=np.repeat(np.random.default_rng(0).uniform(0.5, 2, 20), 2),
    )  # fmt: skip
    function, twin, start = compiled("cox", data, None, ties=ties)
    value, gradient = function(start)
    assert value == pytest.approx(twin(start), rel=1e-12)
    differences = [(twin(start + h) - twin(start - h)) / 2e-5 for h in 1e-5 * np.eye(WIDTH)]
    np.testing.assert_allclose(gradient, differences, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", [*FAMILIES, "cox"])
def test_gradients_stay_finite_at_the_edge(name):
    frailty = 0.7 if name != "cox" else None
    kind = "left" if name != "cox" else "right"
    data = rows(kind, n=20, joints=5, delayed=True, seed=3)
    function, _, start = compiled(name, data, frailty)
    for scale in (50.0, -50.0, 300.0, -300.0):
        at = start.copy()
        at[:2] *= scale
        value, gradient = function(at)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    for k in range(WIDTH, len(start)):
        for step in (-30.0, 5.0) if name != "piecewise" else (-60.0, 30.0):
            at = start.copy()
            at[k] = np.exp(step / 3) if k == len(start) - 1 else at[k] + step
            value, gradient = function(at)
            assert np.isfinite(value), (k, step)
            assert np.isfinite(gradient).all(), (k, step)


def test_arrays_that_are_not_used_are_not_asked_for():
    family = LIKELIHOODS["piecewise"]
    assert family.used(frailty=False) == (
        "x", "x_t", "covariate_sum", "exposure", "exposure_t", "events", "row_weight",
    )  # fmt: skip
    arrays = family.arrays(rows("interval"), breaks=BREAKS)
    for name in family.used(interval_censored=True, delayed=True, many=True):
        assert arrays[name].dtype in (np.float64, np.int64)
        assert arrays[name].flags.c_contiguous
