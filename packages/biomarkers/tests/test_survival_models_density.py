"""The log density that is sampled, against priors from scipy.stats and the likelihood in NumPy."""

import numpy as np
import pytest
from scipy import stats

from spinmark_biomarkers.survival import _compat, engines
from spinmark_biomarkers.survival.likelihoods import LIKELIHOODS, NO_FRAILTY
from spinmark_biomarkers.survival.models import MODELS, PiecewiseExponential
from spinmark_biomarkers.survival.priors import (
    R2D2,
    Independent,
    Monotone,
    Normal,
    PSpline,
    RandomWalk,
    RegularisedHorseshoe,
)
from spinmark_biomarkers.survival.priors.r2d2 import NOISE

from .survival_model_cases import pairs

DATA = pairs(12, 3)
LATE = pairs(12, 3, late=True)
WIDE = pairs(12, 3, interval=True)
FIXED = Normal(scale=1.0, learned=False)


def built(model, data, blocks=None):
    """The model, its data by name, and log density and variables as functions of an unconstrained point."""
    spec, arrays = model._prepare(data, blocks)
    graph = engines.model_with(spec, arrays)
    names = list(graph.free_RVs + graph.deterministics)
    _compat.import_quietly()
    outputs = graph.replace_rvs_by_values([graph[v.name] for v in names])
    function = graph.compile_fn(
        [graph.logp(jacobian=False), *outputs], mode="FAST_COMPILE", point_fn=True,
        on_unused_input="ignore",
    )  # fmt: skip
    start = graph.initial_point()

    def at(seed):
        rng = np.random.default_rng(seed)
        point = {k: v + rng.uniform(-0.7, 0.7, np.shape(v)) for k, v in start.items()}
        value, *found = function(point)
        return float(value), dict(zip([v.name for v in names], found, strict=True))

    return arrays, at


def likelihood(model, arrays, v, data, theta):
    family = LIKELIHOODS[model._family]
    given = family.arrays(data, **model._family_options())
    base = {k: v[k] for k in family.baseline}
    return family.log_likelihood(given, v["beta"][: len(data.names)], base, theta)


def half(values, scale=1.0):
    return stats.halfnorm.logpdf(values, scale=scale).sum()


def normal(values, scale=1.0):
    return stats.norm.logpdf(values, scale=scale).sum()


def coefficients(prior, arrays, v):
    """Log prior of the variables that a coefficient prior adds, and the coefficients they make."""
    s = arrays["prior_settings"]
    if isinstance(prior, Normal) and not prior.learned:
        return normal(v["z"], prior.scale), v["z"]
    if isinstance(prior, Normal):
        scale = (v["scale_unit"] * prior.scale)[arrays["prior_block"]]
        c = arrays["prior_centred"]
        return half(v["scale_unit"]) + normal(v["z"], scale**c), scale ** (1 - c) * v["z"]
    if isinstance(prior, RegularisedHorseshoe):
        tau = v["global_unit"] * s[0]
        variance = v["slab_variance"]
        scale = np.sqrt(variance * (tau * v["local"]) ** 2 / (variance + (tau * v["local"]) ** 2))
        c = arrays["prior_centred"]
        value = (
            stats.halfcauchy.logpdf(v["global_unit"]) + stats.halfcauchy.logpdf(v["local"]).sum()
        )
        value += stats.invgamma.logpdf(variance, s[1], scale=s[2])
        return value + normal(v["z"], scale**c), scale ** (1 - c) * v["z"]
    if isinstance(prior, R2D2):
        value = stats.beta.logpdf(v["r2"], s[0], s[1])
        value += stats.gamma.logpdf(v["column_part"], s[2]).sum()
        value += stats.gamma.logpdf(v["block_part"], s[3]).sum()
        block, p = arrays["prior_block"], int(arrays["prior_present"].sum())
        parts = v["column_part"][:p]
        within = parts / np.bincount(block[:p], parts)[block[:p]]
        share = v["block_part"] * arrays["prior_there"]
        phi = within * (share / share.sum())[block[:p]]
        scale = np.sqrt(NOISE * v["r2"] / (1 - v["r2"]) * phi)
        c = arrays["prior_centred"]
        full = np.append(scale, np.full(len(c) - p, np.sqrt(NOISE * v["r2"] / (1 - v["r2"]))))
        return value + normal(v["z"], full**c), (full ** (1 - c) * v["z"])[:p]
    assert isinstance(prior, Monotone)
    value = normal(v["size"]) + stats.gamma.logpdf(v["step"], s[1]).sum()
    grade = arrays["prior_grade"]
    steps = v["step"] / np.bincount(grade, v["step"], len(grade))[grade]
    return value, s[0] * v["size"][grade] * steps


