"""Endpoints: trajectories written by hand, true times that intervals have to hold, and invariants."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.definition.frames import FrameCohort
from spinmark_data.endpoints.build import Endpoints, build_endpoints
from spinmark_data.endpoints.intervals import end, locate, resolve
from spinmark_data.endpoints.registry import DEFINITIONS, endpoint
from spinmark_data.errors import InputError
from spinmark_data.ingest.tableset import COLUMNS

NAN, INF = float("nan"), float("inf")
VISITS = ("V00", "V01", "V03", "V05", "V06", "V07")
DAYS = (0.0, 365.0, 730.0, 1095.0, 1460.0, 1825.0)
JOINT = "1000001:R"


def joint_rows(readings: Mapping[str, Mapping[str, list[float]]]) -> pd.DataFrame:
    """A `joints` table from {joint_id: {variable: readings at VISITS, in order}}."""
    rows = [
        {"subject_id": joint[:-2], "laterality": joint[-1], "visit": VISITS[at], "joint_id": joint,
         "days": DAYS[at], **{name: float(values[at]) for name, values in columns.items()}}
        for joint, columns in readings.items()
        for at in range(len(next(iter(columns.values()))))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def outcome_rows(*rows: tuple[str, float, float, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [(joint, "replacement", joint[:-2], joint[-1], 0.0, *rest, 1.0) for joint, *rest in rows],
        columns=list(COLUMNS["outcomes"]),
    )


def build(
    readings: Mapping[str, Mapping[str, list[float]]],
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    outcomes: pd.DataFrame | None = None,
    **more: Any,
) -> Endpoints:
    tables = {"joints": joint_rows(readings), **more.pop("tables", {})}
    if outcomes is not None:
        tables["outcomes"] = outcomes
    return build_endpoints(FrameCohort(tables), {name: endpoint(name, options)}, **more)


def row(found: Endpoints, joint: str = JOINT) -> tuple[Any, ...] | str:
    """Entry, lower, upper and cause of a joint, or why it has no row."""
    rows = found.outcomes[found.outcomes["joint_id"] == joint]
    if len(rows):
        first = rows.iloc[0]
        return (first["entry"], first["lower"], first["upper"], first["cause"])
    judged = found.eligibility.set_index("joint_id").loc[joint]
    assert not judged["eligible"]
    return str(judged["reason"])


KL = "XRKL"


@pytest.mark.parametrize(
    ("name", "options", "readings", "expected"),
    [
        # Incidence: 0 or 1 becomes 2 or more; a missing reading widens.
        ("radiographic_incidence", {}, {KL: [0, 1, 2, 2]}, (0, 365, 730, "event")),
        ("radiographic_incidence", {}, {KL: [1, NAN, NAN, 3]}, (0, 0, 1095, "event")),
        ("radiographic_incidence", {}, {KL: [1, 1, NAN, NAN]}, (0, 365, INF, "censored")),
        ("radiographic_incidence", {}, {KL: [2, 2, 2, 2]}, "XRKL above 1 at V00"),
        ("radiographic_incidence", {}, {KL: [NAN, 0, 2]}, "no XRKL at V00"),
        ("radiographic_incidence", {}, {KL: [0, NAN, NAN]}, "no follow-up after entry"),
        ("radiographic_incidence", {"visits": ["V03"]}, {KL: [0, 2, 2]}, (0, 0, 730, "event")),
        ("radiographic_incidence", {"baseline": "V01"}, {KL: [2, 0, 0, 2]}, (365, 730, 1095, "event")),
        # A reading that is not confirmed is a no; one that nothing follows is unknown.
        ("radiographic_incidence", {"confirm": "next"}, {KL: [0, 2, 1, 2, 2]}, (0, 730, 1095, "event")),
        ("radiographic_incidence", {"confirm": "later"}, {KL: [0, 2, 1, 2, 2]}, (0, 0, 365, "event")),
        ("radiographic_incidence", {"confirm": "next"}, {KL: [0, 0, 2, NAN]}, (0, 365, INF, "censored")),
        ("radiographic_incidence", {"confirm": "next"}, {KL: [0, 0, 2, NAN, 2]}, (0, 365, 730, "event")),
        # Progression by grade: 1 after 0 is doubtful.
        ("kl_progression", {}, {KL: [0, 1, 1, 2]}, (0, 730, 1095, "event")),
        ("kl_progression", {"count_doubtful": True}, {KL: [0, 1, 1, 2]}, (0, 0, 365, "event")),
        ("kl_progression", {}, {KL: [1, 1, 2]}, (0, 365, 730, "event")),
        ("kl_progression", {}, {KL: [3, 3, 4]}, (0, 365, 730, "event")),
        ("kl_progression", {}, {KL: [4, 4, 4]}, "XRKL outside 0 to 3 at V00"),
        ("kl_progression", {"min_baseline": 2.0}, {KL: [1, 2]}, "XRKL outside 2 to 3 at V00"),
        # Narrowing: decimals are worsening within a grade.
        ("jsn_progression", {}, {"XRJSM": [1, 1, 1.2, 1.4]}, (0, 365, 730, "event")),
        ("jsn_progression", {"within_grade": False}, {"XRJSM": [1, 1.2, 1.8, 2]}, (0, 730, 1095, "event")),
        ("jsn_progression", {}, {"XRJSM": [3, 3]}, "XRJSM at the top grade at V00"),
        ("jsn_progression", {"compartment": "lateral"}, {"XRJSL": [0, 0, 1]}, (0, 365, 730, "event")),
        ("jsn_progression", {"compartment": "either"},
         {"XRJSM": [3, 3, 3, 3], "XRJSL": [0, 0, NAN, 1]}, (0, 365, 1095, "event")),
        ("jsn_progression", {"compartment": "either"},
         {"XRJSM": [1, 1, NAN, 1], "XRJSL": [0, NAN, 1, 1]}, (0, 0, 730, "event")),
        # Width: 0.7 mm exactly is a loss, whatever the floating point says.
        ("jsw_loss", {}, {"MCMJSW": [4.4, 4.1, 3.7, 3.7]}, (0, 365, 730, "event")),
        ("jsw_loss", {"loss_mm": 1.0}, {"MCMJSW": [4.4, 4.1, 3.7, 3.6]}, (0, 1095, INF, "censored")),
        ("jsw_loss", {}, {"MCMJSW": [0.5, 0.0]}, "less than 0.7 mm left to lose at V00"),
        # Symptoms: 9 of 100 is 1.8 of 20, so that 2 points count and 1 does not.
        ("womac_pain_worsening", {}, {"WOMKP": [3, 4, 5]}, (0, 365, 730, "event")),
        ("womac_pain_worsening", {}, {"WOMKP": [19, 20]}, "less than 9 of 100 left to worsen at V00"),
        ("koos_pain_worsening", {}, {"KOOSKP": [80, 75, 70]}, (0, 365, 730, "event")),
        ("koos_pain_worsening", {}, {"KOOSKP": [5, 0]}, "less than 10 of 100 left to worsen at V00"),
    ],
)  # fmt: skip
def test_a_trajectory_gives_this_row(
    name: str, options: dict[str, Any], readings: dict[str, list[float]], expected: object
) -> None:
    # Another knee sees to it that every visit has a reading of somebody.
    other = {name: [1.0] * len(values) for name, values in readings.items()}
    assert row(build({JOINT: readings, "1000009:L": other}, name, options)) == expected


def fnih(width: list[float], pain: list[float], grade: float = 2, **options: Any) -> Any:
    readings = {KL: [grade] + [NAN] * 5, "MCMJSW": width, "WOMKP": pain}
    return row(build({JOINT: readings}, "fnih_progression", options))


def test_the_fnih_composite_needs_both_parts() -> None:
    stable, painless = [4.0] * 6, [2.0] * 6
    loss, pain = [4.0, 4.0, 4.0, 3.2, 3.2, NAN], [2.0, 2.0, 5.0, 6.0, 6.0, 6.0]
    # Width is lost in (730, 1095], pain up in (365, 730]: both are met in (730, 1095]. Looked at at V01,
    # a knee enters there.
    assert fnih(loss, pain) == (365, 730, 1095, "event")
    assert fnih(loss, painless) == (365, 1825, INF, "censored")
    assert fnih(stable, pain) == (365, 1460, INF, "censored")
    # Up once, not sustained.
    assert fnih(loss, [2.0, 2.0, 5.0, 2.0, 2.0, 2.0]) == (365, 1825, INF, "censored")
    assert fnih([4.0, 3.2, *loss[2:]], pain) == "progressed by V01"
    assert fnih(loss, [2.0, 6.0, *pain[2:]]) == "progressed by V01"
    assert fnih(loss, pain, early_visit="") == (0, 730, 1095, "event")
    # Not seen at V01, the knee was not chosen by it.
    assert fnih([4.0, NAN, *loss[2:]], [2.0, NAN, *pain[2:]]) == (0, 730, 1095, "event")
    assert fnih(loss, pain, grade=0) == "XRKL not 1 to 3 at V00"
    assert fnih([0.9, *loss[1:]], pain) == "MCMJSW not 1 mm or more at V00"
    assert fnih(loss, [19.0, *pain[1:]]) == "WOMKP unknown or too high to worsen at V00"


READ = {"XRKL": [0.0, 1.0, NAN, NAN, 2.0]}


@pytest.mark.parametrize(
    ("options", "outcome", "expected"),
    [
        # Replaced on day 900: what was read on day 1460 is of a prosthesis.
        ({}, ("event", 900.0, 900.0), (0, 365, INF, "censored")),
        ({"replacement": "event"}, ("event", 900.0, 900.0), (0, 365, 900, "event")),
        ({"replacement": "competing"}, ("event", 900.0, 900.0), (0, 900, 900, "replacement")),
        ({"replacement": "competing"}, ("event", 400.0, 1000.0), (0, 400, 1000, "replacement")),
        ({"replacement": "competing"}, ("event", 1300.0, 1300.0), (0, 365, INF, "censored")),
        ({}, ("event", 1600.0, 1600.0), (0, 365, 1460, "event")),
        ({}, ("event", 300.0, 1400.0), "no follow-up after entry"),
        # A death soon after the last reading competes; one long after says nothing of the knee.
        ({}, ("death", 1000.0, 1000.0), (0, 1000, 1000, "death")),
        ({}, ("death", 1200.0, 1200.0), (0, 365, INF, "censored")),
        ({"max_gap_days": 900.0}, ("death", 1200.0, 1200.0), (0, 1200, 1200, "death")),
        ({}, ("death", 2000.0, 2000.0), (0, 365, 1460, "event")),
        ({}, ("censored", 3000.0, INF), (0, 365, 1460, "event")),
    ],
)
def test_replacement_and_death_end_follow_up(
    options: dict[str, Any], outcome: tuple[str, float, float], expected: object
) -> None:
    cause, lower, upper = outcome
    found = build({JOINT: READ}, "radiographic_incidence", options,
                  outcomes=outcome_rows((JOINT, lower, upper, cause)))  # fmt: skip
    assert row(found) == expected


def test_a_death_stands_on_both_joints_and_a_replacement_on_its_own() -> None:
    # Somebody else is seen once more: the visits go on.
    readings = {"1000001:R": {"XRKL": [0, 0, 0, 0]}, "1000001:L": {"XRKL": [0, 0, 0, 0]},
                "1000002:R": {"XRKL": [0, 0, 0, 0, 0]}, "1000002:L": {"XRKL": [0, 0, 0, 0, 0]}}  # fmt: skip
    # The right knee has no row: the death is known of the left.
    found = build(readings, "radiographic_incidence",
                  outcomes=outcome_rows(("1000001:L", 1200.0, 1200.0, "death")))  # fmt: skip
    assert row(found, "1000001:R") == row(found, "1000001:L") == (0, 1200, 1200, "death")
    found = build(readings, "radiographic_incidence", {"replacement": "competing"},
                  outcomes=outcome_rows(("1000001:L", 500.0, 500.0, "event")))  # fmt: skip
    assert row(found, "1000001:L") == (0, 500, 500, "replacement")
    assert row(found, "1000001:R") == (0, 1095, INF, "censored")


def test_a_prosthesis_on_a_radiograph_ends_follow_up() -> None:
    missing = pd.DataFrame(
        [("1000001", "R", "V05", "XRKL", ".P"), ("1000002", "R", "V00", "XRKL", ".P")],
        columns=list(COLUMNS["missing"]),
    )
    readings = {JOINT: {"XRKL": [0, 0, 0, NAN, NAN], "WOMKP": [2, 2, 2, 9, 9]},
                "1000002:R": {"XRKL": [NAN, NAN], "WOMKP": [2, 9]}}  # fmt: skip
    found = build(readings, "womac_pain_worsening", tables={"missing": missing})
    assert row(found) == (0, 730, INF, "censored")
    assert row(found, "1000002:R") == "not seen at V00 with its own joint"
    found = build(
        readings, "womac_pain_worsening", {"replacement": "event"}, tables={"missing": missing}
    )
    assert row(found) == (0, 730, 1095, "event")


def test_a_prosthesis_is_dated_from_the_film_before_and_by_what_is_recorded() -> None:
    missing = pd.DataFrame(
        [("1000001", "R", "V05", "XRKL", ".P")], columns=list(COLUMNS["missing"])
    )
    # No film at V03: what was felt there may be of a prosthesis.
    readings = {JOINT: {"XRKL": [0, 0, NAN, NAN], "WOMKP": [2, 2, 9, 9]},
                "1000002:R": {"XRKL": [0, 0, 0, 0], "WOMKP": [2, 2, 2, 2]}}  # fmt: skip
    options = {"replacement": "event"}
    found = build(readings, "womac_pain_worsening", options, tables={"missing": missing})
    assert row(found) == (0, 365, 1095, "event")
    assert set(found.outcomes["ended_by"]) == {"replacement", "last reading"}
    # The record says between 200 and 800, the films between 365 and 1095.
    recorded = outcome_rows((JOINT, 200.0, 800.0, "event"))
    found = build(readings, "womac_pain_worsening", options, outcomes=recorded,
                  tables={"missing": missing})  # fmt: skip
    assert row(found) == (0, 365, 800, "event")


def test_replacement_is_taken_over_and_its_gaps_told() -> None:
    outcomes = outcome_rows((JOINT, 800.0, 800.0, "event"), ("1000001:L", 2000.0, INF, "censored"))
    readings = {name: {"XRKL": [0, 0]} for name in (JOINT, "1000001:L", "1000002:R")}
    found = build(readings, "replacement", outcomes=outcomes)
    columns = list(COLUMNS["outcomes"])
    expected = outcomes.sort_values("joint_id").reset_index(drop=True)
    pd.testing.assert_frame_equal(found.outcomes[columns], expected)
    assert "never seen again" in row(found, "1000002:R")
    assert found.flow[["step", "n", "excluded"]].to_numpy().tolist() == [
        ["considered", 3, 0], ["not eligible", 2, 1], ["of these: censored", 1, 0],
        ["of these: event", 1, 0],
    ]  # fmt: skip
    with pytest.raises(InputError, match="nearest is 'replacement'"):
        build(readings, "replacement", {"source": "replacment"}, outcomes=outcomes)


@pytest.mark.parametrize(
    ("known_at", "expected"),
    [
        (0.0, (0, 365, 1460, "event")),
        (365.0, (365, 365, 1460, "event")),
        (400.0, "never read as free of it once the definition was known"),
        (1460.0, "met before the definition was known"),
        (NAN, "the day on which the definition was known is unknown"),
    ],
)
def test_no_time_counts_before_the_definition_was_known(known_at: float, expected: object) -> None:
    joints = pd.DataFrame({"joint_id": [JOINT], "known_at": [known_at]})
    assert row(build({JOINT: READ}, "radiographic_incidence", joints=joints)) == expected


def test_who_is_censored_before_the_definition_was_known_has_no_row() -> None:
    joints = pd.DataFrame({"joint_id": [JOINT], "known_at": [500.0]})
    found = build({JOINT: {"XRKL": [0, 0]}}, "radiographic_incidence", joints=joints)
    assert row(found) == "never read as free of it once the definition was known"


@pytest.mark.parametrize(
    ("known_at", "expected"),
    [
        (300.0, (365, 730, 1460, "event")),
        (500.0, (730, 730, 1460, "event")),
        (800.0, "never read as free of it once the definition was known"),
    ],
)
def test_a_joint_enters_at_the_first_reading_from_then_on(
    known_at: float, expected: object
) -> None:
    joints = pd.DataFrame({"joint_id": [JOINT], "known_at": [known_at]})
    readings = {"XRKL": [0, 1, 0, NAN, 2]}
    assert row(build({JOINT: readings}, "radiographic_incidence", joints=joints)) == expected


@pytest.mark.parametrize(
    ("known_at", "expected"),
    [
        (0.0, (0, 800, 800, "event")),
        (500.0, (500, 800, 800, "event")),
        (800.0, "met, or follow-up ended, before the definition was known"),
        (NAN, "the day on which the definition was known is unknown"),
    ],
)
def test_a_copied_row_of_an_exact_day_begins_on_the_day(known_at: float, expected: object) -> None:
    joints = pd.DataFrame({"joint_id": [JOINT], "known_at": [known_at]})
    outcomes = outcome_rows((JOINT, 800.0, 800.0, "event"))
    found = build({JOINT: READ}, "replacement", outcomes=outcomes, joints=joints)
    assert row(found) == expected


def test_a_late_reading_of_one_joint_prolongs_nobody_elses_follow_up() -> None:
    seen = {f"100000{at}:R": {"XRKL": [0, 0, 0]} for at in range(1, 6)}
    late = {"1000006:R": {"XRKL": [0, 0, 0, 0, 0]}}
    outcomes = outcome_rows((JOINT, 700.0, 700.0, "death"), ("1000002:R", 900.0, 900.0, "death"))
    found = build({**seen, **late}, "radiographic_incidence", outcomes=outcomes)
    assert row(found) == (0, 700, 700, "death")
    assert row(found, "1000002:R") == (0, 730, INF, "censored")
    assert row(found, "1000006:R") == (0, 1460, INF, "censored")


def test_who_dies_after_the_only_visit_has_no_follow_up() -> None:
    outcomes = outcome_rows((JOINT, 100.0, 100.0, "death"))
    found = build({JOINT: {"XRKL": [0]}}, "radiographic_incidence", outcomes=outcomes)
    assert row(found) == "no follow-up after entry"


def test_weights_are_those_of_the_sample() -> None:
    subjects = pd.DataFrame({"subject_id": ["1000001"], "WT": [3.5]})
    options = {"weight": "WT"}
    found = build({JOINT: READ}, "radiographic_incidence", options, tables={"subjects": subjects})
    assert list(found.outcomes["weight"]) == [3.5]
    with pytest.raises(InputError, match="WT of 1 joints is no number above 0"):
        build({JOINT: READ}, "radiographic_incidence", options,
              tables={"subjects": subjects.assign(WT=0.0)})  # fmt: skip


def test_only_joints_with_a_row_need_a_weight() -> None:
    subjects = pd.DataFrame({"subject_id": ["1000001", "1000002"], "WT": [3.5, NAN]})
    readings = {JOINT: READ, "1000002:R": {"XRKL": [3, 3]}}
    found = build(
        readings, "radiographic_incidence", {"weight": "WT"}, tables={"subjects": subjects}
    )
    assert found.outcomes[["joint_id", "weight"]].to_numpy().tolist() == [[JOINT, 3.5]]


@pytest.mark.parametrize("day", [0.0, -1.0, NAN])
def test_a_cut_has_to_be_after_enrolment(day: float) -> None:
    with pytest.raises(InputError, match="a number above 0 is needed"):
        build({JOINT: READ}, "radiographic_incidence", until_day=day)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("kl_progresion", {}, "no definition 'kl_progresion'; the nearest is 'kl_progression'"),
        ("mine", {"definition": "jsw_los"}, "nearest is 'jsw_loss'"),
        (
            "jsw_loss",
            {"los_mm": 1},
            "unknown option 'los_mm' of jsw_loss; the nearest is 'loss_mm'",
        ),
        ("jsw_loss", {"loss_mm": "much"}, "endpoints.jsw_loss.loss_mm='much': a number is needed"),
        ("jsw_loss", {"loss_mm": -1}, "endpoints.jsw_loss: loss_mm=-1: a number above 0"),
        ("jsw_loss", {"visits": "V00"}, "a list of texts is needed"),
        ("jsw_loss", {"confirm": "twice"}, r"confirm='twice'; accepted are \['none'"),
        ("jsw_loss", {"replacement": True}, "a text is needed"),
        ("jsn_progression", {"within_grade": 1}, "true or false is needed"),
        ("jsn_progression", {"compartment": "inner"}, "compartment='inner'"),
        ("radiographic_incidence", {"threshold": 1}, "not above at_risk_max=1"),
        ("womac_pain_worsening", {"change": 0}, "change=0"),
    ],
)
def test_a_wrong_definition_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        endpoint(name, options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variable": "XRLK"}, "nearest known one is 'XRKL'"),
        ({"baseline": "V09"}, r"XRKL has no value there but at \['V00', 'V01', 'V06'\]"),
        ({"variable": "AGE"}, "AGE is a variable of visits"),
    ],
)
def test_what_a_cohort_lacks_is_named(options: dict[str, Any], message: str) -> None:
    names = ["subject_id", "visit", "days", "months", "AGE"]
    visits = pd.DataFrame([("1000001", "V00", 0.0, 0.0, 60.0)], columns=names)
    with pytest.raises(InputError, match=message):
        build({JOINT: READ}, "radiographic_incidence", options, tables={"visits": visits})


def test_joints_of_another_cohort_are_refused() -> None:
    with pytest.raises(InputError, match="1 of 1 are not in the cohort"):
        build({JOINT: READ}, "radiographic_incidence", joints=pd.DataFrame({"joint_id": ["x:R"]}))


def test_every_definition_cites_or_explains_itself() -> None:
    for name, config in DEFINITIONS.items():
        assert type(endpoint(name)) is config
        assert len((config.__doc__ or "").partition("Args:")[0]) > 40


STATES = st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=1, max_size=8)


def brute(states: list[float], days: list[float], confirm: str) -> tuple[float, float]:
    """The interval, by looking at each reading on its own."""
    known = [(day, state) for day, state in zip(days, states, strict=True) if state == state]
    lower, upper = 0.0, INF
    for at, (day, state) in enumerate(known):
        after = [later for _, later in known[at + 1 :]]
        if state == 1.0 and confirm != "none":
            if not after:
                continue
            state = after[0] if confirm == "next" else max(after)
        if state == 1.0:
            upper = day
            break
        lower = day
    return lower, upper


@settings(max_examples=200, deadline=None)
@given(STATES, st.sampled_from(["none", "next", "later"]))
def test_intervals_agree_with_a_search_reading_by_reading(
    states: list[float], confirm: str
) -> None:
    days = [100.0 * (at + 1) for at in range(len(states))]
    assert locate(0.0, np.array(days), np.array(states), confirm) == brute(states, days, confirm)
    resolved = resolve(np.array(states), confirm)
    assert np.isnan(resolved[np.isnan(states)]).all()


GRADES = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, NAN]), min_size=2, max_size=6)


@settings(max_examples=25, deadline=None)
@given(GRADES, st.integers(1, 5), st.sampled_from(["none", "next", "later"]),
       st.sampled_from(["radiographic_incidence", "kl_progression"]))  # fmt: skip
def test_a_visit_that_tells_nothing_changes_nothing(
    grades: list[float], at: int, confirm: str, name: str
) -> None:
    rows = joint_rows({JOINT: {"XRKL": grades}})
    # Between two visits, one at which nothing was read.
    more = rows.iloc[[0]].assign(visit="V02", days=DAYS[at] - 100.0, XRKL=NAN)
    chosen = {name: endpoint(name, {"confirm": confirm})}
    if not rows.loc[rows["visit"] == "V00", "XRKL"].notna().any():
        return
    plain = build_endpoints(FrameCohort({"joints": rows}), chosen)
    wider = build_endpoints(FrameCohort({"joints": pd.concat([rows, more])}), chosen)
    pd.testing.assert_frame_equal(plain.outcomes, wider.outcomes)
    pd.testing.assert_frame_equal(plain.eligibility, wider.eligibility)


def simulated(seed: int, n: int = 60) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, float]]:
    """Knees whose grade reaches 2 at a known time, seen at visits some of which are missed.

    Replacement and death come at times of their own.

    Returns:
        `joints`, `outcomes` and the true time by joint.
    """
    rng = np.random.default_rng(seed)
    rows, outcomes, truth = [], [], {}
    for at in range(n):
        subject = f"{1000001 + at}"
        died = rng.exponential(6000.0)
        for side in "RL":
            joint = f"{subject}:{side}"
            truth[joint] = onset = rng.exponential(1500.0)
            replaced = rng.exponential(4000.0)
            first = min(replaced, died, 4000.0)
            cause = "event" if first == replaced else "death" if first == died else "censored"
            outcomes.append((joint, first, INF if cause == "censored" else first, cause))
            for place, planned in enumerate(DAYS):
                day = planned + (rng.uniform(-60, 60) if place else 0.0)
                if day > died:
                    continue
                # A prosthesis is read as whatever; nothing of it may be believed.
                grade = float(rng.integers(0, 5)) if day > replaced else 2.0 * (day >= onset)
                if place and rng.random() < 0.3:
                    grade = NAN
                rows.append({"subject_id": subject, "laterality": side, "visit": VISITS[place],
                             "joint_id": joint, "days": day, "XRKL": grade})  # fmt: skip
    return pd.DataFrame(rows), outcome_rows(*outcomes), truth


@pytest.mark.parametrize("how", ["censored", "event", "competing"])
@pytest.mark.parametrize("seed", range(3))
def test_the_interval_holds_the_true_time(seed: int, how: str) -> None:
    joints, outcomes, truth = simulated(seed)
    cohort = FrameCohort({"joints": joints, "outcomes": outcomes})
    chosen = {
        "oa": endpoint("radiographic_incidence", {"replacement": how, "max_gap_days": 9999.0})
    }
    found = build_endpoints(cohort, chosen).outcomes
    known = outcomes.set_index("joint_id")
    seen = dict.fromkeys(("event", "censored", "death", "replacement"), 0)
    for item in found.itertuples():
        onset, ends = truth[item.joint_id], known.loc[item.joint_id, "lower"]
        replaced = known.loc[item.joint_id, "cause"] == "event"
        seen[item.cause] += 1
        if item.cause == "event":
            time = min(onset, ends) if how == "event" and replaced else onset
            assert item.lower < time <= item.upper
        elif item.cause == "censored":
            # Free of it on the last day on which the knee was seen.
            assert item.lower < onset
        else:
            assert item.lower == item.upper == ends
    assert seen["event"] > 30
    assert seen["censored"] > 3
    assert (seen["replacement"] > 0) == (how == "competing")


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_order_of_rows_means_nothing(seed: int, order: int) -> None:
    joints, outcomes, _ = simulated(seed, n=6)
    chosen = {name: endpoint(name) for name in ("radiographic_incidence", "kl_progression")}
    plain = build_endpoints(FrameCohort({"joints": joints, "outcomes": outcomes}), chosen)
    mixed = build_endpoints(
        FrameCohort({
            "joints": joints.sample(frac=1, random_state=order),
            "outcomes": outcomes.sample(frac=1, random_state=order),
        }),
        chosen,
    )  # fmt: skip
    pd.testing.assert_frame_equal(plain.outcomes, mixed.outcomes)
    pd.testing.assert_frame_equal(plain.flow, mixed.flow)


def test_rows_obey_the_schema() -> None:
    joints, outcomes, _ = simulated(11)
    cohort = FrameCohort({"joints": joints, "outcomes": outcomes})
    found = build_endpoints(cohort, {"replacement": endpoint("replacement"),
                                     "oa": endpoint("radiographic_incidence")})  # fmt: skip
    rows = found.outcomes
    assert list(rows.columns[:9]) == list(COLUMNS["outcomes"])
    assert not rows.duplicated(["joint_id", "endpoint"]).any()
    assert set(rows["cause"]) <= {"event", "death", "censored"}
    assert (rows["upper"] >= rows["lower"]).all()
    assert np.isinf(rows.loc[rows["cause"] == "censored", "upper"]).all()
    assert np.isfinite(rows.loc[rows["cause"] != "censored", "upper"]).all()
    assert (rows["lower"] >= rows["entry"]).all()
    judged = found.eligibility
    assert judged["eligible"].sum() == len(rows)
    for name, group in found.flow.groupby("endpoint"):
        first = group.iloc[0]["n"] - group["excluded"].sum()
        assert first == (rows["endpoint"] == name).sum()


def test_a_prosthesis_is_never_read_as_the_knee() -> None:
    assert end((100.0, INF), (300.0, 300.0), (400.0, 400.0)).cause == "censored"
    assert end((100.0, INF), (300.0, 300.0), None, replacement="event").upper == 300.0


@pytest.mark.slow
def test_the_phantoms_replacements_come_back(tmp_path: Path) -> None:
    from spinmark_data.ingest.oai.tables import read_oai_tables
    from spinmark_data.phantom.config import PhantomConfig
    from spinmark_data.phantom.write import write_phantom

    config = PhantomConfig(
        subjects=80, seed=5, visits=("V00", "V01", "V03"), grid_shape=(8, 16, 16),
        spacing_mm=(10.0, 4.5, 5.0), coarse_grid=True, event_share=0.3, workers=1,
    )  # fmt: skip
    write_phantom(config, tmp_path)
    tables = read_oai_tables(tmp_path / "release").tables()
    chosen = {name: endpoint(name) for name in ("replacement", "kl_progression")}
    found = build_endpoints(FrameCohort(tables), chosen).outcomes
    truth = pd.read_parquet(tmp_path / "truth" / "joints.parquet")
    true_days = truth.set_index(truth["subject_id"] + ":" + truth["laterality"])["replacement_days"]
    events = found[(found["endpoint"] == "replacement") & (found["cause"] == "event")]
    assert len(events) > 10
    for item in events.itertuples():
        day = np.floor(true_days[item.joint_id])
        assert item.lower <= day + 1
        assert day <= item.upper
    # No reading of a prosthesis makes a progression.
    risen = found[(found["endpoint"] == "kl_progression") & (found["cause"] == "event")]
    assert (risen["upper"] <= risen["joint_id"].map(true_days)).all()
