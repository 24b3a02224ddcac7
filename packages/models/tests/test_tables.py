import copy
import json
import logging
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spinmark_models.errors import InputError
from spinmark_models.tables import TableSchema
from spinmark_models.tables.scales import spread

NAMES = ["AGE", "SEX", "PAIN", "RACE"]
KINDS = ["continuous", "binary", "ordinal", "nominal"]
GROUPS = ["demographic", "demographic", "symptom", "demographic"]


def table(n: int = 80, seed: int = 0, missing: float = 0.25) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    columns = [
        rng.normal(60, 9, n),
        rng.integers(1, 3, n),
        rng.integers(0, 5, n),
        rng.choice([0.0, 1.0, 3.0], n),
    ]
    values = np.column_stack(columns).astype(float)
    values[rng.random(values.shape) < missing] = np.nan
    return values


def why(values: NDArray[np.float64], seed: int = 1) -> NDArray[Any]:
    words = np.random.default_rng(seed).choice([".A", ".M", "blank"], values.shape).astype(object)
    words[~np.isnan(values)] = None
    return words


def test_the_robust_scale_is_the_interquartile_range_of_a_normal() -> None:
    values = np.random.default_rng(0).normal(3, 7, 20001)
    low, high = np.percentile(values, [25, 75])
    assert spread(values, "robust") == pytest.approx((high - low) / 1.3489795, rel=1e-7)
    assert spread(values, "robust") == pytest.approx(7, rel=0.05)
    assert spread(values, "standard") == np.std(values)
    wild = np.concatenate([values, [1e9]])
    assert spread(wild, "robust") == pytest.approx(spread(values, "robust"), rel=1e-3)


def test_without_an_interquartile_range_the_mean_deviation_steps_in() -> None:
    values = np.array([0.0] * 90 + [1.0] * 10)
    # A tenth is 1 away from the median: 0.1 on average, over sqrt(2 / pi).
    assert spread(values, "robust") == pytest.approx(0.1 / np.sqrt(2 / np.pi))
    with pytest.raises(InputError, match="'sd'"):
        spread(values, "sd")


@pytest.mark.parametrize("scaling", ["standard", "robust"])
@settings(deadline=None)
@given(st.lists(st.floats(-1e100, 1e100), min_size=2, max_size=30))
def test_any_column_that_varies_encodes_to_finite_numbers(
    scaling: str, values: list[float]
) -> None:
    column = np.array(values)[:, None]
    if len(np.unique(column)) < 2:
        return
    schema = TableSchema.fit(column, ["X"], ["continuous"], scaling=scaling)
    assert schema.scales[0] > 0
    for rows in (column, np.array([[1.7e308], [-1.7e308]])):
        encoded = schema.encode(rows, ["X"])
        assert encoded.numbers.isfinite().all()
        assert encoded.observed.all()


def test_values_are_scaled_as_asked() -> None:
    values = table()
    schema = TableSchema.fit(values, NAMES, KINDS, scaling="robust")
    age = values[:, 0][~np.isnan(values[:, 0])]
    low, middle, high = np.percentile(age, [25, 50, 75])
    encoded = schema.encode(np.array([[high, 1, 2, 0]]), NAMES)
    assert float(encoded.numbers[0, 0]) == pytest.approx((high - middle) / (high - low) * 1.3489795)
    assert schema.scaling == "robust"
    assert TableSchema.fit(values, NAMES, KINDS).scaling == "standard"


def test_other_rows_change_nothing_and_a_schema_stays_as_it_is() -> None:
    values = table()
    schema = TableSchema.fit(values, NAMES, KINDS, groups=GROUPS, reasons=why(values))
    before = schema.to_json()
    assert schema.rows == 80
    other = table(200, 9) * 100
    schema.encode(np.where(np.isnan(other), np.nan, other), NAMES, why(other))
    assert schema.to_json() == before
    with pytest.raises(InputError, match="fitted on 80 rows"):
        schema.fit(other, NAMES, KINDS)
    # Rows after the training rows are not looked at, whatever they hold.
    again = TableSchema.fit(np.concatenate([values, other])[:80], NAMES, KINDS, groups=GROUPS)
    assert again.marginals == schema.marginals
    assert (again.centres, again.scales) == (schema.centres, schema.scales)


def test_groups_follow_their_columns() -> None:
    values = np.column_stack([np.full(80, 3.0), table()])
    schema = TableSchema.fit(
        values, ["FLAT", *NAMES], ["continuous", *KINDS], groups=["x", *GROUPS]
    )
    assert schema.dropped == ("FLAT",)
    assert schema.groups == tuple(GROUPS)
    assert TableSchema.fit(table(), NAMES, KINDS).groups == ()
    with pytest.raises(InputError, match="4 names and 3 groups"):
        TableSchema.fit(table(), NAMES, KINDS, groups=GROUPS[:3])


