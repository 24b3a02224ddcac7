"""Constant hazards that are known: what definitions and endpoints leave of them, estimated again."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from spinmark_data.definition.apply import define
from spinmark_data.definition.config import Criterion, DefinitionConfig
from spinmark_data.definition.frames import FrameCohort
from spinmark_data.endpoints.build import build_endpoints
from spinmark_data.endpoints.registry import endpoint
from spinmark_data.ingest.tableset import COLUMNS

Floats = NDArray[np.float64]
VISITS = np.array(["V00", "V01", "V03", "V05", "V06"])
DAYS = np.array([0.0, 365.0, 730.0, 1095.0, 1460.0])
END, N = 3285.0, 3000
OA = {"oa": endpoint("radiographic_incidence")}
REPLACED = {"replacement": endpoint("replacement")}


def readings(onset: Floats, last: Floats, days: Floats, unread: Any = False) -> pd.DataFrame:
    """A row a visit up to each joint's last day: grade 2 from the onset on, 0 before."""
    n = len(onset)
    grades = np.where(unread, np.nan, np.where(days >= onset[:, None], 2.0, 0.0))
    seen = (days <= last[:, None]).ravel()
    subjects = np.repeat([f"{1000001 + at}" for at in range(n)], len(VISITS))
    rows = pd.DataFrame({
        "subject_id": subjects, "laterality": "R", "visit": np.tile(VISITS, n),
        "joint_id": [f"{subject}:R" for subject in subjects], "days": days.ravel(),
        "XRKL": grades.ravel(), "INJ": 0.0,
    })  # fmt: skip
    return rows[seen].reset_index(drop=True)


def terminal(days: Floats, cause: str) -> pd.DataFrame:
    """Replacements or deaths of exact days, censored at the end of the study."""
    done = days < END
    subjects = np.array([f"{1000001 + at}" for at in range(len(days))])
    frame = pd.DataFrame({
        "joint_id": [f"{subject}:R" for subject in subjects], "endpoint": "replacement",
        "subject_id": subjects, "laterality": "R", "entry": 0.0, "lower": np.minimum(days, END),
        "upper": np.where(done, days, np.inf), "cause": np.where(done, cause, "censored"),
        "weight": 1.0,
    })  # fmt: skip
    return frame[list(COLUMNS["outcomes"])]


def exact_rate(rows: pd.DataFrame) -> float:
    """Events by person-time, of exact days."""
    return float((rows["cause"] == "event").sum() / (rows["lower"] - rows["entry"]).sum())


def interval_rate(rows: pd.DataFrame) -> float:
    """The hazard of greatest likelihood, of intervals and late entries."""
    entry, lower = rows["entry"].to_numpy(), rows["lower"].to_numpy()
    event = (rows["cause"] == "event").to_numpy()
    upper = np.where(event, rows["upper"], 0.0)

    def loss(log_hazard: float) -> float:
        h = np.exp(log_hazard)
        inside = np.exp(-h * (lower - entry)) - np.exp(-h * (upper - entry))
        return -float(
            np.where(event, np.log(np.maximum(inside, 1e-300)), h * (entry - lower)).sum()
        )

    return float(np.exp(minimize_scalar(loss, bounds=(-14, -4), method="bounded").x))


def death_risk(rows: pd.DataFrame, horizons: tuple[float, ...]) -> list[float]:
    """Aalen-Johansen, with events in the middle of their intervals."""
    event = (rows["cause"] == "event").to_numpy()
    dead = (rows["cause"] == "death").to_numpy()
    middle = (rows["lower"] + rows["upper"]) / 2
    ends = np.where(event, middle, np.where(dead, rows["upper"], rows["lower"]))
    times = np.unique(ends[event | dead])
    ordered = np.sort(ends)
    at_risk = len(ends) - np.searchsorted(ordered, times, side="left")
    deaths, events = (
        np.array([np.sum(ends[which] == day) for day in times]) for which in (dead, event)
    )
    free = np.cumprod(1 - (deaths + events) / at_risk)
    risk = np.cumsum(np.r_[1.0, free[:-1]] * deaths / at_risk)
    return [float(np.r_[0.0, risk][np.searchsorted(times, h, side="right")]) for h in horizons]


def scanned(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"DESS": rows[["subject_id", "laterality", "visit", "days"]]}


@pytest.mark.parametrize(
    "config",
    [
        DefinitionConfig(visits=["V06"]),
        DefinitionConfig(criteria=[Criterion(name="late", unit="scan", include="visit == 'V06'")]),
        DefinitionConfig(criteria=[Criterion(name="late", visit="V06", include="scanned('DESS')")]),
        DefinitionConfig(
            criteria=[Criterion(name="kept", exclude="XRKL @ V06 > 3", if_missing="include")]
        ),
    ],
)
def test_who_was_chosen_late_is_at_risk_late(config: DefinitionConfig) -> None:
    # Some 750 events: a standard error of 3.6 %. Counted from enrolment, the rate was half the true one.
    rng, hazard = np.random.default_rng(3), 1 / 4000
    replaced = rng.exponential(1 / hazard, N)
    rows = readings(np.full(N, np.inf), replaced, np.tile(DAYS, (N, 1)))
    tables = {"joints": rows, "outcomes": terminal(replaced, "event")}
    cohort = FrameCohort(tables, scanned(rows))
    joints = define(cohort, config).joints
    assert (joints["known_at"] == 1460.0).all()
    found = build_endpoints(cohort, REPLACED, joints=joints).outcomes
    assert (found["cause"] == "event").sum() > 600
    assert exact_rate(found) == pytest.approx(hazard, rel=0.08)


