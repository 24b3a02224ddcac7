import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival import _compat, engines
from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.models import PiecewiseExponential
from spinmark_biomarkers.survival.priors import Normal

from .survival_model_cases import pairs

TINY = SamplerConfig(tune=30, draws=30, cores=1)


def test_an_unknown_engine_is_named():
    with pytest.raises(
        InputError, match="engine: 'stan'; accepted are auto, nutpie, pymc, numpyro"
    ):
        engines.chosen_engine("stan")


def test_a_missing_engine_says_what_to_install(monkeypatch, caplog):
    found = importlib.util.find_spec

    def absent(name, *args):
        return None if name in ("numba", "jax") else found(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(
        InputError, match=r"needs numba, not installed here; pip install nutpie numba"
    ):
        engines.chosen_engine("nutpie")
    with pytest.raises(
        InputError, match=r"jax, not installed here; pip install 'spinmark-biomarkers\[numpyro\]'"
    ):
        engines.chosen_engine("numpyro")
    assert engines.chosen_engine("auto") == "pymc"
    assert "slower" in caplog.text
    assert not engines.has_nutpie()


def spec_of(model, data, blocks=None):
    spec, arrays = model._prepare(data, blocks)
    return spec, engines.forms(arrays)


def test_only_the_form_decides_what_is_compiled():
    one = spec_of(PiecewiseExponential(), pairs(10, 3))
    assert one == spec_of(PiecewiseExponential(prior=Normal(scale=0.1)), pairs(25, 5, seed=1))
    assert one == spec_of(PiecewiseExponential(frailty_scale=0.3, prior_rate=0.1), pairs(9, 2))
    assert one != spec_of(PiecewiseExponential(), pairs(10, 9))
    assert one != spec_of(PiecewiseExponential(intervals=7), pairs(10, 3))
    assert one != spec_of(PiecewiseExponential(frailty="none"), pairs(10, 3))
    assert one != spec_of(PiecewiseExponential(), pairs(10, 3, interval=True))
    assert one != spec_of(PiecewiseExponential(), pairs(10, 3, late=True))
    always = ("frailty", "interval_censored", "delayed")
    full = spec_of(PiecewiseExponential(always=always), pairs(10, 3))
    assert full == spec_of(
        PiecewiseExponential(always=always, frailty="none"), pairs(10, 3, late=True)
    )
    assert full == spec_of(PiecewiseExponential(always=always), pairs(12, 3, interval=True))


def test_a_first_fit_says_nothing_of_the_linear_algebra():
    def compiles():
        warnings.warn("PyTensor could not link to a BLAS installation. Slow.", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    with pytest.warns(UserWarning, match="something else") as seen, _compat.without_blas_warning():
        compiles()
    assert len(seen) == 1


@pytest.mark.slow
def test_a_second_fit_of_another_size_compiles_nothing():
    PiecewiseExponential(sampler=TINY).fit(pairs(40, 3))
    before = engines.compiled.cache_info().misses
    second = PiecewiseExponential(sampler=TINY, prior=Normal(scale=0.2)).fit(pairs(70, 6, seed=2))
    assert engines.compiled.cache_info().misses == before
    assert second.posterior_.sizes["covariate"] == 6


def agree(one, other):
    """Posterior means within four Monte Carlo errors, and draws of one law where thinned to independence."""
    for name in ("beta", "log_hazard", "frailty_variance"):
        a, b = (m.posterior_[name].to_numpy() for m in (one, other))
        a, b = (v.reshape(v.shape[0] * v.shape[1], -1) for v in (a, b))
        # A fifth of the draws are taken to be independent.
        error = np.sqrt((a.var(axis=0) + b.var(axis=0)) / (len(a) / 5))
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) < 4 * error).all()
        for k in range(a.shape[1]):
            assert stats.ks_2samp(a[::10, k], b[::10, k]).pvalue > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["pymc", "numpyro"])
def test_engines_draw_from_the_same_posterior(engine):
    if engine == "numpyro":
        pytest.importorskip("numpyro")
    data = pairs(120, 3)
    fits = [
        PiecewiseExponential(
            intervals=3, sampler=SamplerConfig(tune=500, draws=1000, engine=name, seed=3)
        ).fit(data)
        for name in ("nutpie", engine)
    ]
    agree(*fits)
    assert all(fit.diagnostics_.rhat < 1.03 for fit in fits)
    assert all(0 < fit.diagnostics_.bfmi < 2.5 for fit in fits)


SECOND = """
import time, sys
sys.path.insert(0, {tests!r})
from spinmark_biomarkers.survival import _compat
_compat.import_quietly()
from survival_model_cases import pairs
from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.models import PiecewiseExponential
began = time.process_time()
PiecewiseExponential(sampler=SamplerConfig(tune=5, draws=5, cores=1)).fit(pairs(20, 3))
print(time.process_time() - began)
"""


@pytest.mark.slow
def test_a_second_process_finds_compiled_code_on_disk(tmp_path):
    home = {**os.environ, "HOME": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    code = SECOND.format(tests=str(Path(__file__).parent))
    seconds = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            env=home,
            check=True,
        )
        seconds.append(float(done.stdout.split()[-1]))
    assert seconds[1] < 0.75 * seconds[0]
