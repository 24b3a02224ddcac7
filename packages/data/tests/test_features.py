"""Clinical inputs by role."""

import numpy as np
import pandas as pd
import pytest

from spinmark_data.errors import InputError
from spinmark_data.features import DEFAULT_ROLES, clinical_features, morphometric_features
from spinmark_data.ingest.tableset import empty_table


class Tables:
    """A cohort's tables in memory."""

    def __init__(self) -> None:
        rows = [
            ("SEX", "demographic", "subjects"),
            ("SITE", "administrative", "subjects"),
            ("AGE", "demographic", "visits"),
            ("WOMKP", "symptom", "joints"),
            ("XRKL", "structure", "joints"),
            ("HARMLESS", "outcome", "joints"),
            ("READERS_MM", "morphometric", "joints"),
            ("VOL_FEMUR", "morphometric", "morphometry"),
            ("THC_MT", "morphometric", "morphometry"),
        ]
        dictionary = empty_table("dictionary").reindex(range(len(rows)))
        dictionary[["variable", "role", "table"]] = rows
        self.frames = {
            "dictionary": dictionary,
            "subjects": pd.DataFrame(
                {"subject_id": ["b", "a"], "SEX": [1.0, 2.0], "SITE": ["A", "B"]}
            ),
            "visits": pd.DataFrame(
                {"subject_id": ["a", "a"], "visit": ["V00", "V03"], "days": 0.0, "AGE": [60.0, 62]}
            ),
            "joints": pd.DataFrame(
                {
                    "subject_id": ["a", "a", "b"],
                    "laterality": ["R", "L", "R"],
                    "visit": "V00",
                    "WOMKP": [3.0, np.nan, 7.0],
                    "XRKL": [2.0, 3.0, 4.0],
                    "HARMLESS": [0.0, 0.0, 1.0],
                    "UNLISTED": [0.0, 0.0, 1.0],
                    "READERS_MM": [1.0, 2.0, 3.0],
                }
            ),
            "morphometry": pd.DataFrame(
                {
                    "subject_id": ["b", "a", "a"],
                    "laterality": ["R", "L", "R"],
                    "visit": ["V00", "V00", "V03"],
                    "VOL_FEMUR": [10.0, 20.0, 30.0],
                    "THC_MT": [1.5, np.nan, 2.5],
                    "UNLISTED_TOO": [1.0, 2.0, 3.0],
                }
            ),
        }

    def table(self, name: str) -> pd.DataFrame:
        return self.frames[name]


SCANS = pd.DataFrame(
    {
        "scan_id": ["s1", "s2", "s3", "s4", "s5"],
        "subject_id": ["a", "b", "a", "a", "c"],
        "laterality": ["R", "R", "L", "R", "R"],
        "visit": ["V00", "V00", "V00", "V03", "V00"],
    }
)


def test_values_stand_in_the_order_of_the_scans() -> None:
    table = clinical_features(Tables(), SCANS)
    assert list(table.values.index) == list(SCANS["scan_id"])
    assert (
        list(table.values.columns) == list(table.dictionary["variable"]) == ["SEX", "AGE", "WOMKP"]
    )
    assert (table.values.dtypes == "float64").all()
    nan = np.nan
    np.testing.assert_array_equal(
        table.values.to_numpy(),
        [[2, 60, 3], [1, nan, 7], [2, 60, nan], [2, 62, nan], [nan, nan, nan]],
    )


@pytest.mark.parametrize("role", ["outcome", "administrative"])
def test_some_roles_can_never_be_an_input(role: str) -> None:
    with pytest.raises(InputError, match="can never be an input"):
        clinical_features(Tables(), SCANS, roles=["symptom", role])


def test_an_outcome_by_another_name_and_an_unlisted_column_stay_out() -> None:
    every = ("demographic", "symptom", "function", "structure", "treatment")
    names = set(clinical_features(Tables(), SCANS, roles=every).values.columns)
    assert names == {"SEX", "AGE", "WOMKP", "XRKL"}


