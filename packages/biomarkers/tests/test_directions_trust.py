"""How many axes, how stable, how reliable, and whether they are artefacts: against known truths."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.directions.matching import correlations, match_axes
from spinmark_biomarkers.phenotypes.directions.members import members_along
from spinmark_biomarkers.phenotypes.directions.panel import axis_panel, eta_squared
from spinmark_biomarkers.phenotypes.directions.parallel import exchange_columns, parallel_analysis
from spinmark_biomarkers.phenotypes.directions.principal import PrincipalAxes
from spinmark_biomarkers.phenotypes.directions.reliability import icc1, icc_intervals, repeated
from spinmark_biomarkers.phenotypes.directions.repeats import choose_repeats
from spinmark_biomarkers.phenotypes.directions.stability import axis_stability


def planted(rank, n=300, features=12, seed=0, likeness=0.5, noise=1.0):
    """Two alike rows a subject: some axes in common noise."""
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(n // 2), 2)

    def alike(width):
        both = np.sqrt(likeness) * rng.normal(size=(n // 2, width))[people]
        return both + np.sqrt(1 - likeness) * rng.normal(size=(n, width))

    basis = np.linalg.qr(rng.normal(size=(features, features)))[0]
    return alike(rank) * 3 @ basis[:rank] + noise * alike(features), people, basis


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_parallel_analysis_finds_the_planted_rank(rank):
    x, people, _ = planted(rank, seed=rank)
    found = parallel_analysis(x, people, seed=0, draws=30)
    assert found.axes == rank
    np.testing.assert_allclose(
        found.observed, np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1], rtol=1e-9
    )
    assert found.to_dict()["axes"] == rank


def test_parallel_analysis_finds_nothing_where_nothing_is_and_knees_are_not_people():
    counts = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        people = np.repeat(np.arange(60), 2)
        # The two rows of a person are copies: 60 people, not 120.
        x = rng.normal(size=(60, 10))[people]
        counts.append(parallel_analysis(x, people, seed=seed, draws=19).axes)
    assert np.mean(np.array(counts) > 0) <= 0.2
    naive = [
        parallel_analysis(
            np.random.default_rng(s).normal(size=(60, 10))[np.repeat(np.arange(60), 2)],
            np.arange(120),
            seed=s,
            draws=19,
        ).axes
        for s in range(20)
    ]
    assert np.mean(np.array(naive) > 0) >= 0.4


def test_the_number_of_axes_does_not_depend_on_the_basis_the_order_or_the_names():
    x, people, basis = planted(3, seed=7)
    plain = parallel_analysis(x, people, seed=1, draws=19)
    turned = parallel_analysis(x @ basis, people, seed=1, draws=19)
    whitened = np.linalg.svd(x - x.mean(0), full_matrices=False)
    decorrelated = parallel_analysis(whitened[0] * whitened[1], people, seed=1, draws=19)
    assert plain.axes == turned.axes == decorrelated.axes == 3
    order = np.random.default_rng(0).permutation(len(x))
    mixed = parallel_analysis(
        x[order], np.array([f"p{v}" for v in people])[order], seed=1, draws=19
    )
    assert mixed.axes == 3
    again = parallel_analysis(x[order], people[order], seed=1, draws=19)
    np.testing.assert_array_equal(again.chance, plain.chance)


def test_parallel_analysis_against_horn_where_every_row_is_a_person():
    # Columns shuffled by hand, one draw after another, without any of our functions.
    x, _, _ = planted(2, n=200, likeness=0.0, seed=4)
    rng = np.random.default_rng(9)
    null = []
    for _ in range(200):
        turned = (x - x.mean(0)) @ np.linalg.qr(rng.normal(size=(12, 12)))[0]
        turned *= np.sqrt(x.var(axis=0).mean()) / turned.std(axis=0)
        shuffled = np.column_stack([rng.permutation(c) for c in turned.T])
        null.append(np.linalg.svd(shuffled - shuffled.mean(0))[1] ** 2 / len(x))
    ours = parallel_analysis(x, np.arange(200), seed=0, draws=200).chance
    np.testing.assert_allclose(ours, np.quantile(null, 0.95, axis=0), rtol=0.06)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=12), st.integers(0, 99))
def test_exchanged_columns_keep_blocks_and_values(sizes, seed):
    people = np.repeat(np.arange(len(sizes)), sizes)
    # A value names its person, so that a torn block would show.
    values = np.column_stack([people * 10.0, people * 10.0 + 1])
    order = np.random.default_rng(seed).permutation(people.size)
    moved = exchange_columns(values[order], people[order], np.random.default_rng(seed))
    assert sorted(moved[:, 0]) == sorted(values[:, 0])
    for person in range(len(sizes)):
        own = moved[people[order] == person]
        assert (own == own[0]).all()
        assert sizes[int(own[0, 0] // 10)] == sizes[person]


def anova_by_hand(groups):
    """ICC(1) from the textbook's sums of squares, for groups of one size."""
    a, k = len(groups), len(groups[0])
    grand = sum(map(sum, groups)) / (a * k)
    means = [sum(g) / k for g in groups]
    between = k * sum((m - grand) ** 2 for m in means) / (a - 1)
    within = sum((v - m) ** 2 for g, m in zip(groups, means, strict=True) for v in g) / (
        a * (k - 1)
    )
    return (between - within) / (between + (k - 1) * within)


