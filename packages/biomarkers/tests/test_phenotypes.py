"""Phenotypes on simulations with known truth; the rules that the artefact keeps."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.config import DiscoverConfig
from spinmark_biomarkers.embeddings import check_embeddings, from_frame
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.clusters import rand_index
from spinmark_biomarkers.phenotypes.directions.config import DirectionsConfig
from spinmark_biomarkers.phenotypes.directions.find import find_directions
from spinmark_biomarkers.phenotypes.discover import discover, prototypes
from spinmark_biomarkers.phenotypes.rows import refuse_twins
from spinmark_biomarkers.phenotypes.store import read_phenotypes, write_phenotypes

FAST = {"bootstrap": 10, "splits": 4, "criteria": False, "seeds": 1, "permutations": 99, "k_max": 5}


def cohort(kind, n=90, seed=0, features=12):
    rng = np.random.default_rng(seed)
    person = rng.integers(0, 3, n)
    rows, truth, points = [], [], []
    basis = np.linalg.qr(rng.normal(size=(features, features)))[0]
    for s in range(n):
        for side in "RL":
            angle = rng.uniform(0, np.pi)
            centre = {
                "planted": 7 * np.eye(features)[person[s]],
                "gaussian": np.zeros(features),
                "bent": np.r_[9 * np.cos(angle), 9 * np.sin(angle), np.zeros(features - 2)],
            }[kind]
            for visit, days in (("V00", 10.0 * (s % 3)), ("V06", 1460.0)):
                points.append((centre + rng.normal(size=features)) @ basis)
                truth.append(person[s])
                rows.append(
                    {
                        "subject_id": f"S{s:03d}",
                        "laterality": side,
                        "visit": visit,
                        "days": days,
                        "site": f"site{s % 4}",
                        "scanner": f"scanner{person[s]}" if kind == "planted" else "one",
                    }
                )
    frame = pd.DataFrame(rows).join(pd.DataFrame(np.array(points)).add_prefix("f"))
    return from_frame(frame, fitted_subjects=[f"S{s:03d}" for s in range(60)]), np.array(truth)


@pytest.fixture(scope="module")
def planted():
    ds, truth = cohort("planted")
    return ds, truth, discover(ds, DiscoverConfig(**FAST))


def test_planted_clusters_are_found_stable_and_called_clusters(planted):
    ds, truth, found = planted
    held = ds["set"].values == "test"
    assert rand_index(truth[held], found.dataset["label"].values[held]) > 0.9
    summary = found.summary()
    assert (summary["k"], summary["verdict"]) == (3, "clusters")
    assert {p["stability"] for p in summary["phenotypes"]} == {"highly stable"}
    panel = {row["variable"]: row["flag"] for row in summary["artefacts"]}
    assert panel["scanner"] == "artefact suspected"
    assert panel["laterality"] == "not associated"
    sizes = [p["n"] for p in summary["phenotypes"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == summary["scans_fitted"] == 120


def test_a_single_gaussian_has_no_clusters():
    verdicts = [
        discover(cohort("gaussian", seed=seed)[0], DiscoverConfig(**FAST)).summary()["verdict"]
        for seed in range(2)
    ]
    assert verdicts == ["none", "none"]


def test_a_bent_continuum_is_not_called_clusters():
    ds, _ = cohort("bent", n=150)
    summary = discover(ds, DiscoverConfig(**FAST | {"k": 4})).summary()
    assert summary["verdict"] != "clusters"


def test_gmm_finds_the_planted_clusters(planted):
    ds, truth, _ = planted
    found = discover(ds, DiscoverConfig(method="gmm", components=4, **FAST | {"k": 3}))
    assert rand_index(truth, found.dataset["label"].values) > 0.9
    np.testing.assert_allclose(found.dataset["probability"].sum("phenotype"), 1)


def test_row_order_changes_nothing(planted):
    ds, _, first = planted
    order = np.random.default_rng(3).permutation(ds.sizes["scan"])
    second = discover(ds.isel(scan=order), DiscoverConfig(**FAST))
    assert second.dataset.attrs["frozen_hash"] == first.dataset.attrs["frozen_hash"]
    assert second.summary() == first.summary()


def test_held_out_subjects_do_not_move_the_clusters(planted):
    ds, _, first = planted
    changed = ds.copy(deep=True)
    held = np.flatnonzero(ds["set"].values == "test")
    changed["embedding"][held] = 1000.0 + np.arange(held.size)[:, None]
    second = discover(changed, DiscoverConfig(**FAST))
    fit = ds["set"].values == "train"
    np.testing.assert_array_equal(second.dataset["label"][fit], first.dataset["label"][fit])
    assert second.summary() == first.summary()


def test_known_at_is_the_last_visit_used(planted):
    ds, _, first = planted
    known = first.known_at.set_index("joint_id")["known_at"]
    assert known.loc["S002:R"] == 20.0
    assert len(known) == 180
    assert (first.dataset["fitted"].values == (ds["set"] == "train") & (ds["visit"] == "V00")).all()
    every = discover(ds, DiscoverConfig(visits="all", **FAST | {"k": 3}))
    assert set(every.known_at["known_at"]) == {1460.0}


def test_round_trip_and_a_changed_label_is_refused(planted, tmp_path):
    ds, _, first = planted
    write_phenotypes(tmp_path / "p", first)
    again = read_phenotypes(tmp_path / "p")
    np.testing.assert_array_equal(again.dataset["label"], first.dataset["label"])
    assert again.summary() == json.loads(json.dumps(first.summary()))
    pd.testing.assert_frame_equal(again.known_at, first.known_at, check_dtype=False)
    assert prototypes(ds, again) == prototypes(ds, first)
    first.dataset["label"].values[0] += 1
    write_phenotypes(tmp_path / "q", first)
    first.dataset["label"].values[0] -= 1
    with pytest.raises(InputError, match="frozen as"):
        read_phenotypes(tmp_path / "q")
    with pytest.raises(InputError, match=r"no phenotypes\.zarr"):
        read_phenotypes(tmp_path / "absent")


def test_prototypes_are_one_a_subject_and_never_held_out(planted):
    ds, _, first = planted
    chosen = prototypes(ds, first, per=4)
    assert sorted(chosen) == [0, 1, 2]
    for scans in chosen.values():
        people = [scan.split(":")[0] for scan in scans]
        assert len(set(people)) == 4
        assert all(person < "S060" for person in people)


def test_bad_embeddings_are_named(planted):
    ds, _, _ = planted
    holed = ds.copy(deep=True)
    holed["embedding"][3, 0] = np.nan
    with pytest.raises(InputError, match=str(ds["scan_id"].values[3])):
        check_embeddings(holed)
    with pytest.raises(InputError, match="more than once"):
        check_embeddings(ds.isel(scan=[0, 0, 1]))
    with pytest.raises(InputError, match="no days"):
        check_embeddings(ds.drop_vars("days"))
    with pytest.raises(InputError, match="at least 32"):
        discover(ds.isel(scan=slice(0, 40)), DiscoverConfig(k=8))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 39), st.integers(0, 39), st.integers(0, 2**32 - 1))
def test_a_person_under_two_ids_is_refused_whatever_the_order(one, other, seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(80, 5))).add_prefix("f")
    frame["subject_id"] = [f"S{n // 2:03d}" for n in range(80)]
    frame["laterality"] = ["R", "L"] * 40
    fine = from_frame(frame, fitted_subjects=[])
    refuse_twins(fine)
    if one == other:
        # Two scans of one person may be copies: that is nobody under two names.
        frame.loc[2 * one, "f0":"f4"] = frame.loc[2 * one + 1, "f0":"f4"]
        refuse_twins(from_frame(frame, fitted_subjects=[]))
        return
    frame.loc[2 * one, "f0":"f4"] = frame.loc[2 * other + 1, "f0":"f4"]
    low, high = sorted([one, other])
    twins = from_frame(frame, fitted_subjects=[]).isel(scan=rng.permutation(80))
    with pytest.raises(InputError, match=f"subjects S{low:03d} and S{high:03d} .*2 subjects share"):
        refuse_twins(twins)


def test_a_person_under_two_ids_is_refused_from_a_csv_and_by_every_finder(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(120, 4))).add_prefix("f")
    frame.insert(0, "subject_id", [str(1000001 + n) for n in range(120)])
    # The copy is held out, so that a figure would be reported on someone who was fitted on.
    frame.loc[110, "f0":"f3"] = frame.loc[3, "f0":"f3"]
    frame.to_csv(tmp_path / "embeddings.csv", index=False)
    ds = from_frame(tmp_path / "embeddings.csv", fitted_subjects=frame["subject_id"][:100])
    told = "subjects 1000004 and 1000111 have the very same embedding .*accepted is one subject_id"
    with pytest.raises(InputError, match=told):
        discover(ds, DiscoverConfig(**FAST))
    with pytest.raises(InputError, match=told):
        find_directions(ds, DirectionsConfig())


def test_an_encoder_that_maps_all_to_one_point_is_not_taken_for_twins():
    ds, _ = cohort("gaussian", n=60)
    with pytest.raises(InputError, match="all fitted scans have the same vector"):
        discover(ds.assign(embedding=ds["embedding"] * 0), DiscoverConfig(**FAST))


def test_a_phenotype_of_one_person_is_refused():
    ds, _ = cohort("gaussian", n=60)
    far = ds.copy(deep=True)
    far["embedding"][(ds["subject_id"] == "S007").values] += 500
    with pytest.raises(InputError, match=r"phenotype 1 of 2: one subject alone \(S007\); accepted"):
        discover(far, DiscoverConfig(**FAST, k=2))


def test_settings_that_a_method_does_not_have_are_refused_before_anything_is_fitted():
    ds, _ = cohort("gaussian", n=60)
    with pytest.raises(InputError, match="options: 'linkage' with method kmeans"):
        discover(ds, DiscoverConfig(**FAST, options={"linkage": "ward"}), progress=pytest.fail)
    with pytest.raises(
        InputError, match="k: 3 with method dirichlet, which finds the number itself"
    ):
        discover(ds, DiscoverConfig(**FAST, method="dirichlet", k=3), progress=pytest.fail)


def test_an_encoder_that_was_taught_an_outcome_is_refused(planted):
    ds, _, _ = planted
    taught = ds.assign_attrs(uses=json.dumps(["AGE", "outcome:tkr"]))
    with pytest.raises(InputError, match=r"learnt from outcome:tkr, and phenotypes that know"):
        discover(taught, DiscoverConfig(**FAST))


def test_one_part_of_an_embedding_is_clustered_alone():
    ds, truth = cohort("planted", features=6)
    noise = np.random.default_rng(5).normal(size=(ds.sizes["scan"], 6))
    both = np.hstack([noise, ds["embedding"].values])
    whole = ds.drop_vars("embedding").drop_dims("feature", errors="ignore")
    whole = whole.assign(embedding=(("scan", "feature"), both.astype(np.float32)))
    whole = whole.assign_coords(part=("feature", ["table"] * 6 + ["image"] * 6))
    fast = {**FAST, "k": 3}
    image = discover(whole, DiscoverConfig(**fast, part="image"))
    held = ds["set"].values == "test"
    assert rand_index(truth[held], image.dataset["label"].values[held]) > 0.9
    alone = discover(ds, DiscoverConfig(**fast))
    assert (image.dataset["label"].values == alone.dataset["label"].values).all()
    table = discover(whole, DiscoverConfig(**fast, part="table"))
    assert rand_index(truth[held], table.dataset["label"].values[held]) < 0.2
    with pytest.raises(InputError, match="part: 'image', but these embeddings have no parts"):
        discover(ds, DiscoverConfig(**fast, part="image"))