def test_structure_comes_only_when_asked_for() -> None:
    assert list(clinical_features(Tables(), SCANS, roles=["structure"]).values) == ["XRKL"]


def test_measures_of_label_maps_go_to_the_scan_of_their_joint_and_visit() -> None:
    table = morphometric_features(Tables(), SCANS)
    assert list(table.values.index) == list(SCANS["scan_id"])
    assert list(table.values) == list(table.dictionary["variable"]) == ["VOL_FEMUR", "THC_MT"]
    nan = np.nan
    np.testing.assert_array_equal(
        table.values.to_numpy(), [[nan, nan], [10, 1.5], [20, nan], [30, 2.5], [nan, nan]]
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_join_is_that_of_a_loop_over_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = [(s, side, v) for s in "abcdef" for side in "RL" for v in ("V00", "V03", "V06")]
    tables, names = Tables(), ["subject_id", "laterality", "visit"]
    held = [keys[i] for i in rng.permutation(len(keys))[:20]]
    measured = pd.DataFrame(held, columns=names)
    measured[["VOL_FEMUR", "THC_MT"]] = rng.normal(size=(20, 2))
    tables.frames["morphometry"] = measured
    asked = [keys[i] for i in rng.integers(0, len(keys), 50)]
    scans = pd.DataFrame(asked, columns=names).assign(scan_id=[f"s{i}" for i in range(50)])
    values = morphometric_features(tables, scans.sample(frac=1, random_state=seed)).values
    for scan_id, key in zip(scans["scan_id"], asked, strict=True):
        expected = [np.nan, np.nan]
        if key in held:
            expected = list(measured.loc[held.index(key), ["VOL_FEMUR", "THC_MT"]])
        np.testing.assert_array_equal(values.loc[scan_id].to_numpy(), expected)


def test_without_measures_the_command_that_makes_them_is_named() -> None:
    tables = Tables()
    tables.frames["morphometry"] = empty_table("morphometry")
    with pytest.raises(InputError, match=r"no measures of label maps; run `spinmark measure`"):
        morphometric_features(tables, SCANS)
    tables = Tables()
    dictionary = tables.frames["dictionary"]
    tables.frames["dictionary"] = dictionary[dictionary["table"] != "morphometry"]
    with pytest.raises(InputError, match="run `spinmark measure`"):
        morphometric_features(tables, SCANS)
    tables = Tables()
    tables.frames["morphometry"] = pd.concat([tables.frames["morphometry"]] * 2)
    with pytest.raises(InputError, match="must be unique"):
        morphometric_features(tables, SCANS)


def test_measures_of_label_maps_are_no_clinical_inputs_unless_asked_for() -> None:
    assert "morphometric" not in DEFAULT_ROLES
    tables = Tables()
    before = clinical_features(tables, SCANS)
    tables.frames["morphometry"] = empty_table("morphometry")
    pd.testing.assert_frame_equal(clinical_features(tables, SCANS).values, before.values)
    others = ("demographic", "symptom", "function", "structure", "biospecimen", "treatment")
    for role in others:
        rows = Tables().frames["dictionary"]
        if role in set(rows["role"]):
            found = clinical_features(Tables(), SCANS, roles=[role]).values.columns
            assert not {"VOL_FEMUR", "THC_MT", "READERS_MM"} & set(found)


def test_wrong_requests_are_named() -> None:
    with pytest.raises(InputError, match=r"unknown \['symptoms'\]"):
        clinical_features(Tables(), SCANS, roles=["symptoms"])
    with pytest.raises(InputError, match=r"No variable has one of the roles \['treatment'\]"):
        clinical_features(Tables(), SCANS, roles=["treatment"])


def test_a_key_that_stands_twice_and_text_are_refused() -> None:
    tables = Tables()
    tables.frames["visits"] = pd.concat([tables.frames["visits"]] * 2)
    with pytest.raises(InputError, match="must be unique"):
        clinical_features(tables, SCANS)
    tables = Tables()
    tables.frames["visits"]["AGE"] = ["sixty", "62"]
    with pytest.raises(InputError, match="'AGE' holds 'sixty'"):
        clinical_features(tables, SCANS)
