import numpy as np
import pandas as pd
import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import SurvivalData

JOINTS = ["a:R", "a:L", "b:R", "b:L"]
X = pd.DataFrame({"AGE": [1.0, 1.0, 2.0, 2.0]}, index=JOINTS)


def table(**changes):
    frame = pd.DataFrame(
        {
            "joint_id": JOINTS,
            "subject_id": ["a", "a", "b", "b"],
            "endpoint": "replacement",
            "entry": 0.0,
            "lower": [100.0, 300.0, 365.25, 365.25],
            "upper": [100.0, np.inf, 365.25, 365.25],
            "cause": ["event", "censored", "death", "death"],
            "weight": 1.0,
        }
    )
    for column, (row, value) in changes.items():
        frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lower": (1, 0.0)}, "positive time"),
        ({"lower": (1, -5.0)}, "-5 days"),
        ({"upper": (0, 50.0)}, "upper below lower for a:R"),
        ({"cause": (0, "fire")}, "'fire'"),
        ({"joint_id": (1, "a:R")}, "a:R twice"),
        ({"weight": (2, 0.0)}, "weight 0"),
        ({"upper": (2, np.inf)}, "does not fit"),
        ({"cause": (0, "censored"), "upper": (0, np.inf)}, "no event"),
    ],
)
def test_bad_outcomes_are_refused_in_one_line(changes, words):
    with pytest.raises(InputError, match=words) as caught:
        SurvivalData.from_outcomes(table(**changes), X)
    assert "\n" not in str(caught.value)


def test_immortal_time_is_refused():
    known = pd.Series([0.0, 730.0], index=["a:R", "a:L"])
    with pytest.raises(InputError, match=r"a:L.*day 730.*immortal time"):
        SurvivalData.from_outcomes(table(), X, known_at=known)


def test_a_subject_in_fit_and_test_is_refused():
    with pytest.raises(InputError, match=r"b:|b, b|both fit and test"):
        SurvivalData.from_outcomes(table(), X, ["a", "b"], test_subjects=["b"])


@pytest.mark.parametrize("named", ["subject_ids", "test_subjects"])
def test_joints_in_place_of_subjects_are_refused(named):
    # They would match nobody, so that a test for held-out people would find none.
    for given in (["a:R", "b:L"], ["z:R"]):
        with pytest.raises(InputError, match=rf"{named}: {given[0]}.*as joints; accepted are subj"):
            SurvivalData.from_outcomes(table(), X, **{named: given})
    with pytest.raises(InputError, match=f"{named}: the text 'a'"):
        SurvivalData.from_outcomes(table(), X, **{named: "a"})
    # People of whom there is no outcome may be held out.
    assert len(SurvivalData.from_outcomes(table(), X, test_subjects=["z"]).ids) == 4


def test_a_subject_whose_own_name_looks_like_a_joint_is_taken():
    frame = table().assign(subject_id=["a:R"] * 2 + ["b:R"] * 2)
    frame["joint_id"] = ["a:R:R", "a:R:L", "b:R:R", "b:R:L"]
    data = SurvivalData.from_outcomes(frame, X.set_axis(frame["joint_id"]), ["a:R"])
    assert data.subjects.tolist() == ["a:R"]


def test_a_missing_covariate_is_refused():
    x = X.copy()
    x.loc["b:R", "AGE"] = np.nan
    with pytest.raises(InputError, match=r"'AGE' is not finite for b:R"):
        SurvivalData.from_outcomes(table(), x)


def test_a_death_between_two_contacts_is_placed_in_their_middle():
    frame = table()
    frame.loc[[2, 3], ["lower", "upper"]] = [0.0, 730.5]
    data = SurvivalData.from_outcomes(frame, X)
    np.testing.assert_allclose(data.lower[2:], 1.0)
    np.testing.assert_allclose(data.upper[2:], 1.0)
    assert not data.interval[2:].any()
    np.testing.assert_allclose(data.deaths().time, [300 / 365.25, 1.0])


def test_death_counts_once_a_person():
    deaths = SurvivalData.from_outcomes(table(), X).deaths()
    assert deaths.ids.tolist() == ["a", "b"]
    assert deaths.cause.tolist() == [0, 1]
    np.testing.assert_allclose(deaths.lower, [300 / 365.25, 1.0])


def csv(**changes):
    frame = pd.DataFrame(
        {
            "person": [11, 11, 12, 13, 13],
            "side": ["R", "L", "R", "R", "L"],
            "since": [0.0, 0.0, 1.0, 0.0, 0.0],
            "until": [4.0, 6.0, 5.0, 2.5, 2.5],
            "what": ["event", "censored", "event", "death", "death"],
            "load": 2.0,
            "AGE": [60.0, 60.0, 70.0, 65.0, 65.0],
        }
    )
    for column, (row, value) in changes.items():
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
    return frame


def read(frame, **kwargs):
    settings = {
        "unit": "years", "subject": "person", "joint": "side", "time": "until", "cause": "what",
        "start": "since", "weight": "load",
    }  # fmt: skip
    return SurvivalData.from_frame(frame, ["AGE"], **(settings | kwargs))


