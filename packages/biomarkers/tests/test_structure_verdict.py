"""SigClust, moments, borders, the verdict and severity on simulations with known truth."""

import json

import numpy as np
import pytest
from scipy.stats import binom, kstest, norm

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.structure import structure_page
from spinmark_biomarkers.phenotypes.cluster import fit_clusters
from spinmark_biomarkers.phenotypes.structure import valley_tests
from spinmark_biomarkers.phenotypes.structure.borders import (
    bent_line,
    border_test,
    neighbours,
    three_windows,
)
from spinmark_biomarkers.phenotypes.structure.severity import (
    grades_of,
    more_than_severity,
    without_severity,
)
from spinmark_biomarkers.phenotypes.structure.shape import departure_from_gaussian
from spinmark_biomarkers.phenotypes.structure.sigclust import (
    cluster_index,
    sigclust,
    soft_eigenvalues,
)
from spinmark_biomarkers.phenotypes.structure.verdict import judge


def knees(rng, people, d):
    person = np.repeat(rng.normal(size=(people, d)), 2, axis=0)
    return np.sqrt(0.5) * (person + rng.normal(size=(2 * people, d)))


def planted(kind, people=150, seed=0, d=5):
    rng = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(people), 2)
    z = knees(rng, people, d)
    truth = np.repeat(rng.integers(0, 3, people), 2)
    if kind == "groups":
        z += 6 * np.eye(d)[truth]
    if kind == "arc":
        angle = np.pi * norm.cdf(knees(rng, people, 1)[:, 0])
        z *= 0.15
        z[:, 0] += 3 * np.cos(angle)
        z[:, 1] += 3 * np.sin(angle)
    if kind == "skewed":
        z = np.exp(0.8 * z)
    return z, subjects, truth


def judged(z, subjects, **more):
    return judge(z, subjects, (2, 3, 4), criteria=False, seed=1, **more)


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [("groups", "clusters"), ("arc", "continuum"), ("skewed", "continuum"), ("plain", "none")],
)
def test_verdicts_on_planted_structure(kind, verdict):
    z, subjects, _ = planted(kind, seed=1)
    found = judged(z, subjects)
    assert found.verdict == verdict, found.reasons
    if kind == "groups":
        assert found.k == 3
        assert all(border.depth < 0.3 for border in found.borders[-1].weakest)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_space_without_variation_is_none_and_says_why():
    found = judge(np.zeros((80, 4)), np.repeat(np.arange(40), 2), seed=0)
    assert found.verdict == "none"
    assert found.reasons == ("all rows are equal, so there is nothing that could form groups",)
    assert found.table() == []
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_verdict_ignores_order_shift_and_scale_and_constant_columns():
    z, subjects, _ = planted("groups", people=60)
    first = judged(z, subjects).to_dict()
    order = np.random.default_rng(2).permutation(len(z))
    assert judged(z[order], subjects[order]).to_dict() == first
    padded = np.hstack([4 * z + 10, np.full((len(z), 1), 7.0)])
    again = judged(padded, subjects)
    assert (again.verdict, again.k) == (first["verdict"], first["k"])


def test_every_criterion_is_in_the_table_and_picks_a_number():
    z, subjects, _ = planted("groups", people=60)
    seen = []
    found = judge(
        z,
        subjects,
        (2, 3, 4),
        null_draws=5,
        resamples=10,
        splits=3,
        seed=0,
        progress=lambda *at: seen.append(at),
    )
    assert seen == [(i, 13) for i in range(1, 14)]
    assert found.votes() == {
        "prediction strength": 3,
        "smallest PAC": 3,
        "PAC against its null": 3,
        "gap": 3,
        "BIC": 3,
        "ICL": 3,
        "silhouette": 3,
    }
    row = found.table()[1]
    assert row["k"] == 3
    assert row["borders_p"] < 1e-4
    assert None not in row.values()
    json.dumps(found.to_dict(), allow_nan=False)
    figure = structure_page(found)
    assert len(figure.axes) == 4
    assert "3" in figure.get_suptitle()


def test_few_people_and_bad_settings_are_named():
    z, subjects, _ = planted("plain", people=20)
    with pytest.raises(
        InputError, match="20 people for up to 8 clusters; accepted are at least 32"
    ):
        judge(z, subjects, seed=0)
    with pytest.raises(InputError, match="k: 1; accepted is a whole number from 2 to 127"):
        judge(z, subjects, (1,), seed=0)
    with pytest.raises(InputError, match="method: 'umap'"):
        judge(z, subjects, (2,), method="umap", seed=0)
    holed = z.copy()
    holed[4] = np.inf
    with pytest.raises(InputError, match="not finite in 1 rows, the first 4"):
        judge(holed, subjects, (2,), seed=0)
    with pytest.raises(InputError, match="null_draws: -1; accepted is at least 0"):
        judge(z, subjects, (2,), null_draws=-1, seed=0)
    with pytest.raises(InputError, match="eigenvalues: 'hard'"):
        sigclust(z, subjects, eigenvalues="hard", seed=0)
    with pytest.raises(InputError, match="draws: 3; accepted is at least 19"):
        departure_from_gaussian(z, subjects, draws=3, seed=0)