PRIORS = [
    Normal(scale=0.3),
    Normal(scale=2.0, learned=False),
    RegularisedHorseshoe(relevant=1, slab_scale=0.7, slab_df=6),
    R2D2(mean=0.4, precision=5, concentration=0.8, block_concentration=2),
    Monotone(scale=0.8, concentration=2.0),
]


@pytest.mark.parametrize("prior", PRIORS, ids=lambda p: f"{p.name}-{getattr(p, 'learned', '')}")
def test_priors_of_coefficients_have_the_density_they_state(prior):
    blocks = {"x0": "a", "x1": "b", "x2": "b"}
    model = PiecewiseExponential(intervals=3, prior=prior, baseline="independent", frailty="none")
    arrays, at = built(model, DATA, blocks)
    for seed in range(3):
        value, v = at(seed)
        log_prior, beta = coefficients(prior, arrays, v)
        np.testing.assert_allclose(v["beta"][: len(beta)], beta, rtol=1e-9)
        expected = log_prior + normal(v["piece"]) + likelihood(model, arrays, v, DATA, None)
        assert value == pytest.approx(expected, rel=1e-9)


def stretched(roughness):
    """How much wider the sampled steps are than standard normal, for the roughness in log hazard."""
    return np.sqrt(1 + (roughness / 0.15) ** 2)


def random_walk(v, scale=0.5):
    """Log density of a walk's variables; its steps in log hazard are normal with sd roughness x scale."""
    wide = stretched(scale * v["roughness"])
    return normal(v["baseline_level"]) + half(v["roughness"]) + normal(v["steps"], wide)


def baseline_density(prior, arrays, v, breaks):
    s = arrays["baseline"]
    if isinstance(prior, Independent):
        return normal(v["piece"]), s[0] + s[1] * v["piece"]
    if isinstance(prior, RandomWalk):
        walk = np.append(0.0, np.cumsum(v["steps"]))
        walk = walk - walk.mean()
        size = s[2] * v["roughness"]
        log_hazard = s[0] + s[1] * v["baseline_level"] + size / stretched(size) * walk
        return random_walk(v, s[2]), log_hazard
    value = normal(v["baseline_level"]) + normal(v["slope"]) + half(v["bend"]) + normal(v["bends"])
    k = prior.coefficients
    # The bent part is the curve without line whose second differences are the bends.
    d2 = np.diff(np.eye(k), 2, axis=0)
    curve = np.linalg.pinv(d2) @ v["bends"]
    rise = np.arange(k) - (k - 1) / 2
    c = s[0] + s[1] * v["baseline_level"] + s[2] * v["slope"] * rise + s[3] * v["bend"] * curve
    return value, prior.basis(breaks) @ c


