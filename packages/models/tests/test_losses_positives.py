"""Losses that choose their positives, against loops in plain Python, peers and each other."""

import itertools
import math
import warnings
from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from spinmark_models.errors import InputError
from spinmark_models.losses.metadata import metadata_enhanced
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_models.losses.rank_n_contrast import (
    rank_n_contrast,
    rank_n_contrast_censored,
    rank_n_contrast_chance,
)
from spinmark_models.losses.sup_con import sup_con, sup_con_chance
from spinmark_models.losses.tabular_similarity import (
    gower,
    tabular_similarity,
    tabular_similarity_chance,
)
from spinmark_models.losses.y_aware import y_aware, y_aware_chance

NAN = float("nan")


def pair(n: int, d: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, d, generator=g, dtype=torch.float64),
        torch.randn(n, d, generator=g, dtype=torch.float64),
    )


def cosines(z: Tensor) -> list[list[float]]:
    rows = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in z.tolist()]
    return [[sum(x * y for x, y in zip(a, b, strict=True)) for b in rows] for a in rows]


def by_hand(
    z1: Tensor,
    z2: Tensor,
    tau: float,
    weight: Callable[[int, int], float],
    ignored: Callable[[int, int], bool] = lambda i, k: False,
) -> float:
    """Over all views: the weighted mean over positives of the cross-entropy; rules are of examples."""
    n = len(z1)
    c = cosines(torch.cat([z1, z2]))
    total = 0.0
    for i in range(2 * n):
        mine = i % n
        kept = [k for k in range(2 * n) if k != i and (k % n == mine or not ignored(mine, k % n))]
        denominator = math.log(sum(math.exp(c[i][k] / tau) for k in kept))
        weights = {k: 1.0 if k % n == mine else weight(mine, k % n) for k in kept}
        whole = sum(weights.values())
        total -= sum(w / whole * (c[i][k] / tau - denominator) for k, w in weights.items())
    return total / (2 * n)


# y-aware.


@settings(deadline=None, max_examples=20)
@given(
    n=st.integers(1, 6),
    columns=st.integers(0, 3),
    bandwidth=st.floats(0.1, 5),
    seed=st.integers(0, 10_000),
    grouped=st.booleans(),
)
def test_y_aware_equals_brute_force(
    n: int, columns: int, bandwidth: float, seed: int, grouped: bool
) -> None:
    z1, z2 = pair(n, seed=seed)
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(n, max(columns, 1), generator=g, dtype=torch.float64)
    values[torch.rand(values.shape, generator=g) < 0.2] = NAN
    groups = torch.randint(0, 3, (n,), generator=g)

    def weight(i: int, k: int) -> float:
        squared = sum((float(x) - float(y)) ** 2 for x, y in zip(values[i], values[k], strict=True))
        return 0.0 if math.isnan(squared) else math.exp(-squared / (2 * bandwidth**2))

    expected = by_hand(z1, z2, 0.3, weight, lambda i, k: grouped and bool(groups[i] == groups[k]))
    given_values = values if columns else values[:, 0]
    got = y_aware(
        z1, z2, given_values, 0.3, bandwidth=bandwidth, groups=groups if grouped else None
    )
    assert float(got) == pytest.approx(expected, rel=1e-11, abs=1e-12)


def test_y_aware_meets_its_neighbours() -> None:
    z1, z2 = pair(7)
    ages = torch.tensor([50.0, 51.0, 60.0, 62.0, 62.0, 70.0, 55.0], dtype=torch.float64)
    plain = nt_xent(z1, z2, 0.2)
    # A narrow kernel knows partners only, and so does one that knows no ages.
    apart = torch.arange(7)
    torch.testing.assert_close(y_aware(z1, z2, apart, 0.2, bandwidth=1e-3), plain)
    torch.testing.assert_close(y_aware(z1, z2, ages * NAN, 0.2), plain)
    # A wide one makes positives of all.
    alike = sup_con(torch.cat([z1, z2]), torch.zeros(14, dtype=torch.long), 0.2)
    torch.testing.assert_close(y_aware(z1, z2, ages, 0.2, bandwidth=1e9), alike)
    # And a narrow one of labels is SupCon.
    labels = torch.tensor([0, 1, 1, 2, 2, 2, 3])
    torch.testing.assert_close(
        y_aware(z1, z2, labels, 0.2, bandwidth=1e-3),
        sup_con(torch.cat([z1, z2]), labels.repeat(2), 0.2),
    )


