"""Agreement and stability against brute force, scikit-learn, scipy and simulations with known truth."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    cohen_kappa_score,
    jaccard_score,
)

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.clusters import align_labels, match_labels, renamed
from spinmark_biomarkers.phenotypes.stability import (
    assignment_entropy,
    entropy_by_phenotype,
    jaccard_rows,
)
from spinmark_biomarkers.phenotypes.stability.agreement import agreement
from spinmark_biomarkers.phenotypes.stability.knees import knee_concordance
from spinmark_biomarkers.phenotypes.stability.labelings import (
    across_encoders,
    across_seeds,
    compare_labelings,
)
from spinmark_biomarkers.phenotypes.stability.recipe import Recipe
from spinmark_biomarkers.phenotypes.stability.report import stability_report
from spinmark_biomarkers.phenotypes.stability.sites import leave_one_site_out, site_frequencies

FEW = {"draws": 20, "seed": 0}
labelings = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=30)


def people(n, per=2):
    return np.array([f"S{i // per:03d}" for i in range(n)])


def planted(n=80, k=3, gap=8.0, seed=0, features=5):
    """Both knees of a person in one cluster; the first half of the people at site A."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.integers(0, k, n), 2)
    x = gap * np.eye(features)[truth] + rng.normal(size=(2 * n, features))
    who = people(2 * n)
    scans = pd.DataFrame(
        {
            "scan_id": [f"{w}:{'RL'[i % 2]}" for i, w in enumerate(who)],
            "subject_id": who,
            "laterality": ["R", "L"] * n,
            "joint_id": [f"{w}:{'RL'[i % 2]}" for i, w in enumerate(who)],
            "days": 0.0,
            "site": np.where(np.arange(2 * n) < n, "A", "B"),
        }
    )
    return x, truth, scans


@settings(max_examples=40, deadline=None)
@given(labelings)
def test_matching_is_the_best_of_all_permutations(pairs):
    a, b = np.array(pairs).T
    size = int(max(a.max(), b.max())) + 1

    def overlap(names):
        return sum(names[int(y)] == x for x, y in zip(a, b, strict=True))

    def jaccard(names):
        total = 0.0
        for old in set(b.tolist()):
            one, two = a == names[int(old)], b == old
            total += (one & two).sum() / (one | two).sum()
        return total

    every = [dict(enumerate(p)) for p in itertools.permutations(range(size))]
    assert overlap(match_labels(a, b)) == max(map(overlap, every))
    found = match_labels(a, b, by="jaccard")
    assert jaccard(found) == pytest.approx(max(map(jaccard, every)), abs=1e-9)
    assert len(set(found.values())) == len(found)


@settings(max_examples=30, deadline=None)
@given(labelings, st.permutations(range(5)), st.randoms(use_true_random=False))
def test_agreement_is_that_of_sklearn_and_blind_to_names_and_order(pairs, names, random):
    a, b = np.array(pairs).T
    who = people(len(a))
    one = agreement(a, b, who, draws=3, seed=0)
    assert one.rand.value == pytest.approx(adjusted_rand_score(a, b), abs=1e-12)
    assert one.mutual.value == pytest.approx(adjusted_mutual_info_score(a, b), abs=1e-12)
    aligned = renamed(b, one.names)
    assert one.share.value == pytest.approx((a == aligned).mean())
    for c, value in enumerate(one.phenotypes):
        some = ((a == c) | (aligned == c)).any()
        brute = jaccard_score(a == c, aligned == c) if some else np.nan
        assert value.value == pytest.approx(brute, nan_ok=True)
    order = list(range(len(a)))
    random.shuffle(order)
    other = agreement(a[order], np.array(names)[b][order], who[order], draws=3, seed=0)
    assert other.rand.value == pytest.approx(one.rand.value)
    total = [np.nansum([v.value for v in each.phenotypes]) for each in (one, other)]
    assert total[0] == pytest.approx(total[1])


def test_intervals_hold_the_truth_of_independent_labelings():
    covered = {"rand": 0, "mutual": 0}
    for seed in range(30):
        rng = np.random.default_rng(seed)
        a, b = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
        one = agreement(a, b, people(60, per=1), draws=40, seed=seed)
        for name in covered:
            item = getattr(one, name)
            covered[name] += item.low <= 0 <= item.high
    # 40 draws give about 92 % by themselves.
    assert min(covered.values()) >= 24


