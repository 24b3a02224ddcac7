"""Mixtures against scipy's densities, scikit-learn's estimates and closed forms."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, multivariate_t
from scipy.stats import t as student
from sklearn.decomposition import FactorAnalysis
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as SklearnMixture

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.clusterers import em, mixture_clusterer
from spinmark_biomarkers.phenotypes.clusterers.covariance import Diagonal
from spinmark_biomarkers.phenotypes.clusterers.dirichlet import DirichletProcess
from spinmark_biomarkers.phenotypes.clusterers.gaussian import GaussianLaw, GaussianMixture
from spinmark_biomarkers.phenotypes.clusterers.mixture import Mixture
from spinmark_biomarkers.phenotypes.clusterers.student import StudentMixture

COVARIANCES = ("full", "tied", "diagonal", "factors")


def overlapping(n=400, p=4, k=3, seed=0, heavy=False):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    mix = rng.normal(size=(k, p, p)) / 2 + np.eye(p)
    x = np.einsum("npq,nq->np", mix[truth], rng.normal(size=(n, p)))
    if heavy:
        x /= np.sqrt(rng.chisquare(4, n) / 4)[:, None]
    return x + 4 * rng.normal(size=(k, p))[truth], truth


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_gaussian_densities_and_memberships_are_those_of_scipy(covariance):
    x, _ = overlapping()
    fitted = GaussianMixture(3, covariance=covariance).fit(x)
    log = np.column_stack(
        [
            np.log(w) + multivariate_normal.logpdf(x, m, s)
            for w, m, s in zip(fitted.weights_, fitted.centres_, fitted.covariances_, strict=True)
        ]
    )
    expected = logsumexp(log, axis=1)
    np.testing.assert_allclose(fitted.score_samples(x), expected, rtol=1e-8)
    np.testing.assert_allclose(fitted.predict_proba(x), np.exp(log - expected[:, None]), atol=1e-9)
    assert fitted.log_likelihood(x) == pytest.approx(expected.sum())
    assert fitted.log_likelihood_ == pytest.approx(expected.sum())


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_student_densities_are_those_of_scipy(covariance):
    x, _ = overlapping(heavy=True)
    fitted = StudentMixture(3, covariance=covariance).fit(x)
    log = np.column_stack(
        [
            np.log(w) + multivariate_t.logpdf(x, m, s, df=v)
            for w, m, s, v in zip(
                fitted.weights_,
                fitted.centres_,
                fitted.covariances_,
                fitted.degrees_of_freedom_,
                strict=True,
            )
        ]
    )
    np.testing.assert_allclose(fitted.score_samples(x), logsumexp(log, axis=1), rtol=1e-8)
    assert fitted.log_likelihood_ == pytest.approx(logsumexp(log, axis=1).sum())


@settings(max_examples=24, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(20, 80),
    p=st.integers(1, 5),
    k=st.integers(1, 4),
    kind=st.sampled_from([GaussianMixture, StudentMixture]),
    covariance=st.sampled_from(COVARIANCES),
)
def test_no_step_lowers_the_likelihood(seed, n, p, k, kind, covariance):
    x, _ = overlapping(n=n, p=p, seed=seed, heavy=True)
    fitted = kind(k, covariance=covariance, restarts=3, tolerance=1e-9, max_iter=60).fit(x)
    steps = np.diff(fitted.log_likelihoods_)
    assert steps.size
    assert steps.min() > -1e-8 * np.abs(fitted.log_likelihoods_).max()


@pytest.mark.parametrize(
    ("covariance", "theirs"), [("full", "full"), ("tied", "tied"), ("diagonal", "diag")]
)
def test_sklearn_finds_the_same_gaussian_mixture(covariance, theirs):
    x, _ = overlapping(seed=3)
    ours = GaussianMixture(3, covariance=covariance, tolerance=1e-9, floor=1e-9).fit(x)
    peer = SklearnMixture(
        3,
        covariance_type=theirs,
        n_init=20,
        tol=1e-9,
        max_iter=3000,
        reg_covar=1e-9,
        random_state=1,
    ).fit(x)
    assert ours.log_likelihood_ == pytest.approx(peer.score(x) * len(x), abs=0.01)
    assert ours.bic(x) == pytest.approx(peer.bic(x), abs=0.02)
    assert adjusted_rand_score(ours.labels_, peer.predict(x)) > 0.99
    match = [int(np.abs(peer.means_ - m).sum(axis=1).argmin()) for m in ours.centres_]
    np.testing.assert_allclose(ours.weights_, peer.weights_[match], atol=1e-3)
    np.testing.assert_allclose(ours.centres_, peer.means_[match], atol=1e-2)


@pytest.mark.parametrize("q", [1, 2, 3])
def test_one_factor_analytic_cluster_is_factor_analysis(q):
    rng = np.random.default_rng(q)
    x = rng.normal(size=(300, q)) @ rng.normal(size=(q, 8)) + rng.normal(size=(300, 8)) * 0.5
    ours = GaussianMixture(1, covariance="factors", factors=q, tolerance=1e-9, max_iter=5000).fit(x)
    peer = FactorAnalysis(q, svd_method="lapack", tol=1e-9, max_iter=5000).fit(x)
    assert ours.log_likelihood_ == pytest.approx(peer.score(x) * 300, abs=1e-2)
    np.testing.assert_allclose(ours.covariances_[0], peer.get_covariance(), atol=2e-2)


def test_one_gaussian_cluster_has_the_moments():
    x, _ = overlapping()
    fitted = GaussianMixture(1, covariance="full").fit(x)
    np.testing.assert_allclose(fitted.centres_[0], x.mean(axis=0))
    np.testing.assert_allclose(fitted.covariances_[0], np.cov(x.T, bias=True), atol=1e-10)


def test_one_student_cluster_on_a_line_is_that_of_scipy():
    x = student.rvs(3, loc=2, scale=1.5, size=800, random_state=4)
    freedom, centre, scale = student.fit(x)
    fitted = StudentMixture(1, tolerance=1e-10).fit(x[:, None])
    assert fitted.degrees_of_freedom_[0] == pytest.approx(freedom, rel=5e-3)
    assert fitted.centres_[0, 0] == pytest.approx(centre, abs=2e-3)
    assert np.sqrt(fitted.covariances_[0, 0, 0]) == pytest.approx(scale, rel=2e-3)
    likelihood = student.logpdf(x, freedom, centre, scale).sum()
    assert fitted.log_likelihood_ == pytest.approx(likelihood, abs=1e-3)


def test_degrees_of_freedom_are_recovered_in_each_cluster():
    rng = np.random.default_rng(0)
    tails = [
        multivariate_t.rvs(np.zeros(3), np.eye(3), df=3, size=3000, random_state=1),
        12 + rng.normal(size=(2000, 3)),
    ]
    fitted = StudentMixture(2, covariance="full").fit(np.vstack(tails))
    assert fitted.degrees_of_freedom_[0] == pytest.approx(3, abs=0.4)
    assert fitted.degrees_of_freedom_[1] > 40


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_many_degrees_of_freedom_make_the_gaussian_mixture(covariance):
    x, _ = overlapping(seed=5)
    common = {"covariance": covariance, "tolerance": 1e-9, "max_iter": 3000}
    normal = GaussianMixture(3, **common).fit(x)
    nearly = StudentMixture(3, degrees_of_freedom=1e7, **common).fit(x)
    assert nearly.log_likelihood_ == pytest.approx(normal.log_likelihood_, abs=1e-2)
    np.testing.assert_allclose(nearly.predict_proba(x), normal.predict_proba(x), atol=1e-3)
    np.testing.assert_allclose(nearly.covariances_, normal.covariances_, atol=1e-2)


def test_outliers_move_the_gaussian_centre_and_not_the_student_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    x[:20] = 60 + rng.normal(size=(20, 3))
    far = {
        kind: float(np.linalg.norm(kind(1, covariance="full").fit(x).centres_[0]))
        for kind in (GaussianMixture, StudentMixture)
    }
    assert far[GaussianMixture] > 4
    assert far[StudentMixture] < 0.2


def test_parameters_are_counted():
    # Shares 2, means 3 x 5; then 3 x 15, 15, 3 x 5, and 3 x (5 x 2 - 1 + 5).
    x, _ = overlapping(p=5)
    expected = {"full": 62, "tied": 32, "diagonal": 32, "factors": 59}
    for covariance, count in expected.items():
        assert GaussianMixture(3, covariance=covariance).fit(x).n_parameters_ == count
        assert StudentMixture(3, covariance=covariance).fit(x).n_parameters_ == count + 3
        fixed = StudentMixture(3, covariance=covariance, degrees_of_freedom=5).fit(x)
        assert fixed.n_parameters_ == count
        assert (fixed.degrees_of_freedom_ == 5).all()


def test_icl_adds_twice_the_entropy_to_bic():
    x, _ = overlapping()
    fitted = GaussianMixture(3).fit(x)
    p = fitted.predict_proba(x)
    entropy = -np.sum(p * np.log(np.maximum(p, 1e-300)))
    assert fitted.icl(x) == pytest.approx(fitted.bic(x) + 2 * entropy)
    bic = {k: GaussianMixture(k, covariance="full").fit(x).bic(x) for k in (1, 2, 3, 4, 5)}
    assert min(bic, key=bic.__getitem__) == 3


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_unit_of_an_axis_is_of_no_consequence(covariance):
    x, _ = overlapping(n=200, seed=6)
    units = np.array([1.0, 10.0, 0.01, 3.0])
    first = GaussianMixture(3, covariance=covariance).fit(x)
    second = GaussianMixture(3, covariance=covariance).fit(x * units)
    moved = second.log_likelihood_ + len(x) * np.log(units).sum()
    assert moved == pytest.approx(first.log_likelihood_, abs=0.5)
    assert adjusted_rand_score(first.labels_, second.labels_) > 0.97


def test_a_cluster_on_a_point_or_a_line_keeps_the_floor():
    rng = np.random.default_rng(0)
    x = np.vstack([np.tile([5.0, 5, 5], (30, 1)), rng.normal(size=(100, 3))])
    x[30:, 2] = x[30:, 1]
    for covariance in COVARIANCES:
        for kind in (GaussianMixture, StudentMixture):
            fitted = kind(2, covariance=covariance).fit(x)
            least = min(np.linalg.eigvalsh(s).min() for s in fitted.covariances_)
            assert least > 0.9e-4 * x.var(axis=0).min()
            assert np.isfinite(fitted.predict_proba(x)).all()
            assert adjusted_rand_score(np.arange(130) < 30, fitted.labels_) == 1


def test_an_emptied_cluster_is_planted_anew_and_else_named(monkeypatch):
    x, truth = overlapping(p=2, k=2, seed=1)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    start = Mixture(
        shift=x.mean(axis=0),
        scale=x.std(axis=0),
        shares=np.array([1 - 1e-12, 1e-12]),
        means=np.array([[0.0, 0], [500, 500]]),
        scatter=Diagonal.start(2, 2, 1e-3),
        law=GaussianLaw(),
    )
    run = em.climb(start, scaled, steps=200, tolerance=1e-7)
    assert run is not None
    assert run.converged
    assert np.diff(run.history).min() > -1e-9
    assert adjusted_rand_score(truth, run.mixture.log_membership(x).argmax(axis=1)) > 0.8
    monkeypatch.setattr(em, "RESEEDS", 0)
    assert em.climb(start, scaled, steps=200, tolerance=1e-7) is None
    monkeypatch.setattr(em, "EMPTY", 1e9)
    with pytest.raises(InputError, match="k: 2 with 400 rows, and a cluster empties from every"):
        GaussianMixture(2).fit(x)


def test_a_run_that_is_cut_short_says_so(caplog):
    x, _ = overlapping()
    with caplog.at_level(logging.WARNING, logger=mixture_clusterer.__name__):
        fitted = StudentMixture(3, max_iter=2, tolerance=1e-12).fit(x)
    assert not fitted.converged_
    assert "not converged after 2 steps" in caplog.text


def test_settings_out_of_range_are_named():
    x, _ = overlapping(n=50)
    wrong = {
        "floor: 0": GaussianMixture(2, floor=0),
        "restarts: 0": GaussianMixture(2, restarts=0),
        "tolerance: -1": GaussianMixture(2, tolerance=-1),
        "covariance: 'round'; accepted are full, tied, diagonal": StudentMixture(
            covariance="round"
        ),
        "factors: 0": GaussianMixture(covariance="factors", factors=0),
        "degrees_of_freedom: 0.5": StudentMixture(degrees_of_freedom=0.5),
        "most: 0": DirichletProcess(most=0),
        "least_share: 1.5": DirichletProcess(least_share=1.5),
        "concentration: -1": DirichletProcess(concentration=-1.0),
        "covariance: 'factors'; accepted are full, tied, diag": DirichletProcess(
            covariance="factors"
        ),
    }
    for message, model in wrong.items():
        with pytest.raises(InputError, match=message):
            model.fit(x)


def test_student_regression():
    x, _ = overlapping(heavy=True)
    fitted = StudentMixture(3, covariance="full").fit(x)
    assert fitted.log_likelihood_ == pytest.approx(-2436.733, abs=0.05)


@pytest.mark.parametrize("covariance", ["full", "tied", "diagonal"])
def test_a_dirichlet_process_finds_how_many(covariance):
    rng = np.random.default_rng(1)
    truth = rng.choice(3, 500, p=[0.5, 0.3, 0.2])
    x = 6 * np.eye(3)[truth] + rng.normal(size=(500, 3))
    fitted = DirichletProcess(most=8, covariance=covariance, restarts=3).fit(x)
    assert fitted.n_clusters_ == 3
    assert adjusted_rand_score(truth, fitted.labels_) > 0.95
    assert fitted.all_weights_.shape == (8,)
    np.testing.assert_allclose(fitted.all_weights_[:3], fitted.weights_, atol=0.02)
    log = np.column_stack(
        [
            np.log(w) + multivariate_normal.logpdf(x, m, s)
            for w, m, s in zip(fitted.weights_, fitted.centres_, fitted.covariances_, strict=True)
        ]
    )
    np.testing.assert_allclose(fitted.score_samples(x), logsumexp(log, axis=1), rtol=1e-8)
    # The variational assignment of scikit-learn, of which ours is the density at its means.
    peer = BayesianGaussianMixture(
        n_components=8, random_state=2, max_iter=1000, weight_concentration_prior=1 / 8
    ).fit(x)
    assert adjusted_rand_score(peer.predict(x), fitted.labels_) > 0.95


def test_a_dirichlet_process_leaves_one_gaussian_whole():
    x = np.random.default_rng(0).normal(size=(600, 4))
    fitted = DirichletProcess(restarts=3).fit(x)
    assert fitted.n_clusters_ == 1
    assert fitted.all_weights_[0] > 0.95
