import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinmark_training.errors import InputError
from spinmark_training.survival_times import one_row_a_joint, times_to_event


def _outcomes(*rows: tuple[str, str, float, float, str]) -> pd.DataFrame:
    columns = ["subject_id", "laterality", "lower", "upper", "cause"]
    return pd.DataFrame(rows, columns=columns).assign(endpoint="replacement")


def _scan(subject: str, side: str, days: float) -> pd.DataFrame:
    return pd.DataFrame([(subject, side, days)], columns=["subject_id", "laterality", "days"])


@pytest.mark.parametrize(
    ("row", "days", "time", "event"),
    [
        (("a", "L", 700.0, 700.0, "event"), 100.0, 600.0, True),
        (("a", "L", 700.0, 900.0, "event"), 100.0, 700.0, True),  # the middle of the interval
        (("a", "L", -math.inf, 900.0, "event"), 100.0, 800.0, True),
        (("a", "L", 700.0, math.inf, "censored"), 100.0, 600.0, False),
        (("a", "L", 700.0, 700.0, "event"), 700.0, math.nan, False),  # the joint is gone by then
        (("a", "L", 700.0, math.inf, "censored"), 800.0, math.nan, False),
        (("a", "L", 700.0, 700.0, "death"), 100.0, math.nan, False),
        (("a", "R", 700.0, 700.0, "event"), 100.0, math.nan, False),  # the other joint
    ],
)
def test_the_time_from_a_scan(
    row: tuple[str, str, float, float, str], days: float, time: float, event: bool
) -> None:
    found, happened = times_to_event(_outcomes(row), _scan("a", "L", days), "replacement")
    assert found[0] == pytest.approx(time, nan_ok=True)
    assert bool(happened[0]) is event


def test_of_several_rows_the_earliest_event_counts_then_death_then_the_longest_follow_up() -> None:
    rows = _outcomes(
        ("a", "L", 300.0, math.inf, "censored"),
        ("a", "L", 800.0, 800.0, "event"),
        ("a", "L", 500.0, 500.0, "event"),
        ("b", "L", 900.0, math.inf, "censored"),
        ("b", "L", 400.0, 400.0, "death"),
        ("c", "L", 300.0, math.inf, "censored"),
        ("c", "L", 700.0, math.inf, "censored"),
    )
    found = one_row_a_joint(rows).set_index("subject_id")
    assert found["end"].to_dict() == {"a": 500.0, "b": 400.0, "c": 700.0}
    assert found["cause"].to_dict() == {"a": "event", "b": "death", "c": "censored"}


@given(st.permutations(range(7)))
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    rows = _outcomes(
        ("a", "L", 300.0, math.inf, "censored"),
        ("a", "L", 500.0, 520.0, "event"),
        ("a", "R", 800.0, 800.0, "death"),
        ("b", "L", 900.0, math.inf, "censored"),
        ("b", "L", 100.0, math.inf, "censored"),
        ("b", "R", 300.0, 400.0, "event"),
        ("b", "R", 300.0, 360.0, "event"),
    )
    scans = pd.concat([_scan(s, side, 50.0) for s in "ab" for side in "LR"], ignore_index=True)
    time, event = times_to_event(rows.iloc[order], scans, "replacement")
    np.testing.assert_array_equal(time, [460.0, np.nan, 850.0, 280.0])
    np.testing.assert_array_equal(event, [True, False, False, True])


def test_an_endpoint_that_is_not_there_is_named_with_those_that_are() -> None:
    rows = _outcomes(("a", "L", 1.0, 1.0, "event"))
    with pytest.raises(InputError, match=r"'pain'; this cohort has \['replacement'\]"):
        times_to_event(rows, _scan("a", "L", 0.0), "pain")
    with pytest.raises(InputError, match="no outcomes"):
        times_to_event(rows.iloc[:0], _scan("a", "L", 0.0), "pain")