def test_two_knees_are_no_two_people():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 3, 80)
    second = np.where(rng.random(80) < 0.5, first, rng.integers(0, 3, 80))
    a, b = np.repeat(first, 2), np.repeat(second, 2)
    found = [agreement(a, b, people(160, per=per), draws=300, seed=0).share for per in (2, 1)]
    by_person, by_scan = found
    # The draws differ, so that the ratio is near the square root of two and not equal to it.
    ratio = (by_person.high - by_person.low) / (by_scan.high - by_scan.low)
    assert ratio == pytest.approx(np.sqrt(2), abs=0.15)


def test_the_interval_of_mutual_information_is_not_lifted_by_repeated_rows():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    one = agreement(a, b, people(60, per=1), draws=200, seed=0)
    assert one.mutual.low < one.mutual.value < one.mutual.high
    naive = [
        adjusted_mutual_info_score(a[rows], b[rows])
        for rows in np.random.default_rng(1).integers(0, 60, (200, 60))
    ]
    middle = (one.mutual.low + one.mutual.high) / 2
    assert abs(middle - one.mutual.value) < abs(np.mean(naive) - one.mutual.value)


def test_agreement_takes_a_matching_and_refuses_what_has_none():
    a, b = np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])
    given_names = agreement(a, b, people(4), names={0: 0, 1: 1}, **FEW)
    assert given_names.share.value == 0
    assert agreement(a, b, people(4), **FEW).share.value == 1
    with pytest.raises(InputError, match="labels: 1 has no match; accepted are \\[0\\]"):
        agreement(a, b, people(4), names={0: 0}, **FEW)
    with pytest.raises(InputError, match="one length"):
        agreement(a, b[:2], people(4), **FEW)
    with pytest.raises(InputError, match="labels: -1"):
        agreement(a - 1, b, people(4), **FEW)
    extra = agreement([0, 0, 1, 1], [0, 2, 1, 1], people(4), **FEW)
    assert sorted(extra.names.values()) == [0, 1, 2]
    assert [round(p.value, 3) for p in extra.phenotypes] == [0.5, 1.0]


def test_entropy_is_that_of_scipy():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(4), 40)
    expected = scipy_entropy(probability, axis=1) / np.log(4)
    np.testing.assert_allclose(assignment_entropy(probability), expected)
    labels = probability.argmax(1)
    rows = entropy_by_phenotype(labels, probability, people(40), **FEW)
    for c, row in enumerate(rows):
        assert row["entropy"]["value"] == pytest.approx(expected[labels == c].mean())
        assert row["uncertain"] == pytest.approx((probability[labels == c, c] < 0.5).mean())
        assert row["entropy"]["n"] == (labels == c).sum()
    empty = entropy_by_phenotype(np.zeros(40, int), probability, people(40), **FEW)[1]
    assert empty["entropy"] is None
    assert empty["uncertain"] is None


def test_rows_of_bootstrap_jaccard():
    (row,) = jaccard_rows(np.array([[0.5], [0.7], [0.75], [0.9]]))
    assert row["jaccard"] == pytest.approx(0.7125)
    assert (row["stability"], row["dissolved"], row["recovered"]) == ("doubtful", 0.25, 0.5)
    assert row["low"] == pytest.approx(np.quantile([0.5, 0.7, 0.75, 0.9], 0.025))


def test_kappa_of_knees_is_cohens_and_what_is_expected_is_counted():
    rng = np.random.default_rng(0)
    right = rng.integers(0, 3, 70)
    left = np.where(rng.random(70) < 0.4, right, rng.integers(0, 3, 70))
    labels = np.r_[left, right]
    who = np.r_[np.arange(70), np.arange(70)]
    found = knee_concordance(labels, who, ["L"] * 70 + ["R"] * 70, permutations=199, **FEW)
    assert found.kappa.value == pytest.approx(cohen_kappa_score(right, left))
    assert found.observed.value == pytest.approx((right == left).mean())
    pairs = [right[i] == left[j] for i in range(70) for j in range(70)]
    assert found.expected == pytest.approx(np.mean(pairs))
    assert found.table.sum() == found.people == 70
    assert found.table[1, 2] == ((right == 1) & (left == 2)).sum()
    assert found.p <= 0.01
    for row in found.phenotypes:
        one, two = right == row["phenotype"], left == row["phenotype"]
        assert row["both"].value == pytest.approx(2 * (one & two).sum() / (one.sum() + two.sum()))
    json.dumps(found.to_dict(), allow_nan=False)