# A standard error of 5 %. Some bias stays where people leave unseen (docs/concepts/endpoints.md).
LEFT = pytest.mark.parametrize(("stays", "tolerance"), [(1e9, 0.12), (6000.0, 0.22)])


@LEFT
def test_deaths_do_not_count_where_nobody_else_is_watched(stays: float, tolerance: float) -> None:
    rng, onset_hazard, hazard = np.random.default_rng(2), 1 / 4000, 1 / 8000
    died, left = rng.exponential(1 / hazard, N), rng.exponential(stays, N)
    days = np.tile(DAYS, (N, 1))
    rows = readings(rng.exponential(1 / onset_hazard, N), np.minimum(died, left), days)
    cohort = FrameCohort({"joints": rows, "outcomes": terminal(died, "death")})
    found = build_endpoints(cohort, OA).outcomes
    both = hazard + onset_hazard
    early, late, last = death_risk(found, (1400.0, 1600.0, 2100.0))
    true = [hazard / both * (1 - np.exp(-both * day)) for day in (1400.0, 1460.0)]
    assert early == pytest.approx(true[0], rel=tolerance)
    # The estimate ends with the last visit: it went up to 1.8 and 3.6 times the true risk.
    assert late == last == pytest.approx(true[1], rel=tolerance)
    assert (found.loc[found["cause"] == "death", "upper"] <= 1460.0).all()


@LEFT
def test_replacements_do_not_count_where_nobody_else_is_watched(
    stays: float, tolerance: float
) -> None:
    rng, onset_hazard, hazard = np.random.default_rng(5), 1 / 20000, 1 / 8000
    replaced, left = rng.exponential(1 / hazard, N), rng.exponential(stays, N)
    days = np.tile(DAYS, (N, 1))
    rows = readings(rng.exponential(1 / onset_hazard, N), np.minimum(replaced, left), days)
    cohort = FrameCohort({"joints": rows, "outcomes": terminal(replaced, "event")})
    chosen = {"oa": endpoint("radiographic_incidence", {"replacement": "event"})}
    found = build_endpoints(cohort, chosen).outcomes
    # It was 1.9 times the true rate.
    assert interval_rate(found) == pytest.approx(hazard + onset_hazard, rel=tolerance)


def test_who_enters_between_readings_enters_at_the_next_one() -> None:
    # Some 1000 events: 3 %. Counted from known_at, those with a film at V03 only were immortal till then.
    rng, hazard = np.random.default_rng(1), 1 / 2000
    unread = np.zeros((N, len(DAYS)), dtype=bool)
    unread[:, 1] = rng.random(N) < 0.5
    rows = readings(
        rng.exponential(1 / hazard, N), np.full(N, np.inf), np.tile(DAYS, (N, 1)), unread
    )
    cohort = FrameCohort({"joints": rows})
    rule = Criterion(name="injured", include="INJ @ V01 == 0")
    joints = define(cohort, DefinitionConfig(scans_required=False, criteria=[rule])).joints
    assert (joints["known_at"] == 365.0).all()
    found = build_endpoints(cohort, OA, joints=joints).outcomes
    assert set(found["entry"]) == {365.0, 730.0}
    assert interval_rate(found) == pytest.approx(hazard, rel=0.06)


@pytest.mark.parametrize("cut", [600.0, 730.0])
def test_outcomes_known_by_a_day_do_not_use_what_comes_after(cut: float) -> None:
    # Some 500 to 700 events: 4 to 5 %. Rows cut afterwards gave .74 and .63 of the rate.
    rng, hazard = np.random.default_rng(4), 1 / 2000
    days = np.tile(DAYS, (N, 1)) + np.where(DAYS > 0, rng.normal(0, 30, (N, len(DAYS))), 0.0)
    rows = readings(rng.exponential(1 / hazard, N), np.full(N, np.inf), days)
    found = build_endpoints(FrameCohort({"joints": rows}), OA, until_day=cut).outcomes
    assert interval_rate(found) == pytest.approx(hazard, rel=0.1)
    early = FrameCohort({"joints": rows[rows["days"] <= cut]})
    pd.testing.assert_frame_equal(found, build_endpoints(early, OA).outcomes)


def test_copied_outcomes_are_cut_at_the_day() -> None:
    hazard = 1 / 2000
    replaced = np.random.default_rng(6).exponential(1 / hazard, N)
    cohort = FrameCohort({"outcomes": terminal(replaced, "event")})
    found = build_endpoints(cohort, REPLACED, until_day=900.0).outcomes
    assert found["lower"].max() == 900.0
    # Some 1090 events: 3 %.
    assert exact_rate(found) == pytest.approx(hazard, rel=0.07)