def test_y_aware_normalises_rows_and_not_columns() -> None:
    z1, z2 = pair(5, seed=4)
    ages = torch.tensor([0.0, 0.1, 0.2, 3.0, 9.0], dtype=torch.float64)
    z = torch.nn.functional.normalize(torch.cat([z1, z2]), dim=1)
    logits = (z @ z.T / 0.2).fill_diagonal_(-torch.inf)
    w = torch.exp(-((ages.repeat(2)[:, None] - ages.repeat(2)) ** 2) / 2).fill_diagonal_(0)
    logs = logits.log_softmax(dim=1).fill_diagonal_(0)
    by_row = -(w / w.sum(dim=1, keepdim=True) * logs).sum() / 10
    by_column = -(w / w.sum(dim=0, keepdim=True) * logs).sum() / 10
    got = y_aware(z1, z2, ages, 0.2)
    torch.testing.assert_close(got, by_row)
    assert abs(float(by_column - got)) > 1e-3


def test_one_point_has_the_chance_level() -> None:
    one = torch.ones(6, 3, dtype=torch.float64)
    assert float(y_aware(one, one, torch.arange(6))) == pytest.approx(y_aware_chance(6))
    table = torch.rand(6, 2, dtype=torch.float64)
    got = tabular_similarity(one, one, table, torch.ones(2), top_k=2)
    assert float(got) == pytest.approx(tabular_similarity_chance(6))
    assert float(sup_con(one, torch.arange(6) % 2)) == pytest.approx(sup_con_chance(6))
    # Candidates: the partner and the views of other people.
    people = torch.tensor([0, 0, 0, 1, 2, 2])
    got = metadata_enhanced(one, one, people, torch.arange(6), torch.zeros(6))
    others = (3 * math.log(7) + math.log(11) + 2 * math.log(9)) / 6
    assert float(got) == pytest.approx(others)
    values = torch.tensor([0.0, 1.0, 2.9, 7.1, 15.0, 31.3])
    assert float(rank_n_contrast(one, values)) == pytest.approx(rank_n_contrast_chance(6))


def test_y_aware_refuses_in_one_line() -> None:
    z1, z2 = pair(4)
    with pytest.raises(InputError, match=r"bandwidth is 0; it must be above 0\.$"):
        y_aware(z1, z2, torch.zeros(4), bandwidth=0)
    with pytest.raises(InputError, match=r"values has shape \(3,\); use \(4,\) or \(4, columns\)"):
        y_aware(z1, z2, torch.zeros(3))


# Table rows.


def test_gower_by_hand() -> None:
    # Age (range 40), knee score (range 8), sex (a name).
    table = torch.tensor([[50.0, 2.0, 0.0], [60.0, NAN, 0.0], [90.0, 8.0, 1.0], [NAN, NAN, NAN]])
    nominal = torch.tensor([False, False, True])
    similarity, shared = gower(table, table, torch.tensor([40.0, 8.0, 0.0]), nominal)
    expected = torch.tensor(
        [
            [1.0, (0.75 + 1) / 2, (0.0 + 0.25 + 0) / 3, 0.0],
            [(0.75 + 1) / 2, 1.0, (0.25 + 0) / 2, 0.0],
            [(0.0 + 0.25 + 0) / 3, (0.25 + 0) / 2, 1.0, 0.0],
            [0.0, 0.0, 0.0, 0.0],
        ]
    )
    torch.testing.assert_close(similarity, expected)
    assert shared.tolist() == [[3, 2, 3, 0], [2, 2, 2, 0], [3, 2, 3, 0], [0, 0, 0, 0]]