def test_the_intraclass_correlation_is_that_of_the_analysis_of_variance():
    # Ratings of six by four, Shrout and Fleiss 1979, table 2: ICC(1,1) is .17.
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    found = icc1(np.ravel(ratings), np.repeat(np.arange(6), 4))
    assert found == pytest.approx([anova_by_hand(ratings)])
    assert found == pytest.approx([0.17], abs=0.005)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4), st.floats(-50, 50), st.floats(0.1, 20))
def test_the_intraclass_correlation_ignores_order_names_shift_and_scale(seed, k, shift, scale):
    rng = np.random.default_rng(seed)
    values, units = rng.normal(size=6 * k), np.repeat(np.arange(6), k)
    plain = icc1(values, units)[0]
    assert plain == pytest.approx(anova_by_hand(values.reshape(6, k).tolist()))
    order = rng.permutation(6 * k)
    names = np.array([f"unit {5 - u}" for u in units])
    assert icc1(values[order] * scale + shift, names[order])[0] == pytest.approx(plain)


def test_reliability_of_unequal_units_is_that_of_the_simulation():
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        units = np.repeat(np.arange(1000), rng.integers(1, 5, 1000))
        true = rng.normal(size=(1000, 2)) * [2.0, 0.5]
        found.append(icc1(true[units] + rng.normal(size=(units.size, 2)), units))
    # Four fifths and a fifth, within some three standard errors of a mean of twenty.
    assert np.mean(found, axis=0) == pytest.approx([4 / 5, 1 / 5], abs=0.02)
    assert np.isnan(icc1(np.arange(3.0), np.zeros(3))).all()
    assert np.isnan(icc1(np.arange(3.0), np.arange(3))).all()


