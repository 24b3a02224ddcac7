"""Shares of right answers: components against mean squares, intervals against simulation."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.reading.accuracy import (
    components,
    crossed_share,
    exact_interval,
)
from spinmark_biomarkers.phenotypes.reading.alike import named_alike

NAN = float("nan")


def answers(seed: int, readers: int, items: int, missing: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    chance = expit(0.4 + 0.5 * rng.normal(size=(readers, 1)) + rng.normal(size=(1, items)))
    table = (rng.random((readers, items)) < chance).astype(float)
    table[rng.random((readers, items)) < missing] = NAN
    return table


@pytest.mark.parametrize(("readers", "items"), [(2, 3), (3, 12), (6, 40)])
def test_components_are_those_of_the_two_way_table(readers: int, items: int) -> None:
    y = answers(readers, readers, items)
    by_reader, by_item, mean = y.mean(1), y.mean(0), y.mean()
    ms_reader = items * ((by_reader - mean) ** 2).sum() / (readers - 1)
    ms_item = readers * ((by_item - mean) ** 2).sum() / (items - 1)
    rest = y - by_reader[:, None] - by_item + mean
    ms_rest = (rest**2).sum() / ((readers - 1) * (items - 1))
    found = components(y)
    assert found.reader == pytest.approx((ms_reader - ms_rest) / items)
    assert found.item == pytest.approx((ms_item - ms_rest) / readers)
    assert found.rest == pytest.approx(ms_rest)


def test_components_with_missing_answers_are_means_over_pairs() -> None:
    y = answers(5, 4, 9, missing=0.3)
    cells = [(r, i) for r in range(4) for i in range(9) if y[r, i] == y[r, i]]
    pairs: dict[str, list[float]] = {"reader": [], "item": [], "neither": []}
    for a in cells:
        for b in cells:
            if a != b:
                same = "reader" if a[0] == b[0] else "item" if a[1] == b[1] else "neither"
                pairs[same].append((y[a] - y[b]) ** 2 / 2)
    half = {name: float(np.mean(values)) for name, values in pairs.items()}
    found = components(y)
    assert found.reader == pytest.approx(half["neither"] - half["reader"])
    assert found.item == pytest.approx(half["neither"] - half["item"])
    assert found.rest == pytest.approx(half["reader"] + half["item"] - half["neither"])


def test_components_are_unbiased() -> None:
    found = []
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        # Readers' and items' effects are added, so that the components are known exactly.
        p = 0.5 + 0.1 * rng.choice([-1, 1], (3, 1)) + 0.2 * rng.choice([-1, 1], (1, 8))
        y = (rng.random((3, 8)) < p).astype(float)
        one = components(y)
        found.append((one.reader, one.item, one.rest))
    reader, item, rest = np.mean(found, axis=0)
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert abs(reader - 0.01) < 4 * error[0]
    assert abs(item - 0.04) < 4 * error[1]
    assert abs(rest - (0.25 - 0.05)) < 4 * error[2]


@settings(max_examples=40, deadline=None)
@example(1, 1, 5, 0.4)  # No right answer: the bound is 0 to the last bit.
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 12), st.sampled_from([0.0, 0.4]))
def test_intervals_hold_the_share_whatever_the_order(
    seed: int, readers: int, items: int, missing: float
) -> None:
    y = answers(seed, readers, items, missing)
    found = crossed_share(y)
    rng = np.random.default_rng(seed)
    again = crossed_share(y[rng.permutation(readers)][:, rng.permutation(items)])
    wrong = crossed_share(1 - y)
    for name in ("others", "these"):
        one, other, mirrored = (getattr(each, name) for each in (found, again, wrong))
        np.testing.assert_allclose([one.low, one.high], [other.low, other.high], atol=1e-9)
        np.testing.assert_allclose(
            [1 - one.high, 1 - one.low], [mirrored.low, mirrored.high], atol=1e-9
        )
        if np.isfinite(one.low):
            assert 0 <= one.low <= found.value <= one.high <= 1
    assert found.answers == np.isfinite(y).sum()


def test_one_reader_has_wilson_interval_with_students_quantile() -> None:
    y = np.r_[np.ones(14), np.zeros(6)][None]
    found = crossed_share(y)
    assert np.isnan(found.others.low)
    t, p, n = stats.t.ppf(0.975, 19), 0.7, 20
    centre, half = p + t**2 / 40, t * np.sqrt(p * (1 - p) / n + t**2 / (4 * n**2))
    assert found.these.low == pytest.approx((centre - half) / (1 + t**2 / n))
    assert found.these.high == pytest.approx((centre + half) / (1 + t**2 / n))


def test_who_is_always_right_may_yet_be_wrong() -> None:
    found = crossed_share(np.ones((4, 20)))
    assert found.value == found.these.high == found.others.high == 1
    assert 0.7 < found.these.low < 0.9
    assert found.others.low < found.these.low


def test_readers_who_are_alike_count_as_one() -> None:
    one = answers(3, 1, 30)
    alone, copied = crossed_share(one), crossed_share(np.repeat(one, 5, axis=0))
    assert copied.these.high - copied.these.low == pytest.approx(
        alone.these.high - alone.these.low, rel=0.05
    )


def test_an_exact_interval_by_its_definition() -> None:
    found = exact_interval(7, 20, level=0.9)
    assert stats.binom.sf(6, 20, found.low) == pytest.approx(0.05)
    assert stats.binom.cdf(7, 20, found.high) == pytest.approx(0.05)
    assert np.isnan(exact_interval(0, 0).value)


@pytest.mark.slow
@pytest.mark.parametrize("readers", [3, 5])
def test_intervals_cover(readers: int) -> None:
    """Readers and items differ (standard deviations 0.5 and 1 on the logit): 600 studies of 40 items."""
    rng = np.random.default_rng(1)
    truth = expit(0.4 + 0.5 * rng.normal(size=(3000, 1)) + rng.normal(size=(1, 3000))).mean()
    items = rng.normal(size=(1, 5000))
    others = these = 0
    for _ in range(600):
        reader = 0.5 * rng.normal(size=(readers, 1))
        y = rng.random((readers, 40)) < expit(0.4 + reader + rng.normal(size=(1, 40)))
        found = crossed_share(y.astype(float))
        others += found.others.low <= truth <= found.others.high
        these += found.these.low <= expit(0.4 + reader + items).mean() <= found.these.high
    # Two standard errors of a coverage of .95 in 600 runs are .018; few readers err on the safe side.
    assert 0.92 <= others / 600 <= 0.99
    assert 0.92 <= these / 600 <= 0.985


def test_named_alike_by_counting_pairs() -> None:
    names = np.array(
        [["a", "b", "other", ""], ["a", "c", "other", "b"], ["b", "b", "other", "b"]], dtype=object
    )
    found = named_alike(names, seed=0, draws=200)
    alike = compared = 0
    same = of = 0
    for a in range(3):
        for b in range(a + 1, 3):
            for s in range(4):
                for t in range(4):
                    if names[a, s] and names[b, t]:
                        equal = names[a, s] == names[b, t] != "other"
                        alike, compared = alike + (s == t and equal), compared + (s == t)
                        same, of = same + (s != t and equal), of + (s != t)
    assert found.share.value == pytest.approx(alike / compared)
    assert found.chance == pytest.approx(same / of)
    assert found.pairs == compared == 10
    np.testing.assert_allclose(found.sheets, [1 / 3, 1 / 3, 0, 1])
    assert found.share.low <= found.share.value <= found.share.high


def test_names_by_chance_are_alike_by_chance() -> None:
    rng = np.random.default_rng(0)
    names = rng.choice(["a", "b", "c", "none"], (4, 3000), p=[0.4, 0.3, 0.2, 0.1]).astype(object)
    found = named_alike(names, seed=0, draws=100)
    assert found.share.value == pytest.approx(0.3, abs=0.02)
    assert found.chance == pytest.approx(0.3, abs=0.01)
    assert found.share.low < 0.3 < found.share.high


def test_bad_input_is_one_line() -> None:
    for wrong, message in (
        (np.ones(3), "shape"),
        (np.array([[0.5, 1]]), "answers: 0.5; accepted are 0, 1 and NaN"),
    ):
        with pytest.raises(InputError, match=message):
            crossed_share(wrong)
    with pytest.raises(InputError, match="level: 2"):
        crossed_share(np.ones((2, 2)), level=2)
    with pytest.raises(InputError, match="names: shape"):
        named_alike(np.array(["a"]), seed=0)