def test_a_number_outside_of_the_training_range_and_a_constant_column() -> None:
    a, b = torch.tensor([[0.0, 5.0]]), torch.tensor([[9.0, 5.0], [0.0, 5.1]])
    similarity, _ = gower(a, b, torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(similarity, torch.tensor([[0.5, 0.5]]))


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 7),
    top_k=st.none() | st.integers(1, 4),
    least=st.sampled_from([0.0, 0.4, 1.0]),
    seed=st.integers(0, 10_000),
    grouped=st.booleans(),
)
def test_tabular_similarity_equals_brute_force(
    n: int, top_k: int | None, least: float, seed: int, grouped: bool
) -> None:
    z1, z2 = pair(n, seed=seed)
    g = torch.Generator().manual_seed(seed)
    # Few values, so that similarities tie, and quarters, so that they tie exactly.
    table = torch.randint(0, 5, (n, 5), generator=g).double()
    table[torch.rand(table.shape, generator=g) < 0.3] = NAN
    groups = torch.randint(0, 4, (n,), generator=g)
    nominal = [False, True, False, False, True]
    ranges = [4.0, 0.0, 2.0, 4.0, 0.0]
    rows = table.tolist()

    def ignored(i: int, k: int) -> bool:
        return grouped and bool(groups[i] == groups[k])

    def similarity(i: int, k: int) -> float | None:
        scores = []
        for a, b, name, width in zip(rows[i], rows[k], nominal, ranges, strict=True):
            if not (math.isnan(a) or math.isnan(b)):
                scores.append(float(a == b) if name else 1 - min(abs(a - b) / width, 1))
        return sum(scores) / len(scores) if len(scores) >= max(1, least * 5) else None

    def weight(i: int, k: int) -> float:
        s = similarity(i, k)
        if s is None:
            return 0.0
        if top_k is None:
            return math.exp((s - 1) / 0.2)
        others = [similarity(i, j) or 0.0 for j in range(n) if j != i and not ignored(i, j)]
        best = sorted(others, reverse=True)[:top_k]
        return s if s >= best[-1] else 0.0

    got = tabular_similarity(
        z1,
        z2,
        table,
        torch.tensor(ranges),
        0.3,
        nominal=torch.tensor(nominal),
        top_k=top_k,
        softness=0.2,
        least_shared=least,
        groups=groups if grouped else None,
    )
    expected = by_hand(z1, z2, 0.3, weight, ignored)
    assert float(got) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_the_order_of_columns_and_an_empty_column_do_not_matter() -> None:
    z1, z2 = pair(6)
    g = torch.Generator().manual_seed(1)
    table, ranges = (
        torch.rand(6, 3, generator=g, dtype=torch.float64),
        torch.tensor([1.0, 2.0, 3.0]),
    )
    expected = tabular_similarity(z1, z2, table, ranges)
    turned = tabular_similarity(z1, z2, table[:, [2, 0, 1]], ranges[[2, 0, 1]])
    torch.testing.assert_close(turned, expected)
    empty = torch.cat([table, torch.full((6, 1), NAN)], dim=1)
    torch.testing.assert_close(
        tabular_similarity(z1, z2, empty, torch.cat([ranges, torch.ones(1)])), expected
    )


def test_a_table_without_values_is_nt_xent() -> None:
    z1, z2 = pair(6)
    empty = torch.full((6, 3), NAN)
    for top_k in (None, 2):
        got = tabular_similarity(z1, z2, empty, torch.ones(3), 0.2, top_k=top_k)
        torch.testing.assert_close(got, nt_xent(z1, z2, 0.2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top_k": 0}, "top_k is 0"),
        ({"softness": 0.0}, "softness is 0.0"),
        ({"least_shared": 1.5}, "least_shared is 1.5"),
        ({"nominal": torch.zeros(2, dtype=torch.bool)}, r"nominal has shape \(2,\); use \(3,\)"),
    ],
)
def test_tabular_similarity_refuses_in_one_line(options: dict[str, object], said: str) -> None:
    z1, z2 = pair(4)
    with pytest.raises(InputError, match=said):
        tabular_similarity(z1, z2, torch.zeros(4, 3), torch.ones(3), **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"table has shape \(3, 3\); use \(4, columns\)"):
        tabular_similarity(z1, z2, torch.zeros(3, 3), torch.ones(3))