def test_intervals_of_reliability_cover_and_a_person_is_no_repeat_of_itself():
    covered, widths = 0, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        person = rng.normal(size=50)
        units = np.repeat(np.arange(100), 2)
        joint = np.repeat(person, 2) * 0.7 + rng.normal(size=100) * 0.5
        values = joint[units] + rng.normal(size=200) * 0.6
        truth = (0.49 + 0.25) / (0.49 + 0.25 + 0.36)
        (one,) = icc_intervals(values[:, None], units, units // 2, draws=150, seed=seed)
        covered += one.low <= truth <= one.high
        widths.append(one.high - one.low)
        assert one.n == 200
    assert 0.85 <= covered / 60 <= 1.0
    # Of two hundred rows about a hundred units: Fisher's interval is some .25 wide.
    assert 0.1 < np.mean(widths) < 0.35
    with pytest.raises(InputError, match="units: 1 are of several subjects"):
        icc_intervals(np.zeros((2, 1)), np.zeros(2, int), np.array(["a", "b"]), seed=0)


def scans_of(n=8):
    rows = []
    for s in range(n):
        for side in "RL":
            for visit in ("V00", "V03"):
                for rank in range(2 if (side, visit) == ("R", "V00") else 1):
                    if s == 0 and side == "L":
                        continue
                    rows.append(
                        {
                            "subject_id": f"S{s}",
                            "laterality": side,
                            "joint_id": f"S{s}:{side}",
                            "visit": visit,
                            "rank": rank,
                            "scan_id": f"S{s}:{side}:{visit}:{rank}",
                            "site": f"site{s % 3}",
                            "scanner": "one",
                        }
                    )
    return pd.DataFrame(rows)


def test_repeats_are_rescans_visits_or_sides():
    scans = scans_of().sample(frac=1, random_state=0).reset_index(drop=True)
    rescans, of = repeated(scans, "rescans")
    assert set(scans["scan_id"][rescans].str[-7:]) == {"R:V00:0", "R:V00:1"}
    assert np.bincount(of).tolist() == [2] * 8
    visits, of = repeated(scans, "visits")
    assert (scans["rank"][visits] == 0).all()
    assert np.bincount(of).tolist() == [2] * 15
    sides, of = repeated(scans, "sides")
    assert "S0" not in set(scans["subject_id"][sides])
    assert np.bincount(of).tolist() == [2] * 14
    with pytest.raises(InputError, match="repeats: 'twins'; accepted are rescans, visits, sides"):
        repeated(scans, "twins")
    everyone = np.ones(len(scans), bool)
    first = (scans["visit"] == "V00").to_numpy() & (scans["rank"] == 0).to_numpy()
    chosen = choose_repeats(scans, everyone, first, kind="auto", components=5)
    assert chosen.kind == "visits"
    sides = choose_repeats(scans, everyone, first, kind="sides", components=3)
    assert (scans["visit"][sides.rows] == "V00").all()
    with pytest.raises(
        InputError, match=r"found rescans \(scans of a joint at one visit\): 8, visits"
    ):
        choose_repeats(scans, everyone, first, kind="auto", components=40)


def test_matching_undoes_order_and_sign():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 3))
    b = np.column_stack([-2 * a[:, 2] + 1, rng.normal(size=50), a[:, 0]])
    match, strength = match_axes(a, b)
    assert (match[0], match[2]) == (2, 0)
    assert strength[[0, 2]] == pytest.approx([1, 1])
    np.testing.assert_allclose(correlations(a, b), np.corrcoef(a.T, b.T)[:3, 3:], atol=1e-12)
    fewer, none = match_axes(a, b[:, :1])
    assert fewer.tolist() == [-1, -1, 0]
    assert none.tolist()[:2] == [0, 0]
    assert correlations(np.ones((5, 1)), a[:5]).tolist() == [[0, 0, 0]]


def test_a_clear_axis_is_stable_and_two_equal_ones_are_not():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)) * [4, 1.5, 1.5, 0.3, 0.3, 0.3]
    scores = PrincipalAxes(3).fit(x).transform(x)
    people = np.arange(200) // 2
    found = axis_stability(
        lambda rows: PrincipalAxes(3).fit(x[rows]), x, scores, people, draws=30, seed=0
    )
    assert found.shape == (30, 3)
    mean = found.mean(axis=0)
    assert mean[0] > 0.99
    assert mean[1:].max() < 0.97
    same = axis_stability(lambda _: PrincipalAxes(3).fit(x), x, scores, people, draws=2, seed=0)
    np.testing.assert_allclose(same, 1)


