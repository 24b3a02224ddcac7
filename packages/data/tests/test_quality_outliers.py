"""What counts as unlike the others, with made numbers."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.errors import InputError
from spinmark_data.quality.batches import batch_effects, batch_figure
from spinmark_data.quality.config import QualityConfig
from spinmark_data.quality.outliers import LIMITS, RULES, explain, judge, robust_z


def table(count: int, scanner: list[str], seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "scan_id": [f"{1000001 + n}:R:V00:SAG:0" for n in range(count)],
            "sequence": "SAG", "site": "A", "scanner": scanner, "noise_method": "air", "error": "",
            "fingerprint": "ab", **dict.fromkeys(LIMITS, 0.0),
        }
    )  # fmt: skip
    for name in RULES:
        frame[name] = rng.normal(10, 1, count)
    return frame


def test_z_is_the_distance_in_robust_deviations() -> None:
    values = np.array([1.0, 2, 3, 4, 100])
    z = robust_z(values, np.zeros(5, dtype=np.int64), floor=0, min_group=5)
    np.testing.assert_allclose(z, (values - 3) / 1.4826022)
    assert np.isnan(robust_z(values[:2], np.zeros(2, dtype=np.int64), floor=0, min_group=5)).all()


def test_groups_that_are_too_small_are_compared_with_all() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 100), rng.normal(50, 1, 100), [50, 50.5, 90]])
    groups = np.repeat([0, 1, 2], [100, 100, 3])
    z = robust_z(values, groups, floor=0.01, min_group=8)
    assert np.abs(z[:200]).max() < 5
    # The small one is judged by the spread of everything, in which 50 is usual and 90 hardly odd.
    centre = np.median(values)
    everyone = 1.4826022 * np.median(np.abs(values - centre))
    np.testing.assert_allclose(z[200:], (values[200:] - centre) / everyone)


def test_equal_scans_make_nobody_an_outlier() -> None:
    values = np.array([1.0] * 9 + [1.01])
    groups = np.zeros(10, dtype=np.int64)
    assert np.abs(robust_z(values, groups, floor=0.05, min_group=8)).max() == pytest.approx(0.2)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=40),
    st.floats(0.1, 10), st.floats(-100, 100),
)  # fmt: skip
@settings(deadline=None)
def test_z_does_not_depend_on_units(values: list[float], scale: float, shift: float) -> None:
    given_, groups = np.array(values), np.zeros(len(values), dtype=np.int64)
    z = robust_z(given_, groups, floor=1.0, min_group=3)
    other = robust_z(given_ * scale + shift, groups, floor=scale, min_group=3)
    np.testing.assert_allclose(z, other, rtol=1e-6, atol=1e-4)


def test_only_the_bad_side_is_flagged_and_the_worst_scores_most() -> None:
    frame = table(40, ["a"] * 20 + ["b"] * 20)
    frame.loc[3, ["snr", "sharpness"]] = 1.0, 100.0
    frame.loc[5, "clipped"] = 0.5
    frame.loc[7, "error"] = "ZstdError"
    frame.loc[8, "fingerprint"] = ""
    found = judge(frame, QualityConfig())
    assert found.loc[3, "flags"] == "snr low"
    assert found.loc[5, "flags"] == "clipped"
    assert found.loc[[7, 8], "flags"].tolist() == ["unreadable", "blank"]
    assert found.index[found["flagged"]].tolist() == [3, 5, 7, 8]
    order = found["score"].sort_values(ascending=False).index.tolist()
    assert set(order[:2]) == {7, 8}
    assert order[2:4] == [5, 3]
    assert explain(found.loc[3])[0].startswith("signal-to-noise ratio: low, 1 (z -")
    assert explain(found.loc[5]) == ["clipped: 0.5"]
    assert explain(found.loc[7]) == ["could not be read"]
    assert explain(found.loc[0]) == []


def test_noise_is_compared_within_one_way_of_measuring() -> None:
    frame = table(40, ["a"] * 40)
    frame.loc[20:, "noise_method"] = "laplacian"
    frame.loc[20:, "noise"] *= 5
    assert judge(frame, QualityConfig())["z_noise"].abs().max() < 5


def test_the_shift_of_a_scanner_is_recovered() -> None:
    frame = table(400, ["a"] * 200 + ["b"] * 200)
    frame.loc[200:, "slice_drift"] += 3
    found = batch_effects(frame).set_index(["scanner", "metric"])
    assert found.loc[("b", "slice_drift"), "shift"] == pytest.approx(3, abs=0.4)
    assert found.loc[("a", "slice_drift"), "shift"] == pytest.approx(-3, abs=0.4)
    assert found.loc[("b", "slice_drift"), "n"] == 200
    assert abs(found.loc[("b", "ghosting"), "shift"]) < 0.5
    # Another scale: the median is in the metric's own units.
    assert found.loc[("a", "snr"), "median"] == pytest.approx(10, abs=0.3)


def test_batches_are_drawn_where_there_are_two() -> None:
    frame = table(20, ["a"] * 10 + ["b"] * 10)
    figure = batch_figure(batch_effects(frame), "SAG")
    assert figure is not None
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["site A a (10)", "site A b (10)"]
    assert batch_figure(batch_effects(table(20, ["a"] * 20)), "SAG") is None
    assert batch_effects(table(2, ["a", "b"])).empty


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 0}, "limit: 0"),
        ({"limit": float("nan")}, "limit: nan"),
        ({"min_group": 2}, "min_group: 2"),
        ({"duplicate_bits": 200}, "0 to 128"),
        ({"shown": 0}, "shown: 0"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        QualityConfig(**options)  # type: ignore[arg-type]