def test_a_plain_table_is_taken():
    data = read(csv())
    assert data.ids.tolist() == ["11:L", "11:R", "12:R", "13:L", "13:R"]
    assert data.cause.tolist() == [0, 1, 1, 2, 2]
    np.testing.assert_allclose(data.lower, [6, 4, 5, 2.5, 2.5])
    np.testing.assert_allclose(data.upper, [np.inf, 4, 5, 2.5, 2.5])
    np.testing.assert_allclose(data.start, [0, 0, 1, 0, 0])
    days = csv()
    days[["since", "until"]] *= 365.25
    np.testing.assert_allclose(read(days, unit="days").lower, data.lower)
    # The order of rows does not matter, and causes may be numbers.
    turned = csv().iloc[::-1]
    turned["what"] = turned["what"].map({"event": 1, "death": 2, "censored": 0})
    np.testing.assert_array_equal(read(turned).lower, data.lower)
    np.testing.assert_array_equal(read(turned).cause, data.cause)


def test_truth_values_and_intervals_are_taken():
    frame = pd.DataFrame(
        {"subject_id": ["a", "b", "c"], "low": [1.0, 2.0, 0.0], "high": [3.0, np.inf, 2.0],
         "event": [True, False, True], "AGE": [1.0, 2.0, 3.0]}
    )  # fmt: skip
    data = SurvivalData.from_frame(
        frame, ["AGE"], unit="years", lower="low", upper="high", cause="event"
    )
    assert data.cause.tolist() == [1, 0, 1]
    assert data.interval.tolist() == [True, False, True]
    # A cell that was left empty is the same as infinity, for a censored row alone.
    frame["high"] = [3.0, np.nan, 2.0]
    options = {"unit": "years", "lower": "low", "upper": "high", "cause": "event"}
    assert np.isinf(SurvivalData.from_frame(frame, ["AGE"], **options).upper[1])
    frame["high"] = [np.nan, np.nan, 2.0]
    with pytest.raises(InputError, match="a time of a is missing"):
        SurvivalData.from_frame(frame, ["AGE"], **options)
    assert data.most_intervals == 1
    assert not data.delayed


@pytest.mark.parametrize(
    ("changes", "kwargs", "words"),
    [
        ({"until": (0, 400.0)}, {}, r"400 years for 11:R; accepted is up to 150 years"),
        ({"side": (0, None)}, {}, r"'side' is missing in row 0"),
        ({"what": (0, None)}, {}, r"cause missing of 11:R"),
        ({}, {"lower": "since"}, r"name either `time`, or both"),
        ({}, {"unit": "weeks"}, r"unit: 'weeks'; accepted are years, days"),
        ({}, {"time": None}, "either `time`, or both"),
        ({}, {"start": "begin"}, r"no column 'begin'; it has person, side"),
        ({"AGE": (2, "old")}, {}, r"'AGE' holds 'old' for 12; accepted are numbers"),
        ({"AGE": (2, np.inf)}, {}, r"'AGE' is not finite for 12:R"),
        ({"until": (2, 1.0)}, {}, r"0 years from entry for 12:R; accepted is a positive time"),
        ({"until": (2, 0.5)}, {}, r"-0.5 years from entry for 12:R"),
        ({"until": (2, None)}, {}, r"a time of 12:R is missing"),
        ({"since": (2, -1.0)}, {}, r"-1 years for 12:R, before the time origin"),
        ({"what": (2, "moved")}, {}, r"cause 'moved' of 12:R; accepted are event, death, censored"),
        ({"what": (2, 7)}, {}, r"cause 7 of 12:R"),
        ({"load": (2, -2.0)}, {}, r"weight -2 of 12:R; accepted is a positive number"),
        ({"person": (2, None)}, {}, r"'person' is missing in row 2"),
        ({}, {"joint": None}, r"rows of 11, 13 go on after an event or a death"),
        ({}, {"joint": None, "start": None}, r"11, 13 in more than one row"),
    ],
)
def test_bad_tables_are_refused_in_one_line(changes, kwargs, words):
    with pytest.raises(InputError, match=words) as caught:
        read(csv(**changes), **kwargs)
    assert "\n" not in str(caught.value)


def pieces(**changes):
    frame = pd.DataFrame(
        {"subject_id": ["a", "a", "a", "b"], "start": [0.0, 1.0, 3.0, 0.5],
         "stop": [1.0, 3.0, 4.0, 2.0], "cause": [0, 0, 1, 0], "KL": [1.0, 2.0, 3.0, 0.0]}
    )  # fmt: skip
    for column, (row, value) in changes.items():
        frame.loc[row, column] = value
    return SurvivalData.from_frame(frame, ["KL"], unit="years", time="stop", start="start")


