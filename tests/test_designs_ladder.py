"""The blocks of the ladder of prognostic models, on tables made by hand and on the demo's cohort."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from spinmark import designs, ladder, people
from spinmark.commands.prognose import MODELS
from spinmark.errors import InputError
from spinmark_biomarkers.embeddings import open_embeddings
from spinmark_biomarkers.phenotypes.store import read_phenotypes
from spinmark_data.cohort.reader import Cohort

PEOPLE = ("1000001", "1000002", "1000003", "1000004")
GONE = ("1000002", "R")
VARIABLES = {
    "AGE": ("demographic", "visits", "continuous"),
    "WOMKP": ("symptom", "joints", "continuous"),
    "PASE": ("function", "visits", "continuous"),
    "INJ": ("symptom", "joints", "binary"),
    "KSURG": ("treatment", "joints", "binary"),
    "XRKL": ("structure", "joints", "ordinal"),
    "XRJSM": ("structure", "joints", "ordinal"),
    "XRJSL": ("structure", "joints", "ordinal"),
    "MCMJSW": ("structure", "joints", "continuous"),
    "XRPROSTH": ("outcome", "joints", "binary"),
}


class Tables:
    """What `designs` needs of a cohort."""

    def __init__(self, **changed: pd.DataFrame) -> None:
        rng = np.random.default_rng(0)
        joints = pd.DataFrame(
            [(s, side, "V00", 0.0) for s in PEOPLE for side in "RL"],
            columns=["subject_id", "laterality", "visit", "days"],
        )
        for name, (_, table, _) in VARIABLES.items():
            if table == "joints":
                joints[name] = rng.integers(0, 2, len(joints)).astype(float)
        joints["MCMJSW"] = np.linspace(3, 6, len(joints))
        joints["XRPROSTH"] = 0.0
        visits = pd.DataFrame({"subject_id": PEOPLE, "visit": "V00", "days": 0.0})
        visits["AGE"], visits["PASE"] = np.arange(4.0) + 60, np.arange(4.0) * 10
        dictionary = pd.DataFrame(
            [(name, name, *found) for name, found in VARIABLES.items()],
            columns=["variable", "label", "role", "table", "kind"],
        )
        rows = [
            (f"{s}:{side}", "replacement", s, side, 0.0, 3000.0, np.inf, "censored", 1.0)
            for s in PEOPLE
            for side in "RL"
            if (s, side) != GONE
        ]
        names = ["joint_id", "endpoint", "subject_id", "laterality", "entry"]
        outcomes = pd.DataFrame(rows, columns=[*names, "lower", "upper", "cause", "weight"])
        flow = pd.DataFrame(
            [
                ("outcome: replaced before enrolment", "joints", 7, 1, "replaced before enrolment"),
                ("series found", "series", 8, 0, ""),
            ],
            columns=["step", "unit", "n", "excluded", "reason"],
        )
        self.tables = {
            "joints": joints, "visits": visits, "dictionary": dictionary, "outcomes": outcomes,
            "flow": flow, "subjects": pd.DataFrame({"subject_id": PEOPLE}),
        } | changed  # fmt: skip

    def table(self, name: str) -> pd.DataFrame:
        return self.tables[name].copy()


def vectors(test: tuple[str, ...] = ("1000004",)) -> xr.Dataset:
    rows = [(s, side) for s in PEOPLE for side in "RL"]
    of: dict[str, Any] = {
        "scan_id": [f"{s}:{side}:V00:DESS:0" for s, side in rows],
        "subject_id": [s for s, _ in rows],
        "laterality": [side for _, side in rows],
        "joint_id": [f"{s}:{side}" for s, side in rows],
        "visit": ["V00"] * 8,
        "set": ["test" if s in test else "train" for s, _ in rows],
    }
    coords: dict[str, Any] = {k: ("scan", np.array(v, dtype=object)) for k, v in of.items()}
    coords |= {"rank": ("scan", np.zeros(8, int)), "days": ("scan", np.zeros(8))}
    values = np.random.default_rng(1).normal(size=(8, 3))
    return xr.Dataset({"embedding": (("scan", "feature"), values)}, coords=coords)


def phenotypes(fitted: tuple[str, ...] = PEOPLE[:3]) -> xr.Dataset:
    found = vectors().drop_vars("embedding")
    chance = np.random.default_rng(2).dirichlet([1, 1, 1], size=8)
    found["probability"] = (("scan", "phenotype"), chance)
    found["label"] = ("scan", chance.argmax(axis=1))
    found["fitted"] = ("scan", np.isin(found["subject_id"].to_numpy(), fitted))
    return found


def made(cohort: Any, models: list[list[str]], **more: Any) -> tuple[dict[str, Any], list[str]]:
    told: list[str] = []
    return designs.designs(cohort, vectors(), models, tell=told.append, **more), told


def test_the_clinical_block_has_injury_surgery_and_the_other_knee() -> None:
    cohort = Tables()
    found, told = made(cohort, [["clinical"]])
    frame, joints = found["clinical"], cohort.table("joints")
    assert told == []
    assert not {"XRKL", "XRPROSTH", "MCMJSW"} & set(frame.columns)
    for name in ("INJ", "KSURG"):
        np.testing.assert_array_equal(
            frame[name],
            joints.set_index(joints.subject_id + ":" + joints.laterality)[name][frame.index],
        )
    other = frame[ladder.OTHER_KNEE]
    assert list(other.index[other == 1]) == ["1000002:L"]
    # The joint that was replaced has no outcome itself, and its partner was not replaced.
    assert (other.drop("1000002:L") == 0).all()


def test_what_a_cohort_lacks_is_told_in_a_line_and_left_out() -> None:
    whole = Tables()
    joints = whole.table("joints").assign(INJ=np.nan).drop(columns=["KSURG", "MCMJSW", "XRPROSTH"])
    flow = whole.table("flow").iloc[1:]
    found, told = made(Tables(joints=joints, flow=flow), [["clinical"], ["structure"]])
    assert told == [
        "clinical: the cohort has no INJ and no KSURG; left out",
        "clinical: no other knee is known to be replaced by the time origin; left out",
        "structure: the cohort has no joint space width (MCMJSW); XRJSM and XRJSL (narrowing) stand in",
    ]
    assert not {"INJ", "KSURG", ladder.OTHER_KNEE} & set(found["clinical"].columns)
    assert list(found["structure"]) == ["structure_XRKL", "structure_XRJSM", "structure_XRJSL"]


def test_structure_is_the_grade_and_the_width() -> None:
    found, told = made(Tables(), [["structure"], ["kl"]])
    assert list(found["structure"]) == ["structure_XRKL", "structure_MCMJSW"]
    np.testing.assert_array_equal(found["structure"]["structure_XRKL"], found["kl"]["XRKL"])
    assert told == []


def test_structure_without_a_grade_is_refused() -> None:
    joints = Tables().table("joints").assign(XRKL=np.nan)
    with pytest.raises(InputError, match="structure: the cohort has no XRKL"):
        made(Tables(joints=joints), [["structure"]])


@pytest.mark.parametrize(("origin", "expected"), [(0.0, 0.0), (699.0, 0.0), (700.0, 1.0)])
def test_only_what_was_known_at_the_origin_of_the_other_knee_counts(
    origin: float, expected: float
) -> None:
    whole = Tables()
    outcomes = whole.table("outcomes")
    hit = outcomes["joint_id"] == "1000001:R"
    outcomes.loc[hit, ["lower", "upper"]] = [500.0, 700.0]
    outcomes.loc[hit, "cause"] = "event"
    days = pd.Series({"1000001:L": origin})
    found, _ = made(Tables(outcomes=outcomes), [["clinical"]], origin=days)
    assert found["clinical"][ladder.OTHER_KNEE]["1000001:L"] == expected
    # The knee itself is never told of its own replacement.
    assert found["clinical"][ladder.OTHER_KNEE]["1000001:R"] == 0.0


def test_a_prosthesis_on_a_film_counts_from_its_day() -> None:
    joints = Tables().table("joints")
    later = joints[joints["subject_id"] == "1000003"].iloc[:1].assign(visit="V03", days=730.0)
    joints = pd.concat([joints, later.assign(XRPROSTH=1.0)], ignore_index=True)
    for origin, expected in ((0.0, 0.0), (800.0, 1.0)):
        days = pd.Series({"1000003:L": origin})
        found, _ = made(Tables(joints=joints), [["clinical"]], origin=days)
        assert found["clinical"][ladder.OTHER_KNEE]["1000003:L"] == expected


def test_an_outcome_that_is_absent_for_another_reason_is_told() -> None:
    flow = Tables().table("flow")
    row = ("outcome: replaced after death", "joints", 6, 1, "replaced after death")
    flow.loc[len(flow)] = list(row)
    _, told = made(Tables(flow=flow), [["clinical"]])
    assert told == [
        "clinical: 1 other knees without an outcome are taken to be replaced before enrolment; 1 of the "
        "cohort were left out for another reason"
    ]


def test_a_cohort_that_counts_no_replaced_knees_infers_none() -> None:
    flow = Tables().table("flow").iloc[1:]
    found, _ = made(Tables(flow=flow), [["clinical"]])
    assert ladder.OTHER_KNEE not in found["clinical"]


def test_phenotypes_are_probabilities_without_the_commonest() -> None:
    ds = phenotypes()
    found, told = made(Tables(), [["phenotype"]], phenotypes=ds)
    frame = found["phenotype"]
    label = ds["label"].to_numpy()[ds["fitted"].to_numpy()]
    common = int(np.bincount(label).argmax())
    assert list(frame) == [f"phenotype_{k}" for k in range(3) if k != common]
    kept = [k for k in range(3) if k != common]
    rows = pd.Series(range(8), index=ds["joint_id"].to_numpy())[frame.index]
    np.testing.assert_array_equal(frame.to_numpy(), ds["probability"].to_numpy()[rows][:, kept])
    assert told == []


def test_joints_without_a_phenotype_leave_and_are_counted() -> None:
    found, told = made(Tables(), [["phenotype"]], phenotypes=phenotypes().isel(scan=slice(1, None)))
    assert len(found["phenotype"]) == 7
    assert told == ["phenotype: 1 of 8 joints have none at their first scan; left out"]


def test_phenotypes_that_saw_held_out_subjects_are_refused() -> None:
    with pytest.raises(InputError, match="found on 1 held-out subjects, such as 1000004"):
        made(Tables(), [["phenotype"]], phenotypes=phenotypes(PEOPLE))
    with pytest.raises(InputError, match="found on 3 held-out subjects, such as 1000001"):
        made(Tables(), [["phenotype"]], phenotypes=phenotypes(), held_out=PEOPLE)
    with pytest.raises(InputError, match="no phenotypes are given"):
        made(Tables(), [["phenotype"]])


def test_a_model_with_the_grade_twice_is_refused() -> None:
    with pytest.raises(InputError, match="has the grade twice"):
        designs.check_models([["clinical", "kl", "structure"]])
    designs.check_models([["clinical", "kl"], ["clinical", "structure", "phenotype", "embedding"]])


@pytest.mark.parametrize(
    ("models", "chain"),
    [
        ([["clinical"]], ["clinical"]),
        ([["kl"], ["clinical"], ["clinical", "kl"]], ["kl", "clinical_kl"]),
        ([["clinical", "embedding"], ["clinical"]], ["clinical", "clinical_embedding"]),
        # The grade alone is a part of structure.
        ([["clinical"], ["clinical", "kl"], ["clinical", "structure"]],
         ["clinical", "clinical_kl", "clinical_structure"]),
        # A longer chain wins over one that comes first.
        ([["kl"], ["kl", "clinical", "embedding"], ["clinical"], ["clinical", "phenotype"],
          ["clinical", "phenotype", "embedding"]],
         ["clinical", "clinical_phenotype", "clinical_phenotype_embedding"]),
        ([["kl"], ["embedding"]], ["kl"]),
    ],
)  # fmt: skip
def test_the_ladder_is_the_longest_chain_of_nested_models(
    models: list[list[str]], chain: list[str]
) -> None:
    found = designs.nested(models)
    assert ["_".join(model) for model in found] == chain
    assert designs.nested(found) == found


def test_the_default_ladder_climbs_from_the_clinic_to_the_embedding() -> None:
    found = designs.nested([list(model) for model in MODELS])
    assert ["_".join(model) for model in found] == [
        "clinical",
        "clinical_kl",
        "clinical_structure",
        "clinical_structure_phenotype",
        "clinical_structure_phenotype_embedding",
    ]


def test_people_are_in_groups_by_words_and_by_what_was_known_at_the_scan() -> None:
    subjects = pd.DataFrame(
        {"subject_id": PEOPLE, "SEX": [1.0, 2.0, 2.0, np.nan], "RACE": np.nan, "SITE": list("ABAB")}
    )
    visits = pd.DataFrame(
        [(s, visit, days, bmi)
         for s, first, second in zip(PEOPLE, (24, 31, np.nan, 26), (36, np.nan, 33, 27), strict=True)
         for visit, days, bmi in (("V00", 0, first), ("V01", 365, second), ("V03", 1095, 40))],
        columns=["subject_id", "visit", "days", "BMI"],
    )  # fmt: skip
    plain = Tables()
    dictionary = plain.table("dictionary")
    dictionary["codes"] = None
    sex = dictionary.iloc[[0]].assign(variable="SEX", codes='{"1": "Male", "2": "Female"}')
    cohort = Tables(
        subjects=subjects, visits=visits, dictionary=pd.concat([dictionary, sex], ignore_index=True)
    )
    scans = pd.DataFrame(
        {
            "subject_id": ["1000003", "1000001", "1000002", "1000004", "1000001"],
            "visit": ["V00", "V01", "V01", "V00", "V00"],
            "joint_id": ["1000003:R", "1000001:R", "1000002:L", "1000004:R", "1000001:L"],
        }
    )
    found = people.people(cohort, scans)
    assert list(found.index) == list(scans["joint_id"])
    # Nothing is known of race, so it is no group.
    assert list(found) == ["sex", "site", "body mass index"]
    assert found["sex"].tolist()[:3] == ["Female", "Male", "Female"]
    assert pd.isna(found.loc["1000004:R", "sex"])
    assert found["site"].tolist() == ["A", "A", "B", "B", "A"]
    # The latest that was known by the scan: never a later one, and an earlier one where it was not measured.
    assert found["body mass index"].to_dict() == {
        "1000003:R": "unknown",
        "1000001:R": "35 and above",
        "1000002:L": "30 to 35",
        "1000004:R": "25 to 30",
        "1000001:L": "below 25",
    }


def test_a_cohort_without_groups_has_none() -> None:
    scans = designs.baseline_scans(vectors()).reset_index()
    assert people.people(Tables(), scans).shape == (8, 0)


@pytest.mark.multiproc
def test_the_other_knee_of_the_demo_is_that_of_the_truth(demo: Path) -> None:
    cohort = Cohort.open(demo / "cohort")
    embeddings = open_embeddings(demo / "embeddings" / "distilled")
    frozen = read_phenotypes(demo / "phenotypes").dataset
    models = [["clinical"], ["structure", "phenotype", "embedding"]]
    told: list[str] = []
    frame, wide = designs.designs(
        cohort, embeddings, models, phenotypes=frozen, tell=told.append
    ).values()
    rows = designs.baseline_scans(embeddings).reset_index()
    other = ladder.other_knee(cohort, rows, None, told.append)
    truth = pd.read_parquet(demo / "phantom" / "truth" / "joints.parquet")
    partner = truth["subject_id"] + ":" + truth["laterality"].map({"R": "L", "L": "R"})
    gone = pd.Series(truth["replaced_at_baseline"].to_numpy(float), index=partner)
    known = other.notna()
    assert known.sum() > 20
    pd.testing.assert_series_equal(
        other[known], gone.reindex(other.index)[known], check_names=False, check_index_type=False
    )
    assert {"INJ", "KSURG"} <= set(frame.columns)
    assert {"structure_XRKL"} <= set(wide.columns)
    assert any(c.startswith("phenotype_") for c in wide.columns)
