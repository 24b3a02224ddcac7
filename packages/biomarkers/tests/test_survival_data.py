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