@pytest.mark.parametrize(
    "baseline",
    [RandomWalk(level_scale=1.0, step_scale=0.2), Independent(scale=1.5), PSpline(coefficients=5)],
    ids=lambda b: b.name,
)
def test_priors_of_the_baseline_have_the_density_they_state(baseline):
    prior = FIXED
    model = PiecewiseExponential(
        intervals=4,
        prior=prior,
        baseline=baseline,
        frailty="gamma",
        frailty_scale=0.6,
        prior_rate=0.1,
    )
    arrays, at = built(model, DATA)
    value, v = at(0)
    log_prior, log_hazard = baseline_density(baseline, arrays, v, model.breaks_)
    np.testing.assert_allclose(v["log_hazard"], log_hazard, rtol=1e-9)
    assert v["frailty_variance"] == pytest.approx(0.6 * v["variance_unit"])
    theta = float(v["frailty_variance"]) + NO_FRAILTY
    expected = log_prior + normal(v["z"]) + half(v["variance_unit"])
    assert value == pytest.approx(expected + likelihood(model, arrays, v, DATA, theta), rel=1e-8)


@pytest.mark.parametrize("name", ["weibull", "lognormal", "loglogistic", "cox", "piecewise"])
@pytest.mark.parametrize("kind", ["late", "interval"])
def test_every_family_adds_its_likelihood(name, kind):
    data = LATE if kind == "late" else WIDE
    if name == "cox" and kind == "interval":
        data = DATA
    frailty = "none" if name == "cox" else "gamma"
    model = MODELS[name](prior=FIXED, frailty=frailty)
    arrays, at = built(model, data)
    value, v = at(1)
    free = [k for k in v if k in ("z", "variance_unit", "shape_unit")]
    prior = sum(half(v[k]) if k == "variance_unit" else normal(v[k]) for k in free)
    if name == "piecewise":
        prior += random_walk(v)
    elif name != "cox":
        prior += normal(v["baseline_level"])
    theta = None if name == "cox" else float(v["frailty_variance"]) + NO_FRAILTY
    assert value == pytest.approx(prior + likelihood(model, arrays, v, data, theta), rel=1e-8)


def test_parts_that_are_compiled_always_change_nothing_where_they_are_not_needed():
    options = {"intervals": 3, "prior": FIXED, "frailty": "none"}
    _, plain = built(PiecewiseExponential(**options), DATA)
    _, full = built(
        PiecewiseExponential(**options, always=("frailty", "interval_censored", "delayed")), DATA
    )
    # The unused variance adds its own prior; the point is the same, drawn in the order of names.
    value, v = full(3)
    arrays = {}
    model = PiecewiseExponential(**options)
    model._prepare(DATA, None)
    own = normal(v["z"]) + random_walk(v)
    expected = own + half(v["variance_unit"]) + likelihood(model, arrays, v, DATA, None)
    assert value == pytest.approx(expected, rel=1e-6)
    value, v = plain(3)
    own = normal(v["z"]) + random_walk(v)
    assert value == pytest.approx(own + likelihood(model, arrays, v, DATA, None), rel=1e-9)


def test_a_latent_lognormal_frailty_multiplies_every_hazard_of_a_person():
    model = PiecewiseExponential(intervals=3, prior=FIXED, frailty="lognormal")
    _, at = built(model, WIDE)
    value, v = at(0)
    w = np.exp(v["frailty_sd"] * v["log_frailty"])[WIDE.subject_code]
    eta = WIDE.covariates @ v["beta"][:3]
    ends = np.append(model.breaks_[1:], np.inf)

    def cumulative(t):
        years = np.clip(t[:, None], model.breaks_, ends) - model.breaks_
        return w * np.exp(eta) * (years @ np.exp(v["log_hazard"]))

    survived = np.exp(-cumulative(WIDE.lower))
    later = np.where(
        WIDE.interval, np.exp(-cumulative(np.where(WIDE.interval, WIDE.upper, 1.0))), 0.0
    )
    assert WIDE.interval[WIDE.event].all()
    own = normal(v["z"]) + random_walk(v)
    own += half(v["spread_unit"]) + normal(v["log_frailty"])
    assert value == pytest.approx(own + np.log(survived - later).sum(), rel=1e-8)