def test_eta_squared_is_the_r2_of_the_groups_means():
    rng = np.random.default_rng(0)
    codes, scores = rng.integers(0, 4, 90), rng.normal(size=(90, 2))
    scores[:, 1] += codes
    means = np.stack([scores[codes == c].mean(axis=0) for c in range(4)])
    expected = [r2_score(scores[:, j], means[codes, j]) for j in range(2)]
    np.testing.assert_allclose(eta_squared(scores, codes), expected)
    assert eta_squared(np.ones((5, 1)), np.arange(5)).tolist() == [0]


def test_the_panel_tells_a_scanner_from_an_axis_of_the_knee():
    rng = np.random.default_rng(3)
    n = 120
    person = np.repeat(np.arange(n), 2)
    scans = pd.DataFrame(
        {
            "subject_id": [f"S{p}" for p in person],
            "site": "one",
            "scanner": [f"scanner{p % 3}" for p in person],
            "laterality": ["R", "L"] * n,
        }
    )
    scores = np.column_stack(
        [
            (person % 3) + 0.5 * rng.normal(size=2 * n),
            rng.normal(size=n)[person],
            np.tile([0.5, -0.5], n) + rng.normal(size=2 * n),
        ]
    )
    panel = {
        (r["axis"], r["variable"]): r for r in axis_panel(scores, scans, permutations=99, seed=0)
    }
    assert panel[0, "scanner"]["flag"] == "artefact suspected"
    assert panel[1, "scanner"]["flag"] == "not associated"
    assert panel[2, "laterality"]["flag"] == "artefact suspected"
    assert panel[1, "laterality"]["p"] == 1.0
    assert panel[0, "site"]["flag"] == "one category"
    assert panel[0, "scanner"]["p"] == pytest.approx(1 / 100)


def test_p_values_of_the_panel_are_even_where_nothing_is():
    small = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        person = np.repeat(np.arange(30), 2)
        scans = pd.DataFrame(
            {
                "subject_id": person.astype(str),
                "site": (person % 3).astype(str),
                "scanner": "one",
                "laterality": "R",
            }
        )
        scores = rng.normal(size=30)[person][:, None]
        (row, *_) = axis_panel(scores, scans, permutations=39, seed=seed)
        small.append(row["p"] <= 0.1)
    assert 0.03 <= np.mean(small) <= 0.19


def test_members_stand_at_the_ends_and_in_the_middle_one_a_subject():
    scans = pd.DataFrame(
        {
            "scan_id": [f"s{i:02d}" for i in range(20)],
            "subject_id": [f"p{i // 2}" for i in range(20)],
        }
    )
    scores = np.arange(20.0)
    chosen = members_along(scores, scans, per=2)
    assert chosen == {"low": ["s00", "s02"], "middle": ["s09", "s10"], "high": ["s19", "s17"]}
    few = members_along(scores, scans, per=9)
    taken = [scan for scan_ids in few.values() for scan in scan_ids]
    people = scans.set_index("scan_id")["subject_id"]
    assert people[taken].is_unique
    assert len(taken) == 10
    order = np.random.default_rng(0).permutation(20)
    assert members_along(scores[order], scans.iloc[order], per=2) == chosen
    with pytest.raises(InputError, match="one finite number a scan"):
        members_along(scores[:3], scans)
    with pytest.raises(InputError, match="per: 0"):
        members_along(scores, scans, per=0)


def test_what_cannot_be_tested_is_refused():
    with pytest.raises(InputError, match="subject_ids: one subject"):
        parallel_analysis(np.eye(4), np.zeros(4), seed=0)
    with pytest.raises(InputError, match="null_draws: 3; accepted is at least 19"):
        parallel_analysis(np.eye(4), np.arange(4), draws=3, seed=0)
    with pytest.raises(InputError, match=r"subject_ids: \(3,\) for 4 rows"):
        parallel_analysis(np.eye(4), np.arange(3), seed=0)
    with pytest.raises(InputError, match=r"units: \(2,\) for 3 values"):
        icc1(np.arange(3.0), np.arange(2))
