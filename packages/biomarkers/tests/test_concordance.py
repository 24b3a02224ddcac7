import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.concordance import concordance_interval, harrell_c


def brute(time, event, risk):
    good = pairs = 0.0
    for i in range(len(time)):
        for j in range(len(time)):
            if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                pairs += 1
                good += 1.0 if risk[i] > risk[j] else 0.5 * (risk[i] == risk[j])
    return good / pairs if pairs else float("nan")


rows = st.lists(
    st.tuples(st.integers(1, 6), st.booleans(), st.integers(-3, 3)), min_size=1, max_size=40
)


@settings(max_examples=200, deadline=None)
@given(rows)
def test_equals_counting_every_pair(values):
    time, event, risk = (np.array(v) for v in zip(*values, strict=True))
    np.testing.assert_allclose(
        harrell_c(time, event, risk), brute(time, event, risk), rtol=1e-12, equal_nan=True
    )


def test_equals_lifelines_with_ties():
    lifelines = pytest.importorskip("lifelines.utils")
    rng = np.random.default_rng(0)
    time, event = rng.integers(1, 50, 400).astype(float), rng.random(400) < 0.6
    risk = rng.integers(0, 20, 400).astype(float)
    expected = lifelines.concordance_index(time, -risk, event)
    assert harrell_c(time, event, risk) == pytest.approx(expected, abs=1e-12)


def test_gain_over_itself_is_nothing():
    rng = np.random.default_rng(1)
    time, event, risk = rng.random(60), rng.random(60) < 0.5, rng.random(60)
    ids = np.repeat(np.arange(30), 2).astype(str)
    gain = concordance_interval(time, event, risk, ids, against=risk, draws=20)
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)
    c = concordance_interval(time, event, risk, ids, draws=50)
    assert c.low < c.value < c.high
    assert c.n == 60


def test_a_missing_risk_is_refused():
    with pytest.raises(InputError, match="finite"):
        harrell_c([1, 2], [True, False], [np.nan, 0])
