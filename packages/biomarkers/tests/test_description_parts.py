"""Members, batch panel, surrogate, rules, regional profiles, and their figures."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

from spinmark_biomarkers.embeddings import from_frame
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import subject_resamples
from spinmark_biomarkers.figures.description import (
    enrichment_forest,
    enrichment_map,
    importance_bars,
    member_panel,
    panel_bars,
    profile_map,
)
from spinmark_biomarkers.phenotypes.description.config import DescribeConfig, check_config
from spinmark_biomarkers.phenotypes.description.enrichment import describe_groups
from spinmark_biomarkers.phenotypes.description.members import members
from spinmark_biomarkers.phenotypes.description.panel import artefact_panel, batch_panel
from spinmark_biomarkers.phenotypes.description.profiles import regional_profiles, size_of
from spinmark_biomarkers.phenotypes.description.rules import fit_rules
from spinmark_biomarkers.phenotypes.description.surrogate import balanced_accuracy, fit_surrogate
from spinmark_biomarkers.phenotypes.discover import Phenotypes, prototypes


def labelled(subjects=40, seed=0):
    """Three phenotypes of two knees a person, with probabilities that fall off towards the border."""
    rng = np.random.default_rng(seed)
    ids = np.repeat([f"S{s:03d}" for s in range(subjects)], 2)
    labels = rng.integers(0, 3, ids.size)
    x = 4 * np.eye(3)[labels] + rng.normal(size=(ids.size, 3))
    frame = pd.DataFrame(x).add_prefix("f").assign(subject_id=ids, laterality=["R", "L"] * subjects)
    ds = from_frame(frame, fitted_subjects=[f"S{s:03d}" for s in range(subjects // 2)])
    away = np.linalg.norm(x[:, None] - 4 * np.eye(3), axis=2)
    chance = np.exp(-away) / np.exp(-away).sum(axis=1, keepdims=True)
    labels = chance.argmax(axis=1)
    dataset = xr.Dataset(
        {
            "label": ("scan", labels),
            "probability": (("scan", "phenotype"), chance),
            "fitted": ("scan", ds["set"].values == "train"),
        },
        coords={name: ds[name] for name in ds.coords if ds[name].dims == ("scan",)},
        attrs={"visits": "baseline"},
    )
    return ds, Phenotypes(dataset=dataset, known_at=pd.DataFrame(), facts={})


def test_members_are_of_the_phenotype_and_nobody_comes_twice():
    ds, found = labelled()
    chosen = members(ds, found, prototypes=3, random=4, boundary=2, seed=1)
    scans = found.dataset["scan_id"].values
    label = dict(zip(scans, found.dataset["label"].values, strict=True))
    assert all(label[s] == c for s, c in zip(chosen["scan_id"], chosen["phenotype"], strict=True))
    people = chosen["scan_id"].str.partition(":")[0]
    assert people.is_unique
    counts = chosen.groupby(["phenotype", "kind"]).size().unstack()
    assert (counts["prototype"] == 3).all()
    assert (counts["boundary"] == 2).all()
    assert counts["random"].max() <= 4
    ranked = np.sort(found.dataset["probability"].values, axis=1)
    margin = dict(zip(scans, ranked[:, 2] - ranked[:, 1], strict=True))
    for _, rows in chosen[chosen["kind"] == "boundary"].groupby("phenotype"):
        gaps = [margin[s] for s in rows.sort_values("order")["scan_id"]]
        assert gaps == sorted(gaps)
        assert max(gaps) < np.median(list(margin.values()))


def test_members_depend_on_the_seed_and_not_on_the_order_of_rows():
    ds, found = labelled()
    order = np.random.default_rng(1).permutation(ds.sizes["scan"])
    turned = Phenotypes(
        dataset=found.dataset.isel(scan=order), known_at=found.known_at, facts=found.facts
    )
    first = members(ds, found, seed=5)
    pd.testing.assert_frame_equal(first, members(ds.isel(scan=order), turned, seed=5))
    other = members(ds, found, seed=6)
    kept = first["kind"] != "random"
    pd.testing.assert_frame_equal(first[kept], other[other["kind"] != "random"])
    assert set(first["scan_id"]) != set(other["scan_id"])


def test_members_of_fitted_and_of_test_subjects():
    ds, found = labelled()
    for on, low, high in (("fitted", 0, 19), ("test", 20, 39)):
        chosen = members(ds, found, on=on)
        numbers = chosen["scan_id"].str[1:4].astype(int)
        assert numbers.between(low, high).all()
    first = members(ds, found, prototypes=2, random=0, boundary=0, on="fitted")
    nearest = prototypes(ds, found, per=2)
    assert first.loc[first["phenotype"] == 0, "scan_id"].tolist() == nearest[0]
    with pytest.raises(InputError, match="on: 'some'; accepted are all, fitted and test"):
        members(ds, found, on="some")
    with pytest.raises(InputError, match="random: -1; accepted"):
        members(ds, found, random=-1)
    with pytest.raises(InputError, match="differ in their scans"):
        members(ds.isel(scan=slice(3)), found)


def test_of_one_phenotype_there_is_no_border():
    ds, found = labelled()
    one = found.dataset.isel(phenotype=[0]).assign(label=("scan", np.zeros(80, int)))
    chosen = members(ds, Phenotypes(dataset=one, known_at=pd.DataFrame(), facts={}))
    assert set(chosen["kind"]) == {"prototype", "random"}


def scans(subjects=80, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.repeat([f"S{s:03d}" for s in range(subjects)], 2)
    labels = rng.integers(0, 3, ids.size)
    frame = pd.DataFrame(
        {
            "scan_id": [f"{s}:{k % 2}" for k, s in enumerate(ids)],
            "subject_id": ids,
            "site": np.repeat(rng.choice(list("ABC"), subjects), 2),
            "scanner": np.where(labels == 2, "new", "old"),
            "laterality": ["R", "L"] * subjects,
            "visit": "V00",
            "days": 0.0,
        }
    )
    return labels, frame, rng


def test_the_batch_panel_adds_numbers_to_the_artefact_panel():
    labels, frame, rng = scans()
    measures = pd.DataFrame(
        {"noise": rng.normal(size=160), "blur": labels + rng.normal(size=160), "gap": np.nan}
    )
    panel = batch_panel(labels, frame, measures, permutations=99, seed=0).set_index("variable")
    core = {row["variable"]: row for row in artefact_panel(labels, frame, permutations=99, seed=0)}
    for name, row in core.items():
        assert panel.loc[name, "effect"] == row["cramers_v"]
        assert (panel.loc[name, "p"], panel.loc[name, "flag"]) == (row["p"], row["flag"])
    assert panel.loc["scanner", "flag"] == panel.loc["blur", "flag"] == "artefact suspected"
    assert panel.loc["noise", "flag"] == "not associated"
    assert panel.loc["visit", "flag"] == "one value"
    assert panel.loc["gap", "flag"] == "no values"
    groups = [measures["blur"][labels == c] for c in range(3)]
    mean = measures["blur"].mean()
    share = sum(len(g) * (g.mean() - mean) ** 2 for g in groups)
    share /= ((measures["blur"] - mean) ** 2).sum()
    assert panel.loc["blur", "effect"] == pytest.approx(np.sqrt(share), abs=0.02)
    assert isinstance(panel_bars(panel.reset_index()), Figure)


DICTIONARY = pd.DataFrame(
    [
        ("GRADE", "Grade", "ordinal", "structure", "radiograph"),
        ("SWELL", "Swelling (past week)", "binary", "symptom", "complaint"),
        ("AGE", "Age", "continuous", "demographic", "person"),
        ("RACE", "Race", "nominal", "demographic", "person"),
    ],
    columns=["variable", "label", "kind", "role", "group"],
).assign(codes='{"1": "Yes", "0": "No"}')


def guessable(subjects=120, seed=0):
    """Phenotype 1 has a high grade, 2 a swollen knee and a low grade; age and race say nothing."""
    rng = np.random.default_rng(seed)
    ids = np.repeat([f"S{s:03d}" for s in range(subjects)], 2)
    grade, swollen = rng.integers(0, 5, ids.size), rng.integers(0, 2, ids.size)
    labels = np.where(grade >= 3, 1, np.where(swollen == 1, 2, 0))
    frame = pd.DataFrame(
        {
            "GRADE": grade.astype(float),
            "SWELL": swollen.astype(float),
            "AGE": np.repeat(rng.normal(60, 9, subjects), 2),
            "RACE": np.repeat(rng.integers(0, 3, subjects), 2).astype(float),
        },
        index=[f"{s}:{k % 2}" for k, s in enumerate(ids)],
    )
    frame.loc[frame.index[::11], "AGE"] = np.nan
    return labels, frame, ids, ids < "S080"


@pytest.fixture(scope="module")
def surrogate():
    labels, frame, ids, fitted = guessable()
    return fit_surrogate(
        labels, frame, DICTIONARY, ids, fitted=fitted, scored=~fitted, repeats=5, draws=100, seed=0
    )


def test_a_surrogate_finds_what_phenotypes_are_made_of(surrogate):
    assert surrogate.score.value > 0.95
    assert surrogate.chance == pytest.approx(1 / 3)
    importance = surrogate.importance.set_index("group")
    assert importance.loc["radiograph", "loss"] > 0.3
    assert importance.loc["complaint", "loss"] > 0.1
    assert abs(importance.loc["person", "loss"]) < 0.05
    assert importance.loc["person", "variables"] == 2
    assert importance.loc["radiograph", "low"] > importance.loc["person", "high"]
    assert surrogate.validation[surrogate.model] == max(surrogate.validation.values())
    json.dumps(surrogate.to_dict(), allow_nan=False)
    figure = importance_bars(surrogate.importance, surrogate.score.to_dict(), surrogate.chance)
    assert "chance 0.33" in figure.axes[0].get_title()


def test_a_surrogate_of_noise_is_at_chance_and_the_order_of_rows_is_of_no_consequence():
    labels, frame, ids, fitted = guessable(60, seed=2)
    labels = np.random.default_rng(3).integers(0, 2, labels.size)
    fitted = ids < "S040"
    settings = {"repeats": 1, "draws": 100, "seed": 0}
    frame = frame[["GRADE", "SWELL"]]
    first = fit_surrogate(labels, frame, DICTIONARY, ids, fitted=fitted, scored=~fitted, **settings)
    assert first.score.low < 0.5 < first.score.high
    order = np.random.default_rng(1).permutation(ids.size)
    second = fit_surrogate(
        labels[order],
        frame.iloc[order],
        DICTIONARY,
        ids[order],
        fitted=fitted[order],
        scored=~fitted[order],
        **settings,
    )
    assert first.to_dict() == second.to_dict()


def test_balanced_accuracy_is_the_mean_of_the_recalls():
    truth = np.array([0, 0, 0, 1, 1, 2])
    right = np.array([[1, 1, 0, 1, 0, 1]]).T.astype(float)
    people = np.array([0, 0, 1, 1, 2, 3])
    whole = balanced_accuracy(truth, right, people, np.ones((1, 4)))
    assert whole[0, 0] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    for rows in subject_resamples(people, draws=5, seed=0):
        counts = np.array(
            [(people[rows] == s).sum() / max((people == s).sum(), 1) for s in range(4)]
        )
        classes = np.unique(truth[rows])
        expected = np.mean([right[rows][truth[rows] == c].mean() for c in classes])
        found = balanced_accuracy(truth, right, people, counts[None])
        assert found[0, 0] == pytest.approx(expected)


def test_a_surrogate_refuses_subjects_on_both_sides_and_too_few():
    labels, frame, ids, fitted = guessable()
    with pytest.raises(InputError, match="80 subjects are fitted on and scored, such as S000"):
        fit_surrogate(labels, frame, DICTIONARY, ids, fitted=fitted, scored=fitted)
    with pytest.raises(InputError, match="0 scored subjects of 0 phenotypes"):
        fit_surrogate(labels, frame, DICTIONARY, ids, fitted=fitted, scored=np.zeros(240, bool))
    flat = frame.assign(GRADE=1.0)[["GRADE"]]
    with pytest.raises(InputError, match="none varies among fitted scans"):
        fit_surrogate(labels, flat, DICTIONARY, ids, fitted=fitted, scored=~fitted)


def test_rules_say_in_words_what_phenotypes_are_made_of():
    labels, frame, ids, fitted = guessable()
    rules = fit_rules(labels, frame, DICTIONARY, ids, fitted=fitted, scored=~fitted)
    first = {rule.phenotype: rule for rule in reversed(rules)}
    assert first[1].words == "Grade >= 3"
    assert set(first[2].words.split(" and ")) == {"Grade <= 2", "Swelling is Yes"}
    assert set(first[0].words.split(" and ")) == {"Grade <= 2", "Swelling is not Yes"}
    high = (frame["GRADE"] >= 3).to_numpy()[~fitted]
    assert first[1].n == high.sum()
    assert first[1].share == 1.0
    assert first[1].base == pytest.approx(high.mean())
    assert first[1].found == 1.0
    assert str(first[1]).startswith(f"Grade >= 3: phenotype 1, 100 % of {high.sum()} joints")
    json.dumps([rule.to_dict() for rule in rules], allow_nan=False)
    with pytest.raises(InputError, match="depth: 0; accepted"):
        fit_rules(labels, frame, DICTIONARY, ids, fitted=fitted, scored=~fitted, depth=0)


def knees(subjects=150, seed=0):
    """Women have small knees and thin cartilage; phenotype 1 has less of it medially."""
    rng = np.random.default_rng(seed)
    ids = np.repeat([f"S{s:03d}" for s in range(subjects)], 2)
    female = np.repeat(rng.random(subjects) < 0.5, 2).astype(float)
    labels = (rng.random(ids.size) < np.where(female == 1, 0.7, 0.1)).astype(int)
    size = np.repeat(rng.normal(size=subjects), 2) - 1.2 * female
    own = rng.normal(size=(4, ids.size))
    frame = pd.DataFrame(
        {
            "THC_MT": 2 + 0.3 * size + 0.2 * own[0] - 0.3 * (labels == 1),
            "THC_LT": 2 + 0.3 * size + 0.2 * own[1],
            "VOL_FEMUR": 1e5 + 1e4 * size + 1e3 * own[2],
            "TAB_MT": 1000 + 100 * size,
            "TAB_LT": 900 + 90 * size,
        },
        index=[f"{s}:{k % 2}" for k, s in enumerate(ids)],
    )
    frame.loc[frame.index[3], "THC_LT"] = np.nan
    names = pd.DataFrame({"variable": frame.columns, "label": frame.columns})
    names = names.assign(kind="continuous", role="morphometric")
    return labels, frame, names, ids, pd.DataFrame({"SEX": female}, index=frame.index)


def test_profiles_of_knees_of_equal_sex_and_size():
    labels, frame, names, ids, sex = knees()
    size = size_of(frame)
    assert size is not None
    crude = regional_profiles(labels, frame, names, ids)
    held = regional_profiles(labels, frame, names, ids, adjust=pd.concat([sex, size], axis=1))
    assert set(held["kind"]) == {"THC", "VOL"}

    def z(found, variable, phenotype=1):
        return found[(found["variable"] == variable) & (found["phenotype"] == phenotype)].iloc[0]

    assert z(crude, "THC_LT")["high"] < 0
    assert z(held, "THC_LT")["low"] < 0 < z(held, "THC_LT")["high"]
    assert z(held, "THC_MT")["q"] < 1e-6
    thin = frame["THC_MT"].to_numpy()
    groups = [thin[labels == c] for c in (0, 1)]
    sd = np.sqrt(sum(g.var() * g.size for g in groups) / (thin.size - 2))
    share = (labels == 1).mean()
    assert z(held, "THC_MT")["z"] == pytest.approx(-0.3 * (1 - share) / sd, abs=0.15)
    assert z(crude, "THC_MT")["z"] == pytest.approx((groups[1].mean() - thin.mean()) / sd)
    against = regional_profiles(labels, frame, names, ids, reference=0)
    assert z(against, "THC_MT")["z"] == pytest.approx(z(crude, "THC_MT")["z"] / (1 - share))
    assert z(against, "THC_MT", 0)["note"] == "reference"
    assert np.isnan(z(against, "THC_MT", 0)["z"])
    assert z(crude, "THC_LT")["n"] + z(crude, "THC_LT", 0)["n"] == 299
    figure = profile_map(held)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["cartilage thickness", "volume"]


def test_profiles_refuse_what_they_cannot_compare():
    labels, frame, names, ids, _ = knees(20)
    with pytest.raises(InputError, match=r"reference: 7; accepted are \[0, 1\]"):
        regional_profiles(labels, frame, names, ids, reference=7)
    with pytest.raises(InputError, match="measures: none of"):
        regional_profiles(labels, frame[["TAB_MT"]], names, ids)
    assert size_of(frame[["TAB_MT"]]) is None
    few = regional_profiles(np.where(np.arange(40) < 4, 2, labels), frame, names, ids)
    assert set(few.loc[few["phenotype"] == 2, "note"]) == {"fewer than 5 subjects"}


def test_figures_show_what_the_table_says():
    labels, frame, ids, _ = guessable()
    found = describe_groups(labels, frame, DICTIONARY, ids, adjust=frame[["AGE"]], draws=99)
    heat = enrichment_map(found)
    names = [text.get_text() for text in heat.axes[0].get_yticklabels()]
    assert names == ["Grade", "Swelling", "Age"]
    shown = [text.get_text() for text in heat.axes[0].texts]
    grade = found[(found["variable"] == "GRADE") & (found["phenotype"] == 1)]["effect"].iloc[0]
    assert f"{grade:.1f}" in shown
    forest = enrichment_forest(found, 1, adjusted_for=["AGE"])
    assert forest.axes[0].get_title() == "Phenotype 1; adjusted for AGE"
    assert forest.axes[0].get_yticklabels()[0].get_text() == "Grade"
    with pytest.raises(InputError, match="phenotype 9 has no tested effect"):
        enrichment_forest(found, 9)
    with pytest.raises(InputError, match="no tested effect"):
        enrichment_map(found.assign(p=np.nan))


def test_members_are_drawn_without_identifiers():
    ds, found = labelled()
    chosen = members(ds, found, prototypes=2, random=2, boundary=1)
    own = chosen[chosen["phenotype"] == 0]
    slices = {scan: np.arange(12.0).reshape(3, 4) for scan in own["scan_id"]}
    figure = member_panel(slices, own, columns=2)
    words = [axes.get_title(loc="left") for axes in figure.axes]
    assert [w for w in words if w] == ["prototype", "random", "boundary"]
    assert sum(len(axes.images) for axes in figure.axes) == 5
    with pytest.raises(InputError, match="no members"):
        member_panel(slices, own.head(0))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"roles": ["outcome"]}, "roles: 'outcome' cannot describe a phenotype"),
        ({"permutations": 5}, "permutations: 5; accepted is at least 99"),
        ({"depth": 0}, "depth: 0; accepted is at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(setting, told):
    check_config(DescribeConfig())
    with pytest.raises(InputError, match=told):
        check_config(DescribeConfig(**setting))
