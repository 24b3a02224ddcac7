"""The matched null, the dip, k-means and the criteria against independent references."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kurtosis, skew
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.structure import (
    dip_p,
    dip_statistic,
    matched_null,
    prediction_strength,
    strength_against_null,
)
from spinmark_biomarkers.phenotypes.structure.consensus import (
    GRID,
    consensus,
    resampled_labels,
    sampled_pairs,
)
from spinmark_biomarkers.phenotypes.structure.criteria import free_parameters, mixtures, silhouettes
from spinmark_biomarkers.phenotypes.structure.gap import choose_by_gap, gap_statistic
from spinmark_biomarkers.phenotypes.structure.inputs import check_rows, varying
from spinmark_biomarkers.phenotypes.structure.lloyd import kmeans_many, nearest
from spinmark_biomarkers.phenotypes.structure.null import joint_p
from spinmark_biomarkers.phenotypes.structure.prediction import prediction_strengths


def groups(n=60, k=3, d=4, away=8.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.integers(0, k, n), 2)
    z = away * np.eye(max(k, d))[truth][:, :d] + rng.normal(size=(2 * n, d))
    return z, np.repeat(np.arange(n), 2), truth


# Published algorithm, values of an independent linear programme over all unimodal laws (checked once
# against Hartigan's routine as well).
DIPS = [
    0.11946270042248819,
    0.06019735973076914,
    0.15058230987576200,
    0.08451493197183185,
    0.12802573215691440,
    0.08243692581093107,
    0.13662877027589637,
    0.08461575983362996,
]


def test_dip_has_the_values_of_the_linear_programme():
    rng = np.random.default_rng(0)
    for s, expected in enumerate(DIPS):
        two = rng.normal(size=14) if s % 2 else np.r_[rng.normal(size=7), rng.normal(6, 1, 7)]
        assert dip_statistic(two) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=30, unique=True))
def test_dip_ignores_order_shift_scale_and_sign_and_keeps_its_bounds(values):
    x = np.array(values, dtype=float)
    dip = dip_statistic(x)
    assert 1 / (2 * x.size) - 1e-12 <= dip <= 0.25 + 1e-12
    for other in (x[::-1], 3 * x + 7, -x):
        assert dip_statistic(other) == pytest.approx(dip, abs=1e-9)


def test_dip_p_tells_two_modes_from_one():
    rng = np.random.default_rng(2)
    assert dip_p(dip_statistic(rng.normal(size=150)), 150) > 0.2
    two = np.r_[rng.normal(size=75), rng.normal(5, 1, 75)]
    assert dip_p(dip_statistic(two), 150) == pytest.approx(0.005)


def test_matched_null_keeps_covariance_and_likeness_of_knees():
    rng = np.random.default_rng(3)
    person = np.repeat(rng.normal(size=(3000, 1)), 2, axis=0)
    z = np.hstack([2 * person, rng.normal(size=(6000, 1))])
    z[:, 0] += rng.normal(size=6000)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    people = np.repeat(np.arange(3000), 2)
    for rotation in (np.eye(2), turn):
        drawn = matched_null(z @ rotation.T, people, seed=0)
        np.testing.assert_allclose(np.cov(drawn.T), np.cov((z @ rotation.T).T), atol=0.25)
        back = drawn @ rotation
        assert np.corrcoef(back[::2, 0], back[1::2, 0])[0, 1] == pytest.approx(0.8, abs=0.03)
        assert abs(np.corrcoef(back[::2, 1], back[1::2, 1])[0, 1]) < 0.06


def test_joint_p_is_the_rank_of_the_largest_excess_by_hand():
    null = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]])
    excess, p = joint_p(np.array([2.0, 4.0]), null)
    np.testing.assert_allclose(excess, [1.0, 1.0])
    assert p == pytest.approx(3 / 4)
    assert joint_p(np.array([9.0, 3.0]), null)[1] == pytest.approx(1 / 4)
    # Without any spread nothing speaks.
    assert joint_p(np.ones(2), np.ones((3, 2)))[1] == 1.0


@pytest.mark.parametrize("d", [1, 4, 24])
def test_kmeans_reaches_the_optimum_and_its_own_fixed_point(d):
    z, _, _ = groups(n=150, d=d, k=min(d, 3), away=5.0)
    for k, (labels, centres, inertia) in zip(
        (1, 2, 3, 5), kmeans_many(z, (1, 2, 3, 5), starts=10, seed=1), strict=True
    ):
        peer = KMeans(k, n_init=20, random_state=0).fit(z)
        assert inertia <= peer.inertia_ * 1.02
        # Lloyd's fixed point, in double precision: own centre nearest, centre the mean of its rows.
        away = ((z[:, None] - centres[None].astype(float)) ** 2).sum(axis=2)
        own = away[np.arange(len(z)), labels]
        np.testing.assert_allclose(own, away.min(axis=1), rtol=1e-4, atol=1e-5)
        assert inertia == pytest.approx(own.sum(), rel=1e-4)
        for c in range(k):
            np.testing.assert_allclose(centres[c], z[labels == c].mean(axis=0), atol=1e-4)
        np.testing.assert_array_equal(nearest(z, centres), labels)


def test_kmeans_takes_rows_that_repeat():
    z = np.repeat(np.eye(3), 5, axis=0)
    labels, _, inertia = kmeans_many(z, (3,), starts=3, seed=0)[0]
    assert inertia == pytest.approx(0, abs=1e-9)
    assert len(np.unique(labels)) == 3


def brute_strength(z, people, k, splits, seed):
    """Pairs counted one by one, with scikit-learn's k-means on the same halves."""
    worst = []
    n = people.max() + 1
    for split in range(splits):
        order = np.random.default_rng([seed, split]).permutation(n)
        first = np.isin(people, order[: n // 2])
        sides = [z[first], z[~first]]
        fits = [KMeans(k, n_init=20, random_state=0).fit(side) for side in sides]
        for own, other in ((0, 1), (1, 0)):
            mine, theirs = fits[own].labels_, fits[other].predict(sides[own])
            shares = []
            for c in range(k):
                rows = np.flatnonzero(mine == c)
                pairs = [(i, j) for i in rows for j in rows if i != j]
                kept = [theirs[i] == theirs[j] for i, j in pairs]
                shares.append(np.mean(kept) if kept else 0.0)
            worst.append(min(shares))
    return np.mean(worst)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_prediction_strength_is_that_of_counting_pairs(k):
    z, people, _ = groups(n=40, away=7.0)
    ours = prediction_strength(z, people, k, splits=2, restarts=20, seed=5)
    assert ours == pytest.approx(brute_strength(z, people, k, 2, 5), abs=0.02)


def test_prediction_strength_finds_k_and_says_what_a_gaussian_has():
    z, people, _ = groups(k=4, n=80)
    found = prediction_strengths(z, people, range(2, 7), null=19, seed=0)
    assert max(found.reproducible) == 4
    assert found.p == pytest.approx(1 / 20)
    assert found.strength[2] > 0.95
    assert found.null[:, 2].mean() < 0.7
    strengths, excess, p = strength_against_null(z, people, [1, 4], null=4, seed=0)
    assert strengths[0] == 1.0
    assert excess[0] == 0.0
    assert p <= 1.0
    # Another clusterer goes through the registry.
    soft = prediction_strength(z, people, 4, method="gmm", splits=1, restarts=3, seed=0)
    assert soft > 0.9


def test_consensus_is_that_of_a_dense_matrix():
    z, people, _ = groups(n=30, away=3.0)
    found = consensus(z, people, (2, 4), resamples=20, seed=3)
    space = check_rows(z, people)
    labels = resampled_labels(
        space.z,
        space.subjects,
        (2, 4),
        resamples=20,
        share=0.8,
        method="kmeans",
        starts=1,
        seed=3,
    )
    for place, one in enumerate(labels):
        # Whole people are left out, and as many each time.
        absent = one < 0
        assert (absent.sum(axis=0) == 12).all()
        for person in range(30):
            rows = absent[space.subjects == person]
            assert (rows == rows[0]).all()
        together, both = np.zeros((60, 60)), np.zeros((60, 60))
        for draw in range(20):
            for i in range(60):
                for j in range(60):
                    if one[i, draw] >= 0 and one[j, draw] >= 0:
                        both[i, j] += 1
                        together[i, j] += one[i, draw] == one[j, draw]
        share = (together / both)[np.triu_indices(60, 1)]
        assert found.pac[place] == pytest.approx(((share > 0.1) & (share < 0.9)).mean(), abs=1e-12)
        np.testing.assert_allclose(
            found.cdf[place], [(share <= at + 1e-9).mean() for at in GRID], atol=1e-12
        )


def test_sampled_pairs_are_pairs_and_estimate_the_whole():
    first, second = sampled_pairs(50, 400, 0)
    assert first.size == 400
    assert (first != second).all()
    assert max(first.max(), second.max()) < 50
    assert sampled_pairs(20, 400, 0)[0].size == 190
    z, people, _ = groups(n=60, away=3.0)
    whole = consensus(z, people, (4,), resamples=20, seed=1).pac[0]
    some = consensus(z, people, (4,), resamples=20, pairs=3000, seed=1).pac[0]
    assert some == pytest.approx(whole, abs=0.04)


def test_pac_of_a_long_gaussian_is_small_and_not_below_its_null():
    rng = np.random.default_rng(5)
    people = np.repeat(np.arange(150), 2)
    thin = rng.normal(size=(300, 4)) * [6, 1, 1, 1]
    found = consensus(thin, people, (2, 3), resamples=30, null=19, seed=0)
    assert found.pac[0] < 0.15
    assert found.p > 0.05
    z, people, _ = groups(n=100)
    there = consensus(z, people, (2, 3, 4), resamples=30, null=19, seed=0)
    assert there.p == pytest.approx(1 / 20)
    assert there.pac[1] < 0.02
    assert there.null_pac[:, 1].mean() > 0.1


def test_gap_is_that_of_the_formula():
    z, people, _ = groups(n=50, away=6.0)
    found = gap_statistic(z, people, (2, 3, 4), draws=8, starts=10, seed=2)
    assert found.ks == (1, 2, 3, 4)
    for place, k in enumerate(found.ks):
        # The paper's W: over clusters, the sum of all pairwise squared distances over twice the size.
        labels = KMeans(k, n_init=20, random_state=0).fit_predict(z)
        w = 0.0
        for c in range(k):
            rows = z[labels == c]
            w += ((rows[:, None] - rows[None]) ** 2).sum() / (2 * len(rows))
        assert found.log_within[place] == pytest.approx(math.log(w), abs=3e-3)
    np.testing.assert_allclose(found.gap, found.null.mean(axis=0) - found.log_within)
    np.testing.assert_allclose(found.error, found.null.std(axis=0) * math.sqrt(1 + 1 / 8))
    assert found.k == 3


def test_gap_is_chosen_by_its_rule_and_can_be_one():
    assert choose_by_gap(np.array([1.0, 2.0, 2.1]), np.array([0.1, 0.1, 0.2])) == 1
    assert choose_by_gap(np.array([1.0, 2.0, 3.0]), np.zeros(3)) == 2
    rng = np.random.default_rng(0)
    people = np.arange(120)
    assert gap_statistic(rng.random((120, 2)), people, (2, 3), seed=0).k == 1


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_mixtures_have_sklearns_bic_and_the_icl_of_the_formula(kind):
    z, people, _ = groups(n=60, away=3.0)
    found = mixtures(z, people, (2, 3), covariance=kind, seed=1)
    assert [one.k for one in found] == [1, 2, 3]
    space = check_rows(z, people)
    floor = 1e-4 * float(space.z.var(axis=0).mean())
    for one in found:
        peer = GaussianMixture(
            one.k, covariance_type=kind, n_init=2, max_iter=300, reg_covar=floor, random_state=1
        ).fit(space.z)
        assert one.bic == pytest.approx(peer.bic(space.z))
        assert one.parameters == free_parameters(one.k, 4, kind)
        chance = peer.predict_proba(space.z)
        entropy = -sum(p * math.log(p) for p in chance.ravel() if p > 0)
        assert one.icl == pytest.approx(one.bic + 2 * entropy)
        assert one.converged
    # The likelihood of one Gaussian by hand.
    cov = np.cov(space.z.T, bias=True) + floor * np.eye(4)
    if kind == "diag":
        cov = np.diag(np.diag(cov))
    centred = space.z - space.z.mean(axis=0)
    quad = np.einsum("ij,jk,ik->i", centred, np.linalg.inv(cov), centred)
    log = -0.5 * (quad + np.linalg.slogdet(2 * np.pi * cov)[1])
    assert found[0].log_likelihood == pytest.approx(log.sum(), rel=1e-6)


def test_mixtures_that_did_not_converge_say_so():
    z, people, _ = groups(n=40, away=0.5)
    assert all(isinstance(one.converged, bool) for one in mixtures(z, people, (5,), seed=0))


def test_silhouettes_are_sklearns_and_a_sample_estimates_them():
    z, people, truth = groups(n=100, away=9.0)
    whole = silhouettes(z, people, (3,), seed=0)
    assert whole[0] == pytest.approx(silhouette_score(z, truth), abs=1e-6)
    some = silhouettes(z, people, (2, 3, 4), rows=120, seed=0)
    assert some[1] == pytest.approx(whole[0], abs=0.05)
    assert some.argmax() == 1


def test_every_criterion_ignores_the_order_of_rows_and_a_shift():
    z, people, _ = groups(n=40, away=4.0)
    order = np.random.default_rng(1).permutation(len(z))
    ks = (2, 3)
    for ask in (
        lambda x, p: consensus(x, p, ks, resamples=8, null=2, seed=0).pac,
        lambda x, p: gap_statistic(x, p, ks, draws=3, seed=0).gap,
        lambda x, p: prediction_strengths(x, p, ks, splits=2, null=2, seed=0).strength,
        lambda x, p: silhouettes(x, p, ks, seed=0),
        lambda x, p: np.array([one.icl for one in mixtures(x, p, ks, seed=0)]),
    ):
        np.testing.assert_array_equal(ask(z[order], people[order]), ask(z, people))
        np.testing.assert_allclose(ask(z + 3.0, people), ask(z, people), rtol=1e-3, atol=1e-3)


def test_bad_rows_are_named():
    z, people, _ = groups(n=20)
    holed = z.copy()
    holed[7, 1] = np.nan
    for ask in (
        lambda x, p, ks: consensus(x, p, ks, seed=0),
        lambda x, p, ks: gap_statistic(x, p, ks, seed=0),
        lambda x, p, ks: mixtures(x, p, ks, seed=0),
        lambda x, p, ks: silhouettes(x, p, ks, seed=0),
    ):
        with pytest.raises(InputError, match="not finite in 1 rows, the first 7"):
            ask(holed, people, (2,))
        with pytest.raises(InputError, match="k: 1; accepted is a whole number from 2"):
            ask(z, people, (1, 2))
        with pytest.raises(
            InputError, match="20 people for up to 6 clusters; accepted are at least"
        ):
            ask(z, people, (6,))
        with pytest.raises(InputError, match="k: 3 with 2 distinct rows; accepted is at most that"):
            ask(np.repeat(np.eye(2), 20, axis=0), np.arange(40), (3,))
        with pytest.raises(InputError, match="1 person; accepted are at least 2"):
            ask(z, np.zeros(40), (2,))
        with pytest.raises(InputError, match=r"shape \(39,\) with 40 rows; accepted is one a row"):
            ask(z, people[1:], (2,))
    with pytest.raises(InputError, match="none of them twice"):
        consensus(z, people, (2, 2), seed=0)
    with pytest.raises(InputError, match=r"share: 1; accepted is a number between"):
        consensus(z, people, (2,), share=1, seed=0)
    with pytest.raises(InputError, match="resamples: 1; accepted is at least 2"):
        consensus(z, people, (2,), resamples=1, seed=0)
    with pytest.raises(InputError, match="covariance: 'tied'"):
        mixtures(z, people, (2,), covariance="tied", seed=0)


def test_axes_without_variation_are_left_out():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 5)) + 100.0
    assert varying(check_rows(x, np.arange(50))).z.shape == (50, 2)
    assert varying(check_rows(np.full((50, 3), 0.1), np.arange(50))).z.shape == (50, 0)


def test_progress_is_counted_to_the_end():
    z, people, _ = groups(n=20)
    seen = []
    consensus(z, people, (2,), resamples=3, null=2, seed=0, progress=lambda *at: seen.append(at))
    assert seen == [(i, 9) for i in range(1, 10)]


def test_importing_compiles_nothing():
    code = (
        "import sys, spinmark_biomarkers.phenotypes.structure.verdict\n"
        "assert 'numba' not in sys.modules, 'numba'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_moments_are_scipys():
    from spinmark_biomarkers.phenotypes.structure.shape import _moments

    x = np.random.default_rng(0).gamma(2.0, size=(400, 2))
    found = _moments(x)
    np.testing.assert_allclose(found[:2], skew(x), rtol=1e-9)
    np.testing.assert_allclose(found[2:4], kurtosis(x), rtol=1e-9)
    centred = x - x.mean(axis=0)
    inverse = np.linalg.inv(np.cov(x.T, bias=True))
    mardia = np.mean([(row @ inverse @ row) ** 2 for row in centred])
    assert found[4] == pytest.approx(mardia / 8 - 1)
