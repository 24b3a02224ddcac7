from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spinmark_models.clinical.binning import PiecewiseLinear
from spinmark_models.clinical.samplers import MarginalSampler, RowSampler, Sampler
from spinmark_models.errors import InputError
from spinmark_models.tables import TableSchema
from spinmark_models.tables.marginals import Marginal

KINDS = ["continuous", "continuous", "ordinal", "nominal", "binary"]
NAMES = ["SKEW", "WHOLE", "GRADE", "RACE", "SEX"]


def table(n: int = 700, seed: int = 0, missing: float = 0.2) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    columns = [
        rng.exponential(30, n),
        rng.normal(80, 30, n).round(),
        rng.choice([0, 1, 2, 3, 4], n, p=[0.4, 0.3, 0.15, 0.1, 0.05]),
        rng.choice([1.0, 2.0, 7.0], n, p=[0.8, 0.15, 0.05]),
        rng.integers(1, 3, n),
    ]
    values = np.column_stack(columns).astype(float)
    values[rng.random(values.shape) < missing] = np.nan
    return values


@pytest.fixture(scope="module")
def schema() -> TableSchema:
    return TableSchema.fit(table(), NAMES, KINDS)


def ks(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Largest distance between two empirical distribution functions."""
    points = np.concatenate([a, b])
    f, g = (np.searchsorted(np.sort(x), points, side="right") / len(x) for x in (a, b))
    return float(np.abs(f - g).max())


def samplers(schema: TableSchema) -> dict[str, Sampler]:
    rows = schema.encode(table(), NAMES)
    return {"marginals": MarginalSampler(schema), "rows": RowSampler(rows)}


@pytest.mark.parametrize("source", ["marginals", "rows"])
def test_draws_have_the_distribution_of_the_training_column(
    schema: TableSchema, source: str
) -> None:
    n = 20000
    numbers, codes = samplers(schema)[source].draw(n, torch.Generator().manual_seed(0))
    assert numbers.shape == codes.shape == (n, 5)
    for j, column in enumerate(table().T):
        seen = column[~np.isnan(column)]
        if schema.cardinalities[j]:
            drawn = np.asarray(schema.categories[j])[codes[:, j].numpy()]
            assert (numbers[:, j] == 0).all()
        else:
            drawn = numbers[:, j].double().numpy() * schema.scales[j] + schema.centres[j]
            drawn = drawn.round(4)
            assert (codes[:, j] == 0).all()
        # 1.95 / sqrt(n) is passed by chance in 1 of 1000; a hundredth more is what quantiles of five
        # people lose.
        assert ks(drawn, seen.round(4)) < 1.95 / n**0.5 + 0.01, NAMES[j]


def test_drawn_numbers_have_as_many_digits_as_measured_ones(schema: TableSchema) -> None:
    assert [m.decimals for m in schema.marginals][:2] == [None, 0]
    assert not schema.marginals[1].shares
    numbers, _ = MarginalSampler(schema).draw(500, torch.Generator().manual_seed(0))
    whole = numbers[:, 1].double().numpy() * schema.scales[1] + schema.centres[1]
    assert whole == pytest.approx(whole.round(), abs=1e-4)
    grade = numbers[:, 2].double().numpy() * schema.scales[2] + schema.centres[2]
    assert set(grade.round(5)) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("source", ["marginals", "rows"])
def test_the_first_subject_is_drawn_as_often_as_any(source: str) -> None:
    # Public code loses it, as a header.
    values = np.array([[7.0, 3.0], [1, 1], [1, 2], [1, 1], [1, 2]])
    names, kinds = ["A", "B"], ["ordinal", "nominal"]
    schema = TableSchema.fit(values, names, kinds)
    sampler: Sampler = MarginalSampler(schema)
    if source == "rows":
        sampler = RowSampler(schema.encode(values, names))
    n = 4000
    numbers, codes = sampler.draw(n, torch.Generator().manual_seed(0))
    bound = 4 * (0.2 * 0.8 / n) ** 0.5
    assert float((numbers[:, 0] > 1).double().mean()) == pytest.approx(0.2, abs=bound)
    assert float((codes[:, 1] == 2).double().mean()) == pytest.approx(0.2, abs=bound)


@pytest.mark.parametrize("source", ["marginals", "rows"])
def test_columns_are_drawn_apart_and_again_by_the_seed(source: str) -> None:
    factor = np.random.default_rng(0).normal(size=400)
    values = np.column_stack([factor, factor])
    values[:50, 1] = np.nan
    schema = TableSchema.fit(values, ["A", "B"], ["continuous"] * 2)
    sampler: Sampler = MarginalSampler(schema)
    if source == "rows":
        sampler = RowSampler(schema.encode(values, ["A", "B"]))
    numbers, _ = sampler.draw(4000, torch.Generator().manual_seed(1))
    assert abs(np.corrcoef(numbers.numpy().T)[0, 1]) < 4 / 4000**0.5
    again, _ = sampler.draw(4000, torch.Generator().manual_seed(1))
    assert torch.equal(numbers, again)


def test_draws_need_something_to_draw_from(schema: TableSchema) -> None:
    old = TableSchema(
        names=("A",), kinds=("ordinal",), centres=(0.0,), scales=(1.0,), categories=((),)
    )
    with pytest.raises(InputError, match="no marginals"):
        MarginalSampler(old)
    with pytest.raises(InputError, match="no marginals"):
        PiecewiseLinear(old, 4)
    rows = schema.encode(table(5), NAMES)
    with pytest.raises(InputError, match="Column 2 has no observed cell in the 5 rows"):
        RowSampler(
            rows._replace(observed=torch.tensor([True, True, False, True, True]).repeat(5, 1))
        )


def test_inner_edges_are_the_quantiles_of_the_training_column() -> None:
    column = np.random.default_rng(0).gamma(2, 5, 1200)
    edges = Marginal.fit(column, levels=False).edges(12)
    np.testing.assert_allclose(edges[1:-1], np.quantile(column, np.arange(1, 12) / 12), rtol=1e-12)
    ordered = np.sort(column)
    assert edges[0] == pytest.approx(ordered[:5].mean())
    assert edges[-1] == pytest.approx(ordered[-5:].mean())


def test_a_short_scale_has_an_edge_at_each_level() -> None:
    grades = np.repeat([0.0, 1, 2, 3, 4], [400, 300, 150, 100, 1])
    marginal = Marginal.fit(grades, levels=True)
    assert marginal.edges(16).tolist() == [0, 1, 2, 3, 4]
    # With fewer bins they are quantiles again, and the ends stay.
    expected = np.unique(np.quantile(grades, [0, 1 / 3, 2 / 3, 1], method="inverted_cdf"))
    assert marginal.edges(3).tolist() == expected.tolist() == [0, 1, 4]


@settings(deadline=None)
@given(
    st.lists(st.integers(-20, 20).map(float) | st.floats(-1e3, 1e3), min_size=2, max_size=80),
    st.integers(1, 20),
    st.booleans(),
)
def test_edges_rise_and_are_no_more_than_asked(
    values: list[float], bins: int, levels: bool
) -> None:
    seen = np.array(values)
    if len(np.unique(seen)) < 2:
        return
    edges = Marginal.fit(seen, levels=levels).edges(bins)
    assert 2 <= len(edges) <= bins + 1
    assert (np.diff(edges) > 0).all()
    assert seen.min() <= edges[0] < edges[-1] <= seen.max()
    probabilities, knots = Marginal.fit(seen, levels=levels).knots()
    assert (probabilities[0], probabilities[-1]) == (0, 1)
    assert (np.diff(probabilities) >= 0).all()
    assert (np.diff(knots) >= 0).all()


def by_hand(x: float, edges: NDArray[np.float64], bins: int) -> list[float]:
    """The encoding of the paper, its equation 1, with zeros behind."""
    found = []
    last = len(edges) - 2
    for t, (left, right) in enumerate(pairwise(edges)):
        if x < left and t > 0:
            found.append(0.0)
        elif x >= right and t < last:
            found.append(1.0)
        else:
            found.append((x - left) / (right - left))
    return found + [0.0] * (bins - len(found))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 50), st.integers(1, 12), st.lists(st.floats(-400, 400), min_size=1))
def test_binning_is_the_paper_s_monotone_and_exact_at_the_knots(
    seed: int, bins: int, points: list[float]
) -> None:
    values = table(120, seed, missing=0.1)
    schema = TableSchema.fit(values, NAMES, KINDS, scaling="robust")
    binning = PiecewiseLinear(schema, bins).double()
    for j in range(3):
        edges = (schema.marginals[j].edges(bins) - schema.centres[j]) / schema.scales[j]
        x = np.sort(np.concatenate([edges, np.array(points) / schema.scales[j]]))
        rows = torch.zeros(len(x), 5, dtype=torch.float64)
        rows[:, j] = torch.from_numpy(x)
        got = binning(rows)[:, j].numpy()
        wanted = np.array([by_hand(v, edges, bins) for v in x])
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-4)
        assert (np.diff(got, axis=0) >= -1e-12).all()
        for k, edge in enumerate(edges):
            at = got[np.searchsorted(x, edge)]
            exact = [1.0] * k + [0.0] * (bins - k)
            np.testing.assert_allclose(at, exact, atol=1e-4)
    assert (binning(torch.ones(2, 5, dtype=torch.float64))[:, 3:] == 0).all()


def test_edges_and_encoding_equal_those_of_the_authors() -> None:
    peer = pytest.importorskip("rtdl_num_embeddings")
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.normal(size=1200), rng.exponential(size=1200)])
    schema = TableSchema.fit(values, ["A", "B"], ["continuous"] * 2)
    encoded = schema.encode(values, ["A", "B"]).numbers
    bins = peer.compute_bins(encoded, n_bins=12)
    ours = [
        (m.edges(12) - c) / s
        for m, c, s in zip(schema.marginals, schema.centres, schema.scales, strict=True)
    ]
    for a, b in zip(ours, bins, strict=True):
        # The ends differ: the smallest and the largest value are not kept.
        np.testing.assert_allclose(a[1:-1], b[1:-1].numpy(), rtol=1e-4, atol=1e-5)
    edges = [torch.from_numpy(a).float() for a in ours]
    theirs = peer.PiecewiseLinearEncoding(edges)(encoded).view(1200, 2, 12)
    torch.testing.assert_close(PiecewiseLinear(schema, 12)(encoded), theirs, rtol=1e-4, atol=1e-4)


def test_equal_values_at_the_end_make_no_bin_of_rounding_errors() -> None:
    # The mean of five equal floats may differ from them in the last digit.
    column = np.concatenate([np.linspace(0, 0.6, 500), np.full(300, 0.7)])
    schema = TableSchema.fit(column[:, None], ["A"], ["continuous"])
    assert np.diff(schema.marginals[0].edges(16)).min() > 1e-3
    far = torch.tensor([[-5.0], [5.0]])
    reach = PiecewiseLinear(schema, 16, limit=5.0)(far)
    assert reach.min() >= -5
    assert reach.max() <= 5
