"""Krippendorff's alpha against its definition by brute force, published values and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.agreement import Level, alpha_interval, krippendorff_alpha

NAN = float("nan")
LEVELS: tuple[Level, ...] = ("nominal", "ordinal", "interval", "ratio")
# Four observers, twelve units (Krippendorff 2011, Computing Krippendorff's alpha-reliability).
PUBLISHED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]
ALPHAS = {"nominal": 0.743, "ordinal": 0.815, "interval": 0.849, "ratio": 0.797}


def brute(ratings: list[list[float]], level: str) -> float:
    """Mean distance of pairs within units over the mean distance of all pairs, written out."""
    columns = [[v for v in column if v == v] for column in zip(*ratings, strict=True)]
    columns = [column for column in columns if len(column) > 1]
    pool = [v for column in columns for v in column]

    def distance(a: float, b: float) -> float:
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return (a - b) ** 2
        if level == "ratio":
            return ((a - b) / (a + b)) ** 2 if a + b else 0.0
        low, high = min(a, b), max(a, b)
        between = sum(low <= v <= high for v in pool)
        return 0.0 if a == b else (between - (pool.count(a) + pool.count(b)) / 2) ** 2

    n = len(pool)
    observed = sum(
        distance(a, b) / (len(column) - 1)
        for column in columns
        for i, a in enumerate(column)
        for j, b in enumerate(column)
        if i != j
    ) / max(n, 1)
    expected = sum(
        distance(a, b) for i, a in enumerate(pool) for j, b in enumerate(pool) if i != j
    ) / max(n * (n - 1), 1)
    return 1 - observed / expected if expected else NAN


@pytest.mark.parametrize("level", LEVELS)
def test_the_published_example(level: Level) -> None:
    assert krippendorff_alpha(PUBLISHED, level=level) == pytest.approx(ALPHAS[level], abs=5e-4)
    assert brute(PUBLISHED, level) == pytest.approx(krippendorff_alpha(PUBLISHED, level=level))


def test_a_two_by_ten_table_by_hand() -> None:
    # Two readers, ten units, four disagreements; 14 zeros and 6 ones in all: expected 2*14*6/(20*19).
    first = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    second = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert krippendorff_alpha([first, second]) == pytest.approx(1 - 0.4 / (2 * 14 * 6 / (20 * 19)))
    assert krippendorff_alpha([first, second]) == pytest.approx(0.095, abs=5e-4)


def test_perfect_agreement_systematic_disagreement_and_chance() -> None:
    for level in LEVELS:
        assert krippendorff_alpha([[1, 2, 5, 9]] * 3, level=level) == 1
        assert krippendorff_alpha([[1, 9, 1, 9], [9, 1, 9, 1]], level=level) < -0.5
    ratings = np.random.default_rng(0).integers(0, 4, (3, 20000))
    assert abs(krippendorff_alpha(ratings)) < 0.01


table = st.integers(1, 5).flatmap(
    lambda readers: st.lists(
        st.lists(
            st.sampled_from([NAN, 0.0, 1.0, 2.0, 3.0, 7.0]), min_size=readers, max_size=readers
        ),
        min_size=1,
        max_size=8,
    )
)


@settings(max_examples=60, deadline=None)
@given(table, st.sampled_from(LEVELS))
def test_it_is_its_definition(units: list[list[float]], level: Level) -> None:
    ratings = np.array(units).T
    found, told = krippendorff_alpha(ratings, level=level), brute(ratings.tolist(), level)
    assert (np.isnan(found) and np.isnan(told)) or found == pytest.approx(told, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(table, st.randoms(use_true_random=False))
def test_what_it_does_not_depend_on(units: list[list[float]], random: object) -> None:
    ratings = np.array(units).T
    rng = np.random.default_rng(random.randrange(1000))  # type: ignore[attr-defined]
    moved = ratings[rng.permutation(len(ratings))][:, rng.permutation(ratings.shape[1])]
    for level in LEVELS:
        np.testing.assert_allclose(
            krippendorff_alpha(moved, level=level), krippendorff_alpha(ratings, level=level),
            atol=1e-9,
        )  # fmt: skip
    # Other names change nothing of the nominal, a monotone map of the ordinal, shift and scale of the interval.
    for level, other in (
        ("nominal", (5 - ratings) ** 3),
        ("ordinal", ratings**3 + 1),
        ("interval", 3 - 2 * ratings),
    ):
        np.testing.assert_allclose(
            krippendorff_alpha(other, level=level),  # type: ignore[arg-type]
            krippendorff_alpha(ratings, level=level),  # type: ignore[arg-type]
            atol=1e-9,
        )
    # One answer in a unit pairs with nothing.
    alone = np.full((len(ratings), 1), NAN)
    alone[0] = 2
    np.testing.assert_allclose(
        krippendorff_alpha(np.hstack([ratings, alone])), krippendorff_alpha(ratings), atol=1e-12
    )


def test_words_are_as_good_as_numbers_for_names() -> None:
    words = np.array(
        [["x", "y", "", "z"], ["x", "z", "y", "z"], [None, "y", "y", "z"]], dtype=object
    )
    numbers = [[0, 1, NAN, 2], [0, 2, 1, 2], [NAN, 1, 1, 2]]
    assert krippendorff_alpha(words) == pytest.approx(krippendorff_alpha(numbers))


def test_nothing_to_compare_has_no_value() -> None:
    assert np.isnan(krippendorff_alpha([[1, 2, 3]]))
    assert np.isnan(krippendorff_alpha([[4, 4], [4, 4]], level="interval"))
    empty = alpha_interval([[1, NAN], [NAN, 2]], seed=0, draws=5)
    assert np.isnan(empty.value)
    assert empty.n == 0


def test_an_interval_by_units() -> None:
    found = alpha_interval(PUBLISHED, level="ordinal", draws=400, seed=3)
    assert found.value == pytest.approx(0.815, abs=5e-4)
    assert found.low < found.value < found.high <= 1
    assert found.n == 11
    # By name, so that the order of the units is of no consequence.
    names, order = np.array(list("abcdefghijkl")), np.random.default_rng(1).permutation(12)
    given_in_order = alpha_interval(PUBLISHED, units=names, draws=50, seed=3)
    assert given_in_order == alpha_interval(
        np.array(PUBLISHED)[:, order], units=names[order], draws=50, seed=3
    )
    # Regression.
    assert (found.low, found.high) == (pytest.approx(0.455299, abs=1e-6), 1)


@pytest.mark.slow
def test_the_interval_covers() -> None:
    """Two readers who agree with probability a on top of chance: alpha is a, near enough, for many units."""
    share, covered, runs = 0.5, 0, 150
    for run in range(runs):
        rng = np.random.default_rng([run, 5])
        truth = rng.integers(0, 5, 60)
        said = [
            np.where(rng.random(60) < np.sqrt(share), truth, rng.integers(0, 5, 60))
            for _ in range(2)
        ]
        found = alpha_interval(np.array(said), draws=150, seed=run)
        covered += found.low <= share <= found.high
    assert 0.90 <= covered / runs <= 0.985


@pytest.mark.parametrize(
    ("ratings", "level", "message"),
    [
        ([1, 2], "nominal", "shape (2,)"),
        ([[1, 2]], "cardinal", "level: 'cardinal'; accepted are nominal"),
        ([["a", "b"]], "ordinal", "accepted for ordinal are numbers"),
        ([[-1, 2], [1, 2]], "ratio", "-1; accepted for ratio"),
        ([[float("inf"), 2]], "interval", "infinite"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(ratings: list[object], level: Level, message: str) -> None:
    with pytest.raises(InputError) as caught:
        krippendorff_alpha(np.array(ratings), level=level)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_units_must_fit() -> None:
    with pytest.raises(
        InputError, match=r"units: shape \(1,\); accepted is one name for each of 2"
    ):
        alpha_interval([[1, 2]], units=["a"], seed=0)