# Visits and sides.


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 8), seed=st.integers(0, 10_000), window=st.sampled_from([0.0, 365.25, 1e9]))
def test_metadata_enhanced_equals_brute_force(n: int, seed: int, window: float) -> None:
    z1, z2 = pair(n, seed=seed)
    g = torch.Generator().manual_seed(seed)
    subject = torch.randint(0, 3, (n,), generator=g)
    side = torch.randint(0, 2, (n,), generator=g)
    days = 365.25 * torch.randint(0, 4, (n,), generator=g).double()
    days[torch.rand(n, generator=g) < 0.15] = NAN

    def near(i: int, k: int) -> bool:
        same = bool(subject[i] == subject[k] and side[i] == side[k])
        return same and abs(float(days[i]) - float(days[k])) <= window

    expected = by_hand(
        z1, z2, 0.3, near, lambda i, k: bool(subject[i] == subject[k]) and not near(i, k)
    )
    got = metadata_enhanced(z1, z2, subject, side, days, 0.3, window_days=window)
    assert float(got) == pytest.approx(expected, rel=1e-11, abs=1e-12)


def test_metadata_enhanced_meets_its_neighbours() -> None:
    z1, z2 = pair(6)
    subject, side = torch.tensor([0, 0, 1, 1, 2, 3]), torch.tensor([0, 1, 0, 0, 0, 1])
    days = torch.tensor([0.0, 0.0, 0.0, 400.0, 0.0, 0.0])
    # No two visits of a knee are near: pairs alone, people not contrasted with themselves.
    torch.testing.assert_close(
        metadata_enhanced(z1, z2, subject, side, days, 0.2), nt_xent(z1, z2, 0.2, subject)
    )
    # All visits of a knee are near, and each person has one knee: SupCon by person.
    one_side = torch.zeros(6, dtype=torch.long)
    torch.testing.assert_close(
        metadata_enhanced(z1, z2, subject, one_side, days, 0.2, window_days=1e4),
        sup_con(torch.cat([z1, z2]), subject.repeat(2), 0.2),
    )


def test_the_other_knee_has_no_pull_and_no_push() -> None:
    z1, z2 = pair(4)
    leaf = z1.clone().requires_grad_()
    two = torch.tensor([0, 0])
    loss = metadata_enhanced(leaf[:2], z2[:2], two, torch.tensor([0, 1]), torch.zeros(2))
    # Each view has its partner as only candidate, and nothing to learn.
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert gradient.abs().max() < 1e-12
    with pytest.raises(InputError, match="window_days is -1"):
        metadata_enhanced(z1[:2], z2[:2], two, two, torch.zeros(2), window_days=-1)


# SupCon.


def sup_con_by_hand(z: Tensor, labels: list[int], tau: float, subjects: list[int] | None) -> float:
    c = cosines(z)
    terms = []
    for i, own in enumerate(labels):
        others = [k for k in range(len(labels)) if k != i]
        positives = [k for k in others if labels[k] == own and own >= 0]
        kept = [
            k for k in others if k in positives or subjects is None or subjects[k] != subjects[i]
        ]
        if positives:
            denominator = math.log(sum(math.exp(c[i][k] / tau) for k in kept))
            terms.append(-sum(c[i][k] / tau - denominator for k in positives) / len(positives))
    return sum(terms) / len(terms) if terms else 0.0


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 9), seed=st.integers(0, 10_000), grouped=st.booleans())
def test_sup_con_equals_brute_force(n: int, seed: int, grouped: bool) -> None:
    z, _ = pair(n, seed=seed)
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 3, (n,), generator=g)
    subjects = torch.randint(0, 4, (n,), generator=g) if grouped else None
    expected = sup_con_by_hand(
        z, labels.tolist(), 0.2, None if subjects is None else subjects.tolist()
    )
    got = sup_con(z, labels, 0.2, subjects=subjects)
    assert float(got) == pytest.approx(expected, rel=1e-11, abs=1e-12)


def test_sup_con_equals_a_peer() -> None:
    with warnings.catch_warnings():
        # The peer may use deprecated parts of its own dependencies while it loads.
        warnings.simplefilter("ignore")
        losses = pytest.importorskip("pytorch_metric_learning.losses")
    z, _ = pair(16, seed=3)
    labels = torch.arange(16) % 5
    peer = losses.SupConLoss(temperature=0.2)(z, labels)
    assert float(sup_con(z, labels, 0.2)) == pytest.approx(float(peer), rel=1e-6)


