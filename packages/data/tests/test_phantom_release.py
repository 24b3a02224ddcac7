"""A whole phantom on disk: same bytes, whatever the workers; the truth joins."""

import hashlib
import json

import pandas as pd
import pytest

from spinmark_data.cluster_config import ClusterConfig
from spinmark_data.errors import InputError
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.write import write_phantom


def config(**changes):
    values = {
        "subjects": 5,
        "seed": 4,
        "grid_shape": (8, 24, 24),
        "spacing_mm": (10.0, 3.0, 3.0),
        "coarse_grid": True,
        "event_share": 0.3,
        "write_labels": True,
        "workers": 1,
    }
    return PhantomConfig(**(values | changes))


def tree(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom")
    calls = []
    summary = write_phantom(config(), out, progress=lambda done, total: calls.append((done, total)))
    return out, summary, calls


def test_same_bytes_whatever_the_workers(phantom, tmp_path):
    write_phantom(config(workers=2), tmp_path)
    assert tree(tmp_path) == tree(phantom[0])


@pytest.mark.slow
def test_same_bytes_on_a_cluster_that_was_there(phantom, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as there:
        cluster = ClusterConfig(kind="scheduler", address=there.scheduler_address)
        write_phantom(config(cluster=cluster, workers=7), tmp_path)
    assert tree(tmp_path) == tree(phantom[0])


def test_another_seed_is_another_cohort(phantom, tmp_path):
    write_phantom(config(seed=5), tmp_path)
    assert set(tree(tmp_path)) != set(tree(phantom[0]))


def test_truth_joins_the_images(phantom):
    out, summary, calls = phantom
    scans = pd.read_parquet(out / "truth" / "scans.parquet")
    joints = pd.read_parquet(out / "truth" / "joints.parquet")
    subjects = pd.read_parquet(out / "truth" / "subjects.parquet")
    assert calls[-1] == (summary.scans, summary.scans) == (len(scans), len(scans))
    key = ["subject_id", "laterality"]
    assert not scans.duplicated([*key, "visit"]).any()
    assert len(scans.merge(joints, on=key, validate="many_to_one")) == len(scans)
    assert set(joints["subject_id"]) == set(subjects["subject_id"])
    for name in ("incidence", "progression"):
        more = pd.read_parquet(out / "truth" / f"{name}.parquet")
        assert len(more.merge(joints, on=key, validate="one_to_one")) == len(joints)
    listed = []
    for path in sorted((out / "release").glob("*/*/contents.csv")):
        contents = pd.read_csv(path, dtype=str)
        for row in contents.itertuples():
            series = path.parent.parent / row.Folder
            assert len(list(series.iterdir())) == 8
            listed.append((row.ParticipantID, row.SeriesDescription.rsplit("_", 1)[1][0]))
    assert sorted(listed) == sorted(zip(scans["subject_id"], scans["laterality"], strict=True))
    labels = {path.name for path in (out / "truth" / "labels").iterdir()}
    assert labels == {f"{scan.replace(':', '_')}.nii.gz" for scan in scans["scan_id"]}
    schema = json.loads((out / "truth" / "schema.json").read_text())
    assert schema["schema"] == "spinmark/truth"
    assert schema["enriched"] is True
    hazard = schema["hazard"]
    assert hazard["family"] == "weibull"
    assert hazard["shape"] == 1.5
    assert hazard["frailty"] == schema["frailty"] | {"shared_by": "the two knees of a person"}
    assert schema["frailty"] == {"law": "gamma", "mean": 1.0, "variance": 0.5}
    assert hazard["death"]["family"] == "gompertz"
    assert set(schema["mixed_cases"]) == {"chance", "labels"}
    assert schema["left_truncation"]["late_entry"] == 0.0
    first = scans.groupby(key)["days"].min()
    known = joints.set_index(key)["entry_days"]
    assert known.dropna().sort_index().to_dict() == first.sort_index().to_dict()
    tables = {path.stem for path in (out / "truth" / "tables").iterdir()}
    assert {"Enrollees", "AllClinical00", "kxr_sq_bu00", "Outcomes99"} <= tables


def test_the_truth_names_both_phenotypes_of_a_mixed_case_and_the_hazard_is_what_it_says(tmp_path):
    write_phantom(
        config(subjects=30, overlap=0.6, visits=("V00",), moaks_share=0.0, write_labels=False),
        tmp_path,
    )
    truth = tmp_path / "truth"
    joints = pd.read_parquet(truth / "joints.parquet")
    mixed = joints[joints["second_phenotype"] > 0]
    assert len(mixed) > 5
    assert (mixed["phenotype"] > 0).all()
    assert (mixed["phenotype"] != mixed["second_phenotype"]).all()
    schema = json.loads((truth / "schema.json").read_text())
    assert schema["mixed_cases"]["chance"] == 0.6
    # From what is written alone: the predictor of the schema gives the log hazard ratio of the truth.
    scans = pd.read_parquet(truth / "scans.parquet")
    tables = pd.read_parquet(truth / "tables" / "AllClinical00.parquet").set_index("ID")
    ages = pd.read_parquet(truth / "subjects.parquet").set_index("subject_id")["age"]
    weights = schema["hazard"]["linear_predictor"]
    rows = scans.merge(joints, on=["subject_id", "laterality"])
    assert len(rows) > 40
    for row in rows.itertuples():
        eta = sum(weights[name] * getattr(row, name) for name in schema["latents"])
        eta += weights["WOMKP"] * tables.loc[row.subject_id, f"V00WOMKP{row.laterality}"]
        eta += weights["AGE"] * (ages[row.subject_id] - weights["AGE_centre"])
        assert row.log_hazard_ratio == pytest.approx(eta, abs=1e-9)


def test_an_existing_phantom_is_not_overwritten(phantom):
    with pytest.raises(InputError, match="already exists"):
        write_phantom(config(), phantom[0])
