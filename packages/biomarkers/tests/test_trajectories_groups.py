"""Groups of transitions, their stability, sequences along paths, and the three nulls."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage
from sklearn.cluster import AgglomerativeClustering
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.clusters import rand_index
from spinmark_biomarkers.phenotypes.trajectories.group import (
    fit_groups,
    group_stability,
    path_groups,
)
from spinmark_biomarkers.phenotypes.trajectories.null import (
    coherence,
    draw_coherence,
    exchanged,
    neighbours_of_others,
    reordered,
    slopes,
    smooth_flow,
    tree_strength,
)
from spinmark_biomarkers.phenotypes.trajectories.paths import make_paths
from spinmark_biomarkers.phenotypes.trajectories.transitions import Transitions

from .trajectory_cases import cohort


def clouds(each=40, gap=8.0, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [each, each // 2, each // 4]
    truth = np.repeat(np.arange(3), sizes)
    return gap * np.eye(3)[truth] + rng.normal(size=(len(truth), 3)), truth


@pytest.mark.parametrize("method", ["agglomerative", "hdbscan"])
def test_clouds_are_found_the_largest_first(method):
    vectors, truth = clouds()
    model = fit_groups(vectors, method=method, k=3)
    assert model.k == 3
    assert rand_index(truth, model.assign(vectors)) > 0.95
    sizes = [(model.assign(vectors) == group).sum() for group in range(3)]
    assert sizes == sorted(sizes, reverse=True)


def test_the_tree_is_that_of_another_implementation():
    vectors, _ = clouds(gap=3.0, seed=1)
    with threadpool_limits(limits=1):
        peer = AgglomerativeClustering(n_clusters=4, linkage="ward").fit(vectors)
    model = fit_groups(vectors, method="agglomerative", k=4)
    mine = np.stack([vectors[peer.labels_ == g].mean(axis=0) for g in range(4)])
    order = np.argsort(model.anchors[:, 0])
    assert model.anchors[order] == pytest.approx(mine[np.argsort(mine[:, 0])])
    assert linkage(vectors, method="ward").shape == (len(vectors) - 1, 4)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000))
def test_the_order_of_rows_changes_no_group(seed):
    vectors, _ = clouds(gap=3.0)
    order = np.random.default_rng(seed).permutation(len(vectors))
    one = fit_groups(vectors, method="agglomerative", k=3)
    other = fit_groups(vectors[order], method="agglomerative", k=3)
    assert np.array_equal(one.anchors, other.anchors)


def test_noise_is_no_group_to_hdbscan():
    vectors = np.random.default_rng(2).uniform(size=(60, 3))
    model = fit_groups(vectors, method="hdbscan", k=2)
    assert set(model.assign(vectors)) <= {-1, *range(model.k)}
    assert fit_groups(vectors[:6], method="hdbscan", k=2).k == 0


def test_too_many_groups_are_refused():
    with pytest.raises(InputError, match="k: 5 with 2 distinct fitted transitions"):
        fit_groups(np.array([[0.0], [1.0], [1.0]]), method="agglomerative", k=5)
    with pytest.raises(InputError, match="method: 'magic'"):
        fit_groups(np.eye(3), method="magic", k=2)


def test_stability_tells_clouds_from_a_cut_through_one_cloud():
    vectors, _ = clouds()
    people = np.arange(len(vectors)) // 2
    model = fit_groups(vectors, method="agglomerative", k=3)
    firm = group_stability(vectors, model, people.astype(str), draws=15, seed=0)
    assert firm.shape == (15, 3)
    assert firm.mean() > 0.95
    blob = np.random.default_rng(3).normal(size=vectors.shape)
    model = fit_groups(blob, method="agglomerative", k=3)
    assert group_stability(blob, model, people.astype(str), draws=15, seed=0).mean() < 0.75


def test_sequences_name_paths_and_are_ranked_by_frequency():
    joint = np.array([0, 0, 1, 2, 2, 2, 3, 3])
    groups = np.array([0, 2, 1, 0, 0, 2, 1, -1])
    named = path_groups(joint, groups, 4)
    assert named["sequence"].tolist() == ["0>2", "1", "0>2", "1>-"]
    assert named["path_group"].tolist() == [0, 1, 0, 2]


def test_slopes_are_least_squares():
    paths = make_paths(cohort(people=6, rescans=0.3)[0])
    found = slopes(paths.points, paths.years, paths.present)
    for joint in range(len(found)):
        n = int(paths.present[joint].sum())
        fit = np.polyfit(paths.years[joint, :n], paths.points[joint, :n], 1)
        assert found[joint] == pytest.approx(fit[0])


def test_neighbours_are_the_nearest_of_other_people():
    rng = np.random.default_rng(4)
    place, subjects = rng.normal(size=(20, 2)), np.arange(20) // 2
    near = neighbours_of_others(place, subjects, 5)
    for i in range(20):
        away = np.linalg.norm(place - place[i], axis=1)
        away[subjects == subjects[i]] = np.inf
        assert set(near[i]) == set(np.argsort(away)[:5])


def test_coherence_of_one_direction_is_one_and_of_any_is_none():
    rng = np.random.default_rng(5)
    near = neighbours_of_others(rng.normal(size=(400, 2)), np.arange(400), 20)
    assert coherence(np.tile([3.0, 0.0], (400, 1)), near, 1e-9) == pytest.approx(1.0)
    assert abs(coherence(rng.normal(size=(400, 2)), near, 1e-9)) < 0.03


def test_reordering_keeps_every_joint_its_points_and_both_knees_one_order():
    paths = make_paths(cohort(people=10, visits=6)[0])
    everyone = np.ones(len(paths.joints), bool)
    moved = reordered(paths, everyone, np.random.default_rng(6))
    assert np.sort(moved, axis=1) == pytest.approx(np.sort(paths.points, axis=1))
    assert not np.array_equal(moved, paths.points)
    assert (moved[~paths.present] == 0).all()
    labels = paths.labels
    for joint in range(0, len(labels), 2):
        if (labels[joint] == labels[joint + 1]).all() and paths.subjects[joint] == paths.subjects[
            joint + 1
        ]:
            orders = []
            for knee in (joint, joint + 1):
                mine = paths.points[knee, paths.present[knee]]
                orders.append(
                    [np.abs(mine - m).sum(axis=1).argmin() for m in moved[knee][: len(mine)]]
                )
            assert orders[0] == orders[1]


def test_people_are_exchanged_whole():
    subjects = np.array([0, 0, 1, 2, 2, 3, 4, 4])
    taken = exchanged(subjects, np.random.default_rng(7))
    assert sorted(taken) == list(range(8))
    for person in range(5):
        from_whom = subjects[taken[subjects == person]]
        assert len(set(from_whom)) == 1
        assert (subjects == from_whom[0]).sum() == (subjects == person).sum()


def some_transitions(n=300, seed=0):
    rng = np.random.default_rng(seed)
    middle, years = rng.normal(size=(n, 3)), rng.uniform(0.5, 2, n)
    velocity = np.eye(3)[rng.integers(0, 2, n)] + 0.05 * rng.normal(size=(n, 3)) + 0.2 * middle
    blank = Transitions(
        joint=np.arange(n),
        subject=np.arange(n) // 2,
        first=np.zeros(n, np.int64),
        last=np.ones(n, np.int64),
        start=middle,
        stop=middle,
        years=years,
        variance=np.full(n, 0.01),
    )
    return blank.moving(velocity)


def test_a_smooth_flow_keeps_places_the_flow_and_the_covariance():
    real = some_transitions(n=4000)
    drawn = smooth_flow(real, np.random.default_rng(8))
    assert drawn.middle == pytest.approx(real.middle)
    design = np.column_stack([np.ones(len(real)), real.middle])
    flows = [np.linalg.lstsq(design, t.velocity, rcond=None)[0] for t in (real, drawn)]
    assert flows[1] == pytest.approx(flows[0], abs=0.05)
    rest = [t.velocity - design @ f for t, f in zip((real, drawn), flows, strict=True)]
    assert np.cov(rest[1].T) == pytest.approx(np.cov(rest[0].T), abs=0.02)


def test_strength_is_high_for_clouds_and_low_for_none():
    vectors, _ = clouds(each=80)
    people = np.arange(len(vectors)) // 2
    strong = tree_strength(vectors, people, [2, 3, 6], splits=3, seed=0)
    assert strong[1] > 0.95
    assert strong[2] < 0.6
    blob = np.random.default_rng(9).normal(size=vectors.shape)
    assert tree_strength(blob, people, [3], splits=3, seed=0)[0] < 0.6


def test_without_movement_the_answer_is_yes_in_one_of_twenty():
    p = []
    for seed in range(40):
        paths = make_paths(cohort(people=12, visits=4, moving="none", seed=seed)[0])
        everyone = np.ones(len(paths.joints), bool)
        found, movement, exchange = draw_coherence(paths, everyone, draws=19, seed=seed)
        p.append([(1 + (drawn >= found).sum()) / 20 for drawn in (movement, exchange)])
    # 40 ranks of 20: a mean of 0.525 with a standard error of 0.046; more than 6 at 0.05 are rare.
    assert np.mean(p, axis=0) == pytest.approx([0.525, 0.525], abs=0.14)
    assert (np.array(p) <= 0.05).sum(axis=0).max() <= 6