def test_sup_con_weighs_many_positives_exactly_in_short_floats() -> None:
    # 1/n of 301 positives is not a number of eight bits, nor is 301.
    z, _ = pair(302, seed=5)
    labels = torch.zeros(302, dtype=torch.long)
    short = z.bfloat16()
    expected = sup_con(torch.nn.functional.normalize(short, dim=1).double(), labels, 0.2)
    assert float(sup_con(short, labels, 0.2)) == pytest.approx(float(expected), rel=2e-3)


# Ranks.


def distance(a: Tensor, b: Tensor) -> float:
    return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)))


def ranked_by_hand(z: Tensor, tau: float, certain: Callable[[int, int, int], bool]) -> list[float]:
    """The loss of each pair (i, j) with the rows k that are farther than j for certain."""
    n = len(z)
    s = [[-distance(z[i], z[k]) / tau for k in range(n)] for i in range(n)]
    terms = []
    for i, j in itertools.permutations(range(n), 2):
        farther = [k for k in range(n) if k != i and (k == j or certain(i, j, k))]
        terms.append(math.log(sum(math.exp(s[i][k]) for k in farther)) - s[i][j])
    return terms


@settings(deadline=None, max_examples=25)
@given(
    values=st.lists(st.integers(-4, 4), min_size=2, max_size=8),
    seed=st.integers(0, 10_000),
    tau=st.sampled_from([0.05, 2.0]),
)
def test_rank_n_contrast_equals_the_loop(values: list[int], seed: int, tau: float) -> None:
    z, _ = pair(len(values), seed=seed)
    terms = ranked_by_hand(
        z, tau, lambda i, j, k: abs(values[i] - values[k]) >= abs(values[i] - values[j])
    )
    got = rank_n_contrast(z, torch.tensor(values), tau)
    assert float(got) == pytest.approx(sum(terms) / len(terms), rel=1e-11, abs=1e-12)


def test_rank_n_contrast_of_three_rows() -> None:
    # On a line, at 0, 3 and 4, with values 0, 1 and 5: for each anchor one j has one row k beside it,
    # at these distances from it, and the other j has none.
    z = torch.tensor([[0.0], [3.0], [4.0]], dtype=torch.float64)
    expected = sum(math.log1p(math.exp((j - k) / 2)) for j, k in ((3, 4), (3, 1), (1, 4)))
    got = rank_n_contrast(z, torch.tensor([0.0, 1.0, 5.0]))
    assert float(got) == pytest.approx(expected / 6, rel=1e-12)


def test_rows_without_a_value_are_left_out() -> None:
    z, _ = pair(7)
    values = torch.tensor([3.0, NAN, 1.0, 4.0, NAN, 1.0, 5.0])
    known = values.isfinite()
    leaf = z.clone().requires_grad_()
    loss = rank_n_contrast(leaf, values)
    torch.testing.assert_close(loss, rank_n_contrast(z[known], values[known]))
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert not gradient[~known].any()
    assert gradient[known].all()


def completions(time: float, event: bool) -> list[float]:
    """True times that an observation allows, dense enough to decide on whole numbers."""
    return [time] if event else [time + step / 8 for step in (1, *range(4, 64, 4))] + [1e4]


@cache
def certainly_farther(*observed: tuple[float, bool]) -> bool:
    """Whether the third is at least as far from the first as the second, whatever is true."""
    drawn = itertools.product(*(completions(*one) for one in observed))
    return all(abs(i - k) >= abs(i - j) for i, j, k in drawn)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=5),
    seed=st.integers(0, 10_000),
)
def test_the_censored_form_contrasts_what_is_certain(
    rows: list[tuple[int, bool]], seed: int
) -> None:
    times, events = [float(t) for t, _ in rows], [e for _, e in rows]

    def certain(i: int, j: int, k: int) -> bool:
        if len({i, j, k}) < 3:
            return False
        found = certainly_farther(*((times[x], events[x]) for x in (i, j, k)))
        # Two events at one time beyond a last visit tie whatever the truth: nothing is ranked.
        beyond = not events[i] and times[j] > times[i] and times[k] == times[j]
        return found and not beyond

    z, _ = pair(len(rows), seed=seed)
    order = list(itertools.permutations(range(len(rows)), 2))
    terms = dict(zip(order, ranked_by_hand(z, 2.0, certain), strict=True))
    # Where j is censored, nothing is certain, and the term is 0 by itself.
    assert all(abs(terms[i, j]) < 1e-12 for i, j in order if not events[j])
    counted = [terms[i, j] for i, j in order if events[j]]
    expected = sum(counted) / len(counted) if counted else 0.0
    got = rank_n_contrast_censored(z, torch.tensor(times), torch.tensor(events))
    assert float(got) == pytest.approx(expected, rel=1e-11, abs=1e-12)