def test_permutation_p_of_knees_is_uniform_when_they_are_independent():
    values = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        who = np.repeat(np.arange(60), 2)
        labels = rng.choice(4, size=120, p=[0.4, 0.3, 0.2, 0.1])
        found = knee_concordance(labels, who, ["R", "L"] * 60, permutations=79, draws=1, seed=seed)
        values.append(found.p)
    values = np.array(values)
    for level in (0.1, 0.25, 0.5):
        # Ties of a count make p a little too large, never too small: three standard errors above.
        assert (values <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 120)
        assert (values <= level).mean() >= 0.4 * level


def test_knees_that_share_a_site_alone_are_told_apart_from_knees_of_a_person():
    # Each site has a phenotype of its own nearly; within a site the two knees are independent.
    rng = np.random.default_rng(1)
    site = np.repeat(rng.integers(0, 2, 150), 2)
    labels = np.where(rng.random(300) < 0.85, site, 1 - site)
    who = np.repeat(np.arange(150), 2)
    found = knee_concordance(
        labels, who, ["R", "L"] * 150, strata=site, permutations=199, draws=20, seed=0
    )
    assert found.p == pytest.approx(1 / 200)
    assert found.p_within > 0.05
    assert found.expected_within > found.expected + 0.15
    assert knee_concordance(labels, who, ["R", "L"] * 150, **FEW).p_within is None


def test_bad_knees_are_named():
    with pytest.raises(InputError, match="knees: 1:R stands more than once"):
        knee_concordance([0, 1, 1], [1, 1, 2], ["R", "R", "L"], **FEW)
    with pytest.raises(InputError, match="nobody has both"):
        knee_concordance([0, 1], [1, 2], ["R", "L"], **FEW)
    with pytest.raises(InputError, match="permutations: 3"):
        knee_concordance([0, 1], [1, 1], ["R", "L"], permutations=3, **FEW)
    alone = knee_concordance([0, 0], [1, 1], ["R", "L"], **FEW)
    assert np.isnan(alone.kappa.value)
    assert alone.to_dict()["kappa"]["value"] is None


def test_several_labelings_are_aligned_to_one():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 3, 60)
    second = (first + 1) % 3
    third = np.where(rng.random(60) < 0.3, rng.integers(0, 3, 60), 2 - first)
    found = compare_labelings(
        {"a": first, "b": second, "c": third}, people(60), reference="a", **FEW
    )
    np.testing.assert_array_equal(found.aligned["b"], first)
    np.testing.assert_array_equal(found.aligned["c"], align_labels(first, third)[0])
    pair = found.pairs.set_index(["first", "second"])["value"]
    assert pair["a", "b"] == 1
    assert pair["b", "c"] == pytest.approx(adjusted_rand_score(second, third))
    assert found.unanimous.value == pytest.approx((found.aligned["c"] == first).mean())
    assert set(found.to_frame()["quantity"]) == {"ari", "ami", "share", "jaccard"}
    json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(InputError, match="labelings: 1"):
        compare_labelings({"a": first}, people(60), **FEW)
    with pytest.raises(InputError, match="reference: 'z'; accepted are a, b"):
        compare_labelings({"a": first, "b": second}, people(60), reference="z", **FEW)


def test_seeds_and_encoders_agree_on_planted_clusters_and_not_on_noise():
    x, _, scans = planted()
    who, recipe = scans["subject_id"], Recipe(k=3, restarts=2)
    seeds = across_seeds(x, who, recipe, seeds=2, draws=20)
    assert list(seeds.agreements) == ["seed 1", "seed 2"]
    assert all(one.rand.value > 0.99 for one in seeds.agreements.values())
    noise = np.random.default_rng(1).normal(size=x.shape)
    turned = x @ np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))[0]
    both = across_encoders({"own": x, "turned": turned, "noise": noise}, who, recipe, draws=20)
    assert both.agreements["turned"].share.value > 0.99
    assert both.agreements["noise"].rand.value < 0.1
    assert both.agreements["noise"].rand.low < 0.05
    with pytest.raises(InputError, match="seeds: 0"):
        across_seeds(x, who, recipe, seeds=0)


