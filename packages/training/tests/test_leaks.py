"""Outcomes under another name."""

from pathlib import Path
from runpy import run_path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import ClinicalEncoderConfig
from spinmark_training.config import TeacherConfig
from spinmark_training.errors import InputError
from spinmark_training.leaks import is_copy
from spinmark_training.side_information import SideInformation
from spinmark_training.sources import ScanSource
from spinmark_training.teacher import fit_teacher

from .changed_cohort import Changed

SEQUENCE = "SAG_3D_DESS"
SMALL = TeacherConfig(encoder=ClinicalEncoderConfig(hidden=8, latent=3, token=2), steps=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Split]:
    write = run_path(str(Path(__file__).with_name("tiny_cohort.py")))["write_tiny"]
    cohort, split = write(tmp_path_factory.mktemp("cohort") / "cohort")
    return cohort, split


def outcomes(cohort: Cohort) -> pd.DataFrame:
    """One knee of each person is replaced within ten years after enrolment."""
    rng = np.random.default_rng(2)
    joints = cohort.table("joints")[["joint_id", "subject_id", "laterality"]].drop_duplicates()
    event = np.arange(len(joints)) % 2 == 0
    end = rng.uniform(100, 3600, len(joints))
    return joints.assign(
        endpoint="knee_replacement",
        entry=0.0,
        lower=np.where(event, end - 30, end),
        upper=np.where(event, end, np.inf),
        cause=np.where(event, "event", "censored"),
        weight=1.0,
    )


COPIES = {
    "indicator": lambda j: (j["cause"] == "event").astype(float),
    "spared": lambda j: 10.0 - 3 * (j["cause"] == "event"),
    "day": lambda j: j["upper"].where(j["cause"] == "event", j["lower"]),
    "years": lambda j: (j["upper"].where(j["cause"] == "event", j["lower"]) / 365.25) ** 2,
    "remaining": lambda j: j["lower"] - j["days"],
    "first_visit_only": lambda j: (j["cause"] == "event").astype(float).where(j["visit"] == "V00"),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_of_an_outcome_with_an_innocent_name_and_role_is_refused(
    tiny: tuple[Cohort, Split], name: str
) -> None:
    cohort, split = tiny
    joints = cohort.table("joints")
    found = joints.merge(outcomes(cohort), on=["joint_id", "subject_id", "laterality"])
    row = cohort.dictionary.iloc[[-1]].assign(variable="COMFORT", role="symptom", kind="continuous")
    other = Changed(
        cohort,
        joints=joints.assign(COMFORT=COPIES[name](found).to_numpy()),
        outcomes=outcomes(cohort),
        dictionary=pd.concat([cohort.dictionary, row], ignore_index=True),
    )
    with pytest.raises(
        InputError, match="'COMFORT' has the values of the endpoint 'knee_repl"
    ) as e:
        fit_teacher(other, split, SEQUENCE, SMALL, 0)
    assert "\n" not in str(e.value)
    known = SideInformation(other, ScanSource(other, SEQUENCE, split))
    for label in ("COMFORT", "symptom"):
        with pytest.raises(
            InputError, match=r"objective\.labels: the variable 'COMFORT' has the val"
        ):
            known.variables((label,))


@pytest.mark.parametrize("known_of", ["event", "censored"])
def test_a_column_known_just_where_an_event_was_observed_is_refused(
    tiny: tuple[Cohort, Split], known_of: str
) -> None:
    cohort, split = tiny
    joints = cohort.table("joints")
    found = joints.merge(outcomes(cohort), on=["joint_id", "subject_id", "laterality"])
    values = pd.Series(np.random.default_rng(0).normal(size=len(joints)))
    told = values.where(found["cause"] == known_of).to_numpy(copy=True)
    row = cohort.dictionary.iloc[[-1]].assign(variable="COMFORT", role="symptom", kind="continuous")
    words = pd.concat([cohort.dictionary, row], ignore_index=True)

    def fit() -> None:
        tables = {"joints": joints.assign(COMFORT=told), "dictionary": words}
        fit_teacher(Changed(cohort, outcomes=outcomes(cohort), **tables), split, SEQUENCE, SMALL, 0)

    with pytest.raises(InputError, match="'COMFORT' is known or missing just as the endpoint 'kn"):
        fit()
    # Missing of others too, it tells less; that is no copy.
    told[::5] = np.nan
    fit()


def test_a_copy_of_an_outcome_variable_in_another_table_is_refused(
    tiny: tuple[Cohort, Split],
) -> None:
    cohort, split = tiny
    subjects, joints = cohort.table("subjects"), cohort.table("joints")
    values = np.random.default_rng(0).normal(size=len(subjects))
    by_subject = dict(zip(subjects["subject_id"], values, strict=True))
    last = cohort.dictionary.iloc[[-1]].assign(kind="continuous")
    other = Changed(
        cohort,
        joints=joints.assign(REPLACED=joints["subject_id"].map(by_subject)),
        subjects=subjects.assign(MOOD=np.exp(values)),
        dictionary=pd.concat(
            [
                cohort.dictionary,
                last.assign(variable="REPLACED", role="outcome", table="joints"),
                last.assign(variable="MOOD", role="demographic", table="subjects"),
            ],
            ignore_index=True,
        ),
    )
    with pytest.raises(InputError, match="'MOOD' has the values of the outcome 'REPLACED'"):
        fit_teacher(other, split, SEQUENCE, SMALL, 0)


def test_honest_inputs_and_clocks_pass(tiny: tuple[Cohort, Split]) -> None:
    cohort, split = tiny
    followed = outcomes(cohort).assign(lower=3650.0, upper=np.inf, cause="censored")
    visits = cohort.table("visits")
    age = visits["subject_id"].map({f"9{i:03d}": 50.0 + i for i in range(16)})
    other = Changed(
        cohort, outcomes=followed, visits=visits.assign(AGE=age + visits["days"] / 365.25)
    )
    for kept in ("row", "delta"):
        settings_ = TeacherConfig(encoder=SMALL.encoder, steps=1, visits=kept)  # type: ignore[arg-type]
        fit_teacher(other, split, SEQUENCE, settings_, 0)
    fit_teacher(Changed(cohort, outcomes=outcomes(cohort)), split, SEQUENCE, SMALL, 0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 9999),
    n=st.integers(30, 80),
    levels=st.sampled_from([2, 5, 1000]),
    noise=st.sampled_from([0.0, 0.01, 0.3]),
)
def test_a_copy_is_what_spearman_calls_one(seed: int, n: int, levels: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    outcome = np.round(rng.uniform(0, 1, n) * (levels - 1))
    column = -np.exp(outcome / levels) + noise * rng.normal(size=n)
    if np.ptp(outcome) == 0:
        return
    rho = abs(spearmanr(column, outcome).statistic)
    found = is_copy(column, outcome, np.arange(n))
    assert (
        found == (rho >= 0.999)
        or abs(rho - 0.999) < 1e-9
        or np.bincount(outcome.astype(int)).max() > n - 8
    )


def test_a_coincidence_among_few_is_no_copy() -> None:
    outcome = np.array([0.0, 0, 0, 0, 1, 1, 1])
    assert not is_copy(outcome.copy(), outcome, np.arange(7))
    many = np.tile(outcome, 10)
    assert is_copy(many.copy(), many, np.arange(70))
    # Ten visits of seven people are seven people.
    assert not is_copy(many.copy(), many, np.tile(np.arange(7), 10))