def test_events_throughout_are_the_uncensored_form() -> None:
    z, _ = pair(9)
    time = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0])
    for event in (torch.ones(9, dtype=torch.bool), torch.ones(9)):
        assert torch.equal(rank_n_contrast_censored(z, time, event), rank_n_contrast(z, time))


def test_without_events_nothing_is_ranked() -> None:
    leaf = pair(5)[0].requires_grad_()
    loss = rank_n_contrast_censored(leaf, torch.arange(5.0), torch.zeros(5))
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert float(loss.detach()) == 0
    assert not gradient.any()


def test_gradients_of_ranks_equal_finite_differences() -> None:
    z = pair(7)[0].requires_grad_()
    time = torch.tensor([3.0, 1.0, 4.0, 1.0, NAN, 9.0, 2.0])
    event = torch.tensor([1, 0, 1, 1, 1, 0, 1])
    for tau in (0.1, 2.0):
        assert torch.autograd.gradcheck(lambda x, t=tau: rank_n_contrast(x, time, t), (z,))
        assert torch.autograd.gradcheck(
            lambda x, t=tau: rank_n_contrast_censored(x, time, event, t), (z,)
        )


def test_ranks_survive_equal_rows_and_a_common_offset() -> None:
    z, _ = pair(12, 8)
    z[3] = z[8]
    values = torch.arange(12.0)
    leaf = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(rank_n_contrast(leaf, values), leaf)
    far = (z.float() + 100).requires_grad_()
    (got,) = torch.autograd.grad(rank_n_contrast(far, values), far)
    # What the offset costs the rows themselves in float32 is 100 * 2^-24.
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5)


def test_ranks_refuse_in_one_line() -> None:
    z, _ = pair(4)
    with pytest.raises(InputError, match=r"ranks at least 2\.$"):
        rank_n_contrast(z[:1], torch.zeros(1))
    with pytest.raises(InputError, match=r"event has shape \(3,\); use \(4,\)"):
        rank_n_contrast_censored(z, torch.zeros(4), torch.zeros(3))


# Memory.


class Largest(TorchDispatchMode):
    """Notes the most numbers that any tensor made under it has."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        for x in made if isinstance(made, tuple | list) else [made]:
            if isinstance(x, Tensor):
                Largest.numbers = max(Largest.numbers, x.numel())
        return made


@pytest.mark.parametrize("name", ["y_aware", "tabular", "metadata", "sup_con", "ranks", "censored"])
def test_no_tensor_of_all_pairs_is_made(name: str) -> None:
    # 1600 views: all pairs are 2.6 million numbers, a block at most 2.1 million.
    n = 800
    a, b = (x.float().requires_grad_() for x in pair(n))
    index = torch.arange(n)
    views, twice = torch.cat([a, b]), torch.arange(2 * n)
    calls = {
        "y_aware": lambda: y_aware(a, b, index / n, groups=index // 2),
        "tabular": lambda: tabular_similarity(a, b, torch.rand(n, 2), torch.ones(2), top_k=3),
        "metadata": lambda: metadata_enhanced(a, b, index // 4, index % 2, 100.0 * (index % 4)),
        "sup_con": lambda: sup_con(views, twice % 40, subjects=twice // 2),
        "ranks": lambda: rank_n_contrast(views, twice),
        "censored": lambda: rank_n_contrast_censored(views, twice, twice % 2),
    }
    Largest.numbers = 0
    with Largest():
        torch.autograd.grad(calls[name](), a)
    assert Largest.numbers <= 1 << 21 < (2 * n) ** 2