def test_cluster_index_is_that_of_every_cut_of_a_line():
    x = np.random.default_rng(0).gamma(1.5, size=(60, 1))
    ordered = np.sort(x[:, 0])
    within = min(
        ((ordered[:i] - ordered[:i].mean()) ** 2).sum()
        + ((ordered[i:] - ordered[i:].mean()) ** 2).sum()
        for i in range(1, 60)
    )
    assert cluster_index(x, starts=10, seed=0) == pytest.approx(within / (60 * x.var()), rel=1e-3)


def test_sigclust_keeps_its_level_and_has_power():
    p, two, shape = [], [], []
    for seed in range(30):
        z, subjects, _ = planted("plain", people=40, seed=seed)
        z *= [2, 1.5, 1, 1, 0.5]
        p.append(sigclust(z, subjects, draws=40, starts=2, seed=seed).p)
        shape.append(departure_from_gaussian(z, subjects, draws=39, seed=seed).p)
        away = z.copy()
        away[:, 0] += 10 * np.repeat(np.random.default_rng(seed).integers(0, 2, 40), 2)
        two.append(sigclust(away, subjects, draws=40, starts=2, seed=seed).p)
    assert kstest(shape, "uniform").pvalue > 0.01
    # SigClust errs on the careful side: estimated eigenvalues are more uneven than the true ones.
    assert kstest(p, "uniform", alternative="greater").pvalue > 0.01
    assert 0.4 < np.mean(p) < 0.75
    for found in (p, shape):
        assert np.mean(np.array(found) <= 0.05) <= 0.17
    assert max(two) < 0.05


def test_soft_eigenvalues_keep_the_sum_and_lie_above_the_noise():
    values = np.array([10.0, 4.0, 1.0, 0.2, 0.1])
    soft = soft_eigenvalues(values, 0.5)
    assert soft.sum() == pytest.approx(values.sum())
    # By hand: two rise to 0.5 and cost 0.7, which the other three pay alike.
    cut = 0.7 / 3
    np.testing.assert_allclose(soft, [10 - cut, 4 - cut, 1 - cut, 0.5, 0.5])
    np.testing.assert_allclose(soft_eigenvalues(values, 0.1), values)
    np.testing.assert_allclose(soft_eigenvalues(values, 9.0), np.full(5, values.mean()))
    z, subjects, _ = planted("plain", people=20, d=30)
    assert sigclust(z, subjects, draws=19, seed=0).eigenvalues == "soft"


def test_neighbours_are_those_with_nothing_between():
    centres = np.array([[0.0, 0], [1, 0], [2, 0], [1, 5]])
    assert neighbours(centres) == [(0, 1), (0, 3), (1, 2), (1, 3), (2, 3)]


def test_a_straight_line_is_measured_straight_and_an_arc_along_itself():
    rng = np.random.default_rng(0)
    t = rng.uniform(-0.3, 1.3, 800)
    rows = np.outer(t, [3.0, 4.0]) + 0.01 * rng.normal(size=(800, 2))
    along = bent_line(rows, np.zeros(2), np.array([3.0, 4.0]))
    np.testing.assert_allclose(along(rows), t, atol=0.03)
    angle = rng.uniform(0, 0.75 * np.pi, 2000)
    arc = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ends = np.array([[1.0, 0.0], [np.cos(0.75 * np.pi), np.sin(0.75 * np.pi)]])
    place = bent_line(arc, *ends)(arc)
    # Uniform along the arc; projected on the chord its ends would be fuller than its middle.
    counts = np.histogram(place, bins=6, range=(0, 1))[0]
    assert counts.min() > 0.75 * counts.max()
    chord = (arc - ends[0]) @ (ends[1] - ends[0])
    straight = np.histogram(chord / chord.max(), bins=6, range=(0, 1))[0]
    assert straight.min() < 0.65 * straight.max()


def test_windows_stand_at_the_peaks_and_the_saddle():
    rng = np.random.default_rng(0)
    first, saddle, last, half = three_windows(
        np.r_[rng.normal(0, 0.15, 4000), rng.normal(1, 0.15, 2000)]
    )
    assert first == pytest.approx(0, abs=0.05)
    assert saddle == pytest.approx(0.53, abs=0.08)
    assert last == pytest.approx(1, abs=0.05)
    assert 0.15 < half < 0.22
    assert three_windows(rng.exponential(0.3, 4000)) is None


def test_borders_keep_their_level_where_there_is_no_valley():
    # A flat density is the hardest without a valley; rejecting must stay rare.
    rejected = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        z = rng.random((200, 2)) * [3, 1]
        rejected += border_test(z, np.repeat(np.arange(100), 2), 2, repeats=2, seed=seed).p <= 0.05
    assert rejected <= binom.ppf(0.995, 40, 0.05)