def test_sites_that_share_phenotypes_agree_and_one_of_its_own_kind_does_not():
    x, truth, scans = planted(n=90)
    recipe = Recipe(k=3, restarts=2)
    labels = recipe.fit(x).assign(x)[0]
    told = leave_one_site_out(x, labels, scans["subject_id"], scans["site"], recipe, draws=20)
    whole = told[told["phenotype"].isna()].pivot(index="site", columns="quantity", values="value")
    assert whole.loc["A", "share"] > 0.98
    assert whole.loc["B", "ari"] > 0.95
    # All of phenotype 2 is at site C: those elsewhere cannot find it.
    alone = np.where(truth == 2, "C", scans["site"])
    odd = leave_one_site_out(x, labels, scans["subject_id"], alone, recipe, draws=20)
    odd = odd[odd["site"] == "C"].set_index("quantity")
    assert odd.loc["share", "value"] < 0.7
    small = scans["site"].where(np.arange(len(scans)) > 3, "tiny")
    left = leave_one_site_out(x, labels, scans["subject_id"], small, recipe, draws=5)
    row = left[left["site"] == "tiny"]
    assert row["reason"].tolist() == ["2 subjects, of 10 needed"]
    assert row["value"].isna().all()
    with pytest.raises(InputError, match=r"sites: 1 \(A\)"):
        leave_one_site_out(x, labels, scans["subject_id"], ["A"] * len(x), recipe)


def test_a_subject_of_two_sites_is_not_fitted_on_when_either_is_left_out():
    x, _, scans = planted(n=40)
    recipe, seen = Recipe(k=2, restarts=1), []

    class Spy(Recipe):
        def fit(self, rows, *, seed=None):
            seen.append(rows)
            return super().fit(rows, seed=seed)

    site = scans["site"].to_numpy(copy=True)
    site[0] = "B"
    labels = recipe.fit(x).assign(x)[0]
    leave_one_site_out(x, labels, scans["subject_id"], site, Spy(k=2, restarts=1), draws=2)
    own = x[(scans["subject_id"] == "S000").to_numpy()]
    assert len(seen) == 2
    for rows in seen:
        assert not any((rows == one).all(axis=1).any() for one in own)


def test_frequencies_of_sites_are_counted():
    _, truth, scans = planted()
    rows = site_frequencies(truth, scans["subject_id"], scans["site"], k=3, **FEW)
    for row in rows.to_dict("records"):
        here = truth[(scans["site"] == row["site"]).to_numpy()]
        assert row["value"] == pytest.approx((here == row["phenotype"]).mean())
        assert row["low"] <= row["value"] <= row["high"]
    assert rows.groupby("site")["value"].sum().to_numpy() == pytest.approx([1, 1])


def test_the_report_runs_what_applies_and_says_what_does_not():
    x, _, scans = planted()
    recipe = Recipe(k=3, restarts=2)
    steps = []
    report = stability_report(
        x,
        scans,
        recipe,
        encoders={"turned": x[:, ::-1]},
        folds=np.arange(len(x)) // 2 % 2,
        bootstrap=4,
        seeds=1,
        draws=10,
        permutations=49,
        progress=lambda done, total: steps.append((done, total)),
    )
    facts = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert facts["skipped"] == {}
    assert [row["stability"] for row in facts["phenotypes"]] == ["highly stable"] * 3
    assert facts["knees"]["kappa"]["value"] > 0.95
    assert facts["folds"]["folds"] == 2
    assert facts["encoders"]["agreements"]["turned"]["ari"]["value"] > 0.99
    assert {row["site"] for row in facts["sites"]} == {"A", "B"}
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1][0] == steps[-1][1]
    # The same whatever the order of the rows.
    order = np.random.default_rng(0).permutation(len(x))
    again = stability_report(
        x[order],
        scans.iloc[order],
        recipe,
        encoders={"turned": x[order][:, ::-1]},
        folds=(np.arange(len(x)) // 2 % 2)[order],
        bootstrap=4,
        seeds=1,
        draws=10,
        permutations=49,
    )
    assert json.loads(json.dumps(again.to_dict())) == facts
    bare = stability_report(
        x[::2], scans[::2].assign(site="A"), recipe, bootstrap=2, seeds=0, draws=5, permutations=19
    )
    assert set(bare.skipped) == {"seeds", "encoders", "sites", "knees", "folds"}
    assert "nobody has both" in bare.skipped["knees"]
    json.dumps(bare.to_dict(), allow_nan=False)
