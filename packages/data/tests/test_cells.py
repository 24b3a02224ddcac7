"""The grammar of a release's cells."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinmark_data.ingest.oai.cells import masked, parse_column, parse_date

TEXT = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=30)
NUMBERS = st.one_of(
    st.integers(-10_000, 10_000).map(float),
    st.decimals(-999, 999, places=3, allow_nan=False).map(float),
)


@pytest.mark.parametrize(
    ("cell", "value", "reason"),
    [
        ("12", 12.0, ""),
        (".5", 0.5, ""),
        ("-3.25", -3.25, ""),
        (" 7 ", 7.0, ""),
        ("2: Female", 2.0, ""),
        ("2.1: 10-75% area, 1-10% full thickness", 2.1, ""),
        (".", np.nan, "."),
        (".: Missing Form/Incomplete Workbook", np.nan, "."),
        (".A: Not Expected", np.nan, ".A"),
        (" ", np.nan, "blank"),
        ("", np.nan, "blank"),
        ("<0.5", np.nan, "<0.5"),
    ],
)
def test_one_cell(cell: str, value: float, reason: str) -> None:
    parsed = parse_column(pd.Series([cell]))
    np.testing.assert_equal(parsed.values.iloc[0], value) if parsed.kind == "number" else None
    assert parsed.kind == "number"
    assert parsed.reasons.iloc[0] == reason


@given(
    st.lists(
        st.one_of(
            NUMBERS.map(lambda value: (f"{value!r}", value, "")),
            st.tuples(st.integers(-9, 99), TEXT).map(
                lambda x: (f"{x[0]}: {x[1]}", float(x[0]), "")
            ),
            st.tuples(st.sampled_from(".AMNTFXJPRDUO"), TEXT).map(
                lambda x: (f".{x[0].strip('.')}: {x[1]}", None, f".{x[0].strip('.')}")
            ),
            st.sampled_from([(" ", None, "blank"), ("", None, "blank")]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_what_is_written_is_read(cells: list[tuple[str, float | None, str]]) -> None:
    parsed = parse_column(pd.Series([cell for cell, _, _ in cells]), "number")
    assert list(parsed.reasons) == [reason for _, _, reason in cells]
    expected = [np.nan if value is None else value for _, value, _ in cells]
    np.testing.assert_array_equal(parsed.values.to_numpy(), expected)


@given(st.lists(st.dates(pd.Timestamp("1970-01-01").date(), pd.Timestamp("2069-12-31").date())))
def test_dates_of_two_and_four_digits(days: list[object]) -> None:
    for form in ("%m/%d/%Y", "%m/%d/%y"):
        cells = pd.Series([day.strftime(form) for day in days], dtype=object)  # type: ignore[attr-defined]
        assert [stamp.date() for stamp in parse_column(cells, "date").values] == days


def test_a_code_keeps_its_label() -> None:
    parsed = parse_column(pd.Series(["2: Female", "1: Male", "2: Female", ".M: Missing"]))
    assert parsed.labels == {1.0: "Male", 2.0: "Female"}


def test_a_barcode_keeps_its_leading_zero() -> None:
    parsed = parse_column(pd.Series(["016600000001", "T", "."]))
    assert parsed.kind == "text"
    assert list(parsed.values) == ["016600000001", "T", None]


def test_free_text_is_no_code() -> None:
    assert parse_column(pd.Series(["Note: text", "3"])).kind == "text"


def test_what_does_not_fit_is_missing_and_told() -> None:
    parsed = parse_column(pd.Series(["1", "nan", "inf", "0x1F", "13/45/2004"]), "number")
    assert list(parsed.values.notna()) == [True, False, False, False, False]
    assert set(parsed.reasons[1:]) == {"unreadable"}
    assert parsed.unreadable == ("0x1F", "13/45/2004", "inf", "nan")
    assert parse_column(pd.Series(["02/30/2004"]), "date").unreadable == ("02/30/2004",)


def test_index_and_emptiness_are_kept() -> None:
    parsed = parse_column(pd.Series([None, "3"], index=["a", "b"]))
    assert list(parsed.values.index) == ["a", "b"]
    assert parsed.reasons["a"] == "blank"
    assert len(parse_column(pd.Series([], dtype=object)).values) == 0


def test_the_cost_follows_distinct_cells() -> None:
    cells = pd.Series(np.tile(["1: Yes", "0: No", ".A: Not Expected", "3"], 250_000))
    start = time.perf_counter()
    parsed = parse_column(cells)
    assert parsed.values.notna().sum() == 750_000
    # Generous: half a second on an idle core.
    assert time.perf_counter() - start < 10


def test_formats_and_pivot_of_dates_can_be_given() -> None:
    assert parse_date("24MAR2004", ("%d%b%Y",)) == pd.Timestamp("2004-03-24")
    assert parse_date("3/24/70", pivot=70) == pd.Timestamp("2070-03-24")
    assert parse_date("3/24/70") == pd.Timestamp("1970-03-24")
    assert parse_date("02/29/00", pivot=99) == pd.Timestamp("2000-02-29")
    assert parse_date("24/03/2004", ("%d/%m/%Y",)) == pd.Timestamp("2004-03-24")
    assert parse_date("01/01/0001") is None
    # 1900 was no leap year, so that a pivot below 0 leaves no such day.
    assert parse_date("02/29/00", pivot=-1) is None


def test_a_number_too_large_for_one_is_unreadable() -> None:
    parsed = parse_column(pd.Series(["9" * 400, "1e999", "5"]), "number")
    assert list(parsed.reasons) == ["unreadable", "unreadable", ""]


@given(st.text(max_size=80))
def test_a_mask_keeps_no_letter_or_digit(text: str) -> None:
    shown = masked(text)
    assert len(shown) <= 27
    assert not any(sign.isalpha() and sign != "a" for sign in shown)
    assert not any(sign.isdigit() and sign != "9" for sign in shown)