def test_borders_see_a_small_group_beside_a_large_one_where_the_dip_does_not():
    rng = np.random.default_rng(3)
    people = np.repeat(np.arange(600), 2)
    small = np.repeat(rng.random(600) < 0.15, 2)
    z = 0.35 * knees(rng, 600, 3)
    z[:, 0] = np.where(small, 1.9 + 1.4 * z[:, 0], z[:, 0])
    found = border_test(z, people, 2, seed=0)
    assert found.p < 0.001
    model = fit_clusters(z, k=2, components=3, restarts=5, seed=0)
    dips = valley_tests(model.projection(z), people, model, seed=0)
    assert min(row["p"] for row in dips) > 0.05


def grades(z, cuts=(-0.8, 0, 0.8)):
    return np.digitize(z, cuts)


def test_groups_that_are_grades_are_no_more_than_severity():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(150), 2)
    stage = np.repeat(rng.integers(0, 3, 150), 2)
    z = 0.3 * knees(rng, 150, 4) + np.outer(2.0 * stage, [1, 1, 0.5, 0])
    first = judged(z, people)
    assert (first.verdict, first.k) == ("clusters", 3)
    labels = fit_clusters(z, k=3, components=4, seed=0).assign(z)[0]
    found = more_than_severity(
        z,
        labels,
        stage,
        people,
        before="clusters",
        judge=lambda x: judged(x, people),
        draws=20,
        seed=0,
    )
    assert found.answer == "no more"
    assert found.agreement.value > 0.9
    assert found.explained.low > 0.9
    assert found.of_space > 0.8
    json.dumps(found.to_dict(), allow_nan=False)


def test_groups_beside_severity_are_more_than_it():
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(150), 2)
    kind = np.repeat(rng.integers(0, 2, 150), 2)
    severity = knees(rng, 150, 1)[:, 0]
    z = 0.4 * knees(rng, 150, 4)
    z[:, 0] += 3 * kind
    z[:, 1] += 1.5 * severity
    found = more_than_severity(
        z,
        kind,
        grades(severity),
        people,
        before="clusters",
        judge=lambda x: judged(x, people),
        draws=20,
        seed=0,
    )
    assert found.answer == "more"
    assert abs(found.agreement.value) < 0.1
    assert found.after.verdict == "clusters"


def test_a_continuum_of_severity_alone_leaves_nothing():
    rng = np.random.default_rng(2)
    people = np.repeat(np.arange(150), 2)
    severity = rng.gamma(1.0, size=300)
    z = np.outer(severity, [1.0, 1.1, 0.9]) + 0.01 * rng.normal(size=(300, 3))
    found = more_than_severity(
        z,
        severity > 1,
        np.digitize(severity, [0.5, 1, 2]),
        people,
        before="continuum",
        judge=lambda x: judged(x, people),
        draws=20,
        seed=0,
    )
    assert found.answer == "no more"
    assert found.left < 0.01
    assert found.after is None
    none = more_than_severity(
        z,
        severity > 1,
        severity,
        people,
        before="none",
        judge=lambda x: judged(x, people),
        draws=20,
        seed=0,
    )
    assert none.answer == "nothing to ask"
    assert none.grades == 10


def test_severity_is_taken_out_of_every_grade_and_along_its_axis():
    rng = np.random.default_rng(3)
    grade = rng.integers(0, 4, 400)
    axis = np.array([0.6, 0.8, 0.0])
    z = rng.normal(size=(400, 3)) + 5 * np.outer(grade, axis)
    left = without_severity(z, grade)
    for one in range(4):
        np.testing.assert_allclose(left[grade == one].mean(axis=0), 0, atol=1e-12)
    assert np.linalg.matrix_rank(left) == 2
    assert np.abs(left @ axis).max() < 0.35
    assert grades_of(np.array([2.0, 0.0, 2.0, 1.0])).tolist() == [2, 0, 2, 1]


def test_bad_severity_is_named():
    z, people, truth = planted("plain", people=20)
    given = np.arange(40) % 4

    def ask(severity, labels=truth, before="none"):
        return more_than_severity(
            z, labels, severity, people, before=before, judge=lambda x: None, draws=5, seed=0
        )

    with pytest.raises(InputError, match=r"severity: shape \(39,\) with 40 rows"):
        ask(given[1:])
    with pytest.raises(InputError, match="severity: 2 in every row; accepted are differing"):
        ask(np.full(40, 2))
    holed = given.astype(float)
    holed[3] = np.nan
    with pytest.raises(InputError, match="severity: not finite in 1 rows, the first 3"):
        ask(holed)
    with pytest.raises(InputError, match="severity: could not convert"):
        ask(np.array(["mild"] * 40))
    with pytest.raises(InputError, match=r"labels: shape \(39,\)"):
        ask(given, labels=truth[1:])
    with pytest.raises(InputError, match="before: 'maybe'; accepted are"):
        ask(given, before="maybe")