def test_reasons_are_those_of_missing_training_cells() -> None:
    values = table()
    words = why(values)
    words[~np.isnan(values)] = "beside a value"
    words[0, :] = np.nan
    schema = TableSchema.fit(values, NAMES, KINDS, reasons=words)
    assert schema.reasons == (".A", ".M", "blank")
    encoded = schema.encode(values, NAMES, words)
    for i in range(80):
        for j in range(4):
            missing = np.isnan(values[i, j]) and isinstance(words[i, j], str)
            wanted = 1 + schema.reasons.index(words[i, j]) if missing else 0
            assert int(encoded.reasons[i, j]) == wanted
    assert (schema.encode(values, NAMES).reasons == 0).all()


def test_a_reason_never_seen_is_no_reason(caplog: pytest.LogCaptureFixture) -> None:
    values = table()
    schema = TableSchema.fit(values, NAMES, KINDS, reasons=why(values))
    row = np.full((1, 4), np.nan)
    with caplog.at_level(logging.WARNING):
        encoded = schema.encode(row, NAMES, [[".A", ".Z", None, ""]])
    assert encoded.reasons[0].tolist() == [1, 0, 0, 0]
    assert "['.Z'] for missing cells were never seen" in caplog.text
    with pytest.raises(InputError, match=r"reasons have shape \(1, 3\)"):
        schema.encode(row, NAMES, [[".A", ".Z", None]])


def test_columns_and_their_reasons_are_found_by_name() -> None:
    values = table()
    words = why(values)
    schema = TableSchema.fit(values, NAMES, KINDS, reasons=words)
    order = [2, 0, 3, 1]
    one = schema.encode(values, NAMES, words)
    two = schema.encode(values[:, order], [NAMES[i] for i in order], words[:, order])
    assert all(bool((a == b).all()) for a, b in zip(one, two, strict=True))


def test_a_schema_travels_whole() -> None:
    values = table(400)
    schema = TableSchema.fit(
        values, NAMES, KINDS, groups=GROUPS, reasons=why(values), scaling="robust"
    )
    assert TableSchema.from_json(schema.to_json()) == schema
    for copied in (copy.deepcopy(schema), pickle.loads(pickle.dumps(schema))):
        assert copied == schema
        assert hash(copied) == hash(schema)
        with pytest.raises(InputError, match="fitted on 400 rows"):
            copied.fit(values, NAMES, KINDS)
    raw = json.loads(schema.to_json())
    changes: list[dict[str, Any]] = [
        {"groups": ["a"]},
        {"marginals": raw["marginals"][:2]},
        {"marginals": [{}]},
    ]
    for change in changes:
        with pytest.raises(InputError, match="table schema"):
            TableSchema.from_json(json.dumps({**raw, **change}))


def test_a_schema_of_an_earlier_release_is_read() -> None:
    schema = TableSchema.fit(table(), NAMES, KINDS)
    raw = json.loads(schema.to_json())
    for name in ("groups", "reasons", "marginals", "scaling", "rows"):
        del raw[name]
    old = TableSchema.from_json(json.dumps(raw))
    assert (old.names, old.centres, old.scales) == (schema.names, schema.centres, schema.scales)
    assert (old.marginals, old.rows) == ((), 0)
    one, two = (s.encode(table(seed=3), NAMES) for s in (old, schema))
    assert all(bool((a == b).all()) for a, b in zip(one, two, strict=True))


def test_a_schema_holds_no_participant_s_row() -> None:
    # Measured quantities: no value of the smallest, largest or any single row can be read off.
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 3)) * [10, 100, 1000]
    schema = TableSchema.fit(values, ["A", "B", "C"], ["continuous"] * 3)
    text = schema.to_json()
    for row in (0, 150, 299, *values.argmin(axis=0), *values.argmax(axis=0)):
        shown = [repr(float(v)) in text for v in values[row]]
        assert not all(shown)
    for column in values.T:
        assert repr(float(column.min())) not in text
        assert repr(float(column.max())) not in text
    # Five people or more between neighbouring quantiles.
    assert all(len(m.values) - 1 <= 300 // 5 for m in schema.marginals)


@pytest.mark.parametrize("cell", ["F", [1, 2]])
def test_what_is_no_number_is_refused_in_one_line(cell: object) -> None:
    rows = [[61.0, cell], [58.0, 1.0]]
    with pytest.raises(InputError, match="holds what is no number") as caught:
        TableSchema.fit(rows, ["AGE", "SEX"], ["continuous", "binary"])  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