def test_pieces_of_a_follow_up_are_taken():
    data = pieces()
    assert data.delayed
    assert data.ids.tolist() == ["a", "a", "a", "b"]
    # Only the joint that enters late has an entry; later pieces of a joint are no new entry.
    assert data.entry_rows.tolist() == [3]
    deaths = data.deaths()
    np.testing.assert_allclose(deaths.start, [0, 0.5])
    np.testing.assert_allclose(deaths.lower, [4, 2])
    np.testing.assert_allclose(deaths.covariates[:, 0], [1, 0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": (1, 0.5)}, r"rows of a overlap"),
        ({"start": (1, 1.5)}, r"a gap between rows of a"),
        ({"cause": (1, 1)}, r"rows of a go on after an event"),
        ({"start": (1, 3.0)}, r"0 years from entry for a"),
        ({"start": (1, 3.5)}, r"-0.5 years from entry for a"),
    ],
)
def test_bad_pieces_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        pieces(**changes)


def test_time_may_begin_elsewhere():
    frame = table(entry=(0, 50.0))
    late = SurvivalData.from_outcomes(frame, X, origin="enrolment")
    by_joint = dict(zip(late.ids, late.start * 365.25, strict=True))
    assert by_joint == {"a:L": 0.0, "a:R": 50.0, "b:L": 0.0, "b:R": 0.0}
    np.testing.assert_allclose(late.lower[1] * 365.25, 100.0)
    entry = SurvivalData.from_outcomes(frame, X)
    np.testing.assert_allclose(entry.lower[1] * 365.25, 50.0)
    assert not entry.delayed
    birth = pd.Series(-20_000.0, index=JOINTS)
    aged = SurvivalData.from_outcomes(frame, X, origin=birth)
    np.testing.assert_allclose(aged.start * 365.25, late.start * 365.25 + 20_000)
    np.testing.assert_allclose(aged.lower - aged.start, late.lower - late.start)
    with pytest.raises(InputError, match=r"origin: none for a:L"):
        SurvivalData.from_outcomes(frame, X, origin=birth.drop("a:L"))
    with pytest.raises(InputError, match=r"origin: 'birth'; accepted are 'entry', 'enrolment'"):
        SurvivalData.from_outcomes(frame, X, origin="birth")
    with pytest.raises(InputError, match=r"at risk from -10 days for b:L, before the time origin"):
        SurvivalData.from_outcomes(table(entry=(3, -10.0)), X, origin="enrolment")
    # Covariates are judged against the entry, not the origin.
    with pytest.raises(InputError, match="immortal time"):
        SurvivalData.from_outcomes(frame, X, known_at=pd.Series(60.0, index=JOINTS), origin=birth)


def test_death_counts_once_with_late_entry_intervals_and_weights():
    frame = table(entry=(0, 50.0), upper=(0, 200.0))
    frame.loc[0, "lower"] = 60.0
    frame["weight"] = [3.0, 1.0, 2.0, 2.0]
    data = SurvivalData.from_outcomes(frame, X, origin="enrolment")
    deaths = data.deaths()
    np.testing.assert_allclose(deaths.weight, [2, 2])
    np.testing.assert_allclose(deaths.start, [0, 0])
    np.testing.assert_allclose(deaths.lower * 365.25, [300, 365.25])
    one = data.with_rows(data.ids == "a:R").deaths()
    # Seen at the end of the interval in which the event was found, so alive then.
    np.testing.assert_allclose(one.lower * 365.25, [200])
    np.testing.assert_allclose(one.start * 365.25, [50])
    shuffled = data.with_rows([3, 1, 0, 2]).deaths()
    np.testing.assert_array_equal(shuffled.lower, deaths.lower)
    np.testing.assert_array_equal(shuffled.covariates, deaths.covariates)


def test_cause_specific_views():
    data = SurvivalData.from_outcomes(table(), X)
    first, second = data.cause_specific(1), data.cause_specific(2)
    assert first.cause.tolist() == [0, 1, 0, 0]
    assert second.cause.tolist() == [0, 0, 1, 1]
    assert np.isinf(first.upper[2:]).all()
    assert np.isinf(second.upper[:2]).all()
    np.testing.assert_array_equal(first.lower, data.lower)
    with pytest.raises(InputError, match="cause: 3"):
        data.cause_specific(3)


def test_a_row_drawn_twice_is_two_people():
    data = SurvivalData.from_outcomes(table(), X)
    drawn = data.with_rows([0, 1, 0, 1, 2, 0])
    assert drawn.subject_ids.tolist() == ["a", "a", "a#2", "a#2", "b", "a#3"]
    assert drawn.ids.tolist() == ["a:L", "a:R", "a:L#2", "a:R#2", "b:L", "a:L#3"]
    assert data.ids.tolist() == ["a:L", "a:R", "b:L", "b:R"]
    mask = data.with_rows(data.cause == 2)
    assert mask.ids.tolist() == ["b:L", "b:R"]


def test_columns_of_other_lengths_are_refused():
    data = SurvivalData.from_outcomes(table(), X)
    with pytest.raises(InputError, match="covariates: 3 values for 4 rows"):
        data.with_covariates(np.zeros((3, 1)), ("x",))
