"""Enrichment on made-up joints with known differences; what is refused; what must not matter."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.description.adjustment import Confounders
from spinmark_biomarkers.phenotypes.description.discovery_rate import with_rates
from spinmark_biomarkers.phenotypes.description.enrichment import describe_axis, describe_groups
from spinmark_biomarkers.phenotypes.description.overall import across_phenotypes
from spinmark_biomarkers.phenotypes.description.scale import foremost, on_one_scale

DICTIONARY = pd.DataFrame(
    [
        ("GRADE", "Grade", "ordinal", "structure", "{}"),
        ("PAIN", "Pain", "continuous", "symptom", "{}"),
        ("SEX", "Sex", "binary", "demographic", '{"1": "Male", "2": "Female"}'),
        ("RACE", "Race", "nominal", "demographic", "{}"),
        ("FLAT", "Flat", "continuous", "symptom", "{}"),
        ("EMPTY", "Empty", "continuous", "symptom", "{}"),
        ("TKR", "Replaced", "binary", "outcome", "{}"),
    ],
    columns=["variable", "label", "kind", "role", "codes"],
)
NAMES = ["GRADE", "PAIN", "SEX", "RACE", "FLAT", "EMPTY"]
FAST = {"draws": 99}


def people(subjects=60, seed=0, effect=1.0):
    """Two knees a person; phenotype 1 has a higher grade, and older people have both."""
    rng = np.random.default_rng(seed)
    ids = np.repeat([f"S{s:03d}" for s in range(subjects)], 2)
    person = np.repeat(rng.normal(size=subjects), 2)
    age = np.repeat(rng.normal(60, 9, subjects), 2)
    labels = (rng.normal(size=ids.size) + 0.5 * person + (age - 60) / 18 > 0.4).astype(int)
    labels[rng.random(ids.size) < 0.2] = 2
    frame = pd.DataFrame(
        {
            "GRADE": np.round(rng.normal(size=ids.size) + 0.6 * person + effect * (labels == 1), 1),
            "PAIN": rng.normal(size=ids.size) + (age - 60) / 9,
            "SEX": 1.0 + np.repeat(rng.random(subjects) < 0.5, 2),
            "RACE": np.repeat(rng.integers(0, 3, subjects), 2).astype(float),
            "FLAT": 3.0,
            "EMPTY": np.nan,
        },
        index=[f"{s}:{side}" for s, side in zip(ids, "RL" * subjects, strict=True)],
    )
    frame.loc[frame.index[::9], "PAIN"] = np.nan
    return labels, frame, ids, pd.DataFrame({"AGE": age}, index=frame.index)


def described(**more):
    labels, frame, ids, adjust = people()
    return describe_groups(labels, frame, DICTIONARY, ids, adjust=adjust, **{**FAST, **more})


def one(frame, phenotype, variable):
    return frame[(frame["phenotype"] == phenotype) & (frame["variable"] == variable)].iloc[0]


def test_a_standardised_difference_is_cohens_d_and_its_interval_the_classical_one():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [150, 50])
    y = rng.normal(size=200) + 0.8 * labels
    frame = pd.DataFrame({"PAIN": y})
    row = one(describe_groups(labels, frame, DICTIONARY, np.arange(200), **FAST), 1, "PAIN")
    pooled = np.sqrt((149 * y[:150].var(ddof=1) + 49 * y[150:].var(ddof=1)) / 198)
    d = (y[150:].mean() - y[:150].mean()) / pooled
    assert row["effect"] == pytest.approx(d)
    means = y[:150].var() / 150 + y[150:].var() / 50
    error = np.sqrt(means / pooled**2 + d**2 / (2 * 200))
    assert (row["high"] - row["low"]) / 2 == pytest.approx(2.0 * error, rel=0.08)
    welch = stats.ttest_ind(y[150:], y[:150], equal_var=False).pvalue
    assert np.log(row["p"]) == pytest.approx(np.log(welch), rel=0.1)
    assert (row["members"], row["others"]) == (
        pytest.approx(y[150:].mean()),
        pytest.approx(y[:150].mean()),
    )
    # The other phenotype says the same with its sign turned.
    turned = describe_groups(labels, frame, DICTIONARY, np.arange(200), **FAST)
    assert one(turned, 0, "PAIN")["effect"] == pytest.approx(-d)


def test_every_kind_has_its_effect_and_its_words():
    found = described()
    assert len(found) == 3 * len(NAMES)
    names = found.drop_duplicates("variable").set_index("variable")["effect_name"]
    assert names["GRADE"] == names["PAIN"] == "standardised difference"
    assert (names["SEX"], names["RACE"]) == ("odds ratio", "Cramer's V")
    grade = one(found, 1, "GRADE")
    assert grade["low"] < 1.0 < grade["high"]
    assert grade["q"] < 0.01
    sex = one(found, 1, "SEX")
    assert (sex["level"], sex["label"]) == ("Female", "Sex")
    assert sex["low"] < 1 < sex["high"]
    pain = one(found, 0, "PAIN")
    assert (pain["n"], pain["n_missing"]) == (106, 14)
    assert one(found, 0, "FLAT")["note"] == "constant"
    assert one(found, 0, "EMPTY")["note"] == "no values"
    assert np.isnan(one(found, 0, "FLAT")["effect"])
    tested = found["p"].notna()
    assert tested.sum() == 12
    np.testing.assert_allclose(
        found.loc[tested, "q"], stats.false_discovery_control(found.loc[tested, "p"])
    )
    held = found.loc[found["adjusted_p"].notna()]
    np.testing.assert_allclose(
        held["adjusted_q"], stats.false_discovery_control(held["adjusted_p"])
    )


def test_a_difference_that_a_confounder_makes_goes_with_it():
    labels, frame, ids, adjust = people(400, seed=4, effect=0.0)
    found = describe_groups(labels, frame, DICTIONARY, ids, adjust=adjust, **FAST)
    pain = one(found, 1, "PAIN")
    assert pain["effect"] > 0.3
    assert pain["p"] < 1e-4
    assert pain["adjusted_low"] < 0 < pain["adjusted_high"]
    assert pain["adjusted_n"] == pain["n"]


def test_a_variable_is_not_adjusted_for_itself_and_sites_are_names():
    labels, frame, ids, adjust = people()
    rng = np.random.default_rng(0)
    adjust = adjust.assign(GRADE=frame["GRADE"], site=np.repeat(rng.choice(list("AB"), 60), 2))
    found = describe_groups(labels, frame[["GRADE"]], DICTIONARY, ids, adjust=adjust, **FAST)
    own = describe_groups(
        labels, frame[["GRADE"]], DICTIONARY, ids, adjust=adjust.drop(columns="GRADE"), **FAST
    )
    pd.testing.assert_frame_equal(found, own)
    codes = np.unique(ids, return_inverse=True)[1]
    design = Confounders.of(adjust, codes).design(("site", "AGE"), np.arange(120))
    assert design.shape == (120, 3)
    np.testing.assert_allclose(design[:, 1:].std(axis=0), 1)


def test_confounders_that_say_the_same_or_nothing_are_left_out():
    labels, frame, ids, adjust = people()
    codes = np.unique(ids, return_inverse=True)[1]
    adjust = adjust.assign(twice=2 * adjust["AGE"], flat=1.0, rare=["A"] * 118 + ["B"] * 2)
    design = Confounders.of(adjust, codes).design(tuple(adjust.columns), np.arange(120))
    assert design.shape == (120, 2)
    found = describe_groups(labels, frame, DICTIONARY, ids, adjust=adjust, **FAST)
    plain = describe_groups(labels, frame, DICTIONARY, ids, adjust=adjust[["AGE"]], **FAST)
    pd.testing.assert_frame_equal(found, plain)


def test_what_was_learnt_from_is_shown_without_a_test():
    labels, frame, ids, adjust = people()
    dictionary = DICTIONARY.assign(used=DICTIONARY["variable"] == "GRADE")
    found = describe_groups(labels, frame, dictionary, ids, adjust=adjust, **FAST)
    rows = found[found["variable"] == "GRADE"]
    assert rows["used"].all()
    assert rows[["p", "q", "adjusted_p", "adjusted_q"]].isna().all(axis=None)
    assert rows["effect"].notna().all()
    assert found.loc[~found["used"], "p"].notna().any()


def test_a_separating_variable_ends_in_numbers_and_a_mark():
    labels = np.repeat([0, 1], [80, 20])
    frame = pd.DataFrame({"SEX": np.where(labels == 1, 2.0, np.tile([1.0, 1.0, 1.0, 2.0], 25))})
    adjust = pd.DataFrame({"AGE": np.random.default_rng(0).normal(size=100)})
    ids = np.repeat(np.arange(50), 2)
    row = one(describe_groups(labels, frame, DICTIONARY, ids, adjust=adjust, **FAST), 1, "SEX")
    assert row["effect"] == pytest.approx(20.5 / 0.5 / (20.5 / 60.5))
    assert np.isfinite(row[["low", "high", "adjusted_effect", "adjusted_high"]].astype(float)).all()
    assert row["low"] > 1
    # No permutation of 99 is as far out, and none can say less than one in a hundred.
    assert row["p"] == pytest.approx(0.01)
    assert "sparse" in row["note"]


def test_few_members_have_an_effect_but_no_interval():
    labels, frame, ids, adjust = people()
    labels = np.where(np.arange(120) < 6, 3, labels)
    found = describe_groups(labels, frame, DICTIONARY, ids, adjust=adjust, **FAST)
    row = one(found, 3, "GRADE")
    assert np.isfinite(row["effect"])
    assert np.isnan(row["low"])
    assert np.isnan(row["p"])
    assert row["note"] == "fewer than 5 subjects on a side"


def test_the_order_of_rows_changes_nothing():
    labels, frame, ids, adjust = people()
    order = np.random.default_rng(2).permutation(120)
    first = describe_groups(labels, frame, DICTIONARY, ids, adjust=adjust, **FAST)
    second = describe_groups(
        labels[order], frame.iloc[order], DICTIONARY, ids[order], adjust=adjust.iloc[order], **FAST
    )
    pd.testing.assert_frame_equal(first, second)


@settings(max_examples=4, deadline=None)
@given(
    st.floats(-100, 100),
    st.floats(0.01, 100),
    st.permutations([0, 1, 2]),
)
def test_units_and_names_of_phenotypes_do_not_matter(shift, scale, names):
    labels, frame, ids, _ = people()
    frame = frame[["PAIN", "SEX"]]
    first = describe_groups(labels, frame, DICTIONARY, ids, **FAST)
    changed = frame.assign(PAIN=shift + scale * frame["PAIN"])
    second = describe_groups(np.array(names)[labels], changed, DICTIONARY, ids, **FAST)
    for old in range(3):
        for name in ("PAIN", "SEX"):
            a, b = one(first, old, name), one(second, names[old], name)
            for figure in ("effect", "low", "high", "p"):
                assert a[figure] == pytest.approx(b[figure], rel=1e-5, abs=1e-7)


def test_along_an_axis_a_slope_is_the_correlation():
    _, frame, ids, adjust = people(seed=6)
    score = pd.Series(frame["GRADE"] + np.random.default_rng(0).normal(size=120), name="second")
    found = describe_axis(score, frame[["GRADE", "SEX", "RACE"]], DICTIONARY, ids, **FAST)
    rows = found.set_index("variable")
    assert set(found["axis"]) == {"second"}
    assert rows.loc["GRADE", "effect"] == pytest.approx(np.corrcoef(score, frame["GRADE"])[0, 1])
    assert rows.loc["GRADE", "low"] < rows.loc["GRADE", "effect"] < rows.loc["GRADE", "high"] < 1
    assert rows.loc["SEX", "effect_name"] == "odds ratio per SD"
    assert rows.loc["RACE", "effect_name"] == "correlation ratio (root)"
    turned = describe_axis(-3 * score, frame[["GRADE", "SEX"]], DICTIONARY, ids, **FAST)
    assert turned.loc[0, "effect"] == pytest.approx(-rows.loc["GRADE", "effect"])
    assert turned.loc[1, "effect"] == pytest.approx(1 / rows.loc["SEX", "effect"])
    held = describe_axis(score, frame[["PAIN"]], DICTIONARY, ids, adjust=adjust, **FAST).iloc[0]
    known = frame["PAIN"].notna().to_numpy()
    x, y, z = score[known], frame["PAIN"][known], adjust["AGE"][known]
    slope = np.linalg.lstsq(np.column_stack([x, z, np.ones(x.size)]), y, rcond=None)[0][0]
    assert held["adjusted_effect"] == pytest.approx(slope * x.std() / y.std())
    both = with_rates(pd.concat([found, found], ignore_index=True))
    np.testing.assert_allclose(both["q"][:3], found["q"])


def test_all_phenotypes_together():
    labels, frame, ids, _ = people(effect=2.0)
    found = across_phenotypes(labels, frame, DICTIONARY, ids).set_index("variable")
    assert found.loc["GRADE", "effect_name"] == "eta squared"
    groups = [frame["GRADE"][labels == c] for c in range(3)]
    mean = frame["GRADE"].mean()
    share = (
        sum(len(g) * (g.mean() - mean) ** 2 for g in groups) / ((frame["GRADE"] - mean) ** 2).sum()
    )
    assert found.loc["GRADE", "low"] < share < found.loc["GRADE", "high"]
    assert found.loc["GRADE", "effect"] == pytest.approx(share, abs=0.03)
    assert found.loc["GRADE", "q"] < 1e-6
    assert found.loc["RACE", "p"] > 0.01
    assert found.loc["FLAT", "note"] == "constant"
    with pytest.raises(InputError, match="accepted is one number of rows"):
        across_phenotypes(labels[:5], frame, DICTIONARY, ids)


def test_on_one_scale_an_odds_ratio_is_a_difference():
    rows = on_one_scale(described())
    assert "RACE" not in set(rows["variable"])
    raw = one(described(), 1, "SEX")
    same = one(rows, 1, "SEX")
    assert same["effect"] == pytest.approx(np.log(raw["effect"]) * np.sqrt(3) / np.pi)
    first = foremost(rows[rows["phenotype"] == 1], 2)
    assert first["variable"].iloc[0] == "GRADE"
    assert len(first) == 2


def test_what_may_not_describe_is_refused():
    labels, frame, ids, adjust = people()

    def describe(frame=frame, dictionary=DICTIONARY, labels=labels, **more):
        return describe_groups(labels, frame, dictionary, ids, **{**FAST, **more})

    with pytest.raises(InputError, match="TKR has the role outcome, which no description may see"):
        describe(frame.assign(TKR=0.0))
    twice = pd.concat([DICTIONARY, DICTIONARY.tail(1).assign(role="symptom")])
    with pytest.raises(InputError, match="TKR has the role outcome"):
        describe(frame.assign(TKR=0.0), twice)
    with pytest.raises(
        InputError, match="NEW is not in the dictionary, so that it may be an outcome"
    ):
        describe(frame.assign(NEW=1.0))
    with pytest.raises(InputError, match="is of kind 'odd'; accepted are continuous"):
        describe(dictionary=DICTIONARY.assign(kind="odd"))
    with pytest.raises(InputError, match="PAIN is continuous but holds 'much'"):
        describe(frame.assign(PAIN="much"))
    with pytest.raises(InputError, match="1 phenotypes; accepted are at least 2"):
        describe(labels=np.zeros(120, int))
    with pytest.raises(InputError, match="accepted is one number of rows"):
        describe(labels=labels[:7])
    with pytest.raises(InputError, match="draws: 5; accepted is at least 99"):
        describe(draws=5)
    with pytest.raises(InputError, match="adjust: 3 rows"):
        describe(adjust=adjust.head(3))
    with pytest.raises(InputError, match="score: constant or not finite"):
        describe_axis(np.ones(120), frame, DICTIONARY, ids)


def test_a_binary_variable_with_three_values_is_told_and_taken_as_nominal():
    labels, frame, ids, _ = people()
    frame = frame.assign(SEX=np.arange(120) % 3)
    row = one(describe_groups(labels, frame[["SEX"]], DICTIONARY, ids, **FAST), 0, "SEX")
    assert row["kind"] == "nominal"
    assert row["note"] == "3 values in a binary variable"


def test_the_table_is_what_it_was():
    found = described(seed=3)
    row = one(found, 1, "GRADE")
    figures = [row["effect"], row["low"], row["high"], row["adjusted_effect"]]
    np.testing.assert_allclose(figures, REGRESSION, rtol=1e-6)


REGRESSION = [0.9657888371951628, 0.5268097800239199, 1.404767894366406, 0.9979185492805145]
